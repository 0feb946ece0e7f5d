/** Streams larger than their budget: what leaves memory, when, and that it can still be read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Checkpointer } from '../../../src/engine/checkpoint/checkpointer.ts';
import { InProcessServer } from '../../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../../helpers/memory-checkpoint.ts';

function open(): { server: InProcessServer; checkpointer: Checkpointer } {
  const server = new InProcessServer();
  const checkpointer = server.engine.attachCheckpoint({
    checkpoint: new MemoryCheckpoint(new MemoryCheckpointStore()),
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
  return { server, checkpointer };
}

function fill(server: InProcessServer, stream: string, entries: number): void {
  const session = server.session();
  for (let i = 1; i <= entries; i++)
    session.call('XADD', stream, `${i}-1`, 'field', 'v'.repeat(200));
}

test('a stream larger than the budget leaves memory and is read back entry by entry', async () => {
  const { server, checkpointer } = open();
  const { memory } = server.engine;
  fill(server, 's', 10_000);
  server.engine.tick();
  const whole = memory.bytes;
  assert.ok(whole > 2_000_000);
  memory.setMaxMemory(1_000_000);
  for (let i = 0; i < 20; i++) server.advance(1000);
  assert.equal(memory.evicted, 0, 'what no checkpoint has may not go');
  assert.ok(checkpointer.due, 'a checkpoint is asked for');
  await checkpointer.write();
  for (let i = 0; i < 20; i++) server.advance(1000);
  assert.ok(memory.bytes <= 500_000, `${memory.bytes} bytes are left`);
  const session = server.session();
  assert.equal(session.call('XLEN', 's'), 10_000);
  for (const i of [1, 2, 17, 5000, 9999, 10_000]) {
    assert.deepEqual(session.call('XRANGE', 's', i, i), [[`${i}-1`, ['field', 'v'.repeat(200)]]]);
  }
  session.call('XDEL', 's', '3-1', '5000-1');
  session.call('XTRIM', 's', 'MINID', '100');
  session.call('XADD', 's', '10001-1', 'field', 'new');
  const ids = (session.call('XRANGE', 's', '-', '+') as [string, unknown][]).map(([id]) => id);
  const expected = Array.from({ length: 10_001 - 99 }, (_, i) => `${i + 100}-1`);
  assert.deepEqual(
    ids,
    expected.filter((id) => id !== '5000-1'),
  );
});

test('a stream that is used keeps its newest blocks longer than one that is not', async () => {
  const { server, checkpointer } = open();
  fill(server, 'idle', 2000);
  fill(server, 'busy', 2000);
  await checkpointer.write();
  const { memory } = server.engine;
  server.engine.tick();
  const session = server.session();
  memory.setMaxMemory(memory.bytes * 1.2);
  for (let i = 0; i < 10; i++) {
    server.advance(2000);
    session.call('XREAD', 'STREAMS', 'busy', '1999-0');
  }
  const resident = (name: string): number => {
    const value = server.engine.databases[0]?.findKey(Buffer.from(name))?.value;
    return value?.type === 'stream' ? value.stream.radixTreeKeys - value.stream.coldCount : -1;
  };
  assert.ok(memory.bytes <= memory.budget);
  assert.ok(resident('busy') > resident('idle'), `${resident('busy')} to ${resident('idle')}`);
});

test('removed and flushed streams no longer count', () => {
  const { server } = open();
  fill(server, 'a', 500);
  fill(server, 'b', 500);
  server.engine.tick();
  const both = server.engine.memory.bytes;
  server.session().call('DEL', 'a');
  assert.ok(server.engine.memory.bytes < both * 0.6);
  server.session().call('FLUSHALL');
  for (let i = 0; i < 3; i++) server.engine.tick();
  assert.equal(server.engine.memory.bytes, 0);
});
