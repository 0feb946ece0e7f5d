/**
 * A stream id: `ms-seq`, both unsigned 64-bit.
 *
 * Holds: four unsigned 32-bit halves, because neither a double nor a small integer holds 64 bits and
 * a BigInt would cost an allocation per entry. Ids are mutable on purpose: the hot path reuses
 * scratch instances; code that keeps one takes a `clone`.
 * Invariant: each half is a whole number in [0, 2^32).
 * Cost: everything here is O(1) and, but for `toString` and `clone`, allocates nothing.
 */
import type { ByteReader, ByteWriter } from '../util/byte-writer.ts';

const TWO_32 = 0x1_0000_0000;
const U32_MAX = 0xffff_ffff;

export class StreamId {
  msHi: number;
  msLo: number;
  seqHi: number;
  seqLo: number;

  constructor(msHi = 0, msLo = 0, seqHi = 0, seqLo = 0) {
    this.msHi = msHi;
    this.msLo = msLo;
    this.seqHi = seqHi;
    this.seqLo = seqLo;
  }

  /** From numbers below 2^53. */
  static of(ms: number, seq = 0): StreamId {
    return new StreamId(Math.floor(ms / TWO_32), ms >>> 0, Math.floor(seq / TWO_32), seq >>> 0);
  }

  static min(): StreamId {
    return new StreamId();
  }

  static max(): StreamId {
    return new StreamId(U32_MAX, U32_MAX, U32_MAX, U32_MAX);
  }

  /** From text such as `1526919030474-55`; null when it is not an id. `seq` fills a missing half. */
  static parse(text: string, seq: 'zero' | 'max' = 'zero'): StreamId | null {
    const bytes = Buffer.from(text, 'latin1');
    const id = new StreamId();
    return id.read(bytes, 0, bytes.length, seq === 'max') ? id : null;
  }

  /**
   * Reads `ms` or `ms-seq` from bytes, each half below 2^64, exactly as Redis does. Returns false,
   * with this id undefined, where the text is no id.
   *
   * Redis's string2ull is not strict: what is no canonical integer goes to C's strtoull, which takes
   * leading spaces, a plus sign, leading zeros, and some negative numbers (modulo 2^64); and the text
   * ends at a NUL byte. We take the same, off the fast path.
   */
  read(buffer: Uint8Array, from: number, length: number, missingSeqIsMax = false): boolean {
    if (length === 0 || length > 127) return false;
    const end = from + length;
    let dash = from;
    while (dash < end && buffer[dash] !== 45) dash++;
    if (readDigits(buffer, from, dash)) {
      this.msHi = halfHi;
      this.msLo = halfLo;
      if (dash === end) {
        this.seqHi = this.seqLo = missingSeqIsMax ? U32_MAX : 0;
        return true;
      }
      if (readDigits(buffer, dash + 1, end)) {
        this.seqHi = halfHi;
        this.seqLo = halfLo;
        return true;
      }
    }
    return this.#readAsC(buffer, from, end, missingSeqIsMax);
  }

  #readAsC(buffer: Uint8Array, from: number, limit: number, missingSeqIsMax: boolean): boolean {
    let end = from;
    while (end < limit && buffer[end] !== 0) end++;
    let dash = from;
    while (dash < end && buffer[dash] !== 45) dash++;
    if (!readAsStrtoull(buffer, from, dash)) return false;
    this.msHi = halfHi;
    this.msLo = halfLo;
    if (dash === end) {
      this.seqHi = this.seqLo = missingSeqIsMax ? U32_MAX : 0;
      return true;
    }
    if (!readAsStrtoull(buffer, dash + 1, end)) return false;
    this.seqHi = halfHi;
    this.seqLo = halfLo;
    return true;
  }

  set(msHi: number, msLo: number, seqHi: number, seqLo: number): this {
    this.msHi = msHi;
    this.msLo = msLo;
    this.seqHi = seqHi;
    this.seqLo = seqLo;
    return this;
  }

  copy(other: StreamId): this {
    this.msHi = other.msHi;
    this.msLo = other.msLo;
    this.seqHi = other.seqHi;
    this.seqLo = other.seqLo;
    return this;
  }

  clone(): StreamId {
    return new StreamId(this.msHi, this.msLo, this.seqHi, this.seqLo);
  }

  setMin(): this {
    return this.set(0, 0, 0, 0);
  }

  setMax(): this {
    return this.set(U32_MAX, U32_MAX, U32_MAX, U32_MAX);
  }

  /** The milliseconds as a double: exact below 2^53. */
  get ms(): number {
    return this.msHi * TWO_32 + this.msLo;
  }

  /** The sequence as a double: exact below 2^53. */
  get seq(): number {
    return this.seqHi * TWO_32 + this.seqLo;
  }

  /** Sets the milliseconds from a whole number below 2^53. */
  setMs(ms: number): this {
    this.msHi = Math.floor(ms / TWO_32);
    this.msLo = ms >>> 0;
    return this;
  }

  isZero(): boolean {
    return (this.msHi | this.msLo | this.seqHi | this.seqLo) === 0;
  }

  isMax(): boolean {
    return (
      this.msHi === U32_MAX &&
      this.msLo === U32_MAX &&
      this.seqHi === U32_MAX &&
      this.seqLo === U32_MAX
    );
  }

  seqIsMax(): boolean {
    return this.seqHi === U32_MAX && this.seqLo === U32_MAX;
  }

  equals(other: StreamId): boolean {
    return (
      this.seqLo === other.seqLo &&
      this.msLo === other.msLo &&
      this.msHi === other.msHi &&
      this.seqHi === other.seqHi
    );
  }

  /** Negative, zero or positive as this id is before, equal to or after the other. */
  compare(other: StreamId): number {
    if (this.msHi !== other.msHi) return this.msHi - other.msHi;
    if (this.msLo !== other.msLo) return this.msLo - other.msLo;
    if (this.seqHi !== other.seqHi) return this.seqHi - other.seqHi;
    return this.seqLo - other.seqLo;
  }

  /** The next id (Redis's streamIncrID): seq overflow carries into ms. False at the last id. */
  increment(): boolean {
    if (this.seqLo !== U32_MAX) {
      this.seqLo++;
      return true;
    }
    if (this.seqHi !== U32_MAX) {
      this.seqLo = 0;
      this.seqHi++;
      return true;
    }
    if (this.msLo !== U32_MAX) {
      this.msLo++;
    } else if (this.msHi !== U32_MAX) {
      this.msLo = 0;
      this.msHi++;
    } else {
      return false;
    }
    this.seqLo = this.seqHi = 0;
    return true;
  }

  /** The previous id (Redis's streamDecrID). False at 0-0. */
  decrement(): boolean {
    if (this.seqLo !== 0) {
      this.seqLo--;
      return true;
    }
    if (this.seqHi !== 0) {
      this.seqLo = U32_MAX;
      this.seqHi--;
      return true;
    }
    if (this.msLo !== 0) {
      this.msLo--;
    } else if (this.msHi !== 0) {
      this.msLo = U32_MAX;
      this.msHi--;
    } else {
      return false;
    }
    this.seqLo = this.seqHi = U32_MAX;
    return true;
  }

  toString(): string {
    return `${halfText(this.msHi, this.msLo)}-${halfText(this.seqHi, this.seqLo)}`;
  }

  /** Writes the text form at `at` and returns where it ends. At most 41 bytes. */
  format(target: Uint8Array, at: number): number {
    at = writeMilliseconds(target, at, this.msHi, this.msLo);
    target[at++] = 45;
    return writeHalf(target, at, this.seqHi, this.seqLo);
  }

  /** Sixteen bytes, big-endian: their order as bytes is the order of ids. */
  toKey(target: Uint8Array, at = 0): void {
    writeU32(target, at, this.msHi);
    writeU32(target, at + 4, this.msLo);
    writeU32(target, at + 8, this.seqHi);
    writeU32(target, at + 12, this.seqLo);
  }

  fromKey(source: Uint8Array, at = 0): this {
    this.msHi = readU32(source, at);
    this.msLo = readU32(source, at + 4);
    this.seqHi = readU32(source, at + 8);
    this.seqLo = readU32(source, at + 12);
    return this;
  }

  encode(writer: ByteWriter): void {
    writer.ensure(16);
    this.toKey(writer.buffer, writer.length);
    writer.length += 16;
  }

  decode(reader: ByteReader): this {
    return this.fromKey(reader.raw(16));
  }
}

// The result of readDigits and readAsStrtoull: two numbers without an allocation.
let halfHi = 0;
let halfLo = 0;

/** Reads one to twenty decimal digits in [from, end) as an unsigned 64-bit number. */
function readDigits(buffer: Uint8Array, from: number, end: number): boolean {
  const length = end - from;
  if (length <= 0 || length > 20) return false;
  let value = 0;
  const safeEnd = length > 15 ? from + 15 : end;
  let at = from;
  for (; at < safeEnd; at++) {
    const digit = buffer[at] - 48;
    if (digit < 0 || digit > 9) return false;
    value = value * 10 + digit;
  }
  halfHi = Math.floor(value / TWO_32);
  halfLo = value >>> 0;
  for (; at < end; at++) {
    const digit = buffer[at] - 48;
    if (digit < 0 || digit > 9) return false;
    const low = halfLo * 10 + digit;
    const high = halfHi * 10 + Math.floor(low / TWO_32);
    if (high > U32_MAX) return false;
    halfLo = low >>> 0;
    halfHi = high;
  }
  return true;
}

function readAsStrtoull(buffer: Uint8Array, from: number, end: number): boolean {
  let at = from;
  while (at < end && (buffer[at] === 32 || (buffer[at] >= 9 && buffer[at] <= 13))) at++;
  const spaced = at > from;
  const negative = buffer[at] === 45;
  if (at < end && (negative || buffer[at] === 43)) at++;
  const digits = at;
  while (at < end - 1 && buffer[at] === 48) at++;
  if (!readDigits(buffer, at, end)) return false;
  if (!negative) return true;
  // string2ll comes first: a canonical negative number within int64 is an id out of range.
  const canonical = !spaced && buffer[digits] !== 48;
  const int64 = halfHi < 0x8000_0000 || (halfHi === 0x8000_0000 && halfLo === 0);
  if (canonical && int64) return false;
  halfLo = -halfLo >>> 0;
  halfHi = halfLo === 0 ? -halfHi >>> 0 : ~halfHi >>> 0;
  return true;
}

function halfText(hi: number, lo: number): string {
  if (hi < 0x20_0000) return String(hi * TWO_32 + lo);
  return ((BigInt(hi) << 32n) | BigInt(lo)).toString();
}

// The milliseconds formatted last: under load most ids share theirs with the one before.
let formattedHi = 0;
let formattedLo = 0;
const formattedDigits = new Uint8Array(20).fill(48);
let formattedLength = 1;

function writeMilliseconds(target: Uint8Array, at: number, hi: number, lo: number): number {
  if (lo !== formattedLo || hi !== formattedHi) {
    formattedLength = writeHalf(formattedDigits, 0, hi, lo);
    formattedHi = hi;
    formattedLo = lo;
  }
  for (let i = 0; i < formattedLength; i++) target[at + i] = formattedDigits[i];
  return at + formattedLength;
}

function writeHalf(target: Uint8Array, at: number, hi: number, lo: number): number {
  if (hi === 0 && lo < 10) {
    target[at++] = 48 + lo;
    return at;
  }
  if (hi >= 0x20_0000) {
    const text = halfText(hi, lo);
    for (let i = 0; i < text.length; i++) target[at++] = text.charCodeAt(i);
    return at;
  }
  return writeDecimal(target, at, hi * TWO_32 + lo);
}

/** Writes a whole number below 2^53 in decimal and returns where it ends. */
export function writeDecimal(target: Uint8Array, at: number, value: number): number {
  if (value >= 1_000_000_000) {
    const high = Math.floor(value / 1_000_000_000);
    at = writeDecimal(target, at, high);
    let low = value - high * 1_000_000_000;
    for (let i = at + 8; i >= at; i--) {
      const next = (low / 10) | 0;
      target[i] = 48 + low - next * 10;
      low = next;
    }
    return at + 9;
  }
  let digits = 1;
  for (let limit = 10; limit <= value; limit *= 10) digits++;
  let rest = value | 0;
  for (let i = at + digits - 1; i >= at; i--) {
    const next = (rest / 10) | 0;
    target[i] = 48 + rest - next * 10;
    rest = next;
  }
  return at + digits;
}

function writeU32(target: Uint8Array, at: number, value: number): void {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
}

function readU32(source: Uint8Array, at: number): number {
  return (
    ((source[at] << 24) | (source[at + 1] << 16) | (source[at + 2] << 8) | source[at + 3]) >>> 0
  );
}
