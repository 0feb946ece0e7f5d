/**
 * Replies as bytes: RESP2 or RESP3, written front to back into one growing buffer.
 *
 * Holds: the bytes that the output buffer of the connection has not yet taken. While there are none the
 * writer holds no buffer, so that idle connections cost no memory; the first byte borrows one from the pool,
 * and `take` hands the bytes over.
 * Invariant: marks of `deferred` are filled in last-in, first-out order, because filling one moves
 * the bytes after it.
 * Cost: amortised O(1) a byte; numbers, ids and headers are formatted in place, no strings.
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
import type { StreamId } from '../../stream/stream-id.ts';
import { writeDecimal } from '../../stream/stream-id.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { Reply } from './reply.ts';

const CR = 13;
const LF = 10;
/** Longest header: a type byte, 16 digits, CR LF. */
const HEADER = 24;
/** Room that `deferred` keeps: a type byte, up to six digits, CR LF. Longer lengths move the rest. */
const DEFERRED = 9;
const EMPTY = Buffer.alloc(0);
/** Below this, a loop copies faster than a view plus `set`. */
const LOOP_COPY = 48;

export class ReplyWriter implements Reply {
  protocol: 2 | 3 = 2;
  buffer: Buffer = EMPTY;
  length = 0;
  readonly #pool: BufferPool;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /**
   * Hands over everything written since the last `take`. Small output is copied into a buffer of its
   * own size, so that a slow client does not hold a whole pooled buffer. Large output is handed over without
   * a copy and belongs to the caller.
   */
  take(): Buffer {
    const { buffer, length } = this;
    this.length = 0;
    if (length === 0) return EMPTY;
    if (length <= 2048) {
      const copy = Buffer.allocUnsafe(length);
      if (length <= LOOP_COPY) for (let i = 0; i < length; i++) copy[i] = buffer[i];
      else buffer.copy(copy, 0, 0, length);
      this.release();
      return copy;
    }
    this.buffer = EMPTY;
    return buffer.subarray(0, length);
  }

  /** Drops what was written and gives the buffer back. */
  release(): void {
    this.length = 0;
    if (this.buffer.length === 0) return;
    this.#pool.give(this.buffer);
    this.buffer = EMPTY;
  }

  /** Forgets everything written after `length` was this. */
  truncate(length: number): void {
    if (length < this.length) this.length = length;
  }

  ok(): void {
    const at = this.#room(5);
    const buffer = this.buffer;
    buffer[at] = 43;
    buffer[at + 1] = 79;
    buffer[at + 2] = 75;
    buffer[at + 3] = CR;
    buffer[at + 4] = LF;
    this.length = at + 5;
  }

  simple(text: string): void {
    this.#line(43, text);
  }

  error(text: string): void {
    this.#line(45, /[\r\n]/.test(text) ? text.replace(/[\r\n]/g, ' ') : text);
  }

  /** An error that quotes a client's bytes: `text` holds one of them per character (latin1). */
  errorBytes(text: string): void {
    const at = this.#room(text.length + 3);
    this.buffer[at] = 45;
    this.#endLine(at + 1 + this.buffer.write(text.replace(/[\r\n]/g, ' '), at + 1, 'latin1'));
  }

  /** Bytes that are a whole reply, or several, already. */
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.buffer.set(bytes, at);
    this.length = at + bytes.length;
  }

  integer(value: number | bigint): void {
    const at = this.#room(HEADER);
    this.buffer[at] = 58;
    this.#endLine(
      typeof value === 'number' && Number.isSafeInteger(value)
        ? this.#decimal(at + 1, value)
        : at + 1 + this.buffer.write(wideText(value), at + 1, 'latin1'),
    );
  }

  bulk(bytes: Uint8Array): void {
    this.bulkSlice(bytes, 0, bytes.length);
  }

  bulkSlice(source: Uint8Array, from: number, length: number): void {
    let at = this.#room(length + HEADER);
    const buffer = this.buffer;
    buffer[at++] = 36;
    if (length < 10) buffer[at++] = 48 + length;
    else at = writeDecimal(buffer, at, length);
    buffer[at] = CR;
    buffer[at + 1] = LF;
    at += 2;
    if (length <= LOOP_COPY) {
      for (let i = 0; i < length; i++) buffer[at + i] = source[from + i];
    } else {
      buffer.set(
        from === 0 && length === source.length ? source : source.subarray(from, from + length),
        at,
      );
    }
    at += length;
    buffer[at] = CR;
    buffer[at + 1] = LF;
    this.length = at + 2;
  }

  bulkText(text: string): void {
    const length = Buffer.byteLength(text);
    this.#header(36, length);
    const at = this.#room(length + 2);
    this.buffer.write(text, at);
    this.#endLine(at + length);
  }

  bulkLatin1(text: string): void {
    const { length } = text;
    this.#header(36, length);
    const at = this.#room(length + 2);
    this.buffer.write(text, at, 'latin1');
    this.#endLine(at + length);
  }

  id(id: StreamId): void {
    const start = this.#room(64);
    const buffer = this.buffer;
    // An id has 3 to 41 bytes, so its length almost always has two digits. It is formatted after a header
    // of two digits, and moved back one byte when it is shorter than ten bytes.
    let from = start + 5;
    let end = id.format(buffer, from);
    const length = end - from;
    buffer[start] = 36;
    if (length < 10) {
      buffer.copyWithin(start + 4, from, end);
      from--;
      end--;
      buffer[start + 1] = 48 + length;
    } else {
      const tens = (length / 10) | 0;
      buffer[start + 1] = 48 + tens;
      buffer[start + 2] = 48 + length - tens * 10;
    }
    buffer[from - 2] = CR;
    buffer[from - 1] = LF;
    buffer[end] = CR;
    buffer[end + 1] = LF;
    this.length = end + 2;
  }

  null(): void {
    if (this.protocol === 3) this.#line(95, '');
    else this.#line(36, '-1');
  }

  nullArray(): void {
    if (this.protocol === 3) this.#line(95, '');
    else this.#line(42, '-1');
  }

  array(length: number): void {
    this.#header(42, length);
  }

  deferred(): number {
    const at = this.#room(DEFERRED);
    this.length = at + DEFERRED;
    return at;
  }

  setLength(mark: number, length: number, kind: 'array' | 'map' | 'set' = 'array'): void {
    const map = kind === 'map';
    const type = this.protocol === 2 || kind === 'array' ? 42 : map ? 37 : 126;
    const shown = map && this.protocol === 2 ? length * 2 : length;
    let digits = 1;
    for (let limit = 10; limit <= shown; limit *= 10) digits++;
    const header = digits + 3;
    if (header > DEFERRED) this.#room(header - DEFERRED);
    if (header !== DEFERRED) {
      this.buffer.copyWithin(mark + header, mark + DEFERRED, this.length);
      this.length += header - DEFERRED;
    }
    const buffer = this.buffer;
    buffer[mark] = type;
    const end = writeDecimal(buffer, mark + 1, shown);
    buffer[end] = CR;
    buffer[end + 1] = LF;
  }

  map(pairs: number): void {
    if (this.protocol === 3) this.#header(37, pairs);
    else this.#header(42, pairs * 2);
  }

  set(length: number): void {
    this.#header(this.protocol === 3 ? 126 : 42, length);
  }

  push(length: number): void {
    this.#header(this.protocol === 3 ? 62 : 42, length);
  }

  double(value: number): void {
    const text =
      value === Infinity
        ? 'inf'
        : value === -Infinity
          ? '-inf'
          : Number.isNaN(value)
            ? 'nan'
            : Object.is(value, -0)
              ? '-0'
              : String(value);
    if (this.protocol === 3) this.#line(44, text);
    else this.bulkText(text);
  }

  /** A number with more digits than a double holds. */
  doubleText(text: string): void {
    if (this.protocol === 3) this.#line(44, text);
    else this.bulkText(text);
  }

  boolean(value: boolean): void {
    if (this.protocol === 3) this.#line(35, value ? 't' : 'f');
    else this.integer(value ? 1 : 0);
  }

  /** `latin1`: the text is bytes, one per character. */
  verbatim(
    text: string,
    format: 'txt' | 'mkd' = 'txt',
    encoding: 'utf8' | 'latin1' = 'utf8',
  ): void {
    if (this.protocol === 2) {
      this.bulk(Buffer.from(text, encoding));
      return;
    }
    const length = Buffer.byteLength(text, encoding);
    this.#header(61, length + 4);
    const at = this.#room(length + 6);
    this.buffer.write(`${format}:`, at, 'latin1');
    this.buffer.write(text, at + 4, encoding);
    this.#endLine(at + 4 + length);
  }

  /** Makes room and returns where to write. */
  #room(size: number): number {
    const at = this.length;
    if (at + size > this.buffer.length) this.#grow(at + size);
    return at;
  }

  #grow(needed: number): void {
    const old = this.buffer;
    if (old.length === 0 && needed <= this.#pool.size) {
      this.buffer = this.#pool.borrow();
      return;
    }
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, old.length * 2));
    old.copy(grown, 0, 0, this.length);
    if (old.length > 0) this.#pool.give(old);
    this.buffer = grown;
  }

  #decimal(at: number, value: number): number {
    if (value < 0) {
      this.buffer[at++] = 45;
      value = -value;
    }
    return writeDecimal(this.buffer, at, value);
  }

  #endLine(at: number): void {
    this.buffer[at] = CR;
    this.buffer[at + 1] = LF;
    this.length = at + 2;
  }

  #header(type: number, length: number): void {
    const at = this.#room(HEADER);
    const buffer = this.buffer;
    buffer[at] = type;
    if (length < 10) {
      buffer[at + 1] = 48 + length;
      this.#endLine(at + 2);
    } else {
      this.#endLine(writeDecimal(buffer, at + 1, length));
    }
  }

  #line(type: number, text: string): void {
    const at = this.#room(text.length * 3 + 3);
    this.buffer[at] = type;
    this.#endLine(at + 1 + this.buffer.write(text, at + 1));
  }
}

/** Integers of the protocol have 64 bits: a double that was rounded up to 2^63 becomes 2^63 - 1. */
function wideText(value: number | bigint): string {
  if (typeof value === 'bigint' || !Number.isInteger(value)) return value.toString();
  return BigInt.asIntN(64, value >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(value)).toString();
}
