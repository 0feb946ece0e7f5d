/**
 * Protobuf's fifteen scalar types: their range, their wire form, their JSON form.
 *
 * Invariants: the five types of 64 bits are bigint in values and decimal text in JSON; a number that
 * is not exactly a whole number of the range, and text with half of a surrogate pair, are refused and
 * never rounded or replaced. Cost: one call per value; 64 bits cost two bigint operations more.
 */
import { Misfit, shown } from './proto-misfit.ts';
import type { Protobufjs } from './protobufjs.ts';

export interface Scalar {
  readonly name: string;
  /** 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
  readonly wireType: 0 | 1 | 2 | 5;
  readonly zero: unknown;
  /** The value as it is kept. Throws Misfit. Reads numbers and decimal text for whole numbers. */
  check(value: unknown): unknown;
  write(writer: Protobufjs.Writer, value: never): void;
  read(reader: Protobufjs.Reader): unknown;
  toJson(value: never): unknown;
  fromJson(json: unknown): unknown;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const LONE_SURROGATE = /\p{Surrogate}/u;
const same = (value: unknown) => value;

function whole32(
  name: string,
  min: number,
  max: number,
  wireType: 0 | 5,
  method: 'int32' | 'uint32' | 'sint32' | 'fixed32' | 'sfixed32',
): Scalar {
  const check = (value: unknown): number => {
    const number =
      typeof value === 'bigint' || (typeof value === 'string' && /^-?\d{1,20}$/.test(value))
        ? Number(value)
        : value;
    if (typeof number === 'number' && number >= min && number <= max && Number.isInteger(number)) {
      return number + 0 === 0 ? 0 : number;
    }
    throw new Misfit(`${shown(value)} is no ${name}: a whole number from ${min} to ${max}`);
  };
  return {
    name,
    wireType,
    zero: 0,
    check,
    write: (writer, value) => void writer[method](value),
    read: (reader) => reader[method](),
    toJson: same,
    // JSON writers write 1e2 and 100.0 for whole numbers, also as text.
    fromJson: (json) => check(typeof json === 'string' ? numberOf(json, name) : json),
  };
}

function numberOf(text: string, name: string): number {
  const number = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(number)) throw new Misfit(`${shown(text)} is no ${name}`);
  return number;
}

function whole64(
  name: string,
  isSigned: boolean,
  wireType: 0 | 1,
  method: 'int64' | 'uint64' | 'sint64' | 'fixed64' | 'sfixed64',
): Scalar {
  const min = isSigned ? -(2n ** 63n) : 0n;
  const max = isSigned ? 2n ** 63n - 1n : 2n ** 64n - 1n;
  const check = (value: unknown): bigint => {
    let number: bigint | null = null;
    if (typeof value === 'bigint') number = value;
    else if (typeof value === 'number' && Number.isInteger(value)) {
      if (!Number.isSafeInteger(value)) {
        const text = `the number ${value} has lost digits: give ${name} as a bigint or as text`;
        throw new Misfit(text);
      }
      number = BigInt(value);
    } else if (typeof value === 'string' && /^-?\d{1,20}$/.test(value)) number = BigInt(value);
    if (number !== null && number >= min && number <= max) return number;
    throw new Misfit(`${shown(value)} is no ${name}: a whole number from ${min} to ${max}`);
  };
  return {
    name,
    wireType,
    zero: 0n,
    check,
    write: (writer, value: bigint) => void writer[method](longOf(value, !isSigned) as never),
    read: (reader) => bigintOf(reader[method]() as unknown as LongBits, isSigned),
    toJson: (value: bigint) => value.toString(),
    fromJson: (json) =>
      check(typeof json === 'string' && /[.eE]/.test(json) ? numberOf(json, name) : json),
  };
}

interface LongBits {
  readonly low: number;
  readonly high: number;
}

/** What protobufjs's writer reads of a 64 bit number. */
function longOf(value: bigint, unsigned: boolean) {
  const bits = BigInt.asUintN(64, value);
  return { low: Number(bits & 0xffffffffn) | 0, high: Number(bits >> 32n) | 0, unsigned };
}

function bigintOf({ low, high }: LongBits, isSigned: boolean): bigint {
  const bits = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return isSigned ? BigInt.asIntN(64, bits) : bits;
}

function floating(name: 'float' | 'double', wireType: 1 | 5): Scalar {
  const check = (value: unknown): number => {
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number === 'number') {
      const fits = !Number.isFinite(number) || Number.isFinite(Math.fround(number));
      if (name === 'double' || fits) return number;
      throw new Misfit(`${number} is beyond the range of float`);
    }
    throw new Misfit(`${shown(value)} is no ${name}: it must be a number`);
  };
  return {
    name,
    wireType,
    zero: 0,
    check,
    write: (writer, value) => void writer[name](value),
    read: (reader) => reader[name](),
    // JSON.stringify has no form for these; a number as text is read everywhere.
    toJson: (value: number) => {
      if (Object.is(value, -0)) return '-0';
      return Number.isFinite(value) ? value : String(value);
    },
    fromJson: (json) => {
      if (json === 'NaN' || json === 'Infinity' || json === '-Infinity') return Number(json);
      return check(typeof json === 'string' ? numberOf(json, name) : json);
    },
  };
}

const bool: Scalar = {
  name: 'bool',
  wireType: 0,
  zero: false,
  check: (value) => {
    if (typeof value === 'boolean') return value;
    throw new Misfit(`${shown(value)} is no bool: it must be true or false`);
  },
  write: (writer, value) => void writer.bool(value),
  read: (reader) => reader.bool(),
  toJson: same,
  fromJson: (json) => bool.check(json),
};

const string: Scalar = {
  name: 'string',
  wireType: 2,
  zero: '',
  check: (value) => {
    if (typeof value !== 'string') throw new Misfit(`${shown(value)} is no string`);
    if (LONE_SURROGATE.test(value)) {
      throw new Misfit('the string holds half of a surrogate pair, which UTF-8 cannot carry');
    }
    return value;
  },
  write: (writer, value) => void writer.string(value),
  read: (reader) => utf8.decode(reader.bytes()),
  toJson: same,
  fromJson: (json) => string.check(json),
};

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

const bytes: Scalar = {
  name: 'bytes',
  wireType: 2,
  zero: new Uint8Array(0),
  check: (value) => {
    if (value instanceof Uint8Array) return value;
    throw new Misfit(`${shown(value)} is no bytes: it must be a Uint8Array`);
  },
  write: (writer, value) => void writer.bytes(value),
  // A copy: the message may be part of a larger buffer that is used again.
  read: (reader) => Uint8Array.from(reader.bytes()),
  toJson: (value: Uint8Array) => Buffer.from(value).toString('base64'),
  fromJson: (json) => {
    if (typeof json === 'string' && BASE64.test(json)) {
      return Uint8Array.from(Buffer.from(json, 'base64'));
    }
    throw new Misfit(`${shown(json)} is no bytes: JSON carries them as base64`);
  },
};

export const SCALARS: ReadonlyMap<string, Scalar> = new Map(
  [
    whole32('int32', -(2 ** 31), 2 ** 31 - 1, 0, 'int32'),
    whole32('sint32', -(2 ** 31), 2 ** 31 - 1, 0, 'sint32'),
    whole32('sfixed32', -(2 ** 31), 2 ** 31 - 1, 5, 'sfixed32'),
    whole32('uint32', 0, 2 ** 32 - 1, 0, 'uint32'),
    whole32('fixed32', 0, 2 ** 32 - 1, 5, 'fixed32'),
    whole64('int64', true, 0, 'int64'),
    whole64('sint64', true, 0, 'sint64'),
    whole64('sfixed64', true, 1, 'sfixed64'),
    whole64('uint64', false, 0, 'uint64'),
    whole64('fixed64', false, 1, 'fixed64'),
    floating('float', 5),
    floating('double', 1),
    bool,
    string,
    bytes,
  ].map((scalar) => [scalar.name, scalar]),
);
