/** A group after a restart: what its delivery order says without its pages, and which pages it reads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ClaimSink,
  ConsumerGroup,
  claim,
  claimIdle,
  decodeGroup,
  encodeGroup,
  encodePage,
  nack,
  PAGE_ENTRIES,
} from '../../src/consumer-groups/index.ts';
import { PendingCursor } from '../../src/consumer-groups/pending/pending-cursor.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { ByteReader, ByteWriter } from '../../src/util/byte-writer.ts';
import { Random } from '../../src/util/random.ts';
import { seedsOf } from '../helpers/seed.ts';

const FAIL = { mode: 'FAIL', retryCount: -1, force: false } as const;
const ENTRIES = 6 * PAGE_ENTRIES;

/** A stream that has every entry but those with these ms. */
function streamWithout(gone: ReadonlySet<number> = new Set()) {
  const id = StreamId.min();
  return {
    length: ENTRIES,
    entriesAdded: ENTRIES,
    lastId: StreamId.max(),
    firstId: id,
    maxDeletedId: id,
    has: ({ ms }: StreamId) => !gone.has(ms),
  };
}

/** Entries 1-0 to n-0, delivered to ann at these times. */
function groupOf(timeOf: (i: number) => number, entries = ENTRIES): ConsumerGroup {
  const group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), 0);
  const ann = group.createConsumer(Buffer.from('ann'), 0);
  group.createConsumer(Buffer.from('bob'), 0);
  for (let i = 1; i <= entries; i++) group.setPending(StreamId.of(i), ann, timeOf(i), 1);
  return group;
}

/** The group as a restart finds it, and the ids of the pages that it has read since. */
function restarted(group: ConsumerGroup): { group: ConsumerGroup; read: number[] } {
  const writer = new ByteWriter();
  encodeGroup(group, writer);
  const stored = new Map<number, Buffer>();
  for (const page of group.pending.pages()) {
    const bytes = new ByteWriter();
    encodePage(page, bytes);
    stored.set(page.id, bytes.toBuffer());
  }
  const twin = decodeGroup(new ByteReader(writer.toBuffer()));
  const read: number[] = [];
  twin.pending.attach({
    load(id) {
      read.push(id);
      return stored.get(id) as Buffer;
    },
    capture: () => {},
  });
  return { group: twin, read };
}

function claimed(group: ConsumerGroup, minIdle: number, limit: number, now: number): string[] {
  const claims: string[] = [];
  const sink: ClaimSink = {
    claimed: ({ id }, idle, count) => claims.push(`${id} ${idle} ${count}`),
    deleted: () => {},
  };
  const bob = group.findConsumer('bob');
  assert.ok(bob !== undefined);
  claimIdle(group, streamWithout(new Set([7, 600])), bob, minIdle, limit, now, sink);
  return claims;
}

function orderOf(group: ConsumerGroup): string[] {
  const { pending } = group;
  const cursor = new PendingCursor();
  const order: string[] = [];
  for (const slot of pending.order.slots()) {
    pending.at(slot, cursor);
    order.push(`${cursor.id}`);
  }
  return order;
}

test('a claim after a restart reads the pages that it takes entries from, and no others', () => {
  const { group, read } = restarted(groupOf((i) => i));
  assert.deepEqual(claimed(group, 5000, 10, 5000), []);
  assert.equal(group.pending.order.hasDue(5000, 5000), false);
  assert.equal(group.pending.order.nextIdleAt(10_000), 10_001);
  assert.deepEqual(read, []);
  assert.equal(claimed(group, 100, 3, 10_000).length, 3);
  assert.equal(read.length, 1);
  assert.equal(claimed(group, 100, 3 * PAGE_ENTRIES, 10_000).length, 3 * PAGE_ENTRIES);
  assert.ok(read.length <= 5, `read ${read}`);
});

test('where the oldest deliveries are spread over the pages, those pages are read in their order', () => {
  // The first entry of each page is old, of the last page the oldest.
  const { group, read } = restarted(
    groupOf((i) => (i % PAGE_ENTRIES === 1 ? 1000 - Math.floor(i / PAGE_ENTRIES) : 5000)),
  );
  assert.deepEqual(
    claimed(group, 1, 2, 5000).map((text) => text.split('-')[0]),
    [5 * PAGE_ENTRIES + 1, 4 * PAGE_ENTRIES + 1].map(String),
  );
  assert.ok(read.length <= 3, `read ${read}`);
});

test('released and resting entries are found in the pages that were not read', () => {
  const group = groupOf(() => 1000);
  const cursor = new PendingCursor();
  for (const ms of [2000, 50]) nack(group, streamWithout(), StreamId.of(ms), FAIL);
  assert.ok(group.pending.find(StreamId.of(1100), cursor));
  group.delay(cursor, 9000, 3);
  const { group: again, read } = restarted(group);
  assert.equal(again.pending.order.hasDue(100_000, 2000), true);
  assert.deepEqual(
    claimed(again, 100_000, 9, 2000).map((text) => text.split('-')[0]),
    ['2000', '50'],
  );
  assert.equal(read.length, 2);
  assert.equal(again.pending.order.nextIdleAt(100_000, 2000), 9000);
  assert.equal(claimed(again, 100_000, 9, 9000).length, 1);
});

test('a restart changes nothing that claims can see, under any sequence of claims and releases', (t) => {
  for (const seed of seedsOf(t, 30)) {
    const random = new Random(seed);
    const warm = groupOf(() => random.below(random.chance(0.5) ? 900 : 40), 4 * PAGE_ENTRIES + 9);
    for (let i = 0; i < 40; i++) {
      const id = StreamId.of(1 + random.below(ENTRIES));
      if (random.chance(0.5)) nack(warm, streamWithout(), id, FAIL);
      else warm.acknowledge(id);
    }
    const { group: cold } = restarted(warm);
    let now = 1000;
    for (let step = 0; step < 60; step++) {
      now += random.below(30);
      const ms = 1 + random.below(ENTRIES);
      const act = random.below(6);
      const minIdle = random.chance(0.2) ? 0 : random.below(now);
      const limit = 1 + random.below(random.chance(0.1) ? 2000 : 9);
      const [a, b] = [warm, cold].map((group): unknown => {
        const cursor = new PendingCursor();
        const { pending } = group;
        if (act === 0) return nack(group, streamWithout(), StreamId.of(ms), FAIL);
        if (act === 1) return group.acknowledge(StreamId.of(ms));
        if (act === 2) {
          if (!pending.find(StreamId.of(ms), cursor)) return null;
          return group.delay(cursor, now + (ms % 100), 2);
        }
        if (act === 3) {
          const options = { minIdle: 0, time: now - 5, retryCount: 4, force: true, justId: false };
          const ann = group.findConsumer('ann');
          assert.ok(ann !== undefined);
          const nothing = { claimed: () => {}, deleted: () => {} };
          return claim(group, streamWithout(), ann, StreamId.of(ms), options, now, nothing);
        }
        if (act === 4) {
          return [pending.order.hasDue(minIdle, now), pending.order.nextIdleAt(minIdle, now)];
        }
        return claimed(group, minIdle, limit, now);
      });
      assert.deepEqual(b, a, `seed ${seed}, step ${step}, act ${act}`);
    }
    assert.deepEqual(orderOf(cold), orderOf(warm), `seed ${seed}`);
  }
});

test('what was stored without bounds is read whole, and claims are the same', () => {
  const warm = groupOf((i) => 1000 - (i % 7));
  const { group: cold, read } = restarted(warm);
  for (const page of cold.pending.pages()) page.bounds.forget();
  assert.deepEqual(claimed(cold, 1, 20, 1000), claimed(warm, 1, 20, 1000));
  assert.equal(read.length, cold.pending.pageCount);
});

test('deleting a consumer or a range does not read the pages that are all one consumer’s', () => {
  const { group, read } = restarted(groupOf((i) => i));
  const ann = group.findConsumer('ann');
  assert.ok(ann !== undefined);
  group.acknowledgeRange(StreamId.of(1), StreamId.of(3 * PAGE_ENTRIES + 7));
  assert.equal(ann.pendingCount, 3 * PAGE_ENTRIES - 7);
  assert.deepEqual(read.length, 1);
  const left = ann.pendingCount;
  assert.equal(group.deleteConsumer(ann), left);
  assert.equal(group.pending.size, 0);
  assert.equal(read.length, 1);
  const bob = group.findConsumer('bob');
  assert.ok(bob !== undefined);
  assert.ok(group.setPending(StreamId.of(9), bob, 1, 1));
  assert.deepEqual(orderOf(group), ['9-0']);
});
