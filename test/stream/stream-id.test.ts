/**
 * Stream ids as text, bytes and order, over the whole unsigned 64-bit range.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StreamId, writeDecimal } from '../../src/stream/stream-id.ts';
import { fc } from '../helpers/property.ts';

const U64 = 2n ** 64n;
const EDGES = [
  0n,
  1n,
  9n,
  10n,
  127n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 32n + 1n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 63n + 1n,
  10n ** 19n - 1n,
  10n ** 19n,
  U64 - 2n,
  U64 - 1n,
];
const half = fc.oneof(fc.constantFrom(...EDGES), fc.bigInt({ min: 0n, max: U64 - 1n }));

function idOf(ms: bigint, seq: bigint): StreamId {
  const u32 = 0xffff_ffffn;
  return new StreamId(Number(ms >> 32n), Number(ms & u32), Number(seq >> 32n), Number(seq & u32));
}

function whole(id: StreamId): bigint {
  const wide = [id.msHi, id.msLo, id.seqHi, id.seqLo].map(BigInt);
  return (wide[0] << 96n) | (wide[1] << 64n) | (wide[2] << 32n) | wide[3];
}

test('text and id go back and forth unchanged over the whole uint64 range', () => {
  fc.assert(
    fc.property(half, half, (ms, seq) => {
      const text = `${ms}-${seq}`;
      const id = idOf(ms, seq);
      assert.equal(id.toString(), text);
      const bytes = Buffer.alloc(50, 0xee);
      const end = id.format(bytes, 3);
      assert.equal(bytes.toString('latin1', 3, end), text);
      assert.ok(StreamId.parse(text)?.equals(id));
    }),
    { verbose: 1 },
  );
});

test('compare orders ids as their 128-bit values, and so do their keys as bytes', () => {
  fc.assert(
    fc.property(half, half, half, half, (a, b, c, d) => {
      const x = idOf(a, b);
      const y = idOf(c, d);
      const expected = whole(x) < whole(y) ? -1 : whole(x) > whole(y) ? 1 : 0;
      assert.equal(Math.sign(x.compare(y)), expected);
      assert.equal(x.equals(y), expected === 0);
      const keys = [Buffer.alloc(16), Buffer.alloc(16)];
      x.toKey(keys[0]);
      y.toKey(keys[1]);
      assert.equal(Buffer.compare(keys[0], keys[1]), expected);
      assert.ok(new StreamId().fromKey(keys[0]).equals(x));
    }),
  );
});

test('increment and decrement step by one and carry from seq into ms', () => {
  fc.assert(
    fc.property(half, half, (ms, seq) => {
      const id = idOf(ms, seq);
      const up = id.clone();
      assert.equal(up.increment(), !id.isMax());
      if (!id.isMax()) assert.equal(whole(up), whole(id) + 1n);
      else assert.ok(up.isMax());
      const down = id.clone();
      assert.equal(down.decrement(), !id.isZero());
      if (!id.isZero()) assert.equal(whole(down), whole(id) - 1n);
      else assert.ok(down.isZero());
    }),
  );
});

test('a missing sequence is zero, or the largest one at the end of a range', () => {
  assert.equal(StreamId.parse('5')?.toString(), '5-0');
  assert.equal(StreamId.parse('5', 'max')?.toString(), '5-18446744073709551615');
  assert.equal(StreamId.parse('5-3', 'max')?.toString(), '5-3');
});

// What redis-server 7.0.15 answered to each of these; null = "Invalid stream ID".
const READINGS: [string, string | null][] = [
  ['007-1', '7-1'],
  ['1-007', '1-7'],
  ['00', '0-0'],
  ['+1', '1-0'],
  [' 1', '1-0'],
  ['\t1', '1-0'],
  ['1- 1', '1-1'],
  ['1-+1', '1-1'],
  [' +01-1', '1-1'],
  ['018446744073709551615', '18446744073709551615-0'],
  ['000000000000000000001-1', '1-1'],
  ['18446744073709551615-18446744073709551615', '18446744073709551615-18446744073709551615'],
  // Not canonical, so strtoull reads it, modulo 2^64.
  ['1--01', '1-18446744073709551615'],
  ['1- -1', '1-18446744073709551615'],
  ['1--00000000000000000000', '1-0'],
  ['1--018446744073709551615', '1-1'],
  ['1--9223372036854775809', '1-9223372036854775807'],
  ['7\0x-9', '7-0'],
  // Canonical and negative: out of range.
  ['1--1', null],
  ['1--9223372036854775808', null],
  ['1--018446744073709551616', null],
  ['1-+-1', null],
  ['18446744073709551616', null],
  ['1-18446744073709551616', null],
  ['99999999999999999999', null],
  ['1 ', null],
  ['1-1 ', null],
  ['1-', null],
  ['-1', null],
  ['- 1', null],
  ['-', null],
  ['+', null],
  ['+ 1', null],
  ['--', null],
  ['1-2-3', null],
  ['1-2a', null],
  ['0x10', null],
  ['', null],
  ['abc', null],
  [`${'0'.repeat(127)}1`, null],
  [`${'0'.repeat(126)}1`, '1-0'],
];

test('ids are read as leniently as Redis reads them, and no more', () => {
  for (const [text, expected] of READINGS) {
    assert.equal(StreamId.parse(text)?.toString() ?? null, expected, JSON.stringify(text));
  }
});

test('writeDecimal writes every whole number below 2^53', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const bytes = Buffer.alloc(20);
      const end = writeDecimal(bytes, 0, value);
      assert.equal(bytes.toString('latin1', 0, end), String(value));
    }),
  );
  for (const value of [0, 9, 10, 999_999_999, 1_000_000_000, 1_000_000_001, 2 ** 53 - 1]) {
    const bytes = Buffer.alloc(20);
    assert.equal(bytes.toString('latin1', 0, writeDecimal(bytes, 0, value)), String(value));
  }
});
