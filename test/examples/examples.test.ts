/** Every example, which the build has type-checked, runs and prints what its expected.txt says; the last one on several brokers. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { repositoryRoot } from '../house/source-file.ts';

const run = promisify(execFile);
const examples = join(repositoryRoot, 'examples');
const names = readdirSync(examples).filter((name) => /^\d\d-/.test(name));

async function outputOf(name: string, broker?: string): Promise<string> {
  const { MICRO_BROKER: _, ...env } = process.env;
  const program = join(repositoryRoot, 'dist', 'examples', name, 'main.js');
  const { stdout } = await run(process.execPath, [program], {
    cwd: repositoryRoot,
    env: broker === undefined ? env : { ...env, MICRO_BROKER: broker },
    timeout: 30_000,
  });
  return stdout;
}

function expected(name: string): string {
  return readFileSync(join(examples, name, 'expected.txt'), 'utf8');
}

test('examples are numbered from 01 on, without a gap', () => {
  assert.ok(names.length >= 7);
  names.forEach((name, i) => {
    assert.match(name, new RegExp(`^${String(i + 1).padStart(2, '0')}-`));
  });
});

for (const name of names) {
  test(`example ${name}`, async () => {
    assert.equal(await outputOf(name), expected(name));
  });
}

test('example 07-any-broker in a directory and on a server', async () => {
  await using directory = temporaryDirectory('example');
  const name = '07-any-broker';
  assert.equal(await outputOf(name, `file:${join(directory.path, 'data')}`), expected(name));
  await using server = await startRivulet();
  assert.equal(await outputOf(name, `rivulet://127.0.0.1:${server.port}`), expected(name));
});
