/**
 * Redis's listpack: the form that a node of a stream has in an RDB payload.
 *
 *     u32 bytes of all · u16 elements (65535: more) · element... · 255
 *     element   encoding with its data · length of these once more, to walk backwards (1 to 5 bytes)
 *
 * Text that is a canonical int64 is an integer element. Reading checks every byte: what is wrong
 * throws RangeError.
 * Source of the format: Redis 7.0 listpack.c.
 */
import type { ByteWriter } from '../../util/byte-writer.ts';

const HEADER = 6;
const END = 255;
const MANY = 65_535;
const LONGEST_INTEGER = 20;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** Walks the elements of a listpack. */
export class ListpackReader {
  readonly buffer: Buffer;
  /** The element's bytes, where it is text. */
  from = 0;
  size = 0;
  /** Its value, where it is an integer; beyond 2^53 as a bigint. */
  integer: number | bigint | null = null;
  /** How many elements were read. */
  elements = 0;
  #at = HEADER;

  /** Throws RangeError unless the bytes are framed as one listpack. */
  constructor(buffer: Buffer) {
    this.buffer = buffer;
    const { length } = buffer;
    if (length <= HEADER || buffer.readUInt32LE(0) !== length || buffer[length - 1] !== END) {
      throw damaged('its length');
    }
  }

  get done(): boolean {
    return this.#at === this.buffer.length - 1;
  }

  /** Bytes that are left, at least two for each element. */
  get left(): number {
    return this.buffer.length - 1 - this.#at;
  }

  /** Moves to the next element. */
  next(): void {
    const start = this.#at;
    const first = this.buffer[start];
    this.integer = null;
    let end = start + 1;
    if (this.done) throw damaged('it ends too early');
    if (first < 0x80) this.integer = first;
    else if (first < 0xc0) end = this.#text(start + 1, first & 63);
    else if (first < 0xe0) {
      end = this.#need(start + 2);
      const value = ((first & 31) << 8) | this.buffer[start + 1];
      this.integer = value >= 4096 ? value - 8192 : value;
    } else if (first < 0xf0) {
      this.#need(start + 2);
      end = this.#text(start + 2, ((first & 15) << 8) | this.buffer[start + 1]);
    } else if (first === 0xf0) {
      this.#need(start + 5);
      end = this.#text(start + 5, this.buffer.readUInt32LE(start + 1));
    } else if (first <= 0xf3) {
      const size = first - 0xef;
      end = this.#need(start + 1 + size);
      this.integer = this.buffer.readIntLE(start + 1, size);
    } else if (first === 0xf4) {
      end = this.#need(start + 9);
      const value = this.buffer.readBigInt64LE(start + 1);
      const number = Number(value);
      this.integer = Number.isSafeInteger(number) ? number : value;
    } else throw damaged(`an element that begins with ${first}`);
    this.#at = this.#skipLength(end, end - start);
    this.elements++;
  }

  /** The next element, which must be an integer. */
  nextInteger(): number | bigint {
    this.next();
    if (this.integer === null) throw damaged('text where an integer must be');
    return this.integer;
  }

  /** The next element, which must be an integer from 0 to `most`. */
  nextCount(most: number): number {
    const value = this.nextInteger();
    if (typeof value !== 'number' || value < 0 || value > most)
      throw damaged(`a count of ${value}`);
    return value;
  }

  /** After the last element: whether the header counts them right. */
  finish(): void {
    if (!this.done) throw damaged('bytes left over');
    const counted = this.buffer.readUInt16LE(4);
    if (counted !== MANY && counted !== this.elements) {
      throw damaged(`${this.elements} elements, not ${counted}`);
    }
  }

  #need(end: number): number {
    if (end > this.buffer.length - 1) throw damaged('an element runs over the end');
    return end;
  }

  #text(from: number, size: number): number {
    this.from = from;
    this.size = size;
    return this.#need(from + size);
  }

  /** Checks the length at the element's end, highest group first; returns where it ends. */
  #skipLength(at: number, size: number): number {
    const bytes = lengthBytes(size);
    this.#need(at + bytes);
    let rest = size;
    for (let i = bytes - 1; i >= 0; i--) {
      if (this.buffer[at + i] !== ((rest & 127) | (i > 0 ? 128 : 0))) {
        throw damaged('the length after an element');
      }
      rest >>>= 7;
    }
    return at + bytes;
  }
}

/** Writes one listpack into a writer. */
export class ListpackWriter {
  readonly #writer: ByteWriter;
  #start = 0;
  #elements = 0;

  constructor(writer: ByteWriter) {
    this.#writer = writer;
  }

  begin(): void {
    const writer = this.#writer;
    writer.ensure(HEADER);
    this.#start = writer.length;
    this.#elements = 0;
    writer.length += HEADER;
  }

  get elements(): number {
    return this.#elements;
  }

  end(): void {
    const writer = this.#writer;
    writer.u8(END);
    writer.buffer.writeUInt32LE(writer.length - this.#start, this.#start);
    writer.buffer.writeUInt16LE(Math.min(this.#elements, MANY), this.#start + 4);
  }

  integer(value: number | bigint): void {
    const writer = this.#writer;
    writer.ensure(10);
    const { buffer, length } = writer;
    let at = length;
    if (typeof value === 'bigint' || !fitsInt32(value)) {
      buffer[at] = 0xf4;
      at = buffer.writeBigInt64LE(BigInt(value), at + 1);
    } else if (value >= 0 && value <= 127) buffer[at++] = value;
    else if (value >= -4096 && value <= 4095) {
      const bits = value < 0 ? value + 8192 : value;
      buffer[at++] = 0xc0 | (bits >> 8);
      buffer[at++] = bits & 255;
    } else {
      const size = value >= -32_768 && value <= 32_767 ? 2 : fitsInt24(value) ? 3 : 4;
      buffer[at] = 0xef + size;
      at = buffer.writeIntLE(value, at + 1, size);
    }
    writer.length = at;
    this.#finish(length);
  }

  /** Text, which becomes an integer element where it is one. */
  text(bytes: Uint8Array, from: number, size: number): void {
    const value = size > 0 && size <= LONGEST_INTEGER ? integerIn(bytes, from, size) : null;
    if (value !== null) {
      this.integer(value);
      return;
    }
    const writer = this.#writer;
    const start = writer.length;
    if (size < 64) writer.u8(0x80 | size);
    else if (size < 4096) {
      writer.u8(0xe0 | (size >> 8));
      writer.u8(size & 255);
    } else {
      writer.u8(0xf0);
      writer.u32(size);
    }
    writer.raw(bytes, from, size);
    this.#finish(start);
  }

  #finish(start: number): void {
    const writer = this.#writer;
    const size = writer.length - start;
    for (let i = lengthBytes(size) - 1, at = i; i >= 0; i--) {
      writer.u8((Math.floor(size / 128 ** i) & 127) | (i < at ? 128 : 0));
    }
    this.#elements++;
  }
}

/** How many bytes the length of an element takes, behind it. The borders are Redis's. */
function lengthBytes(size: number): number {
  if (size <= 127) return 1;
  if (size < 16_383) return 2;
  if (size < 2_097_151) return 3;
  return size < 268_435_455 ? 4 : 5;
}

/** The canonical int64 that this text is; null where it is none. */
export function integerIn(bytes: Uint8Array, from: number, size: number): number | bigint | null {
  const negative = bytes[from] === 45;
  const digits = negative ? size - 1 : size;
  let at = negative ? from + 1 : from;
  if (digits < 1 || digits > 19) return null;
  if (bytes[at] === 48) return size === 1 ? 0 : null;
  let value = 0;
  for (const end = from + size; at < end; at++) {
    const digit = bytes[at] - 48;
    if (digit < 0 || digit > 9) return null;
    value = value * 10 + digit;
  }
  if (Number.isSafeInteger(value)) return negative ? -value : value;
  const exact = BigInt(Buffer.from(bytes.subarray(from, from + size)).toString('latin1'));
  return exact < INT64_MIN || exact > INT64_MAX ? null : exact;
}

function fitsInt32(value: number): boolean {
  return value >= -0x8000_0000 && value <= 0x7fff_ffff;
}

function fitsInt24(value: number): boolean {
  return value >= -0x80_0000 && value <= 0x7f_ffff;
}

function damaged(what: string): RangeError {
  return new RangeError(`a listpack is damaged: ${what}`);
}
