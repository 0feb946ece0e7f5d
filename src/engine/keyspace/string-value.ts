/**
 * A string that is changed in part: APPEND and SETRANGE write into memory that is this value's alone.
 *
 * Invariant: `room` is one value's, zero behind the bytes, and a copy of the value ends that. Bytes outside of it are never
 * changed. So copies, and values that were replaced, keep what they have; replies and checkpoints copy
 * what they show at once.
 * Cost: O(what is written) but for the first change of a large string and once in an eighth of its
 * size, when all is copied.
 */
import type { StringValue } from './key-entry.ts';

/** Strings from this size on get an eighth more than they need. */
const LARGE_STRING = 64 * 1024;

/**
 * Makes the value's memory its own, with room for `length` bytes: what may fail is done before anything
 * is changed.
 */
export function makeRoom(value: StringValue, length: number): void {
  const { bytes, room } = value;
  if (room !== undefined && room.length >= length) return;
  const grows = length > bytes.length && length >= LARGE_STRING;
  // Zero bytes that the system gives cost nothing until they are used.
  const own = Buffer.alloc(Math.max(bytes.length, length) + (grows ? length >>> 3 : 0));
  own.set(bytes);
  value.room = own;
  value.bytes = own.subarray(0, bytes.length);
}

/** Writes over the bytes from `offset` on; zero bytes fill what is missing before that. `makeRoom` first. */
export function writeInto(value: StringValue, offset: number, part: Uint8Array): void {
  const { bytes } = value;
  const room = value.room as Buffer;
  room.set(part, offset);
  value.bytes = room.subarray(0, Math.max(bytes.length, offset + part.length));
}

/** What a copy of the value holds; from here on neither is changed in place. */
export function shareBytes(value: StringValue): Buffer {
  value.room = undefined;
  return value.bytes;
}

/** Bytes that the value holds in memory. */
export function roomOf({ bytes, room }: StringValue): number {
  return (room ?? bytes).length;
}
