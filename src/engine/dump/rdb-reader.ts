/**
 * Reads the primitives of Redis's RDB encoding from a payload: lengths, strings, times, ids.
 *
 * A length is one, two, five or nine bytes, by the two highest bits of the first; those that are both
 * set announce a string in another form (an integer, LZF).
 * Invariant: nothing beyond `end` is read, and nothing is allocated for what is only declared: a count
 * is checked against the bytes that are left. What is wrong throws RangeError.
 * Source of the format: Redis 7.0 rdb.c (rdbLoadLenByRef, rdbGenericLoadStringObject).
 */

import type { StreamId } from '../../stream/stream-id.ts';
import type { Whole } from '../../util/whole.ts';
import { decompressLzf } from './lzf.ts';

const TWO_32 = 0x1_0000_0000;
/** Redis's proto-max-bulk-len default: the longest string of a key. */
const LONGEST_STRING = 512 * 1024 * 1024;

export class RdbReader {
  readonly buffer: Buffer;
  at = 0;
  readonly end: number;
  /** The halves of the last length read. */
  high = 0;
  low = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
    this.end = buffer.length;
  }

  get left(): number {
    return this.end - this.at;
  }

  take(size: number): number {
    const at = this.at;
    if (!(size <= this.end - at)) throw new RangeError('the payload ends too early');
    this.at = at + size;
    return at;
  }

  u8(): number {
    return this.buffer[this.take(1)];
  }

  /** A view of the next bytes. */
  raw(size: number): Buffer {
    const at = this.take(size);
    return this.buffer.subarray(at, at + size);
  }

  /** An unsigned number of up to 64 bits; exact in `high` and `low`, and in the result up to 2^53. */
  length(): number {
    if (this.#length() !== PLAIN) throw new RangeError('a string where a number must be');
    return this.high * TWO_32 + this.low;
  }

  /** A number that must be whole and exact. */
  integer(): number {
    const value = this.length();
    if (!Number.isSafeInteger(value)) throw new RangeError('a number out of range');
    return value;
  }

  /** How many things follow, each of which takes at least `size` bytes. */
  count(size: number): number {
    const value = this.length();
    if (value * size > this.left) throw new RangeError(`${value} things cannot follow`);
    return value;
  }

  /** A signed 64-bit number written as an unsigned one, down to -1. */
  signed(): Whole {
    const value = this.length();
    if (Number.isSafeInteger(value)) return value;
    if (this.high < 0x8000_0000) return (BigInt(this.high) << 32n) | BigInt(this.low);
    if (this.high !== TWO_32 - 1 || this.low !== TWO_32 - 1) {
      throw new RangeError('a negative number');
    }
    return -1;
  }

  /** Two lengths: milliseconds and sequence. */
  id(into: StreamId): StreamId {
    this.length();
    const { high, low } = this;
    this.length();
    return into.set(high, low, this.high, this.low);
  }

  /** Sixteen bytes, big-endian. */
  rawId(into: StreamId): StreamId {
    return into.fromKey(this.buffer, this.take(16));
  }

  /** Unix ms, not below `least`. */
  time(least: number): number {
    const at = this.take(8);
    const value = this.buffer.readInt32LE(at + 4) * TWO_32 + this.buffer.readUInt32LE(at);
    if (!Number.isSafeInteger(value) || value < least) throw new RangeError('a time out of range');
    return value;
  }

  /** A string in any of its forms. A view where the payload holds its bytes. */
  string(longest = LONGEST_STRING): Buffer {
    const form = this.#length();
    if (form === PLAIN) {
      const size = this.high * TWO_32 + this.low;
      if (size > longest) throw new RangeError(`a string of ${size} bytes`);
      return this.raw(size);
    }
    if (form === INT8) return decimal(this.buffer.readInt8(this.take(1)));
    if (form === INT16) return decimal(this.buffer.readInt16LE(this.take(2)));
    if (form === INT32) return decimal(this.buffer.readInt32LE(this.take(4)));
    if (form !== LZF) throw new RangeError(`a string in unknown form ${form}`);
    const compressed = this.count(1);
    const size = this.length();
    if (size > longest) throw new RangeError(`a string of ${size} bytes`);
    return decompressLzf(this.raw(compressed), size);
  }

  /** Reads a length into `high` and `low`; otherwise the number of a string's form. */
  #length(): number {
    const first = this.u8();
    const kind = first >> 6;
    this.high = 0;
    if (kind === 0) this.low = first;
    else if (kind === 1) this.low = ((first & 63) << 8) | this.u8();
    else if (kind === 3) return first & 63;
    else if (first === LENGTH_32) this.low = this.buffer.readUInt32BE(this.take(4));
    else if (first === LENGTH_64) {
      this.high = this.buffer.readUInt32BE(this.take(4));
      this.low = this.buffer.readUInt32BE(this.take(4));
    } else throw new RangeError(`a length that begins with ${first}`);
    return PLAIN;
  }
}

const PLAIN = -1;
const INT8 = 0;
const INT16 = 1;
const INT32 = 2;
const LZF = 3;
export const LENGTH_32 = 0x80;
export const LENGTH_64 = 0x81;

function decimal(value: number): Buffer {
  return Buffer.from(String(value), 'latin1');
}
