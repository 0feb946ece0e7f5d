/**
 * Delivery counts: 32 bits in memory, 64 on the wire.
 *
 * Redis counts in a signed 64-bit integer and marks a poisoned entry (XNACK FATAL) with its greatest
 * value. We keep 32 bits: 0 to 2^32-2 are counts, 2^32-1 stands for 9223372036854775807. So a
 * RETRYCOUNT between 2^32-1 and 2^63-2 is kept as 2^32-2; nobody delivers an entry that often.
 */

/** In memory: stands for 9223372036854775807. */
export const FATAL_COUNT = 0xffff_ffff;
const GREATEST_COUNT = FATAL_COUNT - 1;
const INT64_MAX = 2n ** 63n - 1n;

/** From a RETRYCOUNT argument (whole, >= 0; 2^63 - 1 rounds to 2^63). */
export function countFrom(value: number): number {
  return value >= 2 ** 63 ? FATAL_COUNT : Math.min(value, GREATEST_COUNT);
}

/** For a reply. */
export function countValue(count: number): number | bigint {
  return count === FATAL_COUNT ? INT64_MAX : count;
}

/** One delivery more; saturates, as Redis 8.8 does. */
export function countUp(count: number): number {
  return count < GREATEST_COUNT ? count + 1 : count;
}

/** One delivery less, not below zero (XNACK SILENT). A poisoned entry stays poisoned. */
export function countDown(count: number): number {
  return count === 0 || count === FATAL_COUNT ? count : count - 1;
}
