/**
 * Our crc32 against the one of zlib.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { crc32Within } from '../../src/util/crc32.ts';
import { Random } from '../../src/util/random.ts';
import { seedOf } from '../helpers/seed.ts';

test('the checksum of a part is what zlib gives for it, and continues the same way', (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  const bytes = Buffer.alloc(600).map(() => random.below(256)) as Buffer;
  for (let i = 0; i < 500; i++) {
    const from = random.below(500);
    const to = from + random.below(100);
    const before = random.chance(0.3) ? 0 : random.uint32();
    const expected = crc32(bytes.subarray(from, to), before);
    assert.equal(crc32Within(bytes, from, to, before), expected, `seed ${seed}`);
  }
});
