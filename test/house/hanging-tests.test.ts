/** A test that hangs is named and ended by what `npm test` preloads; the other files go on. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { runTool } from '../helpers/children.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { repositoryRoot } from './source-file.ts';

const HANGS =
  "test('it hangs', async () => { setInterval(() => {}, 1000); await new Promise(() => {}); });";
const FILES: Readonly<Record<string, string>> = {
  'hangs.test.js': `test('it ends', () => {}); describe('within', () => { ${HANGS} });`,
  'hook.test.js':
    'before(() => new Promise((resolve) => setTimeout(resolve, 2 ** 30))); test("x", () => {});',
  'skips.test.js': `const wait = () => new Promise((resolve) => setTimeout(resolve, 3000));
    test('it skips itself', (t) => t.skip('no server')); test('one', wait); test('two', wait); test('three', wait);`,
  'ends.test.js': "test('it ends too', () => new Promise((resolve) => setTimeout(resolve, 10)));",
};

test('a test that hangs, and a hook that does, are named, and their files end', async () => {
  await using home = temporaryDirectory('hanging');
  const names = Object.keys(FILES).map((name) => join(home.path, name));
  for (const path of names) {
    const head = "const { before, describe, test } = require('node:test');\n";
    writeFileSync(path, head + FILES[path.slice(home.path.length + 1)]);
  }
  const preload = pathToFileURL(join(repositoryRoot, 'scripts', 'hanging-tests.mjs'));
  const hanging = join(home.path, 'hanging.txt');
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { code, stdout } = await runTool(
    process.execPath,
    [`--import=${preload}`, '--test', '--test-concurrency=4', '--test-reporter=spec', ...names],
    { env: { ...env, RIVULET_TEST_LIMIT_MS: '5000', RIVULET_HANGING: hanging } },
  );
  assert.equal(code, 1, stdout);
  assert.match(stdout, /hangs\.test\.js: hangs, not ended after 5000 ms: it hangs/);
  assert.match(stdout, /✔ it ends too/);
  assert.match(stdout, /✔ three/);
  const lines = readFileSync(hanging, 'utf8').trim().split('\n').sort();
  assert.equal(lines.length, 2, stdout);
  assert.match(lines[0] as string, /hangs\.test\.js: .*: it hangs$/);
  assert.match(lines[1] as string, /hook\.test\.js: .*: before its first test, or in a hook$/);
});
