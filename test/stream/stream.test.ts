/**
 * A stream against its naive twin: appended, deleted, trimmed, evicted, reloaded, restored.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Block } from '../../src/stream/block/block.ts';
import { BlockCursor } from '../../src/stream/block/block-cursor.ts';
import { sectionLimits } from '../../src/stream/block/block-sections.ts';
import { stretchLimits } from '../../src/stream/block/block-steps.ts';
import { noColdBlocks } from '../../src/stream/block/cold-blocks.ts';
import { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { StreamIterator } from '../../src/stream/stream-iterator.ts';
import { TrimRule, trim } from '../../src/stream/trim.ts';
import { fc } from '../helpers/property.ts';
import { idOf, readAll, readRange, TwinCheckpoint, textOf } from './stream-twin.ts';
import { append, filled, U64_MAX, World } from './stream-world.ts';

const step = fc.record({ op: fc.nat(99), a: fc.nat(10_000), b: fc.nat(10_000) });

for (const [limits, sectionBlocks, stretch] of [
  [{ maxEntries: 4, maxBytes: 4096 }, 256, 128],
  [{ maxEntries: 100, maxBytes: 150 }, 256, 2],
  [{ maxEntries: 4, maxBytes: 4096 }, 3, 1],
  [{ maxEntries: 2, maxBytes: 4096 }, 2, 128],
  [{ maxEntries: 60, maxBytes: 0 }, 2, 3],
] as const) {
  test(`a stream does what its naive twin does, evicted, reloaded and restored: ${JSON.stringify(limits)}, sections of ${sectionBlocks}`, (t) => {
    sectionLimits.blocks = sectionBlocks;
    stretchLimits.entries = stretch;
    t.after(() => {
      sectionLimits.blocks = 256;
      stretchLimits.entries = 128;
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 120 }), (steps) => {
        const world = new World(limits);
        for (const { op, a, b } of steps) {
          if (op < 35) for (let i = 0; i <= a % 9; i++) world.append(a + i, b + i);
          else if (op < 50) world.remove(a);
          else if (op < 60) world.trim(a, b);
          else if (op < 68) world.range(a, b);
          else if (op < 76) world.freeze();
          else if (op < 80) world.checkpoint.advance(world.stream, a % 4);
          else if (op < 87) world.commit();
          else if (op < 89) world.abort();
          else if (op < 95) world.evict(a);
          else if (op < 98) world.restart();
          else world.copy();
          world.check();
        }
        assert.deepEqual(readAll(world.stream), world.entries.map(textOf));
        for (const { copy, entries } of world.copies) assert.deepEqual(readAll(copy), entries);
      }),
      { numRuns: 120 },
    );
  });
}

describe('stream', () => {
  test('the last block goes on filling after a restart', () => {
    const limits = { maxEntries: 10, maxBytes: 4096 };
    const checkpoint = new TwinCheckpoint();
    const stream = filled(limits, 13);
    checkpoint.begin(stream);
    checkpoint.advance(stream, 100);
    checkpoint.commit(stream);
    const restored = Stream.restore(stream.export(), checkpoint, limits);
    assert.equal(restored.coldCount, 2);
    for (let i = 14; i <= 20; i++) append(restored, StreamId.of(i), 'field', `value ${i}`);
    assert.equal(restored.radixTreeKeys, 2);
    assert.equal(restored.coldCount, 1);
    append(restored, StreamId.of(21), 'field', 'value 21');
    assert.equal(restored.radixTreeKeys, 3);
    assert.deepEqual(readAll(restored), readAll(filled(limits, 21)));
  });

  test('reads of the tail look nothing up, nor does anything while all is resident', () => {
    const limits = { maxEntries: 10, maxBytes: 4096 };
    const checkpoint = new TwinCheckpoint();
    const stream = filled(limits, 95);
    stream.attachColdBlocks(checkpoint);
    checkpoint.begin(stream);
    checkpoint.advance(stream, 100);
    checkpoint.commit(stream);
    readAll(stream);
    assert.equal(checkpoint.lookups, 0);
    for (const block of [...stream.evictable()].slice(0, 8)) assert.ok(stream.evict(block));
    assert.equal(stream.coldCount, 8);
    readRange(stream, StreamId.of(81), StreamId.max(), false);
    stream.has(StreamId.of(90));
    append(stream, StreamId.of(96), 'field', 'value 96');
    assert.equal(checkpoint.lookups, 0);
    assert.deepEqual(readAll(stream), readAll(filled(limits, 96)));
    assert.ok(checkpoint.lookups > 0);
  });

  test('the oldest clean blocks are evicted first, as many as are asked for', () => {
    const limits = { maxEntries: 10, maxBytes: 4096 };
    const checkpoint = new TwinCheckpoint();
    const stream = filled(limits, 200);
    stream.attachColdBlocks(checkpoint);
    assert.equal(stream.evictOldest(1000), 0);
    checkpoint.begin(stream);
    checkpoint.advance(stream, 100);
    checkpoint.commit(stream);
    stream.remove(StreamId.of(15));
    const before = stream.residentBytes;
    const freed = stream.evictOldest(before / 2);
    assert.equal(freed, before - stream.residentBytes);
    assert.ok(freed >= before / 2 && freed < before * 0.6, `${freed} of ${before}`);
    // The changed block, second in the stream, has stayed.
    assert.equal(stream.index.tree.first()?.readFirstId(new StreamId()).toString(), '11-0');
    stream.evictOldest(Number.POSITIVE_INFINITY);
    assert.equal(stream.coldCount, 19);
    assert.equal(readAll(stream).length, 199);
  });

  test('blocks that the checkpoint should have and has not are reported as damage', () => {
    const limits = { maxEntries: 10, maxBytes: 4096 };
    const stream = Stream.restore(filled(limits, 30).export(), noColdBlocks, limits);
    const damaged = { code: 'STORAGE_DAMAGED' };
    assert.throws(() => append(stream, StreamId.of(31), 'field', 'value'), damaged);
    assert.throws(
      () => trim(stream, Object.assign(new TrimRule(), { strategy: 'maxlen' })),
      damaged,
    );
  });

  test('changed limits count from the next append, and a full last block takes more again', () => {
    const limits = { maxEntries: 3, maxBytes: 4096 };
    const stream = filled(limits, 3);
    limits.maxEntries = 5;
    append(stream, StreamId.of(4), 'field', 'value 4');
    append(stream, StreamId.of(5), 'field', 'value 5');
    assert.equal(stream.radixTreeKeys, 1);
    append(stream, StreamId.of(6), 'field', 'value 6');
    assert.equal(stream.radixTreeKeys, 2);
  });

  test('when the last block goes, the one before takes the next entries', () => {
    const limits = { maxEntries: 3, maxBytes: 4096 };
    const stream = filled(limits, 5);
    for (const ms of [3, 4, 5]) assert.ok(stream.remove(StreamId.of(ms)));
    assert.equal(stream.radixTreeKeys, 1);
    append(stream, StreamId.of(6), 'field', 'value 6');
    // Two live ones and a tombstone fill it.
    assert.equal(stream.radixTreeKeys, 2);
    assert.equal(stream.lastId.toString(), '6-0');
  });

  test('XSETID moves the last id and leaves what it is not given', () => {
    const stream = filled({ maxEntries: 3, maxBytes: 4096 }, 5);
    stream.setId(StreamId.of(100));
    assert.equal(stream.lastId.toString(), '100-0');
    assert.equal(stream.entriesAdded, 5);
    stream.setId(StreamId.of(100), 70, StreamId.of(50));
    assert.equal(stream.entriesAdded, 70);
    assert.equal(stream.maxDeletedId.toString(), '50-0');
    stream.setId(StreamId.of(101), -1, new StreamId());
    assert.equal(stream.maxDeletedId.toString(), '50-0');
  });

  test('a range has tombstones only where the greatest deleted id lies in it', () => {
    const stream = filled({ maxEntries: 3, maxBytes: 4096 }, 9);
    const has = (from: number, to: number) =>
      stream.rangeHasTombstones(StreamId.of(from), StreamId.of(to));
    assert.ok(!has(0, 100));
    stream.remove(StreamId.of(5));
    assert.ok(has(0, 100) && has(5, 5) && !has(6, 100) && !has(0, 4));
    const all = new TrimRule();
    all.strategy = 'maxlen';
    trim(stream, all);
    assert.ok(!has(0, 100));
  });

  test('ids run over the edges of both halves', () => {
    const stream = new Stream({ maxEntries: 100, maxBytes: 4096 });
    const ids = [
      [0n, 1n],
      [0n, 2n ** 32n - 1n],
      [0n, 2n ** 32n],
      [0n, 2n ** 63n],
      [0n, U64_MAX],
      [2n ** 32n - 1n, U64_MAX],
      [2n ** 32n, 0n],
      [2n ** 63n, U64_MAX],
      [U64_MAX, 0n],
      [U64_MAX, U64_MAX],
    ];
    for (const [ms, seq] of ids) append(stream, idOf(ms, seq), 'f', 'v');
    assert.deepEqual(
      readAll(stream),
      ids.map(([ms, seq]) => `${ms}-${seq} ["f","v"]`),
    );
    for (const [ms, seq] of ids) assert.ok(stream.has(idOf(ms, seq)));
    assert.deepEqual(
      readRange(stream, idOf(0n, U64_MAX), idOf(2n ** 32n, 0n), true),
      ids
        .slice(4, 7)
        .reverse()
        .map(([ms, seq]) => `${ms}-${seq} ["f","v"]`),
    );
  });

  test('capped streams let go of what they trimmed, checkpoint or none', () => {
    const stream = new Stream({ maxEntries: 100, maxBytes: 4096 });
    const rule = new TrimRule();
    rule.strategy = 'maxlen';
    rule.maxlen = 1000;
    for (let i = 1; i <= 50_000; i++) {
      append(stream, StreamId.of(i), 'field', 'x'.repeat(32));
      trim(stream, rule);
      if (i > 2000) assert.ok(stream.residentBytes < 120_000, `${stream.residentBytes} after ${i}`);
    }
    const { removedBelow, removed } = stream.freeze();
    assert.equal(removedBelow, null);
    assert.equal(removed.length, 0);
    let blocks = 0;
    for (let block = stream.nextFrozen(); block !== undefined; block = stream.nextFrozen()) {
      stream.captured(block);
      blocks++;
    }
    assert.equal(blocks, stream.radixTreeKeys);
  });

  test('trimming the head of a stored stream is reported as one bound', () => {
    const stream = filled({ maxEntries: 10, maxBytes: 4096 }, 100);
    const checkpoint = new TwinCheckpoint();
    checkpoint.begin(stream);
    checkpoint.advance(stream, 100);
    checkpoint.commit(stream);
    const rule = new TrimRule();
    rule.strategy = 'minid';
    rule.minid.copy(StreamId.of(61));
    trim(stream, rule);
    stream.remove(StreamId.of(75));
    for (let i = 81; i <= 90; i++) stream.remove(StreamId.of(i));
    const changes = stream.freeze();
    assert.equal(changes.removedBelow?.toString(), '51-1');
    assert.deepEqual(changes.removed.map(String), ['81-0']);
    assert.equal(stream.nextFrozen()?.readFirstId(new StreamId()).toString(), '71-0');
  });

  test('in a block of very many entries the ends and any entry are found by a look at few', (t) => {
    const count = 100_000;
    const stream = filled({ maxEntries: 0, maxBytes: 0 }, count);
    for (let i = 1; i <= 1000; i++) stream.remove(StreamId.of(count - 10 - i));
    assert.equal(stream.radixTreeKeys, 1);
    const steps = t.mock.method(BlockCursor.prototype, 'next');
    const seeks = t.mock.method(BlockCursor.prototype, 'seek');
    const iterator = new StreamIterator();
    const first = (start: StreamId, end: StreamId, reverse: boolean) => {
      iterator.seek(stream, start, end, reverse);
      return iterator.next() ? iterator.id.toString() : undefined;
    };
    assert.equal(first(StreamId.min(), StreamId.max(), true), `${count}-0`);
    assert.equal(first(StreamId.min(), StreamId.of(50_000), true), '50000-0');
    assert.equal(first(StreamId.of(50_001), StreamId.max(), false), '50001-0');
    assert.equal(first(StreamId.of(7), StreamId.of(count - 500), true), `${count - 1011}-0`);
    const last = new StreamId();
    assert.ok(stream.lastNonDeletedId(last) && last.ms === count);
    assert.ok(steps.mock.callCount() < 2500, `${steps.mock.callCount()} entries were passed`);
    // A seek passes entries within one call: what it may pass is where the cursor stands before it.
    assert.ok(seeks.mock.callCount() <= 4);
    const cursor = new BlockCursor();
    const block = stream.index.first() as Block;
    cursor.attach(block);
    cursor.skipTo(block, StreamId.of(77_777));
    assert.ok(cursor.id.ms >= 77_777 - 129 && cursor.id.ms < 77_777, cursor.id.toString());
  });

  test('blocks removed in any order from the middle, very many of them, stay removed', () => {
    // One entry a block, one byte apart: the tree of removed blocks has branchings of 256 children.
    const limits = { maxEntries: 1, maxBytes: 0 };
    const checkpoint = new TwinCheckpoint();
    const stream = new Stream(limits);
    for (let i = 0; i < 250; i++) append(stream, StreamId.of(1, i + 1), 'field', `${i}`);
    checkpoint.begin(stream);
    checkpoint.advance(stream, Number.POSITIVE_INFINITY);
    checkpoint.commit(stream);
    const restored = Stream.restore(stream.export(), checkpoint, limits);
    const left = new Set(Array.from({ length: 250 }, (_, i) => i + 1));
    for (let k = 0; k < 200; k++) {
      const seq = 2 + ((k * 101) % 248);
      assert.ok(restored.remove(StreamId.of(1, seq)));
      left.delete(seq);
    }
    assert.deepEqual(
      readAll(restored).map((text) => Number(text.split(' ')[0].slice(2))),
      [...left],
    );
    checkpoint.begin(restored);
    checkpoint.commit(restored);
    assert.equal(checkpoint.committed.size, left.size);
    const again = Stream.restore(restored.export(), checkpoint, limits);
    assert.equal(readAll(again).length, left.size);
  });

  test('most entries deleted one by one, in each block, give their memory back', () => {
    const stream = new Stream({ maxEntries: 60, maxBytes: 0 });
    for (let i = 0; i < 30_000; i++) append(stream, StreamId.of(i + 1), 'field', 'x'.repeat(200));
    const full = stream.heldBytes;
    const nodes = stream.radixTreeKeys;
    for (let i = 0; i < 30_000; i++) if (i % 60 !== 7) stream.remove(StreamId.of(i + 1));
    assert.equal(stream.length, 500);
    assert.equal(stream.radixTreeKeys, nodes);
    assert.ok(stream.heldBytes < full * 0.15, `${stream.heldBytes} of ${full}`);
    assert.ok(stream.residentBytes <= stream.heldBytes);
    assert.deepEqual(
      readAll(stream).map((text) => text.split('-')[0]),
      Array.from({ length: 500 }, (_, i) => String(i * 60 + 8)),
    );
    // The blocks are still blocks that a checkpoint can hold.
    for (const block of stream.blocks()) Block.import(block.export());
    const rule = new TrimRule();
    rule.strategy = 'maxlen';
    trim(stream, rule);
    assert.ok(stream.heldBytes < 70_000, `${stream.heldBytes}`);
  });

  test('a trim that leaves a cold block as it is counts and keeps none of its bytes', () => {
    const limits = { maxEntries: 60, maxBytes: 0 };
    const stream = filled(limits, 3);
    append(stream, StreamId.of(4), 'field', 'x'.repeat(1000));
    append(stream, StreamId.of(5), 'field', 'value 5');
    // Most of the block is dead, and it is the open one, which is not made smaller.
    assert.ok(stream.remove(StreamId.of(4)));
    const checkpoint = new TwinCheckpoint();
    checkpoint.begin(stream);
    checkpoint.advance(stream, 1);
    checkpoint.commit(stream);
    const restored = Stream.restore(stream.export(), checkpoint, limits);
    const { residentBytes, heldBytes } = restored;
    for (const strategy of ['maxlen', 'minid'] as const) {
      const rule = Object.assign(new TrimRule(), { strategy, minid: StreamId.of(9) });
      for (let i = 0; i < 3; i++) {
        const removed = trim(restored, rule, () => false);
        assert.equal(removed, 0);
      }
    }
    assert.deepEqual([restored.coldCount, restored.length], [1, 4]);
    // The list of what is cold has been read.
    const listed = restored.index.listBytes;
    assert.equal(restored.residentBytes, residentBytes + listed);
    assert.equal(restored.heldBytes, heldBytes + listed);
  });

  test('damaged metadata is refused', () => {
    const metadata = filled({ maxEntries: 10, maxBytes: 4096 }, 15).export();
    const limits = { maxEntries: 10, maxBytes: 4096 };
    const restore = (bytes: Buffer) => Stream.restore(bytes, noColdBlocks, limits);
    assert.throws(() => restore(metadata.subarray(0, 20)), RangeError);
    assert.throws(() => restore(Buffer.alloc(0)), RangeError);
    assert.throws(() => restore(Buffer.concat([metadata, Buffer.alloc(1)])), RangeError);
    const newer = Buffer.from(metadata);
    newer[0] = 9;
    assert.throws(() => restore(newer), /format 9/);
    assert.throws(() => Stream.assemble(metadata, [], limits), /damaged/);
  });
});
