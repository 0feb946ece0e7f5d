/**
 * Dead code: what a file of `src` or of an adapter exports, and no other file names.
 *
 * A name counts as used where it occurs as code in another file. So the rule finds only what is surely
 * unused. Types are left out: the type of a parameter is exported for its readers.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSource, type SourceFile, sourceFiles } from './source-file.ts';

const EXPORTED =
  /^export (?:abstract |async )?(?:const|let|function\*?|class) ([A-Za-z_$][\w$]*)/gm;

function unusedExports(checked: readonly SourceFile[], all: readonly SourceFile[]): string[] {
  const namedBy = new Map<string, Set<string>>();
  for (const { path, code } of all) {
    for (const name of new Set(code.match(/[A-Za-z_$][\w$]*/g))) {
      const files = namedBy.get(name) ?? new Set();
      namedBy.set(name, files.add(path));
    }
  }
  return checked.flatMap(({ path, code }) =>
    [...code.matchAll(EXPORTED)]
      .map(([, name]) => name as string)
      .filter((name) => ![...(namedBy.get(name) ?? [])].some((file) => file !== path))
      .map((name) => `${path} exports ${name}, which no other file names`),
  );
}

test('every function, class and constant that is exported is used by another file', () => {
  const source = [...sourceFiles('src'), ...sourceFiles('adapters')].filter(
    ({ path }) => !path.endsWith('.d.ts'),
  );
  const others = ['test', 'bench', 'examples', 'web'].flatMap((folder) => sourceFiles(folder));
  assert.deepEqual(unusedExports(source, [...source, ...others]), []);
});

test('the rule finds an export that is named in comments and strings only', () => {
  const dead = parseSource('src/a.ts', 'export const dead = 1;\nexport function alive() {}\n');
  const user = parseSource(
    'src/b.ts',
    "// dead\nimport { alive } from './a.ts';\nalive('dead');\n",
  );
  assert.deepEqual(unusedExports([dead], [dead, user]), [
    'src/a.ts exports dead, which no other file names',
  ]);
});
