/**
 * Opens a checkpoint: reads what is known of every key and enters it into an empty engine.
 *
 * Blocks and pending pages stay in the checkpoint until they are needed, and streams are made when
 * they are first used, so the time depends on the number of keys and groups, not of entries. Afterwards the log from `checkpoint.position` on is
 * replayed (replay.ts). Throws CheckpointError where the bytes make no sense.
 * Cost: a few microseconds a key.
 */
import { decodeGroup } from '../../consumer-groups/group-codec.ts';
import { Idempotency } from '../../stream/idempotency.ts';
import { Stream } from '../../stream/stream.ts';
import { ByteReader } from '../../util/byte-writer.ts';
import type { Engine } from '../engine.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry, Value } from '../keyspace/key-entry.ts';
import { Keyspace } from '../keyspace/keyspace.ts';
import { ScheduledEntry } from '../schedule/scheduled-queue.ts';
import { type StreamSource, StreamValue } from '../streams/stream-value.ts';
import * as names from './checkpoint-keys.ts';
import {
  type CheckpointMeta,
  decodeDueTime,
  decodeMeta,
  decodeRetention,
  STREAM_TYPE,
  STRING_TYPE,
} from './checkpoint-values.ts';
import type { Checkpointer } from './checkpointer.ts';
import { StoredBlocks } from './stored-blocks.ts';

class CheckpointError extends Error {}

/** Fills the engine, which must be empty, from its checkpointer's checkpoint. Returns the number of keys. */
export function restoreCheckpoint(engine: Engine, checkpointer: Checkpointer): number {
  const { checkpoint } = checkpointer;
  const meta = checkpoint.get(names.META_KEY);
  if (meta === undefined) return 0;
  try {
    const databases = restoreKeyspaces(engine, meta);
    const streams = new Map<number, KeyEntry>();
    const source = new CheckpointStreams(engine, checkpointer);
    let keys = 0;
    checkpoint.scan(names.ALL_KEYS_FROM, names.ALL_KEYS_TO, (key, buffer, at, end) => {
      restoreKey(source, databases, streams, names.uidIn(key), buffer, at, end);
      keys++;
    });
    checkCounts(decodeMeta(meta), databases);
    restoreIdempotency(engine, checkpointer, databases, streams);
    restoreRetention(checkpointer, databases, streams);
    restoreGroups(engine, checkpointer, streams);
    restoreSchedule(databases, checkpointer);
    return keys;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(`the checkpoint cannot be read: ${reason}`, { cause });
  }
}

/** Makes streams whose blocks are all in the checkpoint. */
class CheckpointStreams implements StreamSource {
  private readonly engine: Engine;
  private readonly checkpointer: Checkpointer;

  constructor(engine: Engine, checkpointer: Checkpointer) {
    this.engine = engine;
    this.checkpointer = checkpointer;
  }

  load(uid: number, metadata: Buffer): Stream {
    const cold = new StoredBlocks(this.checkpointer.blocks, uid);
    return Stream.restore(metadata, cold, this.engine.nodeLimits);
  }
}

/** A checkpoint that has lost keys is damaged: LMDB passes over a damaged page without a word. */
function checkCounts({ keyspaces }: CheckpointMeta, databases: Map<number, Database>): void {
  for (const { uid, size } of keyspaces) {
    const database = databases.get(uid);
    if (database === undefined || database.size === size) continue;
    throw new RangeError(
      `database ${database.index} has ${database.size} keys in it and was stored with ${size}: ` +
        'pages of the checkpoint are damaged. Restore the data directory from a backup',
    );
  }
}

/** Databases by the uid of their keyspace. */
function restoreKeyspaces(engine: Engine, bytes: Buffer): Map<number, Database> {
  const { lastUid, keyspaces, lastScheduled, stepped, steady } = decodeMeta(bytes);
  const databases = new Map<number, Database>();
  engine.lastUid = lastUid;
  engine.lastScheduled = lastScheduled;
  engine.resumeTime(stepped);
  engine.noteSteady(steady);
  for (const [index, { uid, size }] of keyspaces.entries()) {
    const database = engine.databases[index];
    if (database === undefined) continue;
    database.keyspace = new Keyspace(uid, engine.random);
    database.keyspace.table.reserve(size);
    databases.set(uid, database);
  }
  // Databases beyond those of the checkpoint keep their keyspace under a uid that is surely free.
  for (const database of engine.databases.slice(keyspaces.length)) {
    database.keyspace = new Keyspace(engine.nextUid(), engine.random);
  }
  return databases;
}

function restoreKey(
  source: StreamSource,
  databases: Map<number, Database>,
  streams: Map<number, KeyEntry>,
  uid: number,
  bytes: Buffer,
  at: number,
  end: number,
): void {
  reader.buffer = bytes;
  reader.at = at;
  reader.end = end;
  const keyspace = reader.varint();
  const nameLength = reader.varint();
  const nameAt = reader.at;
  reader.at += nameLength;
  const type = reader.u8();
  const expireAt = reader.varint();
  const database = databases.get(keyspace);
  if (database === undefined) {
    const name = bytes.toString('utf8', nameAt, nameAt + nameLength);
    throw new RangeError(`key ${JSON.stringify(name)} is in a database that is not configured`);
  }
  if (type !== STRING_TYPE && type !== STREAM_TYPE) {
    throw new RangeError(`key ${uid} has unknown type ${type}`);
  }
  const value: Value =
    type === STRING_TYPE
      ? { type: 'string', bytes: Buffer.from(bytes.subarray(reader.at, end)) }
      : StreamValue.stored(source, uid, bytes, reader.at, end);
  const entry = database.insert(bytes, value, expireAt, nameAt, nameLength);
  entry.uid = uid;
  if (type === STREAM_TYPE) streams.set(uid, entry);
}

function restoreIdempotency(
  engine: Engine,
  { checkpoint }: Checkpointer,
  databases: Map<number, Database>,
  streams: Map<number, KeyEntry>,
): void {
  for (const { key, value } of checkpoint.entries(names.ALL_IDS_FROM, names.ALL_IDS_TO)) {
    const stream = streamValue(streams, key);
    stream.idempotency = Idempotency.import(value, engine.time.stepped);
    const entry = streams.get(names.uidIn(key)) as KeyEntry;
    databases.get(entry.space.uid)?.keyspace.idempotencyDeadlines.watch(entry, stream);
  }
}

/** The tick finds out when the first entries expire: here it would make every such stream. */
function restoreRetention(
  { checkpoint }: Checkpointer,
  databases: Map<number, Database>,
  streams: Map<number, KeyEntry>,
): void {
  const { ALL_RETENTIONS_FROM, ALL_RETENTIONS_TO } = names;
  for (const { key, value } of checkpoint.entries(ALL_RETENTIONS_FROM, ALL_RETENTIONS_TO)) {
    const stream = streamValue(streams, key);
    stream.retention = decodeRetention(new ByteReader(value));
    const entry = streams.get(names.uidIn(key)) as KeyEntry;
    if (stream.retention.maxAge === 0) continue;
    databases.get(entry.space.uid)?.keyspace.retentionDeadlines.watchAt(entry, stream, 0);
  }
}

function restoreSchedule(databases: Map<number, Database>, { checkpoint }: Checkpointer): void {
  const { ALL_SCHEDULED_FROM, ALL_SCHEDULED_TO } = names;
  for (const { key, value } of checkpoint.entries(ALL_SCHEDULED_FROM, ALL_SCHEDULED_TO)) {
    const bytes = new ByteReader(Buffer.from(value));
    const database = databases.get(bytes.varint());
    if (database === undefined) {
      throw new RangeError('an entry waits in a database that is not configured');
    }
    const { keyspace } = database;
    const stream = Buffer.from(bytes.bytes());
    const due = decodeDueTime(bytes);
    const body = bytes.raw(bytes.end - bytes.at);
    keyspace.schedule.add(new ScheduledEntry(names.uidIn(key), stream, due, body, keyspace));
  }
}

function restoreGroups(
  engine: Engine,
  checkpointer: Checkpointer,
  streams: Map<number, KeyEntry>,
): void {
  const { checkpoint } = checkpointer;
  for (const { key, value } of checkpoint.entries(names.ALL_GROUPS_FROM, names.ALL_GROUPS_TO)) {
    const stream = streamValue(streams, key);
    const group = decodeGroup(new ByteReader(value), engine.epoch);
    group.uid = names.uidIn(key, 9);
    checkpointer.attachGroup(streams.get(names.uidIn(key)) as KeyEntry, group);
    stream.groups.set(group.name.toString('latin1'), group);
  }
}

function streamValue(streams: Map<number, KeyEntry>, name: Buffer): StreamValue {
  const value = streams.get(names.uidIn(name))?.value;
  if (value?.type !== 'stream') throw new RangeError(`there is no stream ${names.uidIn(name)}`);
  return value;
}

const reader = new ByteReader(Buffer.alloc(0));
