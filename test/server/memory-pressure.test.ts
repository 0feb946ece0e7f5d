/**
 * What writers meet when memory is short: they wait for blocks to leave, or are refused.
 *
 * A server of its own where growing is tried: what the test itself holds would count, too.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryInUse } from '../../src/server/observability/memory-use.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { runServer } from './running-server.ts';

const MB = 1024 * 1024;
const LIMIT = 80 * MB;

const WRITERS = [
  { what: 'many entries of 20 kB', size: 20_000, entries: 6000, connections: 4, batch: 50 },
  { what: 'entries of 1 MB', size: MB, entries: 120, connections: 8, batch: 1 },
];

for (const { what, size, entries, connections, batch } of WRITERS) {
  test(`a stream may grow far beyond maxmemory, its writers are slowed down, not refused: ${what}`, async () => {
    await using server = await startRivulet({
      args: ['--appendfsync', 'no', '--maxmemory', `${LIMIT}`],
    });
    const value = 'v'.repeat(size);
    const each = entries / connections;
    const writers = Array.from({ length: connections }, async (_, connection) => {
      await using session = await RespSession.open(server.port, { timeoutMs: 60_000 });
      for (let i = 0; i < each; i += batch) {
        const commands = Array.from({ length: batch }, (_, j) => [
          ...['XADD', `s${connection}`, `${i + j + 1}-1`, 'f', `${i + j}${value}`],
        ]);
        for (const reply of await session.pipeline(commands)) assert.match(`${reply}`, /^\$/);
      }
    });
    await Promise.all(writers);
    await using session = await RespSession.open(server.port);
    for (let tries = 0; (await usedMemory(session)) > LIMIT; tries++) {
      assert.ok(tries < 500, 'more than maxmemory is in use, although nobody writes');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (const i of [0, 1, Math.floor(each / 2), each - 1]) {
      const reply = await session.text('XRANGE', 's1', `${i + 1}`, `${i + 1}`);
      assert.ok(reply.includes(`${i}${value}`), `entry ${i}`);
    }
  });
}

async function usedMemory(session: RespSession): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await session.text('INFO', 'memory'))?.[1]);
}

test('what cannot leave memory is refused, and taken again once room was made', async () => {
  await using running = await runServer({ maxmemory: String(memoryInUse().used + 20 * MB) });
  const session = await running.connect();
  const value = 'x'.repeat(MB);
  let refusal = '';
  for (let i = 0; i < 200 && refusal === ''; i++) {
    const reply = await session.text('SET', `k${i}`, value);
    if (reply !== '+OK\r\n') refusal = reply;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(refusal, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
  assert.match(await session.text('GET', 'k0'), /^\$1048576/, 'reading goes on');
  await session.text('FLUSHALL');
  for (let tries = 0; ; tries++) {
    if ((await session.text('SET', 'k', 'v')) === '+OK\r\n') break;
    assert.ok(tries < 500, 'still refused, although nothing is in the way');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});
