/**
 * Parses received bytes into commands.
 *
 *   request = array | inline
 *   array   = "*" count CRLF count times ( "$" length CRLF bytes CRLF )
 *   inline  = words ( CR )? LF              quoted as in quoting.ts
 *
 * Holds: the position in the chunk being parsed, and the parsed part of a command that the chunk cuts off.
 * Usually the whole command is in the chunk: then `args` are offsets into it, and nothing is copied or
 * allocated. A command that is cut off moves to `#carry`, a buffer that only this connection uses. It grows
 * with the bytes received (doubling), not with the lengths that headers announce, and the parsed part is not
 * parsed again.
 * Invariant: `args` are valid until the next call of `feed`, `next` or `keep`.
 * Limits and error texts are Redis's (networking.c); after an error the connection must be closed.
 */
import { Arguments } from '../../util/arguments.ts';
import { splitArgs } from '../command/quoting.ts';

export const COMPLETE = 1;
export const INCOMPLETE = 0;
export const BROKEN = -1;

const INLINE_MAX = 64 * 1024;
/** Redis 6's limit of arguments; newer Redis allows INT_MAX. */
const MULTIBULK_MAX = 1024 * 1024;
const UNAUTHENTICATED_MULTIBULK = 10;
const UNAUTHENTICATED_BULK = 16384;
/** Argument arrays that have grown beyond this are dropped after their command. */
const ARGUMENTS_KEPT = 4096;
const CARRY_MIN = 1024;
const CARRY_KEPT = 64 * 1024;

const CR = 13;
const LF = 10;
const STAR = 42;
const DOLLAR = 36;
const EMPTY = Buffer.alloc(0);

export interface ParserLimits {
  /** proto-max-bulk-len. */
  bulkMax: number;
}

export class RespParser {
  args = new Arguments();
  /** Why parsing failed: the text behind `-ERR Protocol error: `. */
  error = '';
  /** The client has not logged in: only small commands are accepted. */
  unauthenticated = false;

  readonly #limits: ParserLimits;
  #buffer: Buffer = EMPTY;
  #at = 0;
  #end = 0;
  /** Where the command being parsed starts. */
  #start = 0;
  /** Arguments still to come; 0 = between commands. */
  #missing = 0;
  /** Length of the argument being received; -1 = its header was not read yet. */
  #bulk = -1;
  /** The connection's own buffer, when #buffer is that; otherwise empty. */
  #carry: Buffer = EMPTY;

  constructor(limits: ParserLimits) {
    this.#limits = limits;
  }

  /** Bytes received and not yet parsed into a whole command. */
  get waiting(): number {
    return this.#end - this.#start;
  }

  /** Bytes of memory that this parser holds between chunks. */
  get held(): number {
    return this.#carry.length;
  }

  /**
   * Gives the parser `chunk[from, to)`. The chunk may be reused by its owner as soon as `keep` was
   * called.
   */
  feed(chunk: Buffer, from: number, to: number): void {
    if (this.#end === this.#start) {
      this.#buffer = chunk;
      this.#start = this.#at = from;
      this.#end = to;
      this.#carry = EMPTY;
      return;
    }
    this.#append(chunk, from, to);
  }

  /** Copies what is left over of the chunk, so that the chunk can be reused. */
  keep(): void {
    const left = this.#end - this.#start;
    if (left === 0) {
      this.#buffer = this.#carry = EMPTY;
      this.#start = this.#at = this.#end = 0;
      return;
    }
    // A carry that has held a large command is replaced when little is left in it.
    if (this.#carry.length > 0 && (this.#carry.length <= CARRY_KEPT || left > CARRY_KEPT)) return;
    const carry = Buffer.allocUnsafeSlow(capacityFor(left));
    this.#buffer.copy(carry, 0, this.#start, this.#end);
    this.#moveTo(carry);
  }

  /**
   * Parses the next command into `args`: COMPLETE (possibly with no arguments: an empty line or
   * array, to be ignored), INCOMPLETE (feed more), or BROKEN (see `error`).
   */
  next(): number {
    if (this.#missing === 0) {
      this.#start = this.#at;
      if (this.#at === this.#end) return INCOMPLETE;
      if (this.args.offsets.length > ARGUMENTS_KEPT) this.args = new Arguments();
      this.args.clear(this.#buffer);
      if (this.#buffer[this.#at] !== STAR) return this.#inline();
      const status = this.#header();
      if (status !== COMPLETE || this.#missing === 0) return status;
    }
    return this.#bulks();
  }

  /** `*count`. */
  #header(): number {
    const buffer = this.#buffer;
    const at = this.#at + 1;
    // One digit and CR LF: nearly every command.
    const digit = buffer[at] - 48;
    if (at + 2 < this.#end && buffer[at + 1] === CR && digit >= 1 && digit <= 9) {
      this.#at = at + 3;
      this.#missing = digit;
      this.#bulk = -1;
      return COMPLETE;
    }
    const end = this.#lineEnd('too big mbulk count string');
    if (end <= 0) return end;
    const count = readNumber(buffer, at, end);
    if (Number.isNaN(count) || count > MULTIBULK_MAX) return this.#fail('invalid multibulk length');
    if (count > UNAUTHENTICATED_MULTIBULK && this.unauthenticated) {
      return this.#fail('unauthenticated multibulk length');
    }
    this.#at = end + 2;
    if (count <= 0) {
      this.#start = this.#at;
      return COMPLETE;
    }
    this.#missing = count;
    this.#bulk = -1;
    return COMPLETE;
  }

  /** `$length`, bytes; as many as are missing. */
  #bulks(): number {
    const buffer = this.#buffer;
    const end = this.#end;
    const args = this.args;
    let at = this.#at;
    let missing = this.#missing;
    let bulk = this.#bulk;
    while (missing > 0) {
      if (bulk < 0) {
        // One or two digits: nearly every argument.
        const first = buffer[at + 1] - 48;
        if (at + 5 <= end && buffer[at] === DOLLAR && first >= 0 && first <= 9) {
          if (buffer[at + 2] === CR) {
            bulk = first;
            at += 4;
          } else {
            const second = buffer[at + 2] - 48;
            if (first !== 0 && second >= 0 && second <= 9 && buffer[at + 3] === CR) {
              bulk = first * 10 + second;
              at += 5;
            }
          }
        }
        if (bulk < 0) {
          this.#at = at;
          const status = this.#bulkHeader();
          if (status !== COMPLETE) {
            this.#missing = missing;
            this.#bulk = -1;
            return status;
          }
          bulk = this.#bulk;
          at = this.#at;
        }
      }
      if (at + bulk + 2 > end) {
        this.#at = at;
        this.#missing = missing;
        this.#bulk = bulk;
        return INCOMPLETE;
      }
      args.push(at, bulk);
      at += bulk + 2;
      bulk = -1;
      missing--;
    }
    this.#at = at;
    this.#start = at;
    this.#missing = 0;
    this.#bulk = -1;
    return COMPLETE;
  }

  /** A `$length` line of any form, at #at. */
  #bulkHeader(): number {
    const at = this.#at;
    if (at >= this.#end) return INCOMPLETE;
    const end = this.#lineEnd('too big bulk count string');
    if (end <= 0) return end;
    const type = this.#buffer[at];
    if (type !== DOLLAR) {
      return this.#fail(`expected '$', got '${String.fromCharCode(type)}'`);
    }
    const length = readNumber(this.#buffer, at + 1, end);
    if (Number.isNaN(length) || length < 0 || length > this.#limits.bulkMax) {
      return this.#fail('invalid bulk length');
    }
    if (length > UNAUTHENTICATED_BULK && this.unauthenticated) {
      return this.#fail('unauthenticated bulk length');
    }
    this.#bulk = length;
    this.#at = end + 2;
    return COMPLETE;
  }

  /**
   * The offset of the CR of the line at #at, INCOMPLETE (0) or BROKEN (-1). No CR is at offset 0, because a
   * `*` or `$` comes before it.
   */
  #lineEnd(tooLong: string): number {
    const buffer = this.#buffer;
    const limit = Math.min(this.#end, this.#at + INLINE_MAX + 1);
    for (let i = this.#at; i < limit; i++) {
      if (buffer[i] === CR) return i + 1 < this.#end ? i : INCOMPLETE;
    }
    return this.#end - this.#at > INLINE_MAX ? this.#fail(tooLong) : INCOMPLETE;
  }

  #inline(): number {
    const buffer = this.#buffer;
    const from = this.#at;
    const found = buffer.subarray(from, Math.min(this.#end, from + INLINE_MAX + 2)).indexOf(LF);
    if (found < 0) {
      return this.#end - from > INLINE_MAX ? this.#fail('too big inline request') : INCOMPLETE;
    }
    const lineEnd = found > 0 && buffer[from + found - 1] === CR ? found - 1 : found;
    const words = splitArgs(buffer.subarray(from, from + lineEnd));
    if (words === null) return this.#fail('unbalanced quotes in request');
    this.#at = this.#start = from + found + 1;
    // Unquoted words differ from the received bytes, so they are in another buffer.
    const whole = words.length === 1 ? words[0] : Buffer.concat(words);
    this.args.clear(whole ?? EMPTY);
    let offset = 0;
    for (const word of words) {
      this.args.push(offset, word.length);
      offset += word.length;
    }
    return COMPLETE;
  }

  #fail(why: string): number {
    this.error = why;
    return BROKEN;
  }

  #append(chunk: Buffer, from: number, to: number): void {
    const size = to - from;
    const left = this.#end - this.#start;
    if (this.#end + size > this.#carry.length) {
      // Make room: move to the front, and double when that is not enough.
      const room = capacityFor(left + size);
      if (this.#carry.length === 0 || room > this.#carry.length) {
        const carry = Buffer.allocUnsafeSlow(room);
        this.#buffer.copy(carry, 0, this.#start, this.#end);
        this.#moveTo(carry);
      } else {
        this.#carry.copyWithin(0, this.#start, this.#end);
        this.#moveTo(this.#carry);
      }
    }
    chunk.copy(this.#carry, this.#end, from, to);
    this.#end += size;
  }

  /** The bytes [#start, #end) are now at the front of `carry`: adjusts the offsets. */
  #moveTo(carry: Buffer): void {
    const shift = this.#start;
    const { args } = this;
    if (this.#missing > 0) {
      for (let i = 0; i < args.count; i++) args.offsets[i] -= shift;
      args.buffer = carry;
    }
    this.#buffer = this.#carry = carry;
    this.#at -= shift;
    this.#end -= shift;
    this.#start = 0;
  }
}

/** At least a kilobyte, and a quarter more than needed when large, so that growth is amortised. */
function capacityFor(size: number): number {
  if (size <= CARRY_MIN) return CARRY_MIN;
  return size < 1024 * 1024 ? 2 ** Math.ceil(Math.log2(size)) : Math.ceil(size * 1.25);
}

/** A decimal number as string2ll reads it, NaN when it is not one. Rounded beyond 2^53, far above every limit. */
function readNumber(buffer: Uint8Array, from: number, end: number): number {
  const length = end - from;
  if (length <= 0 || length > 20) return Number.NaN;
  let at = from;
  const negative = buffer[at] === 45;
  if (negative) at++;
  if (at === end) return Number.NaN;
  if (buffer[at] === 48) return length === 1 ? 0 : Number.NaN;
  let value = 0;
  for (; at < end; at++) {
    const digit = buffer[at] - 48;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return negative ? -value : value;
}
