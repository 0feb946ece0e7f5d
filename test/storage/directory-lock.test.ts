/**
 * One process per data directory: refused, taken over after kill -9, raced for.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fsp from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import { lockDirectory } from '../../src/storage/disk/directory-lock.ts';

let root: string;
before(async () => {
  root = await fsp.mkdtemp(path.join(os.tmpdir(), 'rivulet-lock-test-'));
});
after(() => fsp.rm(root, { recursive: true }));

const moduleUrl = new URL('../../src/storage/disk/directory-lock.js', import.meta.url).href;

/** Another process that takes the lock (or not), says so in one line and stays. */
async function contender(directory: string): Promise<{ child: ChildProcess; line: string }> {
  const program = `
    const { lockDirectory } = await import(${JSON.stringify(moduleUrl)});
    try {
      await lockDirectory(${JSON.stringify(directory)});
      console.log('held');
      setInterval(() => {}, 1000);
    } catch (error) {
      console.log(error.code + ' ' + error.message);
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [data] = (await once(child.stdout!, 'data')) as [Buffer];
  return { child, line: data.toString().trim() };
}

async function locks(directory: string): Promise<string[]> {
  return (await fsp.readdir(directory)).filter((name) => !name.startsWith('.'));
}

test('a directory that a live process holds is refused, with its process id', async () => {
  const directory = path.join(root, 'a', 'deep');
  const { child, line } = await contender(directory);
  try {
    assert.equal(line, 'held');
    await assert.rejects(lockDirectory(directory), (error: Error & { code: string }) => {
      assert.equal(error.code, 'DIRECTORY_IN_USE');
      assert.match(error.message, new RegExp(`in use by process ${child.pid}\\.`));
      return true;
    });
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

test('the lock of a process killed with -9 is taken over at once, and what it left is removed', async () => {
  const directory = path.join(root, 'b');
  const { child } = await contender(directory);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal((await locks(directory)).length, 1, 'it left its socket');
  const lock = await lockDirectory(directory);
  assert.equal((await locks(directory)).length, 1);
  await lock.release();
  assert.deepEqual(await locks(directory), []);
});

test('a stopped process still holds its directory', async () => {
  const directory = path.join(root, 'stopped');
  const { child } = await contender(directory);
  try {
    child.kill('SIGSTOP');
    await assert.rejects(lockDirectory(directory), { code: 'DIRECTORY_IN_USE' });
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

test('of several that start at once exactly one wins', async () => {
  const directory = path.join(root, 'c');
  for (let round = 0; round < 20; round++) {
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, () => lockDirectory(directory)),
    );
    const won = results.filter((result) => result.status === 'fulfilled');
    assert.equal(won.length, 1);
    await (won[0] as PromiseFulfilledResult<{ release(): Promise<void> }>).value.release();
  }
  const processes = await Promise.all([1, 2, 3, 4].map(() => contender(directory)));
  try {
    assert.equal(processes.filter(({ line }) => line === 'held').length, 1);
  } finally {
    for (const { child } of processes) {
      if (child.exitCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
});

test('a released lock can be taken again, also far below where socket paths may reach', async () => {
  const directory = path.join(root, 'd'.repeat(80), 'e'.repeat(80));
  for (let round = 0; round < 3; round++) {
    const lock = await lockDirectory(directory);
    await assert.rejects(lockDirectory(directory), { code: 'DIRECTORY_IN_USE' });
    await lock.release();
  }
});

test('a file in the directory’s place is said to be one', async () => {
  const file = path.join(root, 'file');
  await fsp.writeFile(file, 'x');
  await assert.rejects(lockDirectory(file), { code: 'NOT_A_DIRECTORY' });
  await assert.rejects(lockDirectory(path.join(file, 'below')), { code: 'NOT_A_DIRECTORY' });
});

test('a directory without the right to write is said to be one', {
  skip: process.getuid?.() === 0 && 'root may write everywhere',
}, async () => {
  const directory = path.join(root, 'readonly');
  await fsp.mkdir(directory, { mode: 0o555 });
  await assert.rejects(lockDirectory(directory), { code: 'DIRECTORY_NOT_WRITABLE' });
});
