/**
 * What go-micro's gossip registry sends about one service: the protobuf message `Update`.
 *
 * Fields: expires 1 (nanoseconds since 1970 by the sender's clock), type 2 (1 = service), action 3,
 * metadata 6, data 7 (the record as JSON). Ours add to the metadata how long the record is still good for
 * and which member announced it, which Go skips. Invariant: what cannot be read throws `Malformed`.
 * Cost: linear; protobufjs's small reader.
 */
import protobuf from 'protobufjs/minimal.js';
import { isMemberName } from './messages.ts';
import { Malformed } from './raw-msgpack.ts';

const { Reader, Writer } = protobuf;

const TYPE_SERVICE = 1;
const ACTION_CREATE = 1;
const ACTION_DELETE = 2;
const JSON_TYPE = 'application/json';
/** Milliseconds for which the record is still good; no clock is part of it. */
const TTL = 'Rivulet-Ttl-Ms';
/** The name of the member that announced the record. */
const MEMBER = 'Rivulet-Member';
/** For members of go-micro only: ours know it already. */
const SKIP = 'Rivulet-Skip';
/** The year 2200: a later version is no time, and would stop every later update of the node. */
export const MAX_VERSION = 7_258_118_400_000_000_000n;
const MAX_METADATA = 64;

export interface Update {
  readonly action: 'create' | 'delete';
  /** Grows with each update of a node; Go: when the node expires by the sender's clock. 0 = unknown. */
  readonly version: bigint;
  /** Null where the sender did not give it. */
  readonly ttlMs: number | null;
  readonly member: string | null;
  /** JSON of the record. */
  readonly record: Uint8Array;
}

/** `isForGo`: members of ours skip it. */
export function encodeUpdate(update: Update, isForGo = false): Uint8Array {
  const { action, version, ttlMs, member, record } = update;
  const writer = Writer.create();
  if (version > 0n) writer.uint32(8).uint64(longOf(version));
  writer.uint32(16).int32(TYPE_SERVICE);
  writer.uint32(24).int32(action === 'create' ? ACTION_CREATE : ACTION_DELETE);
  const entries: [string, string][] = [['Content-Type', JSON_TYPE]];
  if (ttlMs !== null) entries.push([TTL, String(Math.max(1, Math.round(ttlMs)))]);
  if (member !== null) entries.push([MEMBER, member]);
  if (isForGo) entries.push([SKIP, '1']);
  for (const [key, value] of entries) {
    writer.uint32(50).fork().uint32(10).string(key).uint32(18).string(value).ldelim();
  }
  return writer.uint32(58).bytes(record).finish();
}

/** Null for what is no update of a service, or none for members of ours. */
export function decodeUpdate(bytes: Uint8Array): Update | null {
  try {
    return read(bytes);
  } catch (error) {
    // protobufjs throws RangeErrors at bytes that end too early.
    if (error instanceof Malformed) throw error;
    throw new Malformed(`it is no protobuf: ${(error as Error).message}`);
  }
}

function read(bytes: Uint8Array): Update | null {
  const reader = Reader.create(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  let version = 0n;
  let type = 0;
  let action = 0;
  let record: Uint8Array = new Uint8Array(0);
  const metadata = new Map<string, string>();
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    switch (tag) {
      case 8:
        version = bigOf(reader.uint64());
        break;
      case 16:
        type = reader.int32();
        break;
      case 24:
        action = reader.int32();
        break;
      case 50: {
        const [key, value] = entryOf(reader.bytes());
        if (metadata.size < MAX_METADATA) metadata.set(key, value);
        break;
      }
      case 58:
        record = reader.bytes();
        break;
      default:
        reader.skipType(tag & 7);
    }
  }
  const isKnown = action === ACTION_CREATE || action === ACTION_DELETE;
  if (type !== TYPE_SERVICE || !isKnown || metadata.get('Content-Type') !== JSON_TYPE) return null;
  if (metadata.has(SKIP)) return null;
  if (version > MAX_VERSION) throw new Malformed('it expires after the year 2200');
  const member = metadata.get(MEMBER) ?? null;
  if (member !== null && !isMemberName(member)) {
    throw new Malformed('it names a member that no ring can have');
  }
  const ttl = Number(metadata.get(TTL) ?? Number.NaN);
  return {
    action: action === ACTION_CREATE ? 'create' : 'delete',
    version,
    ttlMs: Number.isFinite(ttl) && ttl >= 1 ? ttl : null,
    member,
    record,
  };
}

function entryOf(bytes: Uint8Array): [string, string] {
  const reader = Reader.create(bytes);
  let key = '';
  let value = '';
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 10) key = reader.string();
    else if (tag === 18) value = reader.string();
    else reader.skipType(tag & 7);
  }
  return [key, value];
}

function longOf(value: bigint): protobuf.Long {
  const [low, high] = [Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn)];
  return { low, high, unsigned: true } as protobuf.Long;
}

function bigOf(value: number | protobuf.Long): bigint {
  if (typeof value === 'number') return BigInt(value);
  return (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0);
}
