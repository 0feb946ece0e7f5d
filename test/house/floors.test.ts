/**
 * The house rules that a machine can check: floors, cycles, determinism, file headers.
 *
 * Every rule is a function from source files to findings, and is itself tried on sources that break
 * it, so that a rule that has stopped finding anything fails.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  parseSource,
  repositoryRoot,
  resolveImport,
  type SourceFile,
  sourceFiles,
} from './source-file.ts';

/** Read from the picture in ARCHITECTURE.md, so that the page and the rule cannot part. */
const FLOORS = floorsInThePicture();

/** The shells: here time passes, randomness is drawn and sockets are open. */
const SHELLS = [
  'src/util/time/clock.ts',
  'src/storage/disk/real-disk.ts',
  'src/storage/disk/directory-lock.ts',
  'src/storage/lmdb/',
  'src/server/',
  'src/util/time/system-scheduler.ts',
  'src/transport/tcp/framed-socket.ts',
  'src/util/time/virtual-scheduler.ts',
  'src/util/time/turn-budget.ts',
  'src/client/',
  'src/cli/',
  'src/gateway/',
  'src/console/',
  'src/proxy/',
  'src/conformance/',
];
/** Within the server these are core again: they are given a clock. */
const CORE_WITHIN_SHELLS = ['src/server/commands/'];
const CLOCKS_AND_DICE =
  /\b(Date\s*\.\s*now|new\s+Date\s*\(\s*\)|Math\s*\.\s*random|setTimeout|setInterval|setImmediate|performance\s*\.\s*now|process\s*\.\s*hrtime|randomBytes|randomUUID)\b|\bnew\s+Date\s*\(\s*\)/;
/** Folders without any input or output: they may import data structures of Node, nothing else. */
const PURE = ['src/stream/', 'src/consumer-groups/', 'src/engine/', 'src/util/'];
const PURE_MODULES = ['node:buffer', 'node:util'];

const src = sourceFiles('src');
const adapters = ['nats', 'rabbitmq', 'redis'].flatMap((name) =>
  sourceFiles(`adapters/${name}/src`),
);
const everything = [...src, ...sourceFiles('test'), ...sourceFiles('bench')];

test('an import goes down a floor or stays inside its own folder', () => {
  assert.deepEqual(climbingImports(src), []);
  const up = parseSource('src/stream/x.ts', "import type { Y } from '../engine/y.ts';");
  const across = parseSource('src/storage/x.ts', "export { Y } from '../stream/y.ts';");
  const dynamic = parseSource('src/util/x.ts', "const m = await import('../cli/y.ts');");
  const down = parseSource('src/cli/x.ts', "import { Y } from '../util/y.ts';");
  assert.equal(climbingImports([up, across, dynamic, down]).length, 3);
});

test('every folder of src has a floor in the picture of ARCHITECTURE.md', () => {
  assert.ok(FLOORS.stream < FLOORS.engine && FLOORS.engine < FLOORS.server);
  const folders = new Set(src.map((file) => folderOf(file.path)));
  assert.deepEqual(
    [...folders].filter((folder) => !(folder in FLOORS)),
    [],
  );
});

test('no file imports itself through others', () => {
  assert.deepEqual(cycles([...src, ...adapters]), []);
  const a = parseSource('src/util/a.ts', "import { b } from './b.ts';");
  const b = parseSource('src/util/b.ts', "import { c } from './c.ts';");
  const c = parseSource('src/util/c.ts', "import { a } from './a.ts';");
  const erased = parseSource('src/util/c.ts', "import type { a } from './a.ts';");
  assert.equal(cycles([a, b, c]).length, 1);
  assert.equal(cycles([a, b, erased]).length, 1, 'an import of types is an import');
});

test('time and randomness come in as arguments outside the shells', () => {
  assert.deepEqual(clocksAndDice(src), []);
  const found = clocksAndDice([
    parseSource('src/engine/x.ts', 'const now = Date.now();'),
    parseSource('src/engine/y.ts', '// Date.now() in a comment\nconst text = "Date.now()";'),
    parseSource('src/server/commands/z.ts', 'setTimeout(() => {}, 1);'),
    parseSource('src/stream/w.ts', `const word = \`$${'{Math.random()}'} of Date.now\`;`),
  ]);
  assert.deepEqual(
    found.map((finding) => finding.split(':')[0]),
    ['src/engine/x.ts', 'src/server/commands/z.ts', 'src/stream/w.ts'],
  );
});

test('the core does no input or output', () => {
  assert.deepEqual(impureImports(src), []);
  const impure = parseSource('src/stream/x.ts', "import { readFileSync } from 'node:fs';");
  assert.equal(impureImports([impure]).length, 1);
});

test('every module that src imports is a dependency of the package', () => {
  const manifest = JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8'));
  const known = new Set(Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }));
  const foreign = src.flatMap((file) =>
    file.imports
      .map(({ specifier }) => specifier)
      .filter((specifier) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
      .filter(
        (specifier) => !known.has(specifier.split('/', specifier[0] === '@' ? 2 : 1).join('/')),
      )
      .map((specifier) => `${file.path}: ${specifier}`),
  );
  assert.deepEqual(foreign, []);
});

test('every file opens with a comment that says what it holds', () => {
  assert.deepEqual(headless(everything), []);
  assert.equal(headless([parseSource('src/x.ts', "import 'y';\n/** Late. */")]).length, 1);
});

test('nothing is left to be fixed or done', () => {
  const marks = (files: SourceFile[]) =>
    files.filter(({ text }) => /\b(FIX[M]E|TO[D]O|XX[X])\b/.test(text)).map(({ path }) => path);
  assert.deepEqual(marks(everything), []);
  assert.equal(marks([parseSource('src/x.ts', `// ${'TO'}${'DO'}: later`)]).length, 1);
});

test('every compiled file is reached from a folder that has a purpose', () => {
  const strays = everything
    .map(({ path }) => path)
    .filter((path) => !/^(src|test|bench)\/([a-z0-9-]+\/)*[a-z0-9-]+(\.test)?\.ts$/.test(path));
  assert.deepEqual(strays, [], 'file names are kebab-case');
});

function floorsInThePicture(): Record<string, number> {
  const page = readFileSync(join(repositoryRoot, 'ARCHITECTURE.md'), 'utf8');
  const floors: Record<string, number> = { index: Number.POSITIVE_INFINITY };
  for (const [, floor, names] of page.matchAll(
    /^(\d+) {1,2}(\S+(?: {1,2}[a-z][a-z-]+)*?) {3,}\S/gm,
  )) {
    for (const name of names.split(/ +/)) floors[name] = Number(floor);
  }
  return floors;
}

function folderOf(path: string): string {
  const [, folder] = path.split('/');
  return folder.replace(/\.ts$/, '');
}

function climbingImports(files: SourceFile[]): string[] {
  return files.flatMap((file) =>
    file.imports
      .filter(({ specifier }) => specifier.startsWith('.'))
      .map(({ specifier }) => resolveImport(file, specifier))
      .filter((target) => {
        const from = folderOf(file.path);
        const to = folderOf(target);
        return from !== to && !(FLOORS[to] < FLOORS[from]);
      })
      .map((target) => `${file.path} imports ${target}`),
  );
}

/** Each cycle of imports, those of types included, once, as a path. */
function cycles(files: SourceFile[]): string[] {
  const edges = new Map(
    files.map((file) => [
      file.path,
      file.imports
        .filter(({ specifier }) => specifier.startsWith('.'))
        .map(({ specifier }) => resolveImport(file, specifier)),
    ]),
  );
  const finished = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: string[]) => {
    const seenAt = trail.indexOf(path);
    if (seenAt >= 0) found.push([...trail.slice(seenAt), path].join(' -> '));
    if (seenAt >= 0 || finished.has(path)) return;
    for (const target of edges.get(path) ?? []) visit(target, [...trail, path]);
    finished.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  return found;
}

function clocksAndDice(files: SourceFile[]): string[] {
  return files
    .filter(
      ({ path }) =>
        !SHELLS.some((shell) => path.startsWith(shell)) ||
        CORE_WITHIN_SHELLS.some((core) => path.startsWith(core)),
    )
    .flatMap(({ path, code }) =>
      code
        .split('\n')
        .map((line, index) => ({ word: CLOCKS_AND_DICE.exec(line)?.[0], line: index + 1 }))
        .filter(({ word }) => word !== undefined)
        .map(({ word, line }) => `${path}:${line}: ${word}`),
    );
}

function impureImports(files: SourceFile[]): string[] {
  return files
    .filter(({ path }) => PURE.some((folder) => path.startsWith(folder)))
    .filter(({ path }) => !SHELLS.some((shell) => path.startsWith(shell)))
    .flatMap((file) =>
      file.imports
        .filter(({ specifier }) => !specifier.startsWith('.') && !PURE_MODULES.includes(specifier))
        .map(({ specifier }) => `${file.path}: ${specifier}`),
    );
}

function headless(files: SourceFile[]): string[] {
  return files
    .filter(({ text }) => !/^(#!.*\n)?\/\*\*[\s\S]{20,}?\*\//.test(text))
    .map(({ path }) => path);
}
