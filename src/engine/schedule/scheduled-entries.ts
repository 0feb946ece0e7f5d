/**
 * Mutators of the schedule: an entry is entered for a later time, cancelled, or added to its stream.
 *
 * Being added is two records of one turn, the append and the removal from the schedule: they are on
 * disk together, so an entry comes exactly once.
 * Body of a scheduled entry: u8 strategy (0 none, 1 maxlen, 2 minid) · unless 0: u8 approximate ·
 * u8 references · varint limit · varint maxlen or id · varint fields, then field and value alternating.
 */
import { SCHEDULED_BIT } from '../../stream/idempotency.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { TrimRule, type TrimStrategy } from '../../stream/trim.ts';
import { Arguments } from '../../util/arguments.ts';
import { ByteReader, ByteWriter } from '../../util/byte-writer.ts';
import { scratch } from '../../util/scratch.ts';
import type { EngineContext } from '../engine-context.ts';
import type { Database } from '../keyspace/database.ts';
import { enforceRetention } from '../streams/retention.ts';
import {
  appendEntry,
  nextId,
  type References,
  readReferences,
  trimStream,
} from '../streams/stream-entries.ts';
import { StreamRecord } from '../streams/stream-records.ts';
import { type DueTime, ScheduledEntry } from './scheduled-queue.ts';

/** Entries added by one tick: a few milliseconds' work. */
const ADDED_PER_TICK = 1000;
/** Bytes after which a tick adds no other entry. */
const BYTES_PER_TICK = 4 * 1024 * 1024;
/** The entries of a key that holds something else are tried again after so much time. */
const POSTPONED_MS = 1000;

/** The trim that follows the append. */
export interface ScheduledTrim {
  readonly strategy: TrimStrategy;
  readonly approximate: boolean;
  readonly limit: number;
  readonly maxlen: number;
  readonly minid: StreamId;
  readonly references: References;
}

/** Enters args[from, to) as field-value pairs for `due`. Returns its number. */
export function scheduleEntry(
  database: Database,
  key: Uint8Array,
  due: DueTime,
  trim: ScheduledTrim | null,
  args: Arguments,
  from: number,
  to: number,
): number {
  body.clear();
  encodeTrim(trim);
  body.varint((to - from) / 2);
  for (let i = from; i < to; i++) body.bytes(args.buffer, args.offsets[i], args.lengths[i]);
  const number = database.engine.lastScheduled + 1;
  enterScheduled(database, number, Buffer.from(key), due, body.toBuffer());
  return number;
}

/** As scheduleEntry, with everything known. `key` and `bytes` are kept. */
export function enterScheduled(
  database: Database,
  number: number,
  key: Buffer,
  due: DueTime,
  bytes: Buffer,
): void {
  const { engine, keyspace } = database;
  engine.lastScheduled = Math.max(engine.lastScheduled, number);
  const scheduled = new ScheduledEntry(number, key, due, bytes, keyspace);
  engine.changing();
  keyspace.schedule.add(scheduled);
  engine.checkpointer?.addScheduled(scheduled);
  if (engine.recording) {
    const type = due.isDelay ? StreamRecord.DELAY : StreamRecord.SCHEDULE;
    const record = database.beginRecord(type, key);
    record.varint(number);
    if (due.isDelay) record.f64(due.at);
    else record.varint(due.at);
    record.bytes(bytes);
    engine.journal.end();
  }
  const { time } = engine;
  engine.dueAt(due.isDelay ? time.whenSteady(due.at) : time.whenDate(due.at));
}

/** XSCHEDULE CANCEL, and the end of every scheduled entry. */
export function unschedule(database: Database, scheduled: ScheduledEntry): void {
  const { engine } = database;
  engine.changing();
  database.keyspace.schedule.remove(scheduled);
  engine.checkpointer?.removeScheduled(scheduled);
  if (engine.recording) {
    database.beginRecord(StreamRecord.UNSCHEDULE, scheduled.key).varint(scheduled.number);
    engine.journal.end();
  }
}

/**
 * The tick: adds what is due to its stream, all databases' entries by turns. An entry that cannot be
 * added for a reason that will not pass is set aside: listed, kept on disk, and tried again by the
 * next start.
 */
export function addDue(engine: EngineContext, databases: readonly Database[]): void {
  let budget = ADDED_PER_TICK;
  let bytes = BYTES_PER_TICK;
  for (const database of databases) {
    const { schedule } = database.keyspace;
    for (; budget > 0 && bytes > 0; budget--) {
      const scheduled = schedule.firstDue(engine.time);
      if (scheduled === undefined) break;
      if (engine.journal.refusalFor(scheduled.body.length) !== null) return;
      bytes -= scheduled.body.length;
      addOne(database, scheduled);
      // The append and the end of the waiting are on disk together; the next one is its own unit.
      engine.journal.boundary();
    }
  }
}

function addOne(database: Database, scheduled: ScheduledEntry): void {
  const { engine } = database;
  let added: boolean;
  try {
    added = addScheduled(database, scheduled);
  } catch (error) {
    database.keyspace.schedule.putAside(scheduled);
    engine.statistics.setAside++;
    engine.reportFailure(`adding the scheduled entry s${scheduled.number}`, error);
    return;
  }
  if (added) unschedule(database, scheduled);
  else database.keyspace.schedule.postpone(scheduled, engine.time.monotonic + POSTPONED_MS);
}

function addScheduled(database: Database, scheduled: ScheduledEntry): boolean {
  const { engine } = database;
  const references = readBody(scheduled.body);
  const present = database.findKey(scheduled.key);
  if (present !== undefined && present.value.type !== 'stream') return false;
  if (present?.value.type === 'stream' && present.value.damage !== null) return false;
  if (present?.value.type === 'stream' && present.value.stream.lastId.isMax()) return false;
  const entry = present ?? database.set(scheduled.key, engine.newStream(), 0);
  const { value } = entry;
  if (value.type !== 'stream') throw new Error('a stream was made');
  const added = engine.damaged.guard(entry, () => {
    nextId(value.stream, engine.now, id);
    appendEntry(database, entry, value, id, fields, 0, fields.count);
  });
  if (!added) return false;
  if (rule.strategy !== 'none') {
    engine.damaged.guard(entry, () => trimStream(database, entry, value, rule, references));
  }
  enforceRetention(database, entry, value);
  return true;
}

/**
 * The id under which an idempotent producer's scheduled entry is remembered: the present time, so that
 * it is forgotten when others of its age are, and the number behind SCHEDULED_BIT.
 */
export function idOfScheduled(id: StreamId, now: number, number: number): StreamId {
  id.setMin().setMs(now);
  const high = (SCHEDULED_BIT | Math.floor(number / 0x1_0000_0000)) >>> 0;
  return id.set(id.msHi, id.msLo, high, number >>> 0);
}

/** The number that `idOfScheduled` was given. */
export function numberOfScheduled(id: StreamId): number {
  return (id.seqHi - SCHEDULED_BIT) * 0x1_0000_0000 + id.seqLo;
}

/** The fields of a scheduled entry: valid until the next call. */
export function scheduledFields(scheduled: ScheduledEntry): Arguments {
  readBody(scheduled.body);
  return fields;
}

function encodeTrim(trim: ScheduledTrim | null): void {
  const strategy = trim?.strategy ?? 'none';
  body.u8(STRATEGIES.indexOf(strategy));
  if (trim === null || strategy === 'none') return;
  body.u8(trim.approximate ? 1 : 0);
  body.u8(REFERENCES.indexOf(trim.references));
  body.varint(trim.limit);
  if (strategy === 'maxlen') body.varint(trim.maxlen);
  else trim.minid.encode(body);
}

/** Fills `rule` and `fields`; returns what becomes of references. */
function readBody(bytes: Buffer): References {
  const reader = new ByteReader(bytes);
  rule.strategy = STRATEGIES[reader.u8()];
  let references: References = 'keepref';
  if (rule.strategy !== 'none') {
    rule.approximate = reader.u8() === 1;
    references = readReferences(reader.u8());
    rule.limit = reader.varint();
    if (rule.strategy === 'maxlen') rule.maxlen = reader.varint();
    else rule.minid.decode(reader);
  }
  fields.clear(bytes);
  for (let left = reader.varint() * 2; left > 0; left--) {
    const length = reader.varint();
    fields.push(reader.at, length);
    reader.raw(length);
  }
  return references;
}

const STRATEGIES: readonly TrimStrategy[] = ['none', 'maxlen', 'minid'];
const REFERENCES: readonly References[] = ['keepref', 'delref', 'acked'];

// Scratch: never held across calls.
const body = scratch(new ByteWriter());
const fields = scratch(new Arguments());
const rule = new TrimRule();
const id = new StreamId();
