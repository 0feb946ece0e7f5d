/**
 * Lists of ids, and their bytes in the log.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IdList } from '../../src/stream/id-list.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { ByteReader, ByteWriter } from '../../src/util/byte-writer.ts';
import { Random } from '../../src/util/random.ts';
import { seedOf } from '../helpers/seed.ts';

function textOf(list: IdList): string[] {
  return Array.from({ length: list.count }, (_, i) => list.get(i, new StreamId()).toString());
}

function written(list: IdList): Buffer {
  const writer = new ByteWriter(1);
  list.encode(writer);
  return writer.toBuffer();
}

test('ids come back in the order in which they were pushed, however many', () => {
  const list = new IdList();
  for (let round = 0; round < 2; round++) {
    list.clear();
    for (let i = 0; i < 1000; i++) list.push(StreamId.of(i * 3, i));
    assert.equal(list.count, 1000);
    assert.equal(list.get(999, new StreamId()).toString(), '2997-999');
  }
});

test('any list reads as it was written', (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  const half = () => random.pick([0, 1, 5, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff]);
  for (let round = 0; round < 300; round++) {
    const list = new IdList();
    const id = new StreamId();
    for (let count = random.below(20); count > 0; count--) {
      const kind = random.below(4);
      if (kind < 2) id.increment();
      else if (kind === 2) id.set(id.msHi, half(), id.seqHi, half());
      else id.set(half(), half(), half(), half());
      list.push(id);
    }
    const copy = new IdList().decode(new ByteReader(written(list)));
    assert.deepEqual(textOf(copy), textOf(list), `seed ${seed}, round ${round}`);
  }
});

test('a hundred ids of one read take two bytes each in the log', () => {
  const list = new IdList();
  for (let i = 0; i < 100; i++) list.push(StreamId.of(1_700_000_000_000, i));
  assert.ok(written(list).length < 220);
});

test('what is no list is refused', () => {
  assert.throws(() => new IdList().decode(new ByteReader(Buffer.of(1, 9))), RangeError);
  assert.throws(() => new IdList().decode(new ByteReader(Buffer.of(1, 1, 5))), RangeError);
  assert.throws(() => new IdList().decode(new ByteReader(Buffer.of(2, 0, 0))), RangeError);
});
