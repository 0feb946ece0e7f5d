/** Where seeds come from, and that a test that fails names its own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from './temporary-directory.ts';

/** Runs a file of tests that print their seeds; RIVULET_SEED as given. */
async function outputOf(body: string, setting: string): Promise<string> {
  await using place = temporaryDirectory('seed');
  const path = join(place.path, 'some.test.mjs');
  const helper = (name: string) => new URL(`./${name}.js`, import.meta.url).href;
  writeFileSync(
    path,
    `import { test } from 'node:test';
    import { seedOf, seedsOf, seedNamed } from '${helper('seed')}';
    import { fc } from '${helper('property')}';
    ${body}`,
  );
  const { stdout } = spawnSync(process.execPath, ['--test', '--test-reporter=tap', path], {
    encoding: 'utf8',
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, RIVULET_SEED: setting },
  });
  return stdout;
}

const drawn = async (setting: string) => {
  const output = await outputOf(
    `test('one', (t) => t.diagnostic('it ' + [...seedsOf(t, 3)] + ' ' + seedNamed('x')));
     test('two', (t) => t.diagnostic('it ' + seedOf(t)));`,
    setting,
  );
  return [...output.matchAll(/# it (.*)/g)].map(([, text]) => text as string);
};

test('a seed is made of the name of the test, or set, or drawn', async () => {
  const [one, two] = await drawn('');
  assert.deepEqual(await drawn(''), [one, two]);
  assert.notEqual(one?.split(',')[0], two);
  assert.deepEqual(await drawn('77'), ['77,78,79 77', '77']);
  const random = [...(await drawn('random')), ...(await drawn('random'))];
  assert.equal(new Set(random).size, 4);
  assert.match(await outputOf('', 'five'), /RIVULET_SEED=five: it is a whole number/);
});

test('a test that fails names the seed that it was at, whatever it throws', async () => {
  const output = await outputOf(
    `import assert from 'node:assert/strict';
    test('a', (t) => { for (const seed of seedsOf(t, 9)) assert.notEqual(seed, 104); });
    test('b', async (t) => { seedOf(t); throw 'a text'; });
    test('c', { timeout: 1 }, async (t) => { seedOf(t); await new Promise((r) => setTimeout(r, 200)); });
    test('d', (t) => fc.assert(fc.property(fc.nat(), (n) => n < 0)));
    test('e', (t) => { seedOf(t); });`,
    '101',
  );
  assert.match(output, /to be strictly unequal[\s\S]*RIVULET_SEED=104 repeats it/);
  assert.match(output, /a text\n\s*RIVULET_SEED=101 repeats it/);
  assert.match(output, /timed out after 1ms\n\s*RIVULET_SEED=101 repeats it/);
  assert.match(output, /seed: 101, path:/);
  assert.equal(output.match(/repeats it/g)?.length, 3);
});
