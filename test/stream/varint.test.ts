/**
 * Variable-length numbers there and back, and those that do not end.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  readVarint,
  readVarint64,
  varintBytes,
  varintEnd,
  varintHi,
  writeVarint,
  writeVarint64,
} from '../../src/stream/varint.ts';
import { fc } from '../helpers/property.ts';

const u32 = fc.oneof(
  fc.constantFrom(
    0,
    1,
    127,
    128,
    16_383,
    16_384,
    2 ** 21,
    2 ** 28 - 1,
    2 ** 28,
    2 ** 31,
    2 ** 32 - 1,
  ),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
);

test('32-bit numbers go back and forth, in the size foretold', () => {
  fc.assert(
    fc.property(u32, (value) => {
      const bytes = new Uint8Array(12).fill(0xff);
      const end = writeVarint(bytes, 1, value);
      assert.equal(end, 1 + varintBytes(value));
      assert.equal(readVarint(bytes, 1), value);
      assert.equal(varintEnd, end);
    }),
  );
});

test('64-bit numbers go back and forth in two halves', () => {
  fc.assert(
    fc.property(u32, u32, (hi, lo) => {
      const bytes = new Uint8Array(16).fill(0xff);
      const end = writeVarint64(bytes, 2, hi, lo);
      assert.ok(end - 2 <= 10);
      assert.equal(readVarint64(bytes, 2), lo);
      assert.equal(varintHi, hi);
      assert.equal(varintEnd, end);
    }),
    { numRuns: 500 },
  );
});

test('a number without an end is read to a bounded length', () => {
  const endless = new Uint8Array(100).fill(0xff);
  readVarint(endless, 0);
  assert.equal(varintEnd, 5);
  readVarint64(endless, 0);
  assert.equal(varintEnd, 10);
});
