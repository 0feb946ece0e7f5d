/**
 * XXH3 with 64 bits, seed 0 and the default secret: what Redis's DIGEST gives.
 *
 * Up to 240 bytes are a few multiplications and are done with BigInts; beyond that stripes of 64 bytes
 * are gathered into eight 64-bit sums, kept as 32-bit halves, because a BigInt per eight bytes would
 * cost ten times as much.
 * Check value: of no bytes it is 2d06800538d394c2.
 * Source: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
 */
const SECRET = Buffer.from(
  'b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f' +
    'cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c' +
    '3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8' +
    'a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364' +
    'eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e' +
    '2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e',
  'hex',
);
const STRIPE = 64;
const LANES = 8;
/** How far the secret moves on from stripe to stripe. */
const SECRET_STEP = 8;
const STRIPES_PER_BLOCK = (SECRET.length - STRIPE) / SECRET_STEP;
const BLOCK = STRIPE * STRIPES_PER_BLOCK;
/** Where the secret of the last stripe and of the merge begin. */
const LAST_STRIPE_SECRET = SECRET.length - STRIPE - 7;
const MERGE_SECRET = 11;

const MASK = 2n ** 64n - 1n;
const PRIME32_1 = 0x9e3779b1n;
const PRIME32_2 = 0x85ebca77n;
const PRIME32_3 = 0xc2b2ae3dn;
const PRIME64_1 = 0x9e3779b185ebca87n;
const PRIME64_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME64_3 = 0x165667b19e3779f9n;
const PRIME64_4 = 0x85ebca77c2b2ae63n;
const PRIME64_5 = 0x27d4eb2f165667c5n;
const PRIME_MX1 = 0x165667919e3779f9n;
const PRIME_MX2 = 0x9fb21c651e98df25n;
const SCRAMBLE = Number(PRIME32_1);

/** The hash as sixteen hexadecimal digits. */
export function xxh3Hex(bytes: Buffer): string {
  return xxh3(bytes).toString(16).padStart(16, '0');
}

export function xxh3(bytes: Buffer): bigint {
  const { length } = bytes;
  if (length === 0) return avalanche64(secret64(56) ^ secret64(64));
  if (length <= 3) return hash1to3(bytes);
  if (length <= 8) return hash4to8(bytes);
  if (length <= 16) return hash9to16(bytes);
  if (length <= 128) return hash17to128(bytes);
  if (length <= 240) return hash129to240(bytes);
  return hashLong(bytes);
}

function hash1to3(bytes: Buffer): bigint {
  const { length } = bytes;
  const [first, middle, last] = [bytes[0], bytes[length >> 1], bytes[length - 1]];
  const combined = ((first << 16) | (middle << 24) | last | (length << 8)) >>> 0;
  const flip = BigInt((SECRET.readUInt32LE(0) ^ SECRET.readUInt32LE(4)) >>> 0);
  return avalanche64(BigInt(combined) ^ flip);
}

function hash4to8(bytes: Buffer): bigint {
  const { length } = bytes;
  const low = BigInt(bytes.readUInt32LE(length - 4));
  const high = BigInt(bytes.readUInt32LE(0));
  let value = secret64(8) ^ secret64(16) ^ ((low + (high << 32n)) & MASK);
  value ^= rotate(value, 49n) ^ rotate(value, 24n);
  value = (value * PRIME_MX2) & MASK;
  value ^= (value >> 35n) + BigInt(length);
  value = (value * PRIME_MX2) & MASK;
  return value ^ (value >> 28n);
}

function hash9to16(bytes: Buffer): bigint {
  const { length } = bytes;
  const low = secret64(24) ^ secret64(32) ^ bytes.readBigUInt64LE(0);
  const high = secret64(40) ^ secret64(48) ^ bytes.readBigUInt64LE(length - 8);
  const sum = BigInt(length) + swapBytes(low) + high + foldedProduct(low, high);
  return avalanche(sum & MASK);
}

function hash17to128(bytes: Buffer): bigint {
  const { length } = bytes;
  let sum = (BigInt(length) * PRIME64_1) & MASK;
  for (let i = (length - 1) >> 5; i >= 0; i--) {
    sum += mix16(bytes, i * 16, i * 32) + mix16(bytes, length - 16 * (i + 1), i * 32 + 16);
  }
  return avalanche(sum & MASK);
}

function hash129to240(bytes: Buffer): bigint {
  const { length } = bytes;
  let sum = (BigInt(length) * PRIME64_1) & MASK;
  const rounds = length >> 4;
  for (let i = 0; i < 8; i++) sum += mix16(bytes, i * 16, i * 16);
  sum = avalanche(sum & MASK);
  for (let i = 8; i < rounds; i++) sum += mix16(bytes, i * 16, (i - 8) * 16 + 3);
  sum += mix16(bytes, length - 16, 136 - 17);
  return avalanche(sum & MASK);
}

function mix16(bytes: Buffer, at: number, secretAt: number): bigint {
  const low = bytes.readBigUInt64LE(at) ^ secret64(secretAt);
  const high = bytes.readBigUInt64LE(at + 8) ^ secret64(secretAt + 8);
  return foldedProduct(low, high);
}

// --- Long input: eight sums as low and high halves ---

const lows = new Uint32Array(LANES);
const highs = new Uint32Array(LANES);
const secretWords = new Uint32Array(SECRET.length >> 2);
for (let i = 0; i < secretWords.length; i++) secretWords[i] = SECRET.readUInt32LE(i * 4);
const FIRST_SUMS = [
  PRIME32_3,
  PRIME64_1,
  PRIME64_2,
  PRIME64_3,
  PRIME64_4,
  PRIME32_2,
  PRIME64_5,
  PRIME32_1,
];
/** The secret of the last stripe, which does not begin at a word. */
const lastSecret = new Uint32Array(STRIPE >> 2);
for (let i = 0; i < lastSecret.length; i++) {
  lastSecret[i] = SECRET.readUInt32LE(LAST_STRIPE_SECRET + i * 4);
}

function hashLong(bytes: Buffer): bigint {
  for (let i = 0; i < LANES; i++) {
    lows[i] = Number(FIRST_SUMS[i] & 0xffff_ffffn);
    highs[i] = Number(FIRST_SUMS[i] >> 32n);
  }
  const { length } = bytes;
  const blocks = Math.floor((length - 1) / BLOCK);
  for (let block = 0; block < blocks; block++) {
    for (let stripe = 0; stripe < STRIPES_PER_BLOCK; stripe++) {
      accumulate(bytes, block * BLOCK + stripe * STRIPE, secretWords, stripe * 2);
    }
    scramble();
  }
  const stripes = Math.floor((length - 1 - blocks * BLOCK) / STRIPE);
  for (let stripe = 0; stripe < stripes; stripe++) {
    accumulate(bytes, blocks * BLOCK + stripe * STRIPE, secretWords, stripe * 2);
  }
  accumulate(bytes, length - STRIPE, lastSecret, 0);
  let sum = (BigInt(length) * PRIME64_1) & MASK;
  for (let i = 0; i < LANES; i += 2) {
    const at = MERGE_SECRET + i * 8;
    sum += foldedProduct(sumOf(i) ^ secret64(at), sumOf(i + 1) ^ secret64(at + 8));
  }
  return avalanche(sum & MASK);
}

function sumOf(lane: number): bigint {
  return (BigInt(highs[lane]) << 32n) | BigInt(lows[lane]);
}

/** Adds one stripe to the sums. */
function accumulate(bytes: Buffer, at: number, words: Uint32Array, word: number): void {
  for (let lane = 0; lane < LANES; lane++, at += 8, word += 2) {
    const low = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    const high =
      bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24);
    addTo(lane ^ 1, high >>> 0, low >>> 0);
    const one = (low ^ words[word]) >>> 0;
    const other = (high ^ words[word + 1]) >>> 0;
    addTo(lane, highProduct(one, other), Math.imul(one, other) >>> 0);
  }
}

function addTo(lane: number, high: number, low: number): void {
  const sum = lows[lane] + low;
  lows[lane] = sum;
  highs[lane] += high + (sum > 0xffff_ffff ? 1 : 0);
}

/** The upper half of the product of two unsigned 32-bit numbers. */
function highProduct(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = aLow * bHigh + (middle & 0xffff);
  return aHigh * bHigh + Math.floor(middle / 0x1_0000) + Math.floor(other / 0x1_0000);
}

function scramble(): void {
  const word = (SECRET.length - STRIPE) >> 2;
  for (let lane = 0; lane < LANES; lane++) {
    const [low, high] = [lows[lane], highs[lane]];
    // sum ^ (sum >> 47) ^ secret, times a 32-bit prime.
    const mixedLow = (low ^ (high >>> 15) ^ secretWords[word + lane * 2]) >>> 0;
    const mixedHigh = (high ^ secretWords[word + lane * 2 + 1]) >>> 0;
    lows[lane] = Math.imul(mixedLow, SCRAMBLE);
    highs[lane] = (highProduct(mixedLow, SCRAMBLE) + Math.imul(mixedHigh, SCRAMBLE)) | 0;
  }
}

// --- Shared ---

function secret64(at: number): bigint {
  return SECRET.readBigUInt64LE(at);
}

function foldedProduct(a: bigint, b: bigint): bigint {
  const product = a * b;
  return (product & MASK) ^ (product >> 64n);
}

function avalanche(value: bigint): bigint {
  value ^= value >> 37n;
  value = (value * PRIME_MX1) & MASK;
  return value ^ (value >> 32n);
}

function avalanche64(value: bigint): bigint {
  value ^= value >> 33n;
  value = (value * PRIME64_2) & MASK;
  value ^= value >> 29n;
  value = (value * PRIME64_3) & MASK;
  return value ^ (value >> 32n);
}

function rotate(value: bigint, by: bigint): bigint {
  return ((value << by) | (value >> (64n - by))) & MASK;
}

function swapBytes(value: bigint): bigint {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(value);
  return bytes.readBigUInt64BE();
}
