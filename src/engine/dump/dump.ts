/**
 * DUMP's payload: a value in Redis's RDB encoding with Redis's footer.
 *
 *     type · value · [what Redis has no field for, rdb-extension.ts]
 *     u16 version, little-endian · u64 crc64 of all before it, little-endian
 *
 * The version is that of the oldest Redis which knows the type: 10 for Redis 7.0 and newer (strings,
 * and streams of type 19), 13 for 8.6, 14 for 8.8 (rdb-stream.ts).
 * Of Redis's own payloads those of strings and streams are read, in all their types.
 */
import { writeCrc64 } from '../../util/crc64.ts';
import type { EngineContext } from '../engine-context.ts';
import type { Value } from '../keyspace/key-entry.ts';
import { readExtension, writeExtension } from './rdb-extension.ts';
import { RdbReader } from './rdb-reader.ts';
import { readStream, typeOfStream, writeStream } from './rdb-stream.ts';
import { StreamType } from './rdb-stream-type.ts';
import { RdbWriter } from './rdb-writer.ts';

const STRING_TYPE = 0;
const FOOTER = 10;
/** Redis 7.0. */
const OLDEST_VERSION = 10;
/** What is new gets a new type, so versions a little beyond those known are read. */
const NEWEST_VERSION = 32;

const STREAM_TYPES = new Set<number>(Object.values(StreamType));

/** Of the types that hold what this server does not have; by number. */
const OTHER_TYPES = new Map<number, string>([
  ...[1, 10, 14, 18].map((type) => [type, 'list'] as const),
  ...[2, 11, 20].map((type) => [type, 'set'] as const),
  ...[3, 5, 12, 17].map((type) => [type, 'sorted set'] as const),
  ...[4, 9, 13, 16, 22, 23, 24, 25].map((type) => [type, 'hash'] as const),
  ...[6, 7].map((type) => [type, 'value of a module'] as const),
]);

/** A payload that is whole and holds a value of Redis which this server does not have. */
export class UnsupportedValueError extends RangeError {}

export function dumpValue(engine: EngineContext, value: Value): Buffer {
  const isString = value.type === 'string';
  const writer = new RdbWriter(isString ? value.bytes.length + 32 : 4096);
  let version = OLDEST_VERSION;
  if (isString) {
    writer.u8(STRING_TYPE);
    writer.string(value.bytes);
  } else {
    const type = typeOfStream(value, engine.idempotencyWindow);
    if (type === StreamType.LISTPACKS_4) version = 13;
    if (type === StreamType.LISTPACKS_5) version = 14;
    writer.u8(type);
    writeStream(engine, value, type, writer);
    writeExtension(value, type, engine.time.stepped, writer);
  }
  return sealed(writer, version);
}

/** Adds the footer. */
function sealed(writer: RdbWriter, version: number): Buffer {
  writer.ensure(FOOTER);
  const { buffer } = writer;
  const end = buffer.writeUInt16LE(version, writer.length);
  writeCrc64(buffer, end, buffer, end);
  return buffer.subarray(0, end + 8);
}

/** The bytes in front of the footer, a view; null where version or checksum are wrong. */
export function openDump(payload: Buffer): Buffer | null {
  const end = payload.length - FOOTER;
  if (end < 0 || payload.readUInt16LE(end) > NEWEST_VERSION) return null;
  writeCrc64(payload, end + 2, checksum, 0);
  return checksum.equals(payload.subarray(end + 2)) ? payload.subarray(0, end) : null;
}

/**
 * The value in an opened dump, which keeps nothing of its bytes. Throws UnsupportedValueError for a
 * type of Redis that is not here, RangeError for what is no value.
 */
export function loadValue(engine: EngineContext, opened: Buffer): Value {
  const reader = new RdbReader(opened);
  const type = reader.u8();
  if (type === STRING_TYPE) {
    const bytes = Buffer.from(reader.string());
    if (reader.left > 0) throw new RangeError('bytes left over');
    return { type: 'string', bytes };
  }
  if (!STREAM_TYPES.has(type)) {
    const name = OTHER_TYPES.get(type);
    if (name === undefined) throw new RangeError(`unknown type of value ${type}`);
    throw new UnsupportedValueError(name);
  }
  const value = readStream(engine, reader, type);
  readExtension(value, opened.subarray(reader.at), engine.time);
  return value;
}

const checksum = Buffer.alloc(8);
