/**
 * Replays effect records: decodes each and calls the mutator that wrote it.
 *
 * Invariant: replaying a log from the position of a checkpoint over the state in it gives the state
 * that wrote the log. A record that does not fit the state (a key that is not there, a body that ends
 * early, an unknown type) is damage: it throws DamagedRecord, it is never skipped.
 */

import { isDamage } from '../../stream/block/block-damage.ts';
import { ByteReader } from '../../util/byte-writer.ts';
import { decodeValue } from '../dump/value-codec.ts';
import type { Engine } from '../engine.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { StreamValue } from '../streams/stream-value.ts';
import { RecordType } from './records.ts';

/** Decodes one record's body, which stands at the reader, and applies it. */
export type RecordHandler = (engine: Engine, record: ByteReader) => void;

export class DamagedRecord extends Error {}

export class Replay {
  private readonly engine: Engine;
  private readonly handlers: (RecordHandler | undefined)[] = [];
  /** Records applied. */
  count = 0;

  /** `more` adds the handlers of other floors' records by their type: those of streams. */
  constructor(engine: Engine, more: Readonly<Record<number, RecordHandler>> = {}) {
    this.engine = engine;
    for (const table of [keyHandlers, more]) {
      for (const [type, handler] of Object.entries(table)) this.handlers[Number(type)] = handler;
    }
  }

  /** Applies one record. The body is read during the call and not kept. */
  apply(type: number, body: Buffer | ByteReader): void {
    const handler = this.handlers[type];
    if (handler === undefined) throw new DamagedRecord(`unknown record type ${type}`);
    const record = body instanceof ByteReader ? body : new ByteReader(body);
    this.engine.setReplaying(true);
    target = undefined;
    try {
      handler(this.engine, record);
      if (!record.done) throw new DamagedRecord(`${record.end - record.at} bytes too many`);
    } catch (cause) {
      // The rest of the log is sound, and so are the other keys.
      if (cause instanceof SkippedRecord || closeDamaged(this.engine, cause)) return;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new DamagedRecord(`record of type ${type} cannot be applied: ${reason}`, { cause });
    } finally {
      this.engine.setReplaying(false);
    }
    this.count++;
  }
}

/** The record is of a stream that is closed because an earlier one met damage. */
class SkippedRecord extends Error {}

/** Closes the stream of the present record when the checkpoint has lost blocks of it. */
function closeDamaged(engine: Engine, cause: unknown): boolean {
  if (!isDamage(cause) || target?.value.type !== 'stream') return false;
  target.value.close(cause);
  engine.damaged.note(target, cause);
  return true;
}

/**
 * The copy of a stream that is closed or has lost blocks is a closed stream, so that later records of
 * the copy's key find it.
 */
function replayCopy(
  engine: Engine,
  database: Database,
  entry: KeyEntry,
  destination: Database,
  to: Buffer,
): void {
  try {
    database.copy(entry, destination, to);
  } catch (cause) {
    if (!isDamage(cause)) throw cause;
    const closed = new StreamValue(null);
    closed.close(cause);
    engine.damaged.note(destination.restore(to, entry.expireAt, closed), cause);
  }
}

/** The key of the present record. */
let target: KeyEntry | undefined;

/** The database that a record begins with. */
export function readDatabase(engine: Engine, record: ByteReader): Database {
  const index = record.varint();
  const database = engine.databases[index];
  if (database === undefined) throw new DamagedRecord(`there is no database ${index}`);
  return database;
}

/** As readEntry, for a record that changes what the key holds. */
export function readOpenEntry(database: Database, record: ByteReader): KeyEntry {
  const entry = readEntry(database, record);
  if (entry.value.type === 'stream' && entry.value.damage !== null) throw new SkippedRecord();
  return entry;
}

/** The entry of the key that a record names. */
function readEntry(database: Database, record: ByteReader): KeyEntry {
  const key = record.bytes();
  const entry = database.peekKey(key);
  if (entry === undefined)
    throw new DamagedRecord(`there is no key ${JSON.stringify(String(key))}`);
  target = entry;
  return entry;
}

const keyHandlers: Record<number, RecordHandler> = {
  [RecordType.SET](engine, record) {
    const database = readDatabase(engine, record);
    const key = record.bytes();
    const expireAt = record.varint();
    const bytes = Buffer.from(record.bytes());
    const entry = database.peekKey(key);
    if (entry === undefined) database.set(key, { type: 'string', bytes }, expireAt);
    else database.setString(entry, bytes, expireAt);
  },
  [RecordType.DEL](engine, record) {
    const database = readDatabase(engine, record);
    database.remove(readEntry(database, record));
  },
  [RecordType.EXPIRE](engine, record) {
    const database = readDatabase(engine, record);
    database.setExpiry(readEntry(database, record), record.varint());
  },
  [RecordType.RENAME](engine, record) {
    const database = readDatabase(engine, record);
    database.rename(readEntry(database, record), record.bytes());
  },
  [RecordType.COPY](engine, record) {
    const database = readDatabase(engine, record);
    const entry = readEntry(database, record);
    replayCopy(engine, database, entry, readDatabase(engine, record), record.bytes());
  },
  [RecordType.MOVE](engine, record) {
    const database = readDatabase(engine, record);
    database.move(readEntry(database, record), readDatabase(engine, record));
  },
  [RecordType.FLUSHDB](engine, record) {
    readDatabase(engine, record).flush();
  },
  [RecordType.FLUSHALL](engine, record) {
    record.varint();
    engine.flushAll();
  },
  [RecordType.SWAPDB](engine, record) {
    const one = readDatabase(engine, record);
    engine.swap(one, readDatabase(engine, record));
  },
  [RecordType.APPEND](engine, record) {
    const database = readDatabase(engine, record);
    const entry = readEntry(database, record);
    if (entry.value.type !== 'string') throw new DamagedRecord('the key holds no string');
    database.append(entry, entry.value, record.bytes());
  },
  [RecordType.WRITE_PART](engine, record) {
    const database = readDatabase(engine, record);
    const key = record.bytes();
    const entry = database.peekKey(key);
    if (entry !== undefined && entry.value.type !== 'string') {
      throw new DamagedRecord('the key holds no string');
    }
    const offset = record.varint();
    database.writePart(key, entry, offset, record.bytes());
  },
  [RecordType.RESTORE](engine, record) {
    const database = readDatabase(engine, record);
    const key = record.bytes();
    const expireAt = record.varint();
    database.restore(key, expireAt, decodeValue(engine, record.bytes()));
  },
  [RecordType.MKSTREAM](engine, record) {
    const database = readDatabase(engine, record);
    const key = record.bytes();
    database.set(key, engine.newStream(), record.varint());
  },
  [RecordType.CLOCK](engine, record) {
    engine.resumeTime(record.f64());
  },
};
