/**
 * Values as bytes and back, for the log's record of RESTORE, and copies of values. (DUMP and RESTORE
 * speak Redis's form: dump.ts.)
 *
 *     type u8 (1 string, 2 stream), then
 *     string   its bytes
 *     stream   bytes metadata · varint n, n blocks (bytes) · bytes idempotent ids (none: empty)
 *              bytes what is kept (none: empty) · varint n, n groups: bytes group · varint m, m pages: varint id · bytes page
 *
 * Invariant: decoding checks everything, because the log may come from anywhere; what is wrong
 * throws RangeError, and nothing half made is left behind.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { decodeGroup, encodeGroup } from '../../consumer-groups/group-codec.ts';
import { encodePage } from '../../consumer-groups/pending/page-codec.ts';
import { type Epoch, NO_EPOCH, type PageStore } from '../../consumer-groups/pending/page-store.ts';
import { Block } from '../../stream/block/block.ts';
import { Idempotency } from '../../stream/idempotency.ts';
import { Stream } from '../../stream/stream.ts';
import { ByteReader, ByteWriter } from '../../util/byte-writer.ts';
import { decodeRetention, encodeRetention } from '../checkpoint/checkpoint-values.ts';
import type { EngineContext } from '../engine-context.ts';
import type { Value } from '../keyspace/key-entry.ts';
import { shareBytes } from '../keyspace/string-value.ts';
import { StreamValue } from '../streams/stream-value.ts';

const STRING = 1;
const STREAM = 2;

export function encodeValue(value: Value): Buffer {
  const writer = new ByteWriter(capacityFor(value));
  if (value.type === 'string') {
    writer.u8(STRING);
    writer.raw(value.bytes, 0, value.bytes.length);
  } else {
    writer.u8(STREAM);
    encodeStream(value, writer);
  }
  return writer.buffer.subarray(0, writer.length);
}

/** Room for nearly all of it at once: what grows is copied several times. */
function capacityFor(value: Value): number {
  return value.type === 'string' ? value.bytes.length + 1 : value.stream.nodeBytes + 4096;
}

/** Throws RangeError where the bytes are no value. */
export function decodeValue(engine: EngineContext, payload: Uint8Array): Value {
  const reader = new ByteReader(Buffer.from(payload));
  const type = reader.u8();
  if (type === STRING) return { type: 'string', bytes: reader.raw(reader.end - reader.at) };
  if (type !== STREAM) throw new RangeError(`unknown type of value ${type}`);
  try {
    const value = decodeStream(engine, reader);
    if (!reader.done) throw new RangeError('bytes left over');
    return value;
  } catch (cause) {
    if (cause instanceof RangeError) throw cause;
    throw new RangeError('the bytes of a stream are damaged', { cause });
  }
}

/** A separate value with equal content. */
export function cloneValue(engine: EngineContext, value: Value): Value {
  if (value.type === 'string') return { type: 'string', bytes: shareBytes(value) };
  const clone = new StreamValue(value.stream.copy());
  clone.idempotency = value.idempotency?.copy() ?? null;
  clone.retention = value.retention;
  for (const [name, group] of value.groups) clone.groups.set(name, group.copy(engine.epoch));
  return clone;
}

function encodeStream(value: StreamValue, writer: ByteWriter): void {
  const { stream } = value;
  writer.bytes(stream.export());
  writer.varint(stream.radixTreeKeys);
  for (const block of stream.blocks()) {
    writer.varint(block.exportedBytes);
    block.encode(writer);
  }
  writer.bytes(value.idempotency?.export() ?? NOTHING);
  const kept = new ByteWriter(24);
  if (value.retention !== null) encodeRetention(value.retention, kept);
  writer.bytes(kept.buffer, 0, kept.length);
  writer.varint(value.groups.size);
  for (const group of value.groups.values()) encodeGroupWhole(group, writer);
}

function decodeStream(engine: EngineContext, reader: ByteReader): StreamValue {
  const metadata = reader.bytes();
  const blocks: Block[] = [];
  for (let left = reader.varint(); left > 0; left--) blocks.push(Block.import(reader.bytes()));
  const value = new StreamValue(Stream.assemble(metadata, blocks, engine.nodeLimits));
  const idempotency = reader.bytes();
  if (idempotency.length > 0)
    value.idempotency = Idempotency.import(idempotency, engine.time.stepped);
  const kept = reader.bytes();
  if (kept.length > 0) value.retention = decodeRetention(new ByteReader(kept));
  for (let left = reader.varint(); left > 0; left--) {
    const group = decodeGroupWhole(reader, engine.epoch);
    value.groups.set(group.name.toString('latin1'), group);
  }
  return value;
}

/** A copy has all its pages in memory, wherever the group's own are. */
function encodeGroupWhole(group: ConsumerGroup, writer: ByteWriter): void {
  const loaded = group.copy(NO_EPOCH);
  const part = new ByteWriter();
  encodeGroup(loaded, part);
  writer.bytes(part.buffer, 0, part.length);
  const pages = loaded.pending.pages();
  writer.varint(pages.length);
  for (const page of pages) {
    part.clear();
    encodePage(page, part);
    writer.varint(page.id);
    writer.bytes(part.buffer, 0, part.length);
  }
}

/** Reads the group as one whose pages are stored, and copies it, which loads and checks them all. */
function decodeGroupWhole(reader: ByteReader, epoch: Epoch): ConsumerGroup {
  const group = decodeGroup(new ByteReader(reader.bytes()), NO_EPOCH);
  const pages = new Map<number, Buffer>();
  for (let left = reader.varint(); left > 0; left--) pages.set(reader.varint(), reader.bytes());
  const store: PageStore = {
    load(id) {
      const bytes = pages.get(id);
      if (bytes === undefined) throw new RangeError(`page ${id} is missing`);
      return bytes;
    },
    capture: () => {},
  };
  group.pending.attach(store);
  return group.copy(epoch);
}

const NOTHING = Buffer.alloc(0);
