/**
 * Chance in tests: every draw comes from a seed that test/helpers/seed.ts gives, so that a commit is
 * judged by the same draws each time, and a failure can be repeated.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSource, type SourceFile, sourceFiles } from './source-file.ts';

const HELPERS = ['test/helpers/seed.ts', 'test/helpers/property.ts'];

function strayDraws(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => !HELPERS.includes(path))
    .flatMap(({ path, code, imports }) => {
      const faults: string[] = [];
      if (/\bMath\.random\b/.test(code)) faults.push('draws by Math.random');
      if (/\bDate\.now\(\)\s*%/.test(code)) faults.push('makes a seed of the time');
      if (/\benv\.\w*SEED\b/.test(code)) faults.push('reads a seed from the environment');
      if (imports.some(({ specifier }) => specifier === 'fast-check')) {
        faults.push('imports fast-check itself');
      }
      return faults.map((fault) => `${path} ${fault}`);
    });
}

test('tests draw by seeds of one place, fast-check too', () => {
  const files = [...sourceFiles('test'), ...sourceFiles('src/conformance')];
  assert.deepEqual(strayDraws(files), []);
});

test('the rule finds each way around it', () => {
  const text = `import fc from 'fast-check';
    const a = Math.random();
    const b = Date.now() % 1000;
    const c = process.env.MY_SEED;`;
  assert.equal(strayDraws([parseSource('test/a.ts', text)]).length, 4);
  assert.equal(strayDraws([parseSource('test/helpers/seed.ts', text)]).length, 0);
});
