/**
 * How long writes and syncs take, as the log measures it: what the metrics show.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LATENCY_BOUNDS_MS, LatencyHistogram } from '../../src/storage/log/latency-histogram.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';
import { Writer } from './storage-helpers.ts';

test('a duration counts in the first bucket whose bound it does not exceed, or in the last', () => {
  const histogram = new LatencyHistogram();
  const buckets: number[] = LATENCY_BOUNDS_MS.map(() => 2);
  for (const bound of LATENCY_BOUNDS_MS) {
    histogram.record(bound);
    histogram.record(bound * 0.9);
  }
  assert.deepEqual(histogram.buckets, [...buckets, 0]);
  histogram.record(2501);
  histogram.record(1e9);
  assert.deepEqual(histogram.buckets, [...buckets, 2]);
  assert.equal(histogram.count, 2 * LATENCY_BOUNDS_MS.length + 2);
  const bounds = LATENCY_BOUNDS_MS.reduce((sum, bound) => sum + bound * 1.9, 0);
  assert.ok(Math.abs(histogram.sum - bounds - 2501 - 1e9) < 1e-3, String(histogram.sum));
});

test('with always the time of a write is measured from its beginning to its end', async () => {
  const disk = new SimulatedDisk({ seed: 41 });
  const writer = new Writer(disk, 41);
  await writer.open();
  await disk.settle();
  for (const [i, ms] of [3, 40].entries()) {
    writer.append(10);
    writer.log.flush();
    writer.clock.advance(ms);
    await disk.finish(writer.log.drain());
    assert.equal(writer.log.syncTimes.count, i + 1);
  }
  assert.equal(writer.log.syncTimes.sum, 43);
});

test('with everysec the time of the sync is measured, not of the writes before it', async () => {
  const disk = new SimulatedDisk({ seed: 42 });
  const writer = new Writer(disk, 42, { policy: 'everysec' });
  await writer.open();
  await disk.settle();
  writer.append(10);
  writer.log.flush();
  writer.clock.advance(500);
  await disk.settle();
  assert.equal(writer.log.syncTimes.count, 0);
  const drained = writer.log.drain();
  writer.clock.advance(7);
  await disk.finish(drained);
  assert.equal(writer.log.syncTimes.count, 1);
  assert.equal(writer.log.syncTimes.sum, 7);
});
