/**
 * The sizes that Redis's listpack would have, at the edges of every encoding.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  int64ElementBytes,
  integerElementBytes,
  stringElementBytes,
} from '../../src/stream/block/listpack-size.ts';
import { fc } from '../helpers/property.ts';

/** listpack.c in words: encoding and data, then as many bytes as the length of those takes. */
function naiveBytes(text: string): number {
  const value = /^(0|-?[1-9][0-9]{0,18})$/.test(text) ? BigInt(text) : null;
  let encoded: number;
  if (value === null || BigInt.asIntN(64, value) !== value) {
    encoded = (text.length < 64 ? 1 : text.length < 4096 ? 2 : 5) + text.length;
  } else if (value >= 0n && value <= 127n) encoded = 1;
  else {
    const bits = [13, 16, 24, 32, 64].find((width) => BigInt.asIntN(width, value) === value) ?? 64;
    encoded = { 13: 2, 16: 3, 24: 4, 32: 5, 64: 9 }[bits] ?? 9;
  }
  const backward = encoded <= 127 ? 1 : encoded < 16_383 ? 2 : encoded < 2_097_151 ? 3 : 4;
  return encoded + backward;
}

function sizeOf(text: string): number {
  const bytes = Buffer.from(`--${text}9`, 'latin1');
  return stringElementBytes(bytes, 2, text.length);
}

const EDGES = [0n, 127n, 128n, 4095n, 4096n, 32767n, 32768n, 8388607n, 8388608n].concat([
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
]);

test('integers are sized by their value, at every edge and beyond int64', () => {
  for (const edge of EDGES) {
    for (const value of [edge - 1n, edge, edge + 1n, -edge - 1n, -edge, -edge + 1n]) {
      assert.equal(sizeOf(String(value)), naiveBytes(String(value)), String(value));
    }
  }
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 66n), max: 2n ** 66n }), fc.nat(66), (value, shift) => {
      const text = String(value >> BigInt(shift));
      assert.equal(sizeOf(text), naiveBytes(text));
    }),
    { numRuns: 2000 },
  );
});

test('what looks like a number and is no canonical int64 is sized as text', () => {
  const digits = fc.string({
    unit: fc.constantFrom('0', '1', '9', '-', ' ', '.', '+'),
    maxLength: 24,
  });
  fc.assert(
    fc.property(digits, (text) => assert.equal(sizeOf(text), naiveBytes(text))),
    { numRuns: 2000 },
  );
});

test('text is sized by its length, at every edge', () => {
  const lengths = [0, 1, 20, 21, 62, 63, 64, 65, 124, 125, 126, 127, 4094, 4095, 4096, 16_377];
  for (const length of [...lengths, 16_378, 16_379, 16_380, 2_097_140, 2_097_146, 2_097_147]) {
    assert.equal(sizeOf('x'.repeat(length)), naiveBytes('x'.repeat(length)), String(length));
  }
});

test('differences of ids are sized as signed 64-bit integers', () => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.nat(63),
      (value, shift) => {
        const number = value >> BigInt(shift);
        const hi = Number(BigInt.asUintN(64, number) >> 32n);
        const lo = Number(BigInt.asUintN(32, number));
        assert.equal(int64ElementBytes(hi, lo), naiveBytes(String(number)), String(number));
      },
    ),
    { numRuns: 2000 },
  );
  for (const value of [0, 127, 128, 4095, 4096, 32_768, 2 ** 23, 2 ** 31, 2 ** 40]) {
    assert.equal(integerElementBytes(value), naiveBytes(String(value)));
  }
});
