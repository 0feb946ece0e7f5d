/**
 * Pending lists under any operations, against a twin: content, delivery order, checkpoints, restarts.
 * Id families cover page borders, the edges of uint64 and the wide form. fast-check prints its seed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_ENTRIES, PendingCursor, PendingList } from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Random } from '../../src/util/random.ts';
import { fc } from '../helpers/property.ts';
import { PendingTwin } from './pending-twin.ts';

const CONSUMERS = ['ann', 'bob', 'cy', 'dee'];
const U32 = 0xffff_ffff;

/** Families of ids: dense ones, the edges of uint64, distances that need the wide form. */
const ID_FAMILIES: ((random: Random) => StreamId)[] = [
  (random) => StreamId.of(1_700_000_000_000 + random.below(700), random.below(3)),
  (random) => StreamId.of(5, random.below(2000)),
  (random) => {
    const half = () => random.pick([0, 1, 2, 0x7fff_ffff, 0x8000_0000, U32 - 1, U32]);
    return new StreamId(half(), half(), half(), half());
  },
  (random) => StreamId.of(random.below(300) * 3_000_000_000, random.below(4) * 2_000_000_000),
];

const operation = fc.record({
  kind: fc.constantFrom(
    'set',
    'set',
    'setMany',
    'setMany',
    'append',
    'append',
    'acknowledge',
    'acknowledgeMost',
    'acknowledgeHead',
    'acknowledgeRange',
    'appendToOne',
    'release',
    'deleteConsumer',
    'restart',
    'checkpoint',
    'order',
  ),
  seed: fc.nat(0x7fff_ffff),
  amount: fc.nat(900),
});
type Operation = { kind: string; seed: number; amount: number };

function perform(twin: PendingTwin, newId: (random: Random) => StreamId, op: Operation): void {
  const random = new Random(op.seed);
  const set = (id: StreamId) =>
    twin.set(id, random.pick(CONSUMERS), 1000 + random.below(50), random.below(5));
  const known = () => twin.sorted().map((entry) => entry.id.clone());
  switch (op.kind) {
    case 'set':
      set(newId(random));
      break;
    case 'setMany':
      for (let i = 0; i < op.amount; i++) set(newId(random));
      break;
    case 'append': {
      const id = known().at(-1) ?? newId(random);
      for (let i = 0; i < op.amount && id.increment(); i++) set(id);
      break;
    }
    case 'appendToOne': {
      const id = known().at(-1) ?? newId(random);
      const name = random.pick(CONSUMERS);
      for (let i = 0; i < op.amount && id.increment(); i++) twin.set(id, name, 2000 + i, 1);
      break;
    }
    case 'acknowledgeRange': {
      const ends = [random.pick([...known(), newId(random)]), newId(random)];
      twin.acknowledgeRange(...(ends.sort((a, b) => a.compare(b)) as [StreamId, StreamId]));
      break;
    }
    case 'acknowledge':
      twin.acknowledge(newId(random));
      break;
    case 'acknowledgeMost':
      for (const id of known()) if (!random.chance(0.05)) twin.acknowledge(id);
      break;
    case 'acknowledgeHead':
      for (const id of known().slice(0, op.amount)) twin.acknowledge(id);
      break;
    case 'release':
      for (let i = 0; i <= op.amount % 40; i++) {
        twin.setReleased(
          random.chance(0.5) ? random.pick([...known(), newId(random)]) : newId(random),
          i,
        );
      }
      break;
    case 'deleteConsumer':
      twin.deleteConsumer(random.pick(CONSUMERS));
      break;
    case 'restart':
      twin.restart();
      break;
    case 'checkpoint':
      twin.freeze();
      twin.capture();
      break;
    case 'order':
      assert.ok(twin.group.pending.order);
      break;
  }
}

for (const [family, newId] of ID_FAMILIES.entries()) {
  test(`a pending list is equal to a map after any operations, id family ${family}`, () => {
    const operations = fc.array(operation, { maxLength: 14 });
    fc.assert(
      fc.property(operations, (ops) => {
        const twin = new PendingTwin();
        for (const op of ops) {
          perform(twin, newId, op);
          twin.check();
        }
      }),
      { numRuns: 60 },
    );
  });

  test(`the delivery order stays sorted under any operations, id family ${family}`, () => {
    const operations = fc.array(operation, { maxLength: 10 });
    fc.assert(
      fc.property(operations, (ops) => {
        const twin = new PendingTwin();
        twin.checkOrder();
        for (const op of ops) {
          perform(twin, newId, op);
          twin.checkOrder();
        }
        twin.check();
      }),
      { numRuns: 40 },
    );
  });

  test(`a checkpoint sees the entries as they were when its epoch ended, id family ${family}`, () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 6 }),
        fc.array(
          operation.filter((op) => op.kind !== 'restart' && op.kind !== 'checkpoint'),
          { maxLength: 6 },
        ),
        (before, meanwhile) => {
          const twin = new PendingTwin();
          for (const op of before) perform(twin, newId, op);
          const { metadata, expected } = twin.freeze();
          for (const op of meanwhile) perform(twin, newId, op);
          twin.capture();
          const restored = twin.restore(metadata);
          const present = twin.group;
          twin.group = restored;
          assert.deepEqual(twin.walk(StreamId.min()), expected);
          twin.group = present;
          twin.check();
        },
      ),
      { numRuns: 60 },
    );
  });
}

test('iteration goes on from its place while entries are removed, moved and added around it', () => {
  fc.assert(
    fc.property(fc.nat(0x7fff_ffff), fc.integer({ min: 0, max: 3 }), (seed, family) => {
      const random = new Random(seed);
      const twin = new PendingTwin();
      for (let i = 0; i < 1500; i++) twin.set(ID_FAMILIES[family](random), 'ann', i, 1);
      const cursor = new PendingCursor();
      const visited: string[] = [];
      const expected = twin.sorted().map((entry) => entry.id.toString());
      for (let more = twin.group.pending.seek(StreamId.min(), cursor); more; more = cursor.next()) {
        visited.push(cursor.id.toString());
        if (random.chance(0.9)) {
          twin.group.drop(cursor);
          twin.entries.delete(cursor.id.toString());
        } else {
          const id = cursor.id.clone();
          twin.group.assign(cursor, twin.consumer('bob'), 7, 7);
          twin.entries.set(id.toString(), { id, consumer: 'bob', time: 7, count: 7, stamp: 0 });
        }
      }
      assert.deepEqual(visited, expected);
      twin.check();
    }),
    { numRuns: 12 },
  );
});

test('seeking from any id finds the same entry as a search in the sorted twin', () => {
  const random = new Random(7);
  for (const newId of ID_FAMILIES) {
    const twin = new PendingTwin();
    for (let i = 0; i < 3 * PAGE_ENTRIES; i++)
      twin.set(newId(random), random.pick(CONSUMERS), 1, 1);
    const sorted = twin.sorted();
    const cursor = new PendingCursor();
    for (let i = 0; i < 500; i++) {
      const from = newId(random);
      const expected = sorted.find((entry) => entry.id.compare(from) >= 0);
      assert.equal(twin.group.pending.seek(from, cursor), expected !== undefined);
      if (expected) assert.equal(cursor.id.toString(), expected.id.toString());
      const bob = twin.consumer('bob');
      const bobs = sorted.find((entry) => entry.consumer === 'bob' && entry.id.compare(from) >= 0);
      assert.equal(twin.group.pending.seekConsumer(bob.index, from, cursor), bobs !== undefined);
      if (bobs) assert.equal(cursor.id.toString(), bobs.id.toString());
    }
  }
});

test('descending insertions fill pages instead of making one page each', () => {
  const list = new PendingList();
  const id = new StreamId();
  for (let i = 20_000; i > 0; i--) assert.ok(list.insert(id.setMs(i * 7), 0, i, 1));
  assert.equal(list.size, 20_000);
  assert.ok(list.pageCount < 200, `${list.pageCount} pages`);
});

test('survivors of pages that were acknowledged gather in few pages', () => {
  const list = new PendingList();
  const cursor = new PendingCursor();
  const id = new StreamId();
  for (let i = 0; i < 100 * PAGE_ENTRIES; i++) list.insert(id.setMs(i), 0, i, 1);
  for (let i = 0; i < 100 * PAGE_ENTRIES; i++) {
    if (i % 200 !== 0 && list.find(id.setMs(i), cursor)) list.remove(cursor);
  }
  assert.equal(list.size, 256);
  assert.ok(list.pageCount <= 4, `${list.pageCount} pages`);
});

test('a damaged page is refused with a reason, or at least is a page of ascending ids', () => {
  const twin = new PendingTwin();
  for (let i = 0; i < 600; i++) twin.set(StreamId.of(i * 3, i % 2), CONSUMERS[i % 3], i, 1);
  const { metadata } = twin.freeze();
  twin.capture();
  const [pageId, bytes] = [...twin.stored][0];
  const refused = /^pending page \d+ is damaged: /;
  let refusals = 0;
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at] ^= 0xc1;
    twin.stored.set(pageId, damaged);
    twin.group = twin.restore(metadata);
    const seen: StreamId[] = [];
    try {
      let more = twin.group.pending.seek(StreamId.min(), twin.cursor);
      for (; more; more = twin.cursor.next()) seen.push(twin.cursor.id.clone());
      assert.equal(seen.length, 600);
      for (let i = 1; i < 600; i++) assert.ok(seen[i - 1].compare(seen[i]) < 0);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assert.match((error as Error).message, refused);
      refusals++;
    }
  }
  assert.ok(refusals > bytes.length / 2, `${refusals} of ${bytes.length} refused`);
  twin.stored.set(pageId, bytes.subarray(0, bytes.length - 1));
  assert.throws(() => twin.restore(metadata).pending.has(StreamId.of(3, 1)), /is damaged/);
});

test('a restored list loads only the pages that it is asked about', () => {
  const twin = new PendingTwin();
  for (let i = 0; i < 20 * PAGE_ENTRIES; i++) twin.set(StreamId.of(i), 'ann', i, 1);
  twin.set(StreamId.of(15 * PAGE_ENTRIES), 'bob', 1, 1);
  const { metadata } = twin.freeze();
  twin.capture();
  const loaded: number[] = [];
  const group = twin.restore(metadata);
  group.pending.attach({
    load: (id) => {
      loaded.push(id);
      return twin.stored.get(id)!;
    },
    capture: () => assert.fail('nothing is frozen'),
  });
  assert.equal(group.pending.size, 20 * PAGE_ENTRIES);
  assert.deepEqual(loaded, []);
  const cursor = new PendingCursor();
  assert.ok(group.pending.seekConsumer(group.findConsumer('bob')!.index, StreamId.min(), cursor));
  assert.equal(cursor.id.ms, 15 * PAGE_ENTRIES);
  assert.equal(loaded.length, 1);
  assert.ok(group.acknowledge(StreamId.of(3)));
  assert.equal(loaded.length, 2);
});

test('a list that was never checkpointed keeps no trace of the pages that have gone', () => {
  const twin = new PendingTwin();
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 2000; i++) twin.set(StreamId.of(round * 2000 + i), 'ann', 1, 1);
    for (let i = 0; i < 2000; i++) twin.acknowledge(StreamId.of(round * 2000 + i));
  }
  twin.epoch.current++;
  let pages = 0;
  twin.group.pending.takeFrozen(() => pages++);
  assert.ok(pages <= 1);
  assert.deepEqual(twin.group.pending.takeFrozenRemoved(), []);
});

test('after an abandoned checkpoint the next one writes everything', () => {
  const twin = new PendingTwin();
  for (let i = 0; i < 3000; i++) twin.set(StreamId.of(i), 'ann', 1, 1);
  twin.freeze();
  twin.group.pending.takeFrozen(() => {});
  twin.acknowledge(StreamId.of(1));
  twin.group.pending.markAllDirty();
  twin.restart();
  twin.check();
});
