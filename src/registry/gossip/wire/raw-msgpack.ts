/**
 * MessagePack as memberlist writes it: the old form, in which text and bytes are both `raw`.
 *
 * msgpackr reads `raw` as text, which destroys an address such as c0 a8 00 01, so these few lines do it.
 * Invariants: what is written is the form of the old specification, byte for byte Go's; what is read may
 * also use the new types bin and str8; a value that reaches beyond the bytes throws `Truncated` with the
 * number of bytes that it needs, and any other mistake `Malformed`; nothing is allocated for a length that
 * the bytes do not hold; a map has at most 32 fields and a list 255 members. Cost: linear, and no copy of bytes.
 */

export type RawValue = number | boolean | null | Uint8Array | RawValue[] | Map<string, RawValue>;
type Field = number | boolean | null | string | Uint8Array;

/** The bytes end before the value does. */
export class Truncated extends Error {
  /** At least this many bytes, from the first one on, are needed. */
  readonly needed: number;

  constructor(needed: number) {
    super(`the message needs ${needed} bytes`);
    this.needed = needed;
  }
}

/** The bytes are no message. */
export class Malformed extends Error {}

/** A message is a map of fields, and a field at most a list of numbers. */
const MAX_DEPTH = 2;
const MAX_FIELDS = 32;
const MAX_MEMBERS = 255;

export function writeMap(fields: Readonly<Record<string, Field>>): Uint8Array {
  const entries = Object.entries(fields);
  const parts: Uint8Array[] = [Uint8Array.of(0x80 | entries.length)];
  for (const [name, value] of entries) parts.push(...rawOf(Buffer.from(name)), ...written(value));
  return Buffer.concat(parts);
}

function written(value: Field): Uint8Array[] {
  if (value === null) return [Uint8Array.of(0xc0)];
  if (typeof value === 'boolean') return [Uint8Array.of(value ? 0xc3 : 0xc2)];
  if (typeof value === 'number') return [unsignedOf(value)];
  return rawOf(typeof value === 'string' ? Buffer.from(value) : value);
}

function unsignedOf(value: number): Uint8Array {
  if (value < 0x80) return Uint8Array.of(value);
  if (value < 0x100) return Uint8Array.of(0xcc, value);
  const bytes = Buffer.alloc(value < 0x10000 ? 3 : 5);
  bytes[0] = value < 0x10000 ? 0xcd : 0xce;
  if (value < 0x10000) bytes.writeUInt16BE(value, 1);
  else bytes.writeUInt32BE(value, 1);
  return bytes;
}

function rawOf(bytes: Uint8Array): Uint8Array[] {
  const { length } = bytes;
  if (length < 32) return [Uint8Array.of(0xa0 | length), bytes];
  const head = Buffer.alloc(length < 0x10000 ? 3 : 5);
  head[0] = length < 0x10000 ? 0xda : 0xdb;
  if (length < 0x10000) head.writeUInt16BE(length, 1);
  else head.writeUInt32BE(length, 1);
  return [head, bytes];
}

/** Reads one value after the other. */
export class RawReader {
  readonly #bytes: Buffer;
  #offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  value(depth = 0): RawValue {
    if (depth > MAX_DEPTH) throw new Malformed('it is nested too deeply');
    const type = this.#unsigned(1);
    if (type < 0x80) return type;
    if (type >= 0xe0) return type - 0x100;
    if (type < 0x90) return this.#map(type & 0x0f, depth);
    if (type < 0xa0) return this.#list(type & 0x0f, depth);
    if (type < 0xc0) return this.#take(type & 0x1f);
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xd9:
        return this.#take(this.#unsigned(1));
      case 0xc5:
      case 0xda:
        return this.#take(this.#unsigned(2));
      case 0xc6:
      case 0xdb:
        return this.#take(this.#unsigned(4));
      case 0xcc:
        return this.#unsigned(1);
      case 0xcd:
        return this.#unsigned(2);
      case 0xce:
        return this.#unsigned(4);
      case 0xcf:
      case 0xd3:
        return this.#long();
      case 0xd0:
        return (this.#unsigned(1) << 24) >> 24;
      case 0xd1:
        return (this.#unsigned(2) << 16) >> 16;
      case 0xd2:
        return this.#unsigned(4) | 0;
      case 0xdc:
        return this.#list(this.#unsigned(2), depth);
      case 0xdd:
        return this.#list(this.#unsigned(4), depth);
      case 0xde:
        return this.#map(this.#unsigned(2), depth);
      case 0xdf:
        return this.#map(this.#unsigned(4), depth);
      default:
        throw new Malformed(`it has a value of type 0x${type.toString(16)}`);
    }
  }

  #list(length: number, depth: number): RawValue[] {
    if (length > MAX_MEMBERS) throw new Malformed(`a list in it has ${length} members`);
    const list: RawValue[] = [];
    for (let at = 0; at < length; at++) list.push(this.value(depth + 1));
    return list;
  }

  #map(length: number, depth: number): Map<string, RawValue> {
    if (length > MAX_FIELDS) throw new Malformed(`it has ${length} fields`);
    const map = new Map<string, RawValue>();
    for (let at = 0; at < length; at++) {
      const key = this.value(depth + 1);
      if (!(key instanceof Uint8Array)) throw new Malformed('a name in it is no text');
      map.set(Buffer.from(key).toString('latin1'), this.value(depth + 1));
    }
    return map;
  }

  #need(count: number): void {
    if (this.#offset + count > this.#bytes.length) throw new Truncated(this.#offset + count);
  }

  #take(count: number): Uint8Array {
    this.#need(count);
    this.#offset += count;
    return this.#bytes.subarray(this.#offset - count, this.#offset);
  }

  #unsigned(count: number): number {
    this.#need(count);
    this.#offset += count;
    return this.#bytes.readUIntBE(this.#offset - count, count);
  }

  #long(): number {
    this.#need(8);
    this.#offset += 8;
    const value = this.#bytes.readBigInt64BE(this.#offset - 8);
    if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new Malformed('a number in it is out of range');
    }
    return Number(value);
  }
}
