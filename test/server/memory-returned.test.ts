/** What is deleted gives its memory back, and what is reported is what is held. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RespSession } from '../helpers/resp-session.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';

const MB = 1024 * 1024;

async function usedMemory(session: RespSession): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await session.text('INFO', 'memory'))?.[1]);
}

/** Polls, as a producer does that waits for room. */
async function comesDownTo(session: RespSession, bytes: number, what: string): Promise<void> {
  let used = 0;
  for (let tries = 0; tries < 1500; tries++) {
    used = await usedMemory(session);
    if (used <= bytes) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(
    `${what}: ${Math.round(used / MB)} MB are reported, ${Math.round(bytes / MB)} expected`,
  );
}

async function fill(session: RespSession, key: string, megabytes: number): Promise<void> {
  const value = 'v'.repeat(200);
  for (let i = 0; i < megabytes * 5; i++) {
    const batch = Array.from({ length: 1000 }, () => ['XADD', key, '*', 'f', value]);
    await session.pipeline(batch);
  }
}

for (const parameters of [
  ['--appendfsync', 'no', '--maxmemory', String(120 * MB)],
  ['--appendonly', 'no'],
]) {
  test(`used_memory comes down after DEL and FLUSHALL: ${parameters.join(' ')}`, async () => {
    await using server = await startRivulet({ args: parameters });
    await using session = await RespSession.open(server.port, { timeoutMs: 60_000 });
    const before = await usedMemory(session);
    for (const deletion of [['DEL', 's'], ['FLUSHALL'], ['FLUSHDB'], ['RENAME', 'other', 's']]) {
      await session.text('XADD', 'other', '*', 'f', 'v');
      await fill(session, 's', 40);
      assert.ok((await usedMemory(session)) > before + 30 * MB);
      // In one write: no tick comes between the deletion and the first report.
      await session.pipeline([deletion, ['INFO', 'memory']]);
      await comesDownTo(session, before + 12 * MB, deletion.join(' '));
    }
    assert.equal(await session.text('SET', 'k', 'v'), '+OK\r\n');
    assert.equal(await session.text('MEMORY', 'PURGE'), '+OK\r\n');
  });
}

test('an empty server after FLUSHALL takes writes, though few keys held all its memory', async () => {
  await using server = await startRivulet({
    args: ['--appendfsync', 'no', '--maxmemory', String(100 * MB)],
  });
  await using session = await RespSession.open(server.port, { timeoutMs: 60_000 });
  const value = 'x'.repeat(MB);
  let refused = false;
  for (let i = 0; i < 120 && !refused; i++) {
    refused = (await session.text('SET', `k${i}`, value)).startsWith('-OOM');
  }
  assert.ok(refused);
  await session.text('FLUSHALL');
  for (let tries = 0; (await session.text('SET', 'k', value)) !== '+OK\r\n'; tries++) {
    assert.ok(tries < 300, 'writes are still refused');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
});
