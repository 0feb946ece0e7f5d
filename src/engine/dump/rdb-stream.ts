/**
 * A stream in Redis's RDB encoding: its nodes, ids and counters, its groups, its idempotent ids.
 *
 *     nodes, each: 16 bytes id (as a string) · listpack (as a string)
 *     length · last id · [from 19: first id · greatest deleted id · entries added] · groups
 *     [from 26: idempotent ids: window · producers, each: name · ids, each: id · entry · two counters]
 *
 * What is written is the oldest type that can say all: 19, which Redis 7.0 reads; 26 (Redis 8.6) for a
 * stream that remembers idempotent ids or has its own window; 27 (Redis 8.8) for one with entries
 * that XNACK released.
 * Invariant: reading checks what the bytes mean, and throws RangeError before anything of the engine
 * is touched. The first id is not read but found.
 * Source of the format: Redis 7.0 and 8.x rdb.c (rdbSaveObject, rdbLoadObject).
 */
import type { Block } from '../../stream/block/block.ts';
import { LARGEST_NODE, type NodeLimits } from '../../stream/block/node-limits.ts';
import { Idempotency } from '../../stream/idempotency.ts';
import { Stream } from '../../stream/stream.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { writeMetadata } from '../../stream/stream-metadata.ts';
import { ByteWriter } from '../../util/byte-writer.ts';
import type { Whole } from '../../util/whole.ts';
import type { EngineContext } from '../engine-context.ts';
import { StreamValue } from '../streams/stream-value.ts';
import type { TurnClock } from '../turn-clock.ts';
import { readGroup, writeGroup } from './rdb-group.ts';
import { readNode, writeNode } from './rdb-node.ts';
import type { RdbReader } from './rdb-reader.ts';
import { StreamType } from './rdb-stream-type.ts';
import type { RdbWriter } from './rdb-writer.ts';

/** Bounds of XCFGSET. */
const LONGEST_WINDOW = 86_400;
const LARGEST_WINDOW = 10_000;

/** What a stream's idempotent ids begin with. */
export interface IdempotencyWindow {
  readonly duration: number;
  readonly maxsize: number;
}

/** The oldest type that can say all about the stream. */
export function typeOfStream(value: StreamValue, window: IdempotencyWindow): number {
  for (const group of value.groups.values()) {
    if (group.nackedCount > 0) return StreamType.LISTPACKS_5;
  }
  const ids = value.idempotency;
  if (ids === null) return StreamType.LISTPACKS_2;
  const usual = ids.duration === window.duration && ids.maxsize === window.maxsize;
  return ids.iidsTracked === 0 && usual ? StreamType.LISTPACKS_2 : StreamType.LISTPACKS_4;
}

export function writeStream(
  engine: EngineContext,
  value: StreamValue,
  type: number,
  writer: RdbWriter,
): void {
  const { stream } = value;
  let nodes = 0;
  for (const block of stream.blocks()) if (block.live > 0) nodes++;
  writer.count(nodes);
  const node = new ByteWriter();
  for (const block of stream.blocks()) {
    if (block.live === 0) continue;
    writer.count(16);
    block.readFirstId(id).encode(writer);
    node.clear();
    writeNode(block, node);
    writer.count(node.length);
    writer.raw(node.buffer, 0, node.length);
  }
  writer.count(stream.length);
  writer.id(stream.lastId);
  writer.id(stream.firstId);
  writer.id(stream.maxDeletedId);
  writer.count(stream.entriesAdded);
  writer.count(value.groups.size);
  for (const group of value.groups.values()) writeGroup(group, type, engine.time.stepped, writer);
  if (type >= StreamType.LISTPACKS_4) {
    const { duration, maxsize } = engine.idempotencyWindow;
    writeIdempotency(value.idempotency ?? new Idempotency(duration, maxsize), writer);
  }
}

function writeIdempotency(ids: Idempotency, writer: RdbWriter): void {
  writer.count(ids.duration);
  writer.count(ids.maxsize);
  writer.count(ids.pidsTracked);
  for (const [producer, entries] of ids.producers()) {
    writer.string(Buffer.from(producer, 'latin1'));
    writer.count(entries.size);
    for (const [iid, { id }] of entries) {
      writer.string(Buffer.from(iid, 'latin1'));
      writer.id(id);
    }
  }
  writer.count(ids.iidsAdded);
  writer.count(ids.iidsDuplicates);
}

/** Reads a stream of one of the types above. */
export function readStream(engine: EngineContext, reader: RdbReader, type: number): StreamValue {
  const { epoch, nodeLimits, time } = engine;
  const value = new StreamValue(readEntries(reader, type, nodeLimits));
  for (let left = reader.count(1); left > 0; left--) {
    const group = readGroup(reader, type, value.stream, time.stepped, epoch);
    const name = group.name.toString('latin1');
    if (value.groups.has(name)) throw new RangeError('a group twice');
    value.groups.set(name, group);
  }
  if (type >= StreamType.LISTPACKS_4) value.idempotency = readIdempotency(reader, time);
  return value;
}

function readEntries(reader: RdbReader, type: number, limits: NodeLimits): Stream {
  const blocks: Block[] = [];
  const lastPacked = StreamId.min();
  let counted = 0;
  let nodeBytes = 0;
  for (let left = reader.count(1); left > 0; left--) {
    const name = reader.string(16);
    if (name.length !== 16) throw new RangeError('a node without an id');
    const block = readNode(id.fromKey(name), reader.string(LARGEST_NODE), lastPacked);
    if (block === null) continue;
    blocks.push(block);
    counted += block.live;
    nodeBytes += block.listpackBytes;
  }
  const length = reader.length();
  if (length !== counted) throw new RangeError(`${counted} entries, not ${length}`);
  const lastId = reader.id(new StreamId());
  if (lastId.compare(lastPacked) < 0) throw new RangeError('an entry beyond the last id');
  const maxDeletedId = new StreamId();
  let entriesAdded: Whole = length;
  if (type >= StreamType.LISTPACKS_2) {
    reader.id(id);
    reader.id(maxDeletedId);
    entriesAdded = reader.signed();
    if (entriesAdded < length) throw new RangeError('more entries than were ever added');
  }
  const metadata = {
    lastId,
    firstId: new StreamId(),
    maxDeletedId,
    lastPacked,
    length,
    entriesAdded,
    nodeBytes,
    blocks: blocks.length,
    nodes: 0,
    sections: [],
  };
  return Stream.assemble(writeMetadata(metadata), blocks, limits);
}

function readIdempotency(reader: RdbReader, time: TurnClock): Idempotency {
  const duration = reader.integer();
  const maxsize = reader.integer();
  checkWindow(duration, maxsize);
  const ids = new Idempotency(duration, maxsize);
  const entry = new StreamId();
  for (let left = reader.count(1); left > 0; left--) {
    const producer = reader.string().toString('latin1');
    const count = reader.count(3);
    if (count > maxsize) throw new RangeError('more idempotent ids than the window holds');
    for (let more = count; more > 0; more--) {
      const iid = reader.string().toString('latin1');
      if (ids.find(producer, iid) !== undefined) throw new RangeError('an idempotent id twice');
      reader.id(entry);
      const at = Math.min(time.steady, entry.ms - time.stepped);
      ids.record(producer, iid, entry, at);
    }
  }
  ids.iidsAdded = reader.integer();
  ids.iidsDuplicates = reader.integer();
  return ids;
}

export function checkWindow(duration: number, maxsize: number): void {
  if (!(duration >= 1 && duration <= LONGEST_WINDOW && maxsize >= 1 && maxsize <= LARGEST_WINDOW)) {
    throw new RangeError('a window of idempotent ids out of range');
  }
}

const id = new StreamId();
