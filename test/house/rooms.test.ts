/**
 * The sizes of the house: how many files a folder holds, and how many lines a file has.
 *
 * A room that has grown too large is divided by noun, or is named here with what keeps it whole.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { repositoryRoot } from './source-file.ts';

const MOST_FILES = 16;
const MOST_LINES = 600;

/** Folders with one file for each row of a table grow with the table; of the helpers each is one. */
const TABLES: readonly string[] = [
  'src/cli/commands',
  'src/server/commands',
  'src/server/commands/stream',
  'src/conformance/cases',
  'test/helpers',
];

/** Files that are one noun although they are long, each with its own limit. */
const LONG: Readonly<Record<string, { readonly lines: number; readonly why: string }>> = {
  'src/consumer-groups/pending/pending-list.ts': { lines: 750, why: 'one data structure' },
  'test/workflow/bad-days.test.ts': { lines: 800, why: 'one table of faults' },
  'test/differential/generator.ts': { lines: 700, why: 'one generator for each command' },
  'test/server/streams/stream-groups.test.ts': { lines: 700, why: 'one family of commands' },
  'test/broker/dispatch/dispatcher.test.ts': { lines: 750, why: 'one class' },
};

interface SizedFile {
  readonly path: string;
  readonly lines: number;
}

function crowdedFolders(files: readonly SizedFile[]): string[] {
  const counts = new Map<string, number>();
  for (const { path } of files) {
    const folder = path.slice(0, path.lastIndexOf('/'));
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  return [...counts]
    .filter(([folder, count]) => count > MOST_FILES && !TABLES.includes(folder))
    .map(([folder, count]) => `${folder} holds ${count} files`);
}

function longFiles(files: readonly SizedFile[]): string[] {
  return files
    .filter(({ path, lines }) => lines > (LONG[path]?.lines ?? MOST_LINES))
    .map(({ path, lines }) => `${path} has ${lines} lines`);
}

/** Source and tests of the repository, pages and programs of other languages included. */
function allFiles(): SizedFile[] {
  const roots = ['src', 'web', 'test', 'bench', 'scripts', 'examples', 'interop'];
  const adapters = readdirSync(join(repositoryRoot, 'adapters')).map(
    (name) => `adapters/${name}/src`,
  );
  return [...roots, ...adapters].flatMap((root) =>
    (readdirSync(join(repositoryRoot, root), { recursive: true }) as string[])
      .filter((name) => /\.(tsx?|mjs|css|go|py|java)$/.test(name))
      .map((name) => `${root}/${name.replaceAll('\\', '/')}`)
      .filter((path) => !/\/(node_modules|results|dist)\//.test(path))
      .map((path) => {
        const text = readFileSync(join(repositoryRoot, path), 'utf8');
        return { path, lines: text.split('\n').length - 1 };
      }),
  );
}

const files = allFiles();

test('a folder holds at most 16 files, tables of commands and of cases apart', () => {
  assert.deepEqual(crowdedFolders(files), []);
  const crowd = Array.from({ length: 17 }, (_, i) => ({ path: `src/x/f${i}.ts`, lines: 1 }));
  assert.equal(crowdedFolders(crowd).length, 1);
});

test('a file has at most 600 lines, or is named with what keeps it whole', () => {
  assert.deepEqual(longFiles(files), []);
  assert.equal(longFiles([{ path: 'src/x/long.ts', lines: 601 }]).length, 1);
});

test('each exception to the sizes is still one', () => {
  const known = new Map(files.map(({ path, lines }) => [path, lines]));
  const short = Object.keys(LONG).filter((path) => !((known.get(path) ?? 0) > MOST_LINES - 50));
  assert.deepEqual(short, []);
  const folders = new Set(files.map(({ path }) => path.slice(0, path.lastIndexOf('/'))));
  assert.deepEqual(
    TABLES.filter((folder) => !folders.has(folder)),
    [],
  );
});
