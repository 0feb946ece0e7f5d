/** CRC-64 against its published check value. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeCrc64 } from '../../src/util/crc64.ts';

test("the checksum is that of Redis's dumps", () => {
  const sum = Buffer.alloc(8);
  writeCrc64(Buffer.from('123456789'), 9, sum, 0);
  assert.equal(sum.readBigUInt64LE().toString(16), 'e9c6d914c4b8d9ca');
});
