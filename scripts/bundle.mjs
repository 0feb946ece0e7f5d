/**
 * Puts the command's compiled modules together: dist/micro/, from which `bin/micro.js` starts.
 *
 * A start that reads a hundred modules spends half of its time on finding and linking them. What a
 * start does not need (other commands, TLS, metrics) stays in files of its own, loaded when called
 * for; packages of node_modules stay where they are. The checkpoint's thread has its own entry, under
 * the name by which storage looks for it beside itself.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root } from './steps.mjs';

const outdir = join(root, 'dist', 'micro');
rmSync(outdir, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: { main: 'src/cli/main.ts', 'lmdb-worker': 'src/storage/lmdb/lmdb-worker.ts' },
  outdir,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  sourcemap: true,
  legalComments: 'none',
  logLevel: 'warning',
});
