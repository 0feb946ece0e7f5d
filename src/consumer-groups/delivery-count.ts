/**
 * Delivery counts: codes of 32 bits in memory, 64 bits on the wire.
 *
 * Redis counts in a signed 64-bit integer and marks a poisoned entry (XNACK FATAL) with its greatest
 * value. Codes below LARGE are the counts themselves; FATAL_COUNT means 9223372036854775807; the
 * others are places in a table of the greater counts that this process has met, which only RETRYCOUNT,
 * RESTORE and stored data can bring. When the table is full a greater count is kept as the last one.
 * On disk a greater count is stored as its value, because another process has other codes.
 * Invariant: equal counts have equal codes; a greater count's code is LARGE or more.
 */
import type { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { minus, plus, type Whole } from '../util/whole.ts';

/** In memory: means 9223372036854775807. */
export const FATAL_COUNT = 0xffff_ffff;
/** Codes from here on are places in the table. */
const LARGE = 0xffff_0000;
/** Of the table: the codes between, less the one that marks a value on disk. */
const MOST_LARGE = 0xfff0;
/** On disk: the value follows. Written by no version for a count. */
const VALUE_FOLLOWS = 0xffff_fffd;
const INT64_MAX = 2n ** 63n - 1n;

const values: Whole[] = [];
const codes = new Map<Whole, number>();

/** From a RETRYCOUNT argument, whole and not below 0. */
export function countFrom(value: Whole): number {
  if (value < LARGE) return Number(value);
  if (value >= INT64_MAX) return FATAL_COUNT;
  const known = codes.get(value);
  if (known !== undefined) return known;
  if (values.length >= MOST_LARGE) return LARGE + MOST_LARGE - 1;
  const code = LARGE + values.length;
  values.push(value);
  codes.set(value, code);
  return code;
}

/** For a reply. */
export function countValue(count: number): Whole {
  if (count < LARGE) return count;
  return count === FATAL_COUNT ? INT64_MAX : (values[count - LARGE] as Whole);
}

/** One delivery more; saturates, as Redis 8.8 does. */
export function countUp(count: number): number {
  if (count < LARGE - 1) return count + 1;
  if (count === FATAL_COUNT) return count;
  const more = plus(countValue(count), 1);
  return more === INT64_MAX ? count : countFrom(more);
}

/** One delivery less, not below zero (XNACK SILENT). A poisoned entry stays poisoned. */
export function countDown(count: number): number {
  if (count < LARGE) return count === 0 ? 0 : count - 1;
  return count === FATAL_COUNT ? count : countFrom(minus(countValue(count), 1));
}

export function writeCount(writer: ByteWriter, count: number): void {
  if (count < LARGE || count === FATAL_COUNT) {
    writer.varint(count);
    return;
  }
  writer.varint(VALUE_FOLLOWS);
  writer.whole(countValue(count));
}

/** Throws RangeError where what was written is no count. */
export function readCount(reader: ByteReader): number {
  const count = reader.varint();
  if (count < LARGE || count === FATAL_COUNT) return count;
  if (count > FATAL_COUNT) throw new RangeError('a number out of range');
  return countFrom(count === VALUE_FOLLOWS ? reader.whole() : count);
}
