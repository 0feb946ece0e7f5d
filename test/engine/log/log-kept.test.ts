/** A checkpoint whose old log segments cannot be removed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDurableEngine } from '../../../src/engine/open-durable-engine.ts';
import { systemCode } from '../../../src/storage/storage-error.ts';
import { Random } from '../../../src/util/random.ts';
import { ManualClock } from '../../../src/util/time/clock.ts';
import { FaultyDisk } from '../../helpers/faulty-disk.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../../helpers/memory-checkpoint.ts';
import { SimulatedDisk } from '../../helpers/simulated-disk.ts';

test('a checkpoint is written though its old segments cannot be removed, and the next one removes them', async () => {
  const disk = new SimulatedDisk({ seed: 1 });
  const faulty = new FaultyDisk(disk);
  const kept = new MemoryCheckpointStore();
  const durable = await disk.finish(
    openDurableEngine({
      disk: faulty,
      directory: 'data',
      clock: new ManualClock(),
      random: new Random(1),
      openCheckpoint: async () =>
        new MemoryCheckpoint(kept, { defer: (commit) => disk.enqueue(commit) }),
      pause: () => Promise.resolve(),
      firstSegmentBytes: 4096,
      segmentBytes: 4096,
      reserveBytes: 0,
    }),
  );
  const [database] = durable.engine.databases;
  const write = async (): Promise<void> => {
    for (let i = 0; i < 60; i++) {
      database?.set(Buffer.from(`k${i}`), { type: 'string', bytes: Buffer.alloc(300) }, 0);
      await disk.finish(durable.log.drain());
    }
  };
  await write();
  const before = durable.log.segments.length;
  assert.ok(before > 3);
  const reported: string[] = [];
  durable.onLogKept = (error) => reported.push(systemCode(error));
  const next = (faulty.counts.get('remove') ?? 0) + 1;
  faulty.fail('remove', 'EACCES', next);
  await disk.finish(durable.checkpoint());
  assert.deepEqual(reported, ['EACCES']);
  assert.equal(durable.checkpointer.completed, 1);
  assert.equal(durable.checkpointer.failure, null);
  assert.equal(durable.log.segments.length, before);
  await write();
  await disk.finish(durable.checkpoint());
  assert.deepEqual(reported, ['EACCES']);
  assert.ok(durable.log.segments.length <= 2);
  await disk.finish(durable.close());
});
