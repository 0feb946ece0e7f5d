/**
 * Blocks of entries, live and deleted, against what was put into them; damaged bytes as well.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Block } from '../../src/stream/block/block.ts';
import { BlockCursor } from '../../src/stream/block/block-cursor.ts';
import { makeGrowable, writeEntry, writeFields } from '../../src/stream/block/block-writer.ts';
import { ChunkStore } from '../../src/stream/block/chunk-store.ts';
import { TOMBSTONE } from '../../src/stream/block/entry-format.ts';
import { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Arguments } from '../../src/util/arguments.ts';
import { Random } from '../../src/util/random.ts';
import { fc } from '../helpers/property.ts';
import { idOf, readAll } from './stream-twin.ts';

const half = fc.oneof(
  fc.constantFrom(0n, 1n, 2n, 61n, 62n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.bigInt({ min: 1000n, max: 1100n }),
);
const text = fc.oneof(fc.string({ maxLength: 5 }), fc.string({ minLength: 120, maxLength: 400 }));
const pairs = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'cc', ''), text), {
  minLength: 1,
  maxLength: 4,
});
const entry = fc.record({ ms: half, seq: half, pairs, dead: fc.boolean() });
const entries = fc
  .uniqueArray(entry, { minLength: 1, maxLength: 40, selector: ({ ms, seq }) => `${ms}-${seq}` })
  .map((list) =>
    list.sort((a, b) => Number(a.ms !== b.ms ? (a.ms < b.ms ? -1 : 1) : a.seq < b.seq ? -1 : 1)),
  );

type Entries = typeof entries extends fc.Arbitrary<infer T> ? T : never;

function blockOf(list: Entries): Block {
  const block = new Block(idOf(list[0].ms, list[0].seq));
  list.forEach(({ ms, seq, pairs }, i) => {
    const args = Arguments.of('XADD', ...pairs.flat());
    if (i === 0) writeFields(block, args, 1, args.count);
    writeEntry(block, idOf(ms, seq), args, 1, args.count);
  });
  const cursor = new BlockCursor();
  cursor.attach(block);
  for (const { dead } of list) {
    cursor.next();
    if (dead) block.markDeleted(cursor.headerAt, cursor.bodyEnd - cursor.bodyAt);
  }
  return block;
}

function walk(block: Block): string[] {
  const cursor = new BlockCursor();
  const seen: string[] = [];
  cursor.attach(block);
  while (cursor.next()) {
    seen.push(`${cursor.id}${(cursor.header & TOMBSTONE) !== 0 ? ' dead' : ''}`);
  }
  return seen;
}

function expected(list: Entries): string[] {
  return list.map(({ ms, seq, dead }) => `${ms}-${seq}${dead ? ' dead' : ''}`);
}

test('a block has a step for every 128 entries behind the first, written or read', () => {
  for (const [count, steps] of [
    [1, 0],
    [128, 0],
    [129, 1],
    [256, 1],
    [257, 2],
    [1000, 7],
  ] as const) {
    const list = Array.from({ length: count }, (_, i) => ({
      ms: BigInt(i + 1),
      seq: 0n,
      pairs: [['a', 'v'] as ['a', string]],
      dead: false,
    }));
    const block = blockOf(list);
    assert.equal(block.steps?.count ?? 0, steps, `${count} entries written`);
    assert.equal(Block.import(block.export()).steps?.count ?? 0, steps, `${count} entries read`);
  }
});

test('ids of any two halves follow each other, tombstones stay in place', () => {
  fc.assert(
    fc.property(entries, (list) => {
      const block = blockOf(list);
      assert.deepEqual(walk(block), expected(list));
      assert.equal(block.deleted, list.filter(({ dead }) => dead).length);
      assert.equal(block.live + block.deleted, list.length);
      assert.equal(
        block.readLastId(new StreamId()).toString(),
        expected(list).at(-1)?.split(' ')[0],
      );
    }),
    { numRuns: 300 },
  );
});

test('a cursor seeks to the first entry at or after an id', () => {
  fc.assert(
    fc.property(entries, half, half, (list, ms, seq) => {
      const block = blockOf(list);
      const cursor = new BlockCursor();
      for (const target of [idOf(ms, seq), ...list.map((entry) => idOf(entry.ms, entry.seq))]) {
        const found = list.find((entry) => idOf(entry.ms, entry.seq).compare(target) >= 0);
        cursor.attach(block);
        assert.equal(cursor.seek(target), found !== undefined);
        if (found === undefined) continue;
        assert.equal(cursor.id.toString(), `${found.ms}-${found.seq}`);
        assert.equal((cursor.header & TOMBSTONE) !== 0, found.dead);
        // And goes on from there as if it had walked.
        const rest = list.slice(list.indexOf(found) + 1);
        for (const entry of rest) {
          assert.ok(cursor.next());
          assert.equal(cursor.id.toString(), `${entry.ms}-${entry.seq}`);
        }
        assert.ok(!cursor.next());
      }
    }),
    { numRuns: 100 },
  );
});

test('export and import give the same block, wherever its bytes lie', () => {
  fc.assert(
    fc.property(entries, (list) => {
      const block = blockOf(list);
      const bytes = block.export();
      const chunks = new ChunkStore();
      chunks.place(block.twin());
      chunks.place(block);
      assert.deepEqual(block.export(), bytes);
      const imported = Block.import(bytes);
      assert.deepEqual(walk(imported), expected(list));
      assert.equal(imported.listpackBytes, block.listpackBytes);
      assert.deepEqual(imported.export(), bytes);
      makeGrowable(imported, null);
      assert.deepEqual(imported.export(), bytes);
    }),
    { numRuns: 200 },
  );
});

test('damaged bytes are refused or read as some valid block, never out of bounds', () => {
  const limits = { maxEntries: 100, maxBytes: 4096 };
  fc.assert(
    fc.property(entries, fc.integer(), (list, seed) => {
      const random = new Random(seed);
      const bytes = blockOf(list).export();
      const damaged = Buffer.from(bytes);
      for (let i = 0; i <= random.below(3); i++) {
        damaged[random.below(damaged.length)] ^= 1 << random.below(8);
      }
      // Whatever lies beyond the block's own bytes must stay unread.
      const cut = random.chance(0.3) ? random.below(damaged.length) : damaged.length;
      let block: Block;
      try {
        block = Block.import(damaged.subarray(0, cut));
      } catch (error) {
        assert.ok(error instanceof RangeError, String(error));
        return;
      }
      const stream = new Stream(limits);
      const metadata = stream.export();
      assert.throws(() => Stream.assemble(metadata, [block], limits), /damaged/);
      assert.ok(walk(block).length === block.live + block.deleted);
    }),
    { numRuns: 600 },
  );
});

test('a truncated or newer export is refused with a reason', () => {
  const stream = new Stream({ maxEntries: 100, maxBytes: 4096 });
  for (let i = 1; i < 20; i++) stream.append(StreamId.of(i), Arguments.of('f', `v${i}`), 0, 2);
  const [block] = stream.blocks();
  const bytes = block.export();
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => Block.import(bytes.subarray(0, length)), RangeError);
  }
  bytes[0] = 7;
  assert.throws(() => Block.import(bytes), /format 7, this program reads 1/);
  assert.equal(readAll(stream).length, 19);
});

test('many blocks share few chunks and keep their bytes', () => {
  const stream = new Stream({ maxEntries: 10, maxBytes: 4096 });
  const random = new Random(5);
  const values: string[] = [];
  for (let i = 1; i <= 5000; i++) {
    const value = String.fromCharCode(97 + (i % 26)).repeat(random.below(60));
    stream.append(StreamId.of(i), Arguments.of('f', value), 0, 2);
    values.push(`${i}-0 ${JSON.stringify(['f', value])}`);
  }
  const chunks = new Set([...stream.blocks()].map((block) => block.bytes));
  assert.equal(stream.radixTreeKeys, 500);
  assert.ok(chunks.size < 40, `${chunks.size} chunks`);
  const allocated = [...chunks].reduce((sum, chunk) => sum + chunk.length, 0);
  const used = [...stream.blocks()].reduce((sum, block) => sum + block.length, 0);
  assert.ok(allocated < used * 1.3, `${allocated} bytes for ${used}`);
  assert.deepEqual(readAll(stream), values);
});
