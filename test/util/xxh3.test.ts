/** XXH3 gives what the reference implementation gives, at every length where its way changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { xxh3Hex } from '../../src/util/xxh3.ts';

/** From the reference implementation, of the bytes that `noise` makes. */
const HASHES: readonly (readonly [length: number, hash: string])[] = [
  [0, '2d06800538d394c2'],
  [1, 'e5e62017e96f839c'],
  [2, 'e99f8ba75698ec0f'],
  [3, 'd3bcc83c6f14e70f'],
  [4, 'c7f159f34b126cb4'],
  [5, '0276f65070331568'],
  [8, '0f25a2a1cc43dda2'],
  [9, '1e3be9699baa50cf'],
  [15, 'bb9c1f12fc955b0c'],
  [16, '9ec324145cea1dcb'],
  [17, '48f3651d7436310a'],
  [31, 'f1e5d171a470e2f5'],
  [32, '3ecd923442085a0d'],
  [33, '0afebb54eff3a3b5'],
  [63, '3a09b3bc81750e23'],
  [64, '7abe508541644d25'],
  [65, 'da2a9fa52b7fadf5'],
  [96, '014dbb30ecd7c670'],
  [97, '7b0a9dae42e89ff6'],
  [127, '4d6a8b1f7d7fbafa'],
  [128, '5d813d42c0005ea8'],
  [129, 'c61639b552225575'],
  [144, '9e69d5b5f04a37c8'],
  [160, '1a272864fbc79765'],
  [239, '9baab2789601e92a'],
  [240, '7d85b8d4f8b10c82'],
  [241, '5c56141c894cd97e'],
  [255, 'a88268bb584966d3'],
  [256, 'cdb34974678d6687'],
  [512, 'ae0027cc0d8eacd9'],
  [1023, '123989704c814592'],
  [1024, '0551dea22e104ea8'],
  [1025, 'dbe2ed3c377d9922'],
  [1088, '98ce47a58d705d59'],
  [2048, '0e137a69a82b62c0'],
  [5000, '80b0120fc87dbf6e'],
  [10240, 'ebe1a9d959f8173d'],
  [100000, 'a17aee0fec64d284'],
  [126976, '19f7261be65c40ed'],
  [126977, '251d9106e67bad9d'],
  [300000, '71be5eb7dcd8cefe'],
];

/** A linear congruential generator's upper bytes. */
function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = 1n;
  for (let i = 0; i < length; i++) {
    state = (state * 1_103_515_245n + 12_345n) & 0x7fff_ffffn;
    bytes[i] = Number((state >> 16n) & 255n);
  }
  return bytes;
}

test('the hash of any length is that of the reference implementation', () => {
  for (const [length, hash] of HASHES) assert.equal(xxh3Hex(noise(length)), hash, `${length}`);
});

test('a hash with leading zeros has all its digits', () => {
  const text =
    'v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytls2kwlj7626sd';
  assert.equal(xxh3Hex(Buffer.from(text)), '00006c38adf31777');
});
