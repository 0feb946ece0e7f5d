/**
 * The iid that IDMPAUTO derives from an entry's content: 128 bits, the same for the same pairs in
 * whatever order.
 *
 * Each pair is hashed over its length-prefixed field and value; the hashes of all pairs are added up
 * lane by lane, so that order does not matter and a pair given twice counts twice. Four 32-bit lanes
 * take every word with multipliers of their own and are then stirred into each other.
 * Not for adversaries: whoever wants a collision can find one. By accident two contents of one
 * producer's window meet with a chance of about 2^-100 (10^4 iids).
 * Cost: about one nanosecond a byte, no allocation but the result.
 */
import type { Arguments } from '../util/arguments.ts';

// Odd constants with well-mixed bits: fractions of square roots of small primes.
const M0 = 0x6a09e667 | 1;
const M1 = 0xbb67ae85 | 1;
const M2 = 0x3c6ef373 | 1;
const M3 = 0xa54ff53b | 1;
const FINAL_A = 0x510e527f | 1;
const FINAL_B = 0x9b05688b | 1;

let h0 = 0;
let h1 = 0;
let h2 = 0;
let h3 = 0;

/** 128 bits of the pairs args[from .. to) as 16 latin1 characters; the order of pairs does not matter. */
export function contentHash(args: Arguments, from: number, to: number): string {
  let sum0 = 0;
  let sum1 = 0;
  let sum2 = 0;
  let sum3 = 0;
  for (let i = from; i < to; i += 2) {
    h0 = 0x1f83d9ab;
    h1 = 0x5be0cd19;
    h2 = 0x243f6a88;
    h3 = 0x13198a2e;
    absorb(args.buffer, args.offsets[i], args.lengths[i]);
    absorb(args.buffer, args.offsets[i + 1], args.lengths[i + 1]);
    stir();
    sum0 = (sum0 + h0) | 0;
    sum1 = (sum1 + h1) | 0;
    sum2 = (sum2 + h2) | 0;
    sum3 = (sum3 + h3) | 0;
  }
  h0 = sum0;
  h1 = sum1;
  h2 = sum2;
  h3 = sum3;
  word(to - from);
  stir();
  return lane(h0) + lane(h1) + lane(h2) + lane(h3);
}

/** The length, then the bytes in words of four; a last, short one is filled with zeros. */
function absorb(bytes: Uint8Array, from: number, length: number): void {
  word(length);
  const end = from + length;
  let at = from;
  for (; at + 4 <= end; at += 4) {
    word(bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24));
  }
  if (at < end) {
    let rest = 0;
    for (let shift = 0; at < end; at++, shift += 8) rest |= bytes[at] << shift;
    word(rest);
  }
}

/** Every step is a bijection of the lane for a given word, so no word is ever lost. */
function word(value: number): void {
  h0 = (Math.imul(rotated(h0 ^ Math.imul(value, M1), 13), M0) + 0x428a2f98) | 0;
  h1 = (Math.imul(rotated(h1 ^ Math.imul(value, M2), 15), M1) + 0x71374491) | 0;
  h2 = (Math.imul(rotated(h2 ^ Math.imul(value, M3), 17), M2) + 0x35c0fbcf) | 0;
  h3 = (Math.imul(rotated(h3 ^ Math.imul(value, M0), 19), M3) + 0x69b5dba5) | 0;
}

/** Lets every bit of every lane reach all the others. */
function stir(): void {
  for (let round = 0; round < 2; round++) {
    h0 = (scrambled(h0) + h1) | 0;
    h1 = (scrambled(h1) + h2) | 0;
    h2 = (scrambled(h2) + h3) | 0;
    h3 = (scrambled(h3) + h0) | 0;
  }
  h0 = scrambled(h0);
  h1 = scrambled(h1);
  h2 = scrambled(h2);
  h3 = scrambled(h3);
}

function scrambled(h: number): number {
  h = Math.imul(h ^ (h >>> 16), FINAL_A);
  h = Math.imul(h ^ (h >>> 13), FINAL_B);
  return h ^ (h >>> 16);
}

function rotated(h: number, by: number): number {
  return (h << by) | (h >>> (32 - by));
}

function lane(h: number): string {
  return String.fromCharCode(h & 255, (h >>> 8) & 255, (h >>> 16) & 255, h >>> 24);
}
