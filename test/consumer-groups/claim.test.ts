/**
 * The rules of claims, CLAIM reads and XNACK, where redis-server 7.0 has none to compare with.
 * A CLAIM read is checked against a sorted twin.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ClaimSink,
  type Consumer,
  ConsumerGroup,
  claim,
  claimIdle,
  countDown,
  countFrom,
  countUp,
  countValue,
  FATAL_COUNT,
  idleOf,
  nack,
  PendingCursor,
  releasedCount,
  scanPending,
  UNOWNED,
} from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Random } from '../../src/util/random.ts';
import { fc } from '../helpers/property.ts';
import { FakeStream } from './fake-stream.ts';

const NOW = 100_000;

interface Scene {
  stream: FakeStream;
  group: ConsumerGroup;
  ann: Consumer;
  bob: Consumer;
}

/** A stream 1-0 to n-0; ann has been given all of it, entry i at time i * 10. */
function scene(entries: number): Scene {
  const stream = new FakeStream();
  const group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), 0);
  const ann = group.createConsumer(Buffer.from('ann'), 0);
  const bob = group.createConsumer(Buffer.from('bob'), 0);
  for (let i = 1; i <= entries; i++) stream.add(StreamId.of(i));
  for (let i = 1; i <= entries; i++) group.deliver(stream, StreamId.of(i), ann, i * 10);
  return { stream, group, ann, bob };
}

function collect(): ClaimSink & { claims: unknown[]; gone: string[] } {
  const claims: unknown[] = [];
  const gone: string[] = [];
  return {
    claims,
    gone,
    claimed: (entry, idle, count) => claims.push([entry.id.ms, idle, count]),
    deleted: (id) => gone.push(`${id}`),
  };
}

function entryAt(group: ConsumerGroup, ms: number): PendingCursor {
  const cursor = new PendingCursor();
  assert.ok(group.pending.find(StreamId.of(ms), cursor), `${ms}-0 is pending`);
  return cursor;
}

const FAIL = { mode: 'FAIL', retryCount: -1, force: false } as const;

test('a CLAIM read takes released entries first, then the longest idle, and returns idle and count', () => {
  const { stream, group, bob, ann } = scene(6);
  nack(group, stream, StreamId.of(5), FAIL);
  nack(group, stream, StreamId.of(2), FAIL);
  const sink = collect();
  assert.equal(claimIdle(group, stream, bob, NOW - 35, 10, NOW, sink), 4);
  assert.deepEqual(sink.claims, [
    [5, NOW, 1],
    [2, NOW, 1],
    [1, NOW - 10, 1],
    [3, NOW - 30, 1],
  ]);
  assert.equal(group.nackedCount, 0);
  assert.deepEqual([ann.pendingCount, bob.pendingCount], [2, 4]);
  const entry = entryAt(group, 5);
  assert.deepEqual([entry.consumer, entry.time, entry.count], [bob.index, NOW, 2]);
});

test('a CLAIM read with no idle time takes each entry once and ends', () => {
  const { stream, group, bob } = scene(5);
  const sink = collect();
  assert.equal(claimIdle(group, stream, bob, 0, 1000, NOW, sink), 5);
  assert.equal(sink.claims.length, 5);
});

test('a CLAIM read skips entries that are gone from the stream and leaves them pending', () => {
  const { stream, group, bob } = scene(4);
  stream.delete(StreamId.of(1));
  const sink = collect();
  assert.equal(claimIdle(group, stream, bob, 1, 1, NOW, sink), 1);
  assert.deepEqual(sink.claims, [[2, NOW - 20, 1]]);
  assert.equal(group.pending.size, 4);
});

test('the order says when the next entry becomes idle, past those that are already', () => {
  const { stream, group } = scene(3);
  assert.equal(group.pending.order.nextIdleAt(100), 110);
  assert.equal(group.pending.order.nextIdleAt(100, 115), 120);
  assert.equal(group.pending.order.nextIdleAt(100, 130), Number.POSITIVE_INFINITY);
  nack(group, stream, StreamId.of(3), FAIL);
  assert.equal(group.pending.order.nextIdleAt(100), 0);
  assert.equal(group.pending.order.nextIdleAt(100, 50), 110);
});

test('XNACK leaves the entry unowned with the count that its mode asks for', () => {
  const { stream, group, ann } = scene(5);
  group.assign(entryAt(group, 1), ann, 10, 7);
  const count = (ms: number, options: Parameters<typeof nack>[3]) => {
    assert.ok(nack(group, stream, StreamId.of(ms), options));
    const entry = entryAt(group, ms);
    assert.deepEqual([entry.consumer, entry.time, idleOf(entry, NOW)], [UNOWNED, 0, 0]);
    assert.equal(entry.count, releasedCount());
    return countValue(entry.count);
  };
  assert.equal(count(1, FAIL), 7);
  assert.equal(count(1, { ...FAIL, mode: 'SILENT' }), 6);
  assert.equal(count(2, { ...FAIL, mode: 'SILENT' }), 0);
  assert.equal(count(2, { ...FAIL, mode: 'SILENT' }), 0);
  assert.equal(count(3, { ...FAIL, mode: 'FATAL' }), 9223372036854775807n);
  assert.equal(count(4, { ...FAIL, mode: 'FATAL', retryCount: 3 }), 3);
  assert.deepEqual([group.nackedCount, ann.pendingCount], [4, 1]);
});

test('XNACK of what is not pending does nothing, and with FORCE makes it, if the stream has it', () => {
  const { stream, group } = scene(2);
  group.acknowledge(StreamId.of(1));
  assert.equal(nack(group, stream, StreamId.of(1), FAIL), false);
  assert.equal(nack(group, stream, StreamId.of(9), { ...FAIL, force: true }), false);
  assert.equal(nack(group, stream, StreamId.of(1), { ...FAIL, force: true }), true);
  const entry = entryAt(group, 1);
  assert.deepEqual([entry.consumer, entry.count], [UNOWNED, 0]);
  assert.equal(group.nackedCount, 1);
});

test('a released entry is claimed whatever its idle time, and listed whatever IDLE asks', () => {
  const { stream, group, bob } = scene(2);
  nack(group, stream, StreamId.of(1), { ...FAIL, mode: 'FATAL' });
  const query = { start: StreamId.min(), end: StreamId.max(), count: 9, consumer: null };
  const listed: number[] = [];
  scanPending(group, { ...query, minIdle: 2 * NOW }, NOW, (entry) => listed.push(entry.id.ms));
  assert.deepEqual(listed, [1]);
  const sink = collect();
  const options = { minIdle: 2 * NOW, time: NOW, retryCount: -1, force: false, justId: false };
  for (const ms of [1, 2]) claim(group, stream, bob, StreamId.of(ms), options, NOW, sink);
  assert.deepEqual(sink.claims, [[1, NOW, FATAL_COUNT]]);
  assert.equal(entryAt(group, 1).count, FATAL_COUNT);
});

test('delivery counts saturate instead of turning over', () => {
  assert.equal(countFrom(2n ** 63n - 1n), FATAL_COUNT);
  for (const value of [2 ** 32, 2 ** 40, 2n ** 53n + 1n, 2n ** 63n - 2n]) {
    assert.equal(countValue(countFrom(value)), value);
    const up = countValue(countUp(countFrom(value)));
    // The greatest of all is the poisoned entry's.
    assert.equal(BigInt(up), value === 2n ** 63n - 2n ? value : BigInt(value) + 1n);
    assert.equal(BigInt(countValue(countDown(countFrom(value)))), BigInt(value) - 1n);
  }
  const edge = 0xffff_0000;
  assert.deepEqual(
    [edge - 1, edge, 2 ** 32 - 1].map((value) => countValue(countFrom(value))),
    [edge - 1, edge, 2 ** 32 - 1],
  );
  assert.equal(countValue(countUp(countFrom(edge - 1))), edge);
  assert.equal(countValue(countDown(countFrom(edge))), edge - 1);
  assert.equal(countFrom(17), 17);
  const { stream, group, bob } = scene(1);
  const greatest = countFrom(2n ** 63n - 2n);
  group.assign(entryAt(group, 1), bob, 0, greatest);
  const options = { minIdle: 0, time: NOW, retryCount: -1, force: false, justId: false };
  claim(group, stream, bob, StreamId.of(1), options, NOW, collect());
  assert.equal(entryAt(group, 1).count, greatest);
});

test('released entries keep their row over a restart and a copy', () => {
  const { stream, group } = scene(9);
  const row = [7, 2, 9, 4];
  for (const ms of row) nack(group, stream, StreamId.of(ms), FAIL);
  const twin = group.copy();
  group.acknowledge(StreamId.of(7));
  const cursor = new PendingCursor();
  const found: number[] = [];
  const { order } = twin.pending;
  for (const slot of order.slots()) {
    if (found.length === 4) break;
    twin.pending.at(slot, cursor);
    found.push(cursor.id.ms);
  }
  assert.deepEqual(found, row);
});

function inRow(group: ConsumerGroup): number[] {
  const cursor = new PendingCursor();
  const found: number[] = [];
  for (const slot of group.pending.order.slots()) {
    group.pending.at(slot, cursor);
    found.push(cursor.id.ms);
  }
  return found;
}

test('an entry that was made pending by FORCE keeps its place before one released later', () => {
  const { group } = scene(0);
  group.setReleased(StreamId.of(5), 0);
  group.setPending(StreamId.of(3), group.createConsumer(Buffer.from('cy'), 0), 1, 1);
  group.setReleased(StreamId.of(3), 1);
  assert.deepEqual(inRow(group), [5, 3]);
  assert.deepEqual(inRow(group.copy()), [5, 3]);
});

test('all that rest are released by time and id, with or without a delivery order', () => {
  for (const order of ['none', 'before', 'after']) {
    const withOrder = order === 'before';
    const { group } = scene(2000);
    const random = new Random(7);
    const expected: { ms: number; time: number }[] = [];
    if (withOrder) assert.notEqual(group.pending.order.owned.firstUpTo(), 0);
    for (let ms = 1; ms <= 2000; ms++) {
      if (ms % 3 === 0) continue;
      const time = NOW + random.below(300);
      const at = entryAt(group, ms);
      if (ms % 7 === 0) group.awaitDeadLetter(at, time, 1);
      else group.delay(at, time, 1);
      if (withOrder && ms % 5 === 0) group.pending.setAside(at);
      expected.push({ ms, time });
    }
    expected.sort((a, b) => a.time - b.time || a.ms - b.ms);
    if (order === 'after') assert.notEqual(group.pending.order.owned.firstUpTo(), 0);
    group.releaseDelayed();
    assert.equal(group.parkedCount, 0);
    assert.equal(group.nackedCount, expected.length);
    const row = expected.map(({ ms }) => ms);
    for (const one of [group, group.copy()]) {
      assert.deepEqual(inRow(one).slice(0, row.length), row);
      assert.equal(inRow(one).length, 2000);
    }
    // The lists are sound: what rests again takes its place.
    for (const ms of [8, 4, 1]) group.delay(entryAt(group, ms), NOW + 10 - ms, 2);
    assert.deepEqual(inRow(group).slice(-3), [8, 4, 1]);
  }
});

test('entries of one moment stand by their ids, whenever they came to it, and after a restart too', () => {
  const { stream, group, ann, bob } = scene(9);
  assert.notEqual(group.pending.order.owned.firstUpTo(), 0);
  const options = { minIdle: 0, time: 500, retryCount: -1, force: false, justId: false };
  for (const ms of [7, 2, 9]) claim(group, stream, ann, StreamId.of(ms), options, NOW, collect());
  for (const claimed of [group, group.copy()]) {
    const sink = collect();
    claimIdle(claimed, stream, claimed === group ? bob : ann, 0, 9, NOW, sink);
    assert.deepEqual(
      sink.claims.map((entry) => (entry as number[])[0]),
      [1, 3, 4, 5, 6, 8, 2, 7, 9],
    );
  }
});

test('a CLAIM read without an idle time takes each entry once, those of this moment too', () => {
  const { stream, group, ann, bob } = scene(9);
  const options = { minIdle: 0, time: NOW, retryCount: -1, force: false, justId: false };
  for (const ms of [8, 9]) claim(group, stream, ann, StreamId.of(ms), options, NOW, collect());
  const sink = collect();
  claimIdle(group, stream, bob, 0, 100, NOW, sink);
  assert.deepEqual(
    sink.claims.map((entry) => (entry as number[])[0]),
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
});

test('a CLAIM read takes what a sorted twin says, under any sequence of claims and releases', () => {
  fc.assert(
    fc.property(fc.nat(0x7fff_ffff), (seed) => {
      const random = new Random(seed);
      const { stream, group, ann, bob } = scene(40);
      // [released?, time or place in the row] per id.
      const twin = new Map<number, [boolean, number]>();
      for (let i = 1; i <= 40; i++) twin.set(i, [false, i * 10]);
      let row = 0;
      for (let step = 0; step < 60; step++) {
        const now = 1000 + (step >> 2) * 7;
        const ms = 1 + random.below(40);
        const kind = random.below(4);
        if (kind === 0) {
          nack(group, stream, StreamId.of(ms), FAIL);
          if (twin.has(ms)) twin.set(ms, [true, row++]);
        } else if (kind === 1) {
          const time = random.chance(0.3) ? now : random.below(now);
          const options = { minIdle: 0, time, retryCount: -1, force: true, justId: false };
          claim(group, stream, ann, StreamId.of(ms), options, now, collect());
          twin.set(ms, [false, time]);
        } else if (kind === 2) {
          assert.equal(group.acknowledge(StreamId.of(ms)), twin.delete(ms));
        } else {
          const minIdle = random.chance(0.3) ? 0 : random.below(now);
          const limit = 1 + random.below(6);
          const sink = collect();
          claimIdle(group, stream, bob, minIdle, limit, now, sink);
          const expected = [...twin]
            .filter(([, [released, time]]) => released || now - time >= minIdle)
            .sort(([a, x], [b, y]) => Number(y[0]) - Number(x[0]) || x[1] - y[1] || a - b)
            .slice(0, limit)
            .map(([id]) => id);
          assert.deepEqual(
            sink.claims.map((entry) => (entry as number[])[0]),
            expected,
          );
          for (const id of expected) twin.set(id, [false, now]);
        }
      }
    }),
    { numRuns: 80 },
  );
});
