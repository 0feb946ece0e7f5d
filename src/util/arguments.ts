/**
 * The arguments of one command, as offsets into the buffer they arrived in.
 *
 * Holds: one buffer and, per argument, where it starts and how long it is. Argument 0 is the
 * command's name, as in Redis's argv. Nothing is copied or decoded before it is asked for.
 * Invariant: valid only until control returns to the caller that filled it: the buffer is the
 * socket's and will be reused. Code that keeps an argument copies it (`copy`), code that keeps the whole
 * command takes a `clone`.
 * Cost: no allocation per command once the arrays have grown to the largest command seen.
 */
import type { Whole } from './whole.ts';

export class Arguments {
  buffer: Buffer;
  count = 0;
  offsets: number[] = [];
  lengths: number[] = [];

  constructor(buffer: Buffer = EMPTY) {
    this.buffer = buffer;
  }

  /** From whole values: for the embedded broker, replay and tests. */
  static of(...values: readonly (string | Uint8Array | number)[]): Arguments {
    const parts = values.map((value) =>
      value instanceof Uint8Array ? value : Buffer.from(String(value)),
    );
    const args = new Arguments(Buffer.concat(parts));
    let offset = 0;
    for (const part of parts) {
      args.push(offset, part.length);
      offset += part.length;
    }
    return args;
  }

  /** Lets go of the buffer (util/scratch.ts). */
  release(): void {
    this.buffer = EMPTY;
    this.count = 0;
    // One command of a million arguments must not keep room for as many.
    if (this.offsets.length > KEPT) {
      this.offsets = [];
      this.lengths = [];
    }
  }

  clear(buffer: Buffer): void {
    this.buffer = buffer;
    this.count = 0;
  }

  push(offset: number, length: number): void {
    this.offsets[this.count] = offset;
    this.lengths[this.count] = length;
    this.count++;
  }

  /** A copy that outlives the socket's buffer. */
  clone(): Arguments {
    let size = 0;
    for (let i = 0; i < this.count; i++) size += this.lengths[i];
    const copy = new Arguments(Buffer.allocUnsafeSlow(size));
    let offset = 0;
    for (let i = 0; i < this.count; i++) {
      const from = this.offsets[i];
      this.buffer.copy(copy.buffer, offset, from, from + this.lengths[i]);
      copy.push(offset, this.lengths[i]);
      offset += this.lengths[i];
    }
    return copy;
  }

  /** A view, valid only as long as the buffer is. */
  view(index: number): Buffer {
    const from = this.offsets[index];
    return this.buffer.subarray(from, from + this.lengths[index]);
  }

  /** A copy of one argument's bytes, safe to keep. */
  copy(index: number): Buffer {
    const from = this.offsets[index];
    const bytes = Buffer.allocUnsafeSlow(this.lengths[index]);
    this.buffer.copy(bytes, 0, from, from + this.lengths[index]);
    return bytes;
  }

  /** UTF-8 text of one argument. For names and messages, never on the hot path. */
  text(index: number): string {
    const from = this.offsets[index];
    return this.buffer.toString('utf8', from, from + this.lengths[index]);
  }

  /** One byte per character: loses nothing and is a fine key for a Map. */
  latin1(index: number): string {
    const from = this.offsets[index];
    return this.buffer.toString('latin1', from, from + this.lengths[index]);
  }

  /** Whether the argument is this keyword (given in upper case), in any case. */
  is(index: number, upper: string): boolean {
    const length = this.lengths[index];
    if (length !== upper.length) return false;
    const from = this.offsets[index];
    const buffer = this.buffer;
    for (let i = 0; i < length; i++) {
      let code = buffer[from + i];
      if (code >= 97 && code <= 122) code -= 32;
      if (code !== upper.charCodeAt(i)) return false;
    }
    return true;
  }

  /**
   * The argument as a signed 64-bit integer the way Redis's string2ll reads it: decimal, no plus
   * sign, no space, no leading zero, `-` only before a nonzero digit. null when it is not one.
   * Values beyond 2^53 come back rounded; where exactness matters use `bigInteger`.
   */
  integer(index: number): number | null {
    const length = this.lengths[index];
    const buffer = this.buffer;
    let at = this.offsets[index];
    const end = at + length;
    if (length === 0 || length > 20) return null;
    if (length === 1) {
      const digit = buffer[at] - 48;
      return digit >= 0 && digit <= 9 ? digit : null;
    }
    const negative = buffer[at] === 45;
    if (negative) at++;
    let value = buffer[at++] - 48;
    if (value < 1 || value > 9) return null;
    while (at < end) {
      const digit = buffer[at++] - 48;
      if (digit < 0 || digit > 9) return null;
      value = value * 10 + digit;
    }
    if (value > Number.MAX_SAFE_INTEGER && this.bigInteger(index) === null) return null;
    return negative ? -value : value;
  }

  /** As `integer`, exact over the whole signed 64-bit range, in the cheaper form where that is exact. */
  whole(index: number): Whole | null {
    const value = this.integer(index);
    return value === null || Number.isSafeInteger(value) ? value : this.bigInteger(index);
  }

  /** As `integer`, exact over the whole signed 64-bit range. */
  bigInteger(index: number): bigint | null {
    const text = this.latin1(index);
    if (!/^(0|-?[1-9][0-9]{0,18})$/.test(text)) return null;
    const value = BigInt(text);
    return value >= INT64_MIN && value <= INT64_MAX ? value : null;
  }
}

const EMPTY = Buffer.alloc(0);
/** The most arguments for which `release` keeps room. */
const KEPT = 1024;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
