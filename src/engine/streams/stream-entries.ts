/**
 * Mutators of a stream's entries: XADD, XTRIM, XDEL, XDELEX, XSETID and the idempotent producers.
 *
 * Each notifies the checkpointer, changes memory, records the effect and signals readers (database.ts).
 * Ids and times are arguments: nothing here looks at the clock. Checks that can fail a command are
 * the command's; these always succeed.
 * Cost: `appendEntry` is the hot path and allocates nothing; the others cost what the stream's own
 * operations cost, plus for DELREF and ACKED a look into every group for every entry. Blocks before the
 * first entry that a group needs go by ACKED without one.
 */

import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { ReferenceScan } from '../../consumer-groups/reference-scan.ts';
import { isDamage } from '../../stream/block/block-damage.ts';
import { IdList } from '../../stream/id-list.ts';
import { Idempotency, type IdKind } from '../../stream/idempotency.ts';
import type { NodePlace, Stream } from '../../stream/stream.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { TrimRule, trim } from '../../stream/trim.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { ByteWriter } from '../../util/byte-writer.ts';
import type { Whole } from '../../util/whole.ts';
import type { NeededBlocks } from '../checkpoint/read-ahead.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { EventClass } from '../keyspace/keyspace-events.ts';

import { StreamRecord } from './stream-records.ts';
import { pendingListsOf, type StreamValue } from './stream-value.ts';

/** What becomes of pending entries that point to an entry that is to go. */
export type References = 'keepref' | 'delref' | 'acked';

/** What became of one entry that was to be deleted (XDELEX's own numbers). */
export const NOT_FOUND = -1;
const DELETED = 1;
export const STILL_REFERENCED = 2;
export type Deletion = typeof NOT_FOUND | typeof DELETED | typeof STILL_REFERENCED;

/**
 * Appends args[from, to) as field-value pairs; `id` is after the stream's last. `where` as in
 * Stream.append.
 */
export function appendEntry(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  id: StreamId,
  args: Arguments,
  from: number,
  to: number,
  where: NodePlace | null = null,
): void {
  const { engine } = database;
  database.touch(entry);
  const place = value.stream.append(id, args, from, to, where);
  engine.changes++;
  engine.statistics.added++;
  if (engine.recording) {
    const type =
      place === 'new node' ? StreamRecord.ADD_TO_NEW_NODE : StreamRecord.ADD_TO_LAST_NODE;
    const record = database.beginRecord(type, entry.key);
    id.encode(record);
    record.varint((to - from) / 2);
    for (let i = from; i < to; i++) record.bytes(args.buffer, args.offsets[i], args.lengths[i]);
    engine.journal.end();
  }
  database.signalModified(entry);
  database.signalKeyReady(entry);
  if (engine.events !== null) database.notify(EventClass.STREAM, 'xadd', entry.key);
}

/** The id that `*` means: now, or just after the stream's last where the clock is behind it. */
export function nextId(stream: Stream, now: number, id: StreamId): StreamId {
  const { lastId } = stream;
  if (now > lastId.ms) return id.set(0, 0, 0, 0).setMs(now);
  id.copy(lastId).increment();
  return id;
}

/** Trims and returns how many entries went. */
export function trimStream(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  rule: TrimRule,
  references: References,
): number {
  const { stream } = value;
  const blocks = stream.radixTreeKeys;
  const before = stream.length;
  database.touch(entry);
  let damage: Error | null = null;
  try {
    trimOnly(database, entry, value, rule, references);
  } catch (error) {
    if (!isDamage(error)) throw error;
    // What went before the damage is recorded, or memory would be ahead of the log.
    damage = error;
  }
  const removed = before - stream.length;
  // A block of nothing but tombstones may go, or be left, without an entry going.
  if (removed > 0 || stream.radixTreeKeys !== blocks) {
    if (database.engine.recording) recordTrim(database, entry, value, rule, references, damage);
    database.signalModified(entry);
    if (removed > 0) database.notify(EventClass.STREAM, 'xtrim', entry.key);
  }
  if (damage !== null) throw damage;
  return removed;
}

function trimOnly(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  rule: TrimRule,
  references: References,
): void {
  const { stream } = value;
  if (references === 'keepref') {
    trim(stream, rule);
  } else if (references === 'delref') {
    touchGroups(database, entry, value);
    trimWithReferences(value, rule);
  } else {
    effective.clear();
    trimHead(database, entry, value, rule);
    if (rule.limit > 0 && exactly.limit === 0) return;
    const references = new ReferenceScan(value.groups.values());
    trim(
      stream,
      exactly,
      (id) => !references.isReferenced(id),
      (id) => effective.push(id),
      readByAll(value),
    );
  }
}

/**
 * A trim by ACKED: the blocks before the first entry that a group needs go whole, unread, and are
 * recorded. `exactly` is then the rule for what is left.
 */
function trimHead(database: Database, entry: KeyEntry, value: StreamValue, rule: TrimRule): void {
  const { stream } = value;
  const { length } = stream;
  copyExactly(rule);
  try {
    trim(stream, exactly, null, null, MAX, firstNeeded(value));
  } finally {
    if (stream.length < length && database.engine.recording) {
      recordHead(database, entry, value, 'keepref');
      database.engine.journal.end();
    }
  }
  if (rule.limit > 0) exactly.limit = rule.limit - (length - stream.length);
}

function copyExactly(rule: TrimRule): void {
  exactly.strategy = rule.strategy;
  exactly.maxlen = rule.maxlen;
  exactly.minid.copy(rule.minid);
  exactly.limit = rule.limit;
}

/**
 * A trim removes the head of the stream. Where none of it was deleted before, all that is pending
 * from it goes, and its entries need not be read.
 */
function trimWithReferences(value: StreamValue, rule: TrimRule): void {
  const { stream } = value;
  if (looksAtEach(value)) {
    trim(stream, rule, null, (id) => unreference(value, id));
    return;
  }
  const before = stream.length;
  from.copy(stream.firstId);
  copyExactly(rule);
  try {
    trim(stream, exactly);
  } finally {
    if (stream.length < before) {
      const to = scratch.copy(stream.length === 0 ? stream.lastId : stream.firstId);
      if (stream.length > 0) to.decrement();
      for (const group of value.groups.values()) group.acknowledgeRange(from, to);
    }
  }
}

function recordTrim(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  rule: TrimRule,
  references: References,
  damage: Error | null,
): void {
  if (references === 'acked') {
    // The head that went whole has its record.
    if (effective.count === 0) return;
    effective.encode(database.beginRecord(StreamRecord.TRIM_LIST, entry.key));
  } else {
    // What went is a head of the stream, so where the rest begins says it all; but an exact trim by
    // id may leave a block of tombstones before that, which the given id leaves again.
    const byId = rule.strategy === 'minid' && !rule.approximate && damage === null;
    if (!byId) recordHead(database, entry, value, references);
    else {
      const record = database.beginRecord(StreamRecord.TRIM, entry.key);
      writeReferences(record, references);
      rule.minid.encode(record);
    }
  }
  database.engine.journal.end();
}

/** Begins the record: all before the stream's first entry has gone. */
function recordHead(
  database: Database,
  entry: KeyEntry,
  { stream }: StreamValue,
  references: References,
): void {
  const all = stream.length === 0;
  const type = all ? StreamRecord.TRIM_ALL : StreamRecord.TRIM;
  const record = database.beginRecord(type, entry.key);
  writeReferences(record, references);
  if (!all) stream.firstId.encode(record);
}

/** Removes exactly these entries (ascending) by trimming: what replaying a trim by ACKED needs. */
export function trimExactly(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  ids: IdList,
  rule: TrimRule,
): void {
  let next = 0;
  database.touch(entry);
  const removed = trim(value.stream, rule, (id) => {
    if (next === ids.count || ids.get(next, scratch).compare(id) !== 0) return false;
    next++;
    return true;
  });
  if (removed !== ids.count) throw new RangeError('entries to be trimmed are not there');
}

/**
 * Deletes entries by id. `outcomes[i]` says what became of the i-th id. Returns how many were deleted.
 * With 'delref' references go even where the entry is gone already.
 */
export function deleteEntries(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  ids: IdList,
  references: References,
  outcomes: Deletion[],
): number {
  const { engine } = database;
  database.touch(entry);
  if (references === 'delref') touchGroups(database, entry, value);
  let deleted = 0;
  effective.clear();
  let damage: Error | null = null;
  try {
    for (let i = 0; i < ids.count; i++) {
      const id = ids.get(i, scratch);
      const outcome = deleteEntry(value, id, references);
      outcomes[i] = outcome;
      if (outcome === DELETED) deleted++;
      if (outcome === DELETED || references === 'delref') effective.push(id);
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    // What went before the damage is recorded, or memory would be ahead of the log.
    damage = error;
  }
  engine.changes += deleted;
  if (effective.count > 0 && engine.recording) {
    const record = database.beginRecord(StreamRecord.DELETE, entry.key);
    writeReferences(record, references);
    effective.encode(record);
    engine.journal.end();
  }
  if (deleted > 0) {
    database.signalModified(entry);
    database.notify(EventClass.STREAM, 'xdel', entry.key);
  }
  if (damage !== null) throw damage;
  return deleted;
}

function deleteEntry(value: StreamValue, id: StreamId, references: References): Deletion {
  if (references === 'acked' && isReferenced(value, id)) return STILL_REFERENCED;
  if (references === 'delref') unreference(value, id);
  return value.stream.remove(id) ? DELETED : NOT_FOUND;
}

/** XSETID. `entriesAdded` -1 and `maxDeletedId` 0-0 leave theirs as they are. */
export function setStreamId(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  lastId: StreamId,
  entriesAdded: Whole,
  maxDeletedId: StreamId,
): void {
  const { engine } = database;
  const { stream } = value;
  database.touch(entry);
  stream.setId(lastId, entriesAdded, maxDeletedId);
  // An id that was used may be given again: what claims have set aside for want of an entry may have one.
  for (const group of value.groups.values()) group.pending.recheckAside();
  engine.changes++;
  if (engine.recording) {
    const record = database.beginRecord(StreamRecord.SET_ID, entry.key);
    stream.lastId.encode(record);
    record.whole(stream.entriesAdded);
    stream.maxDeletedId.encode(record);
    engine.journal.end();
  }
  database.notify(EventClass.STREAM, 'xsetid', entry.key);
}

// --- Idempotent producers ---

/**
 * The stream's idempotent producers; made with the server's window where there are none yet. The
 * window is recorded then, because the log may be replayed under another configuration.
 */
function idempotencyOf(database: Database, entry: KeyEntry, value: StreamValue): Idempotency {
  if (value.idempotency !== null) return value.idempotency;
  const { duration, maxsize } = database.engine.idempotencyWindow;
  database.touch(entry);
  value.idempotency = new Idempotency(duration, maxsize);
  recordWindow(database, entry, duration, maxsize);
  return value.idempotency;
}

/** Sets `into` to what this idempotent id became within the window; null when it is not known. */
export function findIdempotent(
  database: Database,
  value: StreamValue,
  producer: string,
  idempotent: string,
  into: StreamId,
): IdKind | null {
  const { idempotency } = value;
  if (idempotency === null) return null;
  if (!idempotency.isLate) idempotency.expire(database.engine.steady);
  const found = idempotency.find(producer, idempotent);
  if (found === undefined) return null;
  into.copy(found.id);
  return found.kind;
}

/**
 * Remembers that this idempotent id (latin1, as the producer's) became the entry `id`, or the
 * scheduled entry that `id` names, at `time` (steady ms).
 */
export function recordIdempotent(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  producer: string,
  idempotent: string,
  id: StreamId,
  time: number,
  kind: IdKind = 'entry',
): void {
  const { engine } = database;
  database.touch(entry);
  const idempotency = idempotencyOf(database, entry, value);
  idempotency.record(producer, idempotent, id, time, kind);
  if (idempotency.nextExpiry() <= engine.steady) idempotency.isLate = true;
  database.keyspace.idempotencyDeadlines.watch(entry, value);
  if (engine.recording) {
    const record = database.beginRecord(StreamRecord.REMEMBER, entry.key);
    record.bytes(Buffer.from(producer, 'latin1'));
    record.bytes(Buffer.from(idempotent, 'latin1'));
    id.encode(record);
    record.u8(kind === 'entry' ? 0 : 1);
    record.f64(time);
    engine.journal.end();
  }
}

/** An idempotent id was met again and answered with the first entry's id. */
export function countDuplicate(database: Database, entry: KeyEntry, value: StreamValue): void {
  const { engine } = database;
  database.touch(entry);
  idempotencyOf(database, entry, value).countDuplicate();
  if (engine.recording) {
    database.beginRecord(StreamRecord.DUPLICATE, entry.key);
    engine.journal.end();
  }
}

/** XCFGSET: another window than before forgets what was tracked. */
export function configureIdempotency(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  duration: number,
  maxsize: number,
): void {
  database.touch(entry);
  if (value.idempotency === null) value.idempotency = new Idempotency(duration, maxsize);
  else if (!value.idempotency.configure(duration, maxsize)) return;
  database.engine.changes++;
  recordWindow(database, entry, duration, maxsize);
}

function recordWindow(
  database: Database,
  entry: KeyEntry,
  duration: number,
  maxsize: number,
): void {
  const { engine } = database;
  if (!engine.recording) return;
  const record = database.beginRecord(StreamRecord.CONFIGURE, entry.key);
  record.varint(duration);
  record.varint(maxsize);
  engine.journal.end();
}

// --- References from groups ---

/** Whether a trim by DELREF has to look at the entries one by one. */
function looksAtEach({ stream }: StreamValue): boolean {
  return stream.maxDeletedId.compare(stream.firstId) >= 0;
}

/** The blocks that a trim reads, or more; null where it removes nothing, or whole blocks only. */
export function neededToTrim(
  value: StreamValue,
  rule: TrimRule,
  references: References,
): NeededBlocks | null {
  const { stream } = value;
  if (references === 'keepref' || (references === 'delref' && !looksAtEach(value))) return null;
  if (rule.strategy === 'maxlen' && stream.length <= rule.maxlen) return null;
  let last = references === 'acked' ? readByAll(value) : undefined;
  if (rule.strategy === 'minid' && (last === undefined || rule.minid.compare(last) < 0))
    last = rule.minid;
  // What is before it goes block by block, unread.
  const first = references === 'acked' ? firstNeeded(value) : undefined;
  const pending = pendingListsOf(value);
  let most = rule.limit > 0 ? rule.limit : Number.POSITIVE_INFINITY;
  if (rule.strategy === 'maxlen') most = Math.min(most, stream.length - rule.maxlen);
  // Each entry that it looks at goes, or stays because it is pending. Groups that share entries count twice.
  if (references === 'acked') for (const { size } of pending) most += size;
  return { stream, first, last, most, pending };
}

/** The least id that a group has pending or has still to read; the greatest id without groups. */
function firstNeeded(value: StreamValue): StreamId {
  const least = StreamId.max();
  for (const { pending, lastId } of value.groups.values()) {
    scratch.copy(lastId).increment();
    if (scratch.compare(least) < 0) least.copy(scratch);
    if (pending.min(scratch) && scratch.compare(least) < 0) least.copy(scratch);
  }
  return least;
}

/** The last id that every group has read: all later entries are referenced. */
function readByAll(value: StreamValue): StreamId | undefined {
  let least: StreamId | undefined;
  for (const { lastId } of value.groups.values()) {
    if (least === undefined || lastId.compare(least) < 0) least = lastId;
  }
  return least;
}

/** Whether a group has still to read the entry, or has it pending. */
function isReferenced(value: StreamValue, id: StreamId): boolean {
  for (const group of value.groups.values()) if (group.references(id)) return true;
  return false;
}

function unreference(value: StreamValue, id: StreamId): void {
  for (const group of value.groups.values()) group.acknowledge(id);
}

function touchGroups(database: Database, entry: KeyEntry, value: StreamValue): void {
  for (const group of value.groups.values() as Iterable<ConsumerGroup>) {
    database.touchGroup(entry, group);
  }
}

const REFERENCES: readonly References[] = ['keepref', 'delref', 'acked'];

function writeReferences(record: ByteWriter, references: References): void {
  record.u8(REFERENCES.indexOf(references));
}

/** What `writeReferences` wrote; throws RangeError on anything else. */
export function readReferences(code: number): References {
  const references = REFERENCES[code];
  if (references === undefined) throw new RangeError(`unknown kind of references ${code}`);
  return references;
}

// Scratch: never held across calls.
const scratch = new StreamId();
const from = new StreamId();
/** With references entries go one by one: `~` is ignored. */
const exactly = new TrimRule();
const MAX = StreamId.max();
const effective = new IdList();
