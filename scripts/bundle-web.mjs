/**
 * Checks web/ and bundles it: dist/web/, which the console serves as it is.
 *
 * `index.html` names one script and one style sheet; each page is a file of its own, loaded when it is
 * first opened. The names of all files below `assets` hold a hash of their content, so a browser may
 * keep them for ever. Beside them are the licences of the libraries whose code is in the files.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { root } from './steps.mjs';

const outdir = join(root, 'dist', 'web');
const check = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    '-p',
    'web',
    '--incremental',
    '--tsBuildInfoFile',
    join(root, 'dist', '.web.tsbuildinfo'),
  ],
  { cwd: root, stdio: 'inherit' },
);
if (check.status !== 0) process.exit(check.status ?? 1);

rmSync(outdir, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: { main: 'web/main.tsx', style: 'web/style/style.css' },
  outdir: join(outdir, 'assets'),
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  bundle: true,
  splitting: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: ['chrome123', 'firefox121', 'safari17.5'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  tsconfigRaw: {},
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
});

const outputs = Object.entries(metafile.outputs);
const outputOf = (entryPoint) => outputs.find(([, output]) => output.entryPoint === entryPoint);
const urlOf = (path) => `/console/assets/${basename(path)}`;
const [main, { imports }] = outputOf('web/main.tsx');
const [style] = outputOf('web/style/style.css');
const needed = imports.filter(({ kind }) => kind === 'import-statement').map(({ path }) => path);
const html = readFileSync(join(root, 'web', 'index.html'), 'utf8')
  .replace('{{style}}', urlOf(style))
  .replace('{{main}}', urlOf(main))
  .replace(
    '{{preload}}',
    needed.map((path) => `<link rel="modulepreload" href="${urlOf(path)}">`).join('\n    '),
  );
mkdirSync(outdir, { recursive: true });
writeFileSync(join(outdir, 'index.html'), html);

const packages = new Set(
  Object.keys(metafile.inputs)
    .map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1])
    .filter((name) => name !== undefined),
);
const licences = [...packages].sort().map((name) => {
  const file = join(root, 'node_modules', name, 'LICENSE');
  if (!existsSync(file))
    throw new Error(`${name} has no LICENSE file, and the console holds its code`);
  return `${name}\n\n${readFileSync(file, 'utf8').trim()}\n`;
});
writeFileSync(join(outdir, 'licences.txt'), licences.join('\n\n'));
