/**
 * A growing buffer that is written front to back, and the reader of what it wrote.
 *
 * Holds: the primitives of every on-disk record: bytes, little-endian fixed integers, LEB128
 * varints and length-prefixed byte strings. A varint holds any whole number below 2^64 that a double
 * holds, and by `whole` every one, so each numeric argument of a command fits; what it cannot hold
 * throws RangeError.
 * Cost: amortised O(1) a byte; no allocation per value.
 */
import { toWhole, type Whole } from './whole.ts';

const LARGE = 16 * 1024 * 1024;
const HUGE = 256 * 1024 * 1024;
const SLACK = 4096;
/** The largest buffer that `release` keeps. */
const KEPT = 64 * 1024;

export class ByteWriter {
  buffer: Buffer;
  length = 0;

  constructor(capacity = 4096) {
    this.buffer = Buffer.allocUnsafeSlow(capacity);
  }

  clear(): void {
    this.length = 0;
  }

  /** As `clear`, and gives back a buffer that one large value has grown (util/scratch.ts). */
  release(): void {
    this.length = 0;
    if (this.buffer.length > KEPT) this.buffer = Buffer.allocUnsafeSlow(KEPT);
  }

  /** Makes room for `size` more bytes. */
  ensure(size: number): void {
    const needed = this.length + size;
    if (needed <= this.buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, grownSize(this.buffer.length)));
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }

  u8(value: number): void {
    if (this.length === this.buffer.length) this.ensure(1);
    this.buffer[this.length++] = value;
  }

  u32(value: number): void {
    this.ensure(4);
    this.length = this.buffer.writeUInt32LE(value >>> 0, this.length);
  }

  f64(value: number): void {
    this.ensure(8);
    this.length = this.buffer.writeDoubleLE(value, this.length);
  }

  u64(value: bigint): void {
    this.ensure(8);
    this.length = this.buffer.writeBigUInt64LE(BigInt.asUintN(64, value), this.length);
  }

  varint(value: number): void {
    if ((value | 0) !== value || value < 0) checkVarint(value);
    this.ensure(VARINT_BYTES);
    const buffer = this.buffer;
    let at = this.length;
    while (value > 0x7fff_ffff) {
      buffer[at++] = (value % 128) | 0x80;
      value = Math.floor(value / 128);
    }
    while (value > 127) {
      buffer[at++] = (value & 127) | 0x80;
      value >>>= 7;
    }
    buffer[at++] = value;
    this.length = at;
  }

  /** As `varint`, exact up to 2^64. */
  whole(value: Whole): void {
    if (typeof value === 'number') {
      this.varint(value);
      return;
    }
    if (value < 0n || value >= 1n << 64n) checkVarint(Number.NaN);
    this.ensure(VARINT_BYTES);
    for (; value > 127n; value >>= 7n) this.buffer[this.length++] = Number(value & 127n) | 0x80;
    this.buffer[this.length++] = Number(value);
  }

  /** Raw bytes, without their length. */
  raw(source: Uint8Array, from: number, length: number): void {
    this.ensure(length);
    const buffer = this.buffer;
    const at = this.length;
    if (length <= LOOP_COPY) {
      for (let i = 0; i < length; i++) buffer[at + i] = source[from + i];
    } else {
      buffer.set(
        from === 0 && length === source.length ? source : source.subarray(from, from + length),
        at,
      );
    }
    this.length = at + length;
  }

  /** A byte string: its length as varint, then the bytes. */
  bytes(source: Uint8Array, from = 0, length = source.length - from): void {
    if (length > LOOP_COPY) {
      this.varint(length);
      this.raw(source, from, length);
      return;
    }
    // Field names and small values: one check for room, one loop.
    this.ensure(LOOP_COPY + 1);
    const buffer = this.buffer;
    let at = this.length;
    buffer[at++] = length;
    for (let i = 0; i < length; i++) buffer[at + i] = source[from + i];
    this.length = at + length;
  }

  text(value: string): void {
    this.bytes(Buffer.from(value));
  }

  /** A copy of everything written so far. */
  toBuffer(): Buffer {
    return Buffer.from(this.buffer.subarray(0, this.length));
  }
}

/**
 * Small buffers double. A gigabyte must not ask for two because of its last few bytes: it grows by an
 * eighth. In between half is added, so that what is copied stays within three times what is written.
 */
function grownSize(size: number): number {
  if (size < LARGE) return size * 2;
  return Math.ceil(size * (size < HUGE ? 1.5 : 1.125)) + SLACK;
}

/** Seven bits a byte: ten bytes hold 64 bits. */
const VARINT_BYTES = 10;

function checkVarint(value: number): void {
  if (value >= 0 && value < 2 ** 64 && Number.isInteger(value)) return;
  throw new RangeError(`a varint holds whole numbers from 0 to 2^64, not ${value}`);
}

/** Below this, a loop copies faster than a view plus `set`. One varint byte holds it. */
const LOOP_COPY = 64;

/** Reads what ByteWriter wrote. Throws RangeError where the data ends too early. */
export class ByteReader {
  buffer: Buffer;
  at: number;
  end: number;

  constructor(buffer: Buffer, at = 0, end = buffer.length) {
    this.buffer = buffer;
    this.at = at;
    this.end = end;
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  #take(size: number): number {
    const at = this.at;
    if (!(size >= 0) || at + size > this.end) {
      throw new RangeError(`record ends at ${this.end}, needed ${size} bytes at ${at}`);
    }
    this.at = at + size;
    return at;
  }

  u8(): number {
    return this.buffer[this.#take(1)];
  }

  u32(): number {
    return this.buffer.readUInt32LE(this.#take(4));
  }

  f64(): number {
    return this.buffer.readDoubleLE(this.#take(8));
  }

  u64(): Whole {
    return toWhole(this.buffer.readBigUInt64LE(this.#take(8)));
  }

  varint(): number {
    // Most are of one or two bytes.
    const { at, buffer } = this;
    if (at + 1 < this.end) {
      const first = buffer[at];
      if (first < 128) {
        this.at = at + 1;
        return first;
      }
      const second = buffer[at + 1];
      if (second < 128) {
        this.at = at + 2;
        return (first & 127) | (second << 7);
      }
    }
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = buffer[this.#take(1)];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
      if (scale > 2 ** 63) throw new RangeError('varint is longer than ten bytes');
    }
  }

  /** As `varint`, exact up to 2^64. */
  whole(): Whole {
    const { at } = this;
    const value = this.varint();
    if (Number.isSafeInteger(value)) return value;
    let exact = 0n;
    for (let i = this.at - 1; i >= at; i--) exact = (exact << 7n) | BigInt(this.buffer[i] & 127);
    return toWhole(exact);
  }

  /** A view of the next byte string. */
  bytes(): Buffer {
    const length = this.varint();
    const at = this.#take(length);
    return this.buffer.subarray(at, at + length);
  }

  raw(length: number): Buffer {
    const at = this.#take(length);
    return this.buffer.subarray(at, at + length);
  }

  text(): string {
    return this.bytes().toString();
  }
}
