/**
 * Lag against a recount of the stream: it may be unknown, it must never be wrong.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConsumerGroup, lagOf, UNKNOWN_READ } from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Random } from '../../src/util/random.ts';
import { fc } from '../helpers/property.ts';
import { FakeStream } from './fake-stream.ts';

/** Adds, deletes, trims, reads and moves a group about; calls `check` after each step. */
function wander(
  seed: number,
  steps: number,
  check: (stream: FakeStream, group: ConsumerGroup) => void,
) {
  const random = new Random(seed);
  const stream = new FakeStream();
  const group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), random.chance(0.5) ? 0 : -1);
  for (let step = 0; step < steps; step++) {
    const kind = random.below(20);
    if (kind < 8) stream.add(StreamId.of(step + 1));
    else if (kind < 10 && stream.length > 0) stream.delete(random.pick(stream.ids).clone());
    else if (kind < 11) stream.trim(random.below(stream.length + 1));
    else if (kind < 12) group.setId(StreamId.of(random.below(step + 2)), UNKNOWN_READ);
    else {
      for (const id of stream.after(group.lastId).slice(0, 1 + random.below(3))) {
        group.deliver(stream, id, null, 0);
      }
    }
    check(stream, group);
  }
}

test('lag is either unknown or the number of entries that the group has still to get', () => {
  let known = 0;
  let unknown = 0;
  fc.assert(
    fc.property(fc.nat(0x7fff_ffff), (seed) => {
      wander(seed, 60, (stream, group) => {
        const lag = lagOf(stream, group);
        if (lag === null) unknown++;
        else {
          known++;
          assert.equal(lag, stream.after(group.lastId).length);
        }
      });
    }),
    { numRuns: 300 },
  );
  assert.ok(known > unknown, `known ${known} times, unknown ${unknown} times`);
});

test('without deletions a group that started at the beginning always knows its lag', () => {
  const stream = new FakeStream();
  const group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), 0);
  const random = new Random(3);
  for (let step = 1; step < 500; step++) {
    if (random.chance(0.6)) stream.add(StreamId.of(step));
    else
      for (const id of stream.after(group.lastId).slice(0, 2)) group.deliver(stream, id, null, 0);
    assert.equal(group.entriesRead, stream.length - stream.after(group.lastId).length);
    assert.equal(lagOf(stream, group), stream.after(group.lastId).length);
  }
});

test('a group behind a trimmed head lags by what is left (redis#13473)', () => {
  const stream = new FakeStream();
  const group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), 0);
  for (let i = 1; i <= 5; i++) stream.add(StreamId.of(i));
  group.deliver(stream, StreamId.of(1), null, 0);
  stream.trim(1);
  assert.equal(lagOf(stream, group), 1);
});

test('a tombstone ahead makes the lag unknown until the group has reached the end', () => {
  const stream = new FakeStream();
  const group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), 0);
  for (let i = 1; i <= 5; i++) stream.add(StreamId.of(i));
  stream.delete(StreamId.of(3));
  const lags: unknown[] = [lagOf(stream, group)];
  for (const ms of [1, 2, 4, 5]) {
    group.deliver(stream, StreamId.of(ms), null, 0);
    lags.push(lagOf(stream, group));
  }
  assert.deepEqual(lags, [null, null, null, null, 0]);
});
