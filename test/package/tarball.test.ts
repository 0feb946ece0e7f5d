/**
 * What a user installs: the tarballs as npm packs them, in a directory of their own.
 *
 * The packages that they depend on are linked from this repository's modules, those that are declared
 * and no others: nothing is fetched, and a dependency that is missing in package.json is missing here.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { repositoryRoot } from '../house/source-file.ts';

const run = promisify(execFile);
const directory = temporaryDirectory('tarball');
const modules = join(directory.path, 'node_modules');
const program = join(repositoryRoot, 'test', 'package', 'program');
const compiler = join(repositoryRoot, 'node_modules', 'typescript', 'bin', 'tsc');
/** Paths within the package, by the package's name. */
const packed = new Map<string, string[]>();

before(
  async () => {
    const workspaces = [
      '.',
      ...readdirSync(join(repositoryRoot, 'adapters')).map((name) => `adapters/${name}`),
    ];
    const { stdout } = await run(
      'npm',
      [
        'pack',
        '--json',
        '--ignore-scripts',
        '--pack-destination',
        directory.path,
        ...workspaces.flatMap((each) => ['-w', each]),
      ],
      { cwd: repositoryRoot, maxBuffer: 64 * 1024 * 1024 },
    );
    const archives: { name: string; filename: string; files: { path: string }[] }[] =
      JSON.parse(stdout);
    for (const { name, filename, files } of archives) {
      packed.set(
        name,
        files.map(({ path }) => path),
      );
      const archive = join(directory.path, filename.replace('@', '').replace('/', '-'));
      await run('tar', ['xzf', archive, '-C', directory.path]);
      const home = join(modules, name);
      mkdirSync(dirname(home), { recursive: true });
      renameSync(join(directory.path, 'package'), home);
      const { dependencies = {} } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
      for (const dependency of Object.keys(dependencies)) link(dependency);
    }
    link('@types/node');
    writeFileSync(join(directory.path, 'package.json'), '{"type":"module","private":true}');
    for (const name of readdirSync(program)) {
      copyFileSync(join(program, name), join(directory.path, name));
    }
  },
  { timeout: 60_000 },
);

after(() => directory[Symbol.asyncDispose]());

function link(name: string): void {
  const at = join(modules, name);
  mkdirSync(dirname(at), { recursive: true });
  if (!existsSync(at)) symlinkSync(join(repositoryRoot, 'node_modules', name), at);
}

async function compile(...options: string[]): Promise<void> {
  const strict = ['--strict', '--target', 'es2022', '--types', 'node'];
  const files = ['main.ts', 'adapters.ts'];
  try {
    await run(process.execPath, [compiler, ...strict, ...options, ...files], {
      cwd: directory.path,
    });
  } catch (error) {
    assert.fail((error as { stdout?: string }).stdout || String(error));
  }
}

test('a program type-checks under node16, strict and with the types of libraries, and runs', async () => {
  await compile('--module', 'node16', '--moduleResolution', 'node16');
  const { stdout } = await run(process.execPath, ['main.js'], {
    cwd: directory.path,
    timeout: 30_000,
  });
  assert.equal(stdout, 'sum 6, batches of 3\n');
});

test('the same program type-checks as bundlers resolve modules', () =>
  compile('--noEmit', '--module', 'esnext', '--moduleResolution', 'bundler'));

test('every entry point loads by require on Node 22', async (context) => {
  const node = await nodeWithRequire();
  if ('missing' in node) {
    context.skip(node.missing);
    return;
  }
  const { stdout, stderr } = await run(node.path, ['load.cjs'], {
    cwd: directory.path,
    timeout: 30_000,
  });
  assert.equal(stdout, 'noon\n');
  assert.equal(stderr, '', 'without warnings');
});

test('the tarballs hold what the packages export, their documents, and nothing else', () => {
  for (const [name, files] of packed) {
    const manifest = JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8'));
    const exported = Object.values(
      manifest.exports as Record<string, string | Record<string, string>>,
    )
      .flatMap((entry) => (typeof entry === 'string' ? [entry] : Object.values(entry)))
      .concat(Object.values(manifest.bin ?? {}));
    for (const path of exported) {
      assert.ok(files.includes(path.replace(/^\.\//, '')), `${name} exports ${path}`);
    }
    const strays = files.filter(
      (path) =>
        !/^((bin|dist\/(src|micro))\/.*\.(js|d\.ts)|dist\/web\/.*\.(js|css|html|txt|svg)|[A-Z]+(\.md)?|package\.json)$/.test(
          path,
        ),
    );
    assert.deepEqual(strays, [], name);
    assert.ok(files.includes('README.md'), name);
  }
  assert.deepEqual([...packed.keys()].sort(), [
    '@rivulet/nats',
    '@rivulet/rabbitmq',
    '@rivulet/redis',
    'rivulet',
  ]);
});

/** This Node where it can, or one from npm, kept for the next time. */
async function nodeWithRequire(): Promise<{ path: string } | { missing: string }> {
  if (Number(process.versions.node.split('.')[0]) >= 22) return { path: process.execPath };
  const name = `node-${process.platform}-${process.arch}`;
  const home = join(repositoryRoot, 'node_modules', '.cache', 'node-22');
  const path = join(home, 'node_modules', name, 'bin', 'node');
  if (existsSync(path)) return { path };
  try {
    mkdirSync(home, { recursive: true });
    const quiet = ['--no-audit', '--no-fund', '--loglevel=error', '--no-save'];
    await run('npm', ['install', '--prefix', home, ...quiet, `${name}@22.23.5`], {
      timeout: 60_000,
    });
    return { path };
  } catch (error) {
    const reason = String((error as { stderr?: string }).stderr || error).split('\n')[0];
    return { missing: `no Node 22 from npm: ${reason}` };
  }
}
