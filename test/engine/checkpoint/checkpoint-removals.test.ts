/** What a checkpoint removes of keys that are gone: all of them, nothing else, in few steps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { restoreCheckpoint } from '../../../src/engine/checkpoint/restore.ts';
import type { Checkpoint } from '../../../src/storage/checkpoint.ts';
import { InProcessServer } from '../../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../../helpers/memory-checkpoint.ts';
import { pictureOf } from '../state-picture.ts';

/** Counts removals. */
class CountingCheckpoint extends MemoryCheckpoint implements Checkpoint {
  removals = 0;

  override remove(key: Uint8Array): void {
    this.removals++;
    super.remove(key);
  }

  override removeRange(from: Uint8Array, to: Uint8Array): void {
    this.removals++;
    super.removeRange(from, to);
  }
}

function open(store: MemoryCheckpointStore) {
  const server = new InProcessServer();
  const checkpoint = new CountingCheckpoint(store);
  const checkpointer = server.engine.attachCheckpoint({
    checkpoint,
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
  restoreCheckpoint(server.engine, checkpointer);
  return { server, checkpoint, checkpointer };
}

/** Streams with a group and a pending entry, and strings, in two databases by turns of so many keys. */
async function filled(keys: number, turns: number) {
  const store = new MemoryCheckpointStore();
  const opened = open(store);
  const session = opened.server.session();
  for (let i = 0; i < keys; i++) {
    session.database = opened.server.engine.databases[Math.floor(i / turns) % 2]!;
    if (i % 3 === 0) session.call('SET', `k${i}`, i);
    else session.call('XADD', `k${i}`, '1-1', 'f', i);
    if (i % 50 !== 1) continue;
    session.call('XGROUP', 'CREATE', `k${i}`, 'g', '0');
    session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', `k${i}`, '>');
    session.call('XCFGSET', `k${i}`, 'MAXBYTES', 100_000);
  }
  await opened.checkpointer.write();
  opened.checkpoint.removals = 0;
  return { ...opened, store, session };
}

test('a flush of many keys is removed in ranges, and leaves the keys of other databases', async () => {
  const { server, store, checkpoint, checkpointer, session } = await filled(21_000, 5_250);
  session.database = server.engine.databases[0]!;
  session.call('FLUSHDB');
  session.call('SET', 'new', 'value');
  await checkpointer.write();
  assert.ok(checkpoint.removals < 100, `${checkpoint.removals} removals`);
  assert.deepEqual(pictureOf(open(store).server.engine), pictureOf(server.engine));
  session.call('FLUSHALL');
  session.call('XADD', 'last', '1-1', 'f', 'v');
  await checkpointer.write();
  assert.ok(checkpoint.removals < 200, `${checkpoint.removals} removals`);
  assert.deepEqual(pictureOf(open(store).server.engine), pictureOf(server.engine));
  // The key, its block and what is known of the whole.
  assert.equal(store.entries.length, 3);
});

test('keys that are removed one by one go, and their neighbours stay', async () => {
  const { server, store, checkpointer, session } = await filled(600, 10);
  for (let round = 0; round < 3; round++) {
    for (let i = round; i < 600; i += 7 - round) {
      session.database = server.engine.databases[Math.floor(i / 10) % 2]!;
      session.call('DEL', `k${i}`);
    }
    await checkpointer.write();
    assert.deepEqual(pictureOf(open(store).server.engine), pictureOf(server.engine));
  }
});
