/**
 * Mutators of what groups have delivered: XREADGROUP, XACK, XNACK, XCLAIM, XAUTOCLAIM.
 *
 * Each notifies the checkpointer, changes memory, records the effect and signals readers (database.ts).
 * A command sees entry by entry what was done, through a sink, and writes its reply as it goes; the
 * record is written once, at the end: one for a whole delivery, one for all claims of a call.
 * The rules of claiming and reading history are in consumer-groups/claim.ts.
 * Cost: nothing is allocated per entry.
 */

import {
  type AutoClaimOptions,
  autoClaim,
  type ClaimOptions,
  type ClaimSink,
  claim,
  claimIdle,
  type HistorySink,
  type LookBudget,
  type NackOptions,
  nack,
  readHistory,
  releasedCount,
} from '../../consumer-groups/claim.ts';
import type { Consumer } from '../../consumer-groups/consumer.ts';
import { writeCount } from '../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { PendingCursor } from '../../consumer-groups/pending/pending-cursor.ts';
import { EntryWalk } from '../../stream/entry-walk.ts';
import { IdList } from '../../stream/id-list.ts';
import type { Stream } from '../../stream/stream.ts';
import { StreamId } from '../../stream/stream-id.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { beginGroupRecord } from './stream-groups.ts';
import { StreamRecord } from './stream-records.ts';
import type { StreamValue } from './stream-value.ts';

/** The consumer and group that a call works for, and their stream. Reused from call to call. */
export interface ConsumerRef {
  database: Database;
  entry: KeyEntry;
  value: StreamValue;
  group: ConsumerGroup;
  consumer: Consumer;
}

/**
 * A delivery of new entries, one by one in the order of their ids: `begin`, `deliver` for each, `end`.
 * Replaying its record does the same over the same range of the stream.
 */
export class Delivery {
  #turn: ConsumerRef | undefined;
  #stream: Stream | undefined;
  #consumer: Consumer | null = null;
  #count = 0;
  #deliveries = 1;
  #now = 0;
  readonly #first = new StreamId();
  readonly #last = new StreamId();

  /**
   * With `noAck` nothing becomes pending; only the group's position moves. `deliveries` is the count
   * that the entries get: 1, or 0 for what is fetched ahead of its handler.
   */
  begin(turn: ConsumerRef, noAck: boolean, now: number, deliveries: 0 | 1 = 1): void {
    this.#turn = turn;
    this.#stream = turn.value.stream;
    this.#consumer = noAck ? null : turn.consumer;
    this.#count = 0;
    this.#deliveries = deliveries;
    this.#now = now;
    turn.database.touchGroup(turn.entry, turn.group);
  }

  deliver(id: StreamId): void {
    if (this.#count++ === 0) this.#first.copy(id);
    this.#last.copy(id);
    this.#turn!.group.deliver(this.#stream!, id, this.#consumer, this.#now, this.#deliveries);
  }

  end(): void {
    const { database, entry, group, consumer } = this.#turn!;
    const { engine } = database;
    this.#turn = undefined;
    this.#stream = undefined;
    if (this.#count === 0) return;
    // One, however many entries were delivered.
    engine.changes++;
    engine.statistics.delivered += this.#count;
    if (!engine.recording) return;
    const ahead = this.#deliveries === 0 && this.#consumer !== null;
    const type = ahead ? StreamRecord.DELIVER_AHEAD : StreamRecord.DELIVER;
    const record = beginGroupRecord(type, database, entry, group);
    record.bytes(consumer.name);
    record.varint(this.#now);
    if (!ahead) record.u8(this.#consumer === null ? 1 : 0);
    record.varint(this.#count);
    this.#first.encode(record);
    this.#last.encode(record);
    engine.journal.end();
  }
}

/** The consumer's own pending entries after `after`; `limit` 0 = all. Returns how many it saw. */
export function redeliver(
  turn: ConsumerRef,
  after: StreamId,
  limit: number,
  now: number,
  sink: HistorySink,
): number {
  const { database, entry, value, group, consumer } = turn;
  database.touchGroup(entry, group);
  counted.sink = sink;
  counted.seen = 0;
  try {
    return readHistory(group, value.stream, consumer, after, limit, now, counted);
  } finally {
    // Where damage ends the call half-way, what it has changed is recorded all the same.
    recordHistory(turn, after, counted.seen, now);
  }
}

function recordHistory(turn: ConsumerRef, after: StreamId, seen: number, now: number): void {
  const { database, entry, group, consumer } = turn;
  const { engine } = database;
  if (seen > 0 && engine.recording) {
    const record = beginGroupRecord(StreamRecord.REDELIVER, database, entry, group);
    record.bytes(consumer.name);
    record.varint(now);
    record.varint(seen);
    after.encode(record);
    engine.journal.end();
  }
}

/** Acknowledges those of the ids that are pending. Returns their number, and leaves them in `acknowledged`. */
export function acknowledge(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  ids: IdList,
  acknowledged: IdList = gone,
): number {
  database.touchGroup(entry, group);
  acknowledged.clear();
  for (let i = 0; i < ids.count; i++) {
    const id = ids.get(i, scratch);
    if (group.acknowledge(id)) acknowledged.push(id);
  }
  recordAcknowledged(database, entry, group, acknowledged);
  database.engine.changes += acknowledged.count;
  return acknowledged.count;
}

/** XNACK: returns how many were released. They can be claimed at once, so readers are woken. */
export function release(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  group: ConsumerGroup,
  ids: IdList,
  options: NackOptions,
): number {
  const { engine } = database;
  database.touchGroup(entry, group);
  taken.clear();
  for (let i = 0; i < ids.count; i++) {
    const id = ids.get(i, scratch);
    if (!nack(group, value.stream, id, options)) continue;
    counts[taken.count] = releasedCount();
    taken.push(id);
  }
  if (taken.count === 0) return 0;
  engine.changes += taken.count;
  if (engine.recording) {
    const record = beginGroupRecord(StreamRecord.RELEASE, database, entry, group);
    taken.encode(record);
    for (let i = 0; i < taken.count; i++) writeCount(record, counts[i]);
    engine.journal.end();
  }
  database.signalKeyReady(entry);
  return taken.count;
}

/** XCLAIM. */
export function claimEntries(
  turn: ConsumerRef,
  ids: IdList,
  options: ClaimOptions,
  now: number,
  sink: ClaimSink,
): void {
  beginClaims(turn, sink);
  try {
    for (let i = 0; i < ids.count; i++) {
      const id = ids.get(i, scratch);
      claim(turn.group, turn.value.stream, turn.consumer, id, options, now, claims);
    }
  } finally {
    // Where damage ends the call half-way, what it has changed is recorded all the same.
    endClaims(turn, now);
  }
  // With IDLE or TIME an entry may be due earlier than the readers' timers.
  if (turn.group.policy !== null) turn.database.signalKeyReady(turn.entry);
}

/** XAUTOCLAIM; `next` becomes the id at which the next call continues, 0-0 at the end. */
export function autoClaimEntries(
  turn: ConsumerRef,
  start: StreamId,
  options: AutoClaimOptions,
  now: number,
  next: StreamId,
  sink: ClaimSink,
): void {
  beginClaims(turn, sink);
  const entries = new EntryWalk(turn.value.stream);
  try {
    autoClaim(turn.group, entries, turn.consumer, start, options, now, next, claims);
  } finally {
    endClaims(turn, now);
  }
}

/** XREADGROUP CLAIM: the longest idle first, as `claimIdle` does. Returns how many were claimed. */
export function claimIdleEntries(
  turn: ConsumerRef,
  minIdle: number,
  limit: number,
  looks: LookBudget,
  now: number,
  sink: ClaimSink,
): number {
  beginClaims(turn, sink);
  const { group, value, consumer } = turn;
  try {
    return claimIdle(group, value.stream, consumer, minIdle, limit, now, claims, looks);
  } finally {
    endClaims(turn, now);
  }
}

/** Hands on to the command's sink and keeps what the record needs. */
class Claims implements ClaimSink {
  sink: ClaimSink | undefined;

  get full(): boolean {
    return this.sink!.full === true;
  }

  claimed(entry: PendingCursor, idle: number, count: number, unsettled: boolean): void {
    times[taken.count] = entry.time;
    counts[taken.count] = entry.count;
    taken.push(entry.id);
    this.sink!.claimed(entry, idle, count, unsettled);
  }

  deleted(id: StreamId): void {
    gone.push(id);
    this.sink!.deleted(id);
  }
}

/** Counts the entries of a consumer's history that were dealt with. */
class CountedHistory implements HistorySink {
  sink: HistorySink | undefined;
  seen = 0;

  get full(): boolean {
    return this.sink!.full === true;
  }

  delivered(entry: PendingCursor): void {
    this.seen++;
    this.sink!.delivered(entry);
  }

  missing(id: StreamId): void {
    this.seen++;
    this.sink!.missing(id);
  }
}

/** Begins a call's claims; what it returns is the sink to claim with. `endClaims` records them. */
export function beginClaims(turn: ConsumerRef, sink: ClaimSink): ClaimSink {
  turn.database.touchGroup(turn.entry, turn.group);
  taken.clear();
  gone.clear();
  claims.sink = sink;
  return claims;
}

export function endClaims(turn: ConsumerRef, now: number): void {
  const { database, entry, group, consumer } = turn;
  const { engine } = database;
  recordAcknowledged(database, entry, group, gone);
  engine.changes += taken.count + gone.count;
  engine.statistics.delivered += taken.count;
  if (taken.count === 0 || !engine.recording) return;
  const record = beginGroupRecord(StreamRecord.CLAIM, database, entry, group);
  record.bytes(consumer.name);
  record.varint(now);
  taken.encode(record);
  for (let i = 0; i < taken.count; i++) {
    record.varint(times[i]);
    writeCount(record, counts[i]);
  }
  engine.journal.end();
}

/** Records that entries are no longer pending: acknowledged, or found deleted from the stream. */
export function recordAcknowledged(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  ids: IdList,
): void {
  const { engine } = database;
  engine.statistics.settled += ids.count;
  if (ids.count === 0 || !engine.recording) return;
  ids.encode(beginGroupRecord(StreamRecord.ACKNOWLEDGE, database, entry, group));
  engine.journal.end();
}

// Scratch: never held across calls.
const scratch = new StreamId();
const taken = new IdList();
const gone = new IdList();
const counts: number[] = [];
const times: number[] = [];
const claims = new Claims();
const counted = new CountedHistory();
