/** CRC-64 against its published check value. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeCrc64 } from '../../src/util/crc64.ts';

test("the checksum is that of Redis's dumps", () => {
  const sum = Buffer.alloc(8);
  writeCrc64(Buffer.from('123456789'), 9, sum, 0);
  assert.equal(sum.readBigUInt64LE().toString(16), 'e9c6d914c4b8d9ca');
});

/** Bit by bit, as the polynomial says. */
function naive(bytes: Uint8Array): bigint {
  let sum = 0n;
  for (const byte of bytes) {
    sum ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      sum = (sum & 1n) === 0n ? sum >> 1n : (sum >> 1n) ^ 0x95ac9329ac4bc9b5n;
    }
  }
  return sum;
}

test('the checksum is the same however the bytes are cut into steps', () => {
  const bytes = Buffer.from(Array.from({ length: 120_000 }, (_, i) => (i * i * 31 + i) >>> 3));
  const sum = Buffer.alloc(9);
  for (const length of [0, 1, 7, 8, 9, 16, 63, 1000, 114_687, 114_688, 114_689, 114_697]) {
    sum[0] = 77;
    writeCrc64(bytes, length, sum, 1);
    assert.equal(sum.readBigUInt64LE(1), naive(bytes.subarray(0, length)), `${length} bytes`);
    assert.equal(sum[0], 77);
  }
});
