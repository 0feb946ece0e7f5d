/**
 * What commands on streams with cold blocks ask of the checkpoint: counted, because time cannot be
 * asserted. Each look-up of a block and each list of first ids counts as one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Block } from '../../src/stream/block/block.ts';
import type { ColdBlocks } from '../../src/stream/block/cold-blocks.ts';
import { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { StreamIterator } from '../../src/stream/stream-iterator.ts';
import { TrimRule, trim } from '../../src/stream/trim.ts';
import { Arguments } from '../../src/util/arguments.ts';

const LIMITS = { maxEntries: 10, maxBytes: 4096 };
const PAIR = Arguments.of('field', 'value');
/** Blocks of a section: one list of first ids each. */
const SECTION = 256;

/** A checkpoint of one stream in an ordered array that counts. */
class CountingStore implements ColdBlocks {
  #ids: StreamId[] = [];
  #bytes: Buffer[] = [];
  reads = 0;
  lists = 0;
  visited = 0;

  get asked(): number {
    return this.reads + this.lists;
  }

  /** Takes a checkpoint of the stream as it is now. */
  store(stream: Stream): void {
    const { removedBelow, removed } = stream.freeze();
    const gone = new Set(removed.map(String));
    const kept = new Map<string, [StreamId, Buffer]>();
    for (const [i, id] of this.#ids.entries()) {
      const isBelow = removedBelow !== null && id.compare(removedBelow) < 0;
      if (!isBelow && !gone.has(id.toString())) kept.set(id.toString(), [id, this.#bytes[i]]);
    }
    for (let block = stream.nextFrozen(); block !== undefined; block = stream.nextFrozen()) {
      const id = block.readFirstId(new StreamId());
      kept.set(id.toString(), [id, block.export()]);
      stream.captured(block);
    }
    stream.committed();
    const sorted = [...kept.values()].sort(([a], [b]) => a.compare(b));
    this.#ids = sorted.map(([id]) => id);
    this.#bytes = sorted.map(([, bytes]) => bytes);
  }

  read(id: StreamId): Block | undefined {
    this.reads++;
    const at = this.#lowerBound(id);
    return this.#ids[at]?.equals(id) ? Block.import(this.#bytes[at]) : undefined;
  }

  firstIds(from: StreamId, last: StreamId, visit: (id: StreamId) => void): void {
    this.lists++;
    for (let i = this.#lowerBound(from); i < this.#ids.length; i++) {
      if (this.#ids[i].compare(last) > 0) return;
      this.visited++;
      visit(this.#ids[i].clone());
    }
  }

  /** What the stream's commands asked for. */
  during(run: () => void): number {
    const before = this.asked;
    run();
    return this.asked - before;
  }

  #lowerBound(id: StreamId): number {
    let low = 0;
    let high = this.#ids.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ids[middle].compare(id) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A stream of `count` entries, ids 1-0 and up, whose blocks are all cold. */
function cold(count: number): { stream: Stream; store: CountingStore } {
  const stream = new Stream(LIMITS);
  const store = new CountingStore();
  for (let i = 1; i <= count; i++) stream.append(StreamId.of(i), PAIR, 0, 2);
  store.store(stream);
  return { stream: Stream.restore(stream.export(), store, LIMITS), store };
}

/** The same, made cold by eviction and not by a restart. */
function evicted(count: number): { stream: Stream; store: CountingStore } {
  const stream = new Stream(LIMITS);
  const store = new CountingStore();
  for (let i = 1; i <= count; i++) stream.append(StreamId.of(i), PAIR, 0, 2);
  stream.attachColdBlocks(store);
  store.store(stream);
  stream.evictOldest(Number.POSITIVE_INFINITY);
  assert.ok(stream.coldCount > 0);
  return { stream, store };
}

function maxlen(length: number, approximate = false): TrimRule {
  const rule = new TrimRule();
  rule.strategy = 'maxlen';
  rule.maxlen = length;
  rule.approximate = approximate;
  return rule;
}

function minid(id: StreamId): TrimRule {
  const rule = new TrimRule();
  rule.strategy = 'minid';
  rule.minid.copy(id);
  return rule;
}

function ids(stream: Stream): string[] {
  const iterator = new StreamIterator();
  const found: string[] = [];
  iterator.seek(stream, StreamId.min(), StreamId.max());
  while (iterator.next()) found.push(iterator.id.toString());
  return found;
}

test('a block in memory at the head makes a trim read its section, and not those behind it', () => {
  for (const count of [20_000, 80_000]) {
    const { stream, store } = cold(count);
    assert.ok(stream.remove(StreamId.of(5)));
    const asked = store.during(() => {
      assert.equal(trim(stream, maxlen(count / 5)), (count / 5) * 4 - 1);
    });
    assert.ok(asked <= 2 * SECTION + 6, `${asked} look-ups for ${count} entries`);
    assert.equal(stream.length, count / 5);
  }
});

for (const [how, make] of [
  ['after a restart', cold],
  ['after eviction', evicted],
] as const) {
  test(`a trim of a cold stream reads what it keeps part of, whatever its length, ${how}`, () => {
    for (const count of [20_000, 80_000]) {
      for (const rule of [maxlen(count / 5), minid(StreamId.of((count / 5) * 4 + 1))]) {
        const { stream, store } = make(count);
        const asked = store.during(() => {
          assert.equal(trim(stream, rule), (count / 5) * 4);
        });
        // Sections that go whole are not read; the last one goes block by block.
        assert.ok(asked <= SECTION + 4, `${asked} for ${count}`);
        assert.equal(stream.length, count / 5);
        assert.equal(ids(stream)[0], `${(count / 5) * 4 + 1}-0`);
      }
    }
  });

  test(`appends with a cap cost a fixed number of look-ups each, ${how}`, () => {
    const { stream, store } = make(30_000);
    for (let i = 1; i <= 30_000; i++) {
      const asked = store.during(() => {
        stream.append(StreamId.of(30_000 + i), PAIR, 0, 2);
        trim(stream, maxlen(25_000, true));
      });
      // Only the first trim has 5,000 entries to remove.
      assert.ok(asked <= (i === 1 ? 500 + 6 : 4), `append ${i}: ${asked}`);
    }
    assert.equal(stream.length, 25_000);
    assert.ok(store.lists <= 20, `${store.lists} lists`);
  });

  test(`a consumed queue costs a fixed number of look-ups a delete, ${how}`, () => {
    const { stream, store } = make(40_000);
    const iterator = new StreamIterator();
    for (let next = 1; next <= 40_000; next += 500) {
      const asked = store.during(() => {
        iterator.seek(stream, StreamId.of(next), StreamId.max());
        for (let i = 0; i < 500; i++) assert.ok(iterator.next());
      });
      assert.ok(asked <= 60, `read from ${next}: ${asked}`);
      for (let i = 0; i < 500; i++) {
        const deleted = store.during(() => assert.ok(stream.remove(StreamId.of(next + i))));
        assert.ok(deleted <= 4, `delete of ${next + i}: ${deleted}`);
      }
    }
    assert.equal(stream.length, 0);
    assert.ok(store.visited <= 40_000 / 10 + SECTION, `${store.visited} ids listed`);
  });

  test(`deletes in any order, and what comes after them, cost a fixed number of look-ups, ${how}`, () => {
    const count = 40_000;
    const { stream, store } = make(count);
    // Every block but the first and the last, in an order that jumps about.
    let blocks = 0;
    for (let k = 0; k < count / 10; k++) {
      const block = (k * 1117) % (count / 10);
      if (block === 0 || block === count / 10 - 1) continue;
      blocks++;
      for (let i = 1; i <= 10; i++) {
        const asked = store.during(() => assert.ok(stream.remove(StreamId.of(block * 10 + i))));
        assert.ok(asked <= 4, `delete in block ${block}: ${asked}`);
      }
    }
    assert.equal(blocks, 3998);
    const asked = store.during(() => assert.equal(ids(stream).length, 20));
    assert.ok(asked <= 8, `the rest: ${asked}`);
    assert.ok(store.during(() => trim(stream, maxlen(5))) <= 8);
  });
}

test('eviction without a restart, in turns with trims and checkpoints, stays linear', () => {
  const stream = new Stream(LIMITS);
  const store = new CountingStore();
  stream.attachColdBlocks(store);
  let next = 1;
  let trims = 0;
  for (let round = 0; round < 40; round++) {
    for (let i = 0; i < 1000; i++) stream.append(StreamId.of(next++), PAIR, 0, 2);
    store.store(stream);
    // Some blocks stay resident in the middle of cold ones.
    stream.remove(StreamId.of(next - 500));
    stream.evictOldest(Number.POSITIVE_INFINITY);
    for (let i = 0; i < 100; i++) {
      trims++;
      const asked = store.during(() => trim(stream, maxlen(stream.length - 8)));
      assert.ok(asked <= 6, `trim ${trims}: ${asked}`);
    }
  }
  assert.equal(ids(stream).length, stream.length);
});

test('a stream stored by the version without sections is read, and divided when it is first used', () => {
  const { stream, store } = cold(20_000);
  const metadata = stream.export();
  // Version 2 ended where the sections begin.
  const old = Buffer.from(metadata.subarray(0, 1 + 4 * 16 + 5 * 8));
  old[0] = 2;
  const restored = Stream.restore(old, store, LIMITS);
  assert.ok(store.during(() => assert.ok(restored.has(StreamId.of(9000)))) <= 3);
  assert.deepEqual(ids(restored), ids(stream));
  assert.equal(trim(restored, maxlen(100)), 19_900);
  const again = Stream.restore(old, store, LIMITS);
  again.append(StreamId.of(20_001), PAIR, 0, 2);
  assert.equal(trim(again, maxlen(1)), 20_000);
  assert.deepEqual(ids(again), ['20001-0']);
});

test('a block that is missing anywhere is found out by any read near it, and never skipped', () => {
  const { stream, store } = cold(20_000);
  const whole = stream.export();
  const lacking = (lost: number): ColdBlocks => ({
    read: (id) => store.read(id),
    firstIds(from, last, visit) {
      store.firstIds(from, last, (id) => {
        if (id.ms !== lost) visit(id);
      });
    },
  });
  const damage = { code: 'STORAGE_DAMAGED' };
  for (const lost of [1, 10_001, 19_991]) {
    const make = () => Stream.restore(whole, lacking(lost), LIMITS);
    assert.throws(() => ids(make()), damage);
    assert.throws(() => make().has(StreamId.of(lost + 3)), damage);
    assert.throws(() => {
      const iterator = new StreamIterator();
      iterator.seek(make(), StreamId.of(Math.max(1, lost - 15)), StreamId.of(lost + 15));
      while (iterator.next());
    }, damage);
  }
  // Far from it nothing is wrong.
  const other = Stream.restore(whole, lacking(10_001), LIMITS);
  assert.ok(other.has(StreamId.of(100)));
  // A block too many is as wrong as one too few.
  const doubled: ColdBlocks = {
    read: (id) => store.read(id),
    firstIds(from, last, visit) {
      store.firstIds(from, last, (id) => {
        visit(id);
        if (id.ms === 101) visit(StreamId.of(102));
      });
    },
  };
  assert.throws(() => ids(Stream.restore(whole, doubled, LIMITS)), damage);
});
