/**
 * Mutators of groups with a policy: they deliver due entries again, delay entries that a consumer
 * returned, and move those whose deliveries are used up to the dead letter.
 *
 * Each notifies the checkpointer, changes memory, records the effect and signals readers (database.ts).
 * A group without a policy is never touched by anything here.
 * Rules. An entry is due when it was delivered `ackWait` ms ago and not acknowledged, or when its delay
 * is over. A reader that wants new entries first receives due entries, the earliest due first. An entry
 * that was delivered `maxDeliveries` times and is due again, or is returned by its consumer, is not
 * delivered: it moves to the dead letter, together with its acknowledgement; without a dead letter it is
 * acknowledged. One that cannot be moved (the destination holds something else, or is the stream itself)
 * stays pending, is not delivered, and moves with the first read that finds that it can. Pending entries
 * whose stream entry is gone leave the pending list.
 * Cost: as claiming; nothing is allocated for an entry that is delivered. A read that finds more than
 * MOST_LOOKS spent or gone entries, or moves more than MOST_MOVED or MOST_BYTES, before an entry to
 * deliver ends there. The next read continues; a waiting reader reads again at once.
 */

import {
  type ClaimSink,
  claimDue,
  type Due,
  findDue,
  type HandOverBudget,
  type NackMode,
  nackedCount,
  type Search,
} from '../../consumer-groups/claim.ts';
import { writeCount } from '../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import {
  encodePolicy,
  type GroupPolicy,
  isSpent,
  samePolicy,
} from '../../consumer-groups/group-policy.ts';
import { PendingCursor } from '../../consumer-groups/pending/pending-cursor.ts';
import { AWAITING_DEAD_LETTER } from '../../consumer-groups/pending/pending-page.ts';
import { IdList } from '../../stream/id-list.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { scratch as reused, scratchRecord } from '../../util/scratch.ts';
import { backoffMs } from '../../util/time/backoff.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { appendDeadLetter, deadLetterBytes, takesDeadLetters } from './dead-letter.ts';
import {
  beginClaims,
  type ConsumerRef,
  endClaims,
  recordAcknowledged,
} from './stream-deliveries.ts';
import { beginGroupRecord } from './stream-groups.ts';
import { StreamRecord } from './stream-records.ts';
import type { StreamValue } from './stream-value.ts';

/** Entries that one read may find gone or not deliverable before it finds one to deliver. */
const MOST_LOOKS = 10_000;
/** Most dead letters that one read writes, and bytes after which it writes no other. */
const MOST_MOVED = 1000;
const MOST_BYTES = 1024 * 1024;
const NOT_SETTLED = 'and never settled';
const GIVEN_BACK = 'given back by its consumer';

// --- The policy itself ---

/**
 * XGROUP SETPOLICY and DELPOLICY (null). Delayed entries keep the moment at which they are due. Without
 * a policy that moment has no meaning, so they are released in the order of their times, as are those
 * that wait for their dead letter.
 */
export function setPolicy(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  policy: GroupPolicy | null,
): void {
  const { engine } = database;
  const before = group.policy;
  if (before === policy) return;
  if (before !== null && policy !== null && samePolicy(before, policy)) return;
  database.touchGroup(entry, group);
  group.policy = policy;
  if (before !== null && policy === null) group.releaseDelayed();
  group.pending.recheckAside();
  if (engine.recording) {
    const record = beginGroupRecord(StreamRecord.GROUP_POLICY, database, entry, group);
    if (policy !== null) encodePolicy(policy, record);
    engine.journal.end();
  }
  database.signalKeyReady(entry);
}

// --- Delivering what is due ---

/**
 * Whether there is something due for `deliverDue`; spent entries before it have been moved then.
 * `minIdle` is the policy's ackWait, or what the reader itself asks for. After `unfinished` the same
 * call continues where this one ended. `gone` receives the ids whose entries are no longer in the
 * stream.
 */
export function hasDue(
  turn: ConsumerRef,
  minIdle: number,
  now: number,
  gone: IdList | null = null,
): Search {
  begin(turn);
  recheckAside(turn);
  const { group, value } = turn;
  goneTo = gone;
  try {
    return findDue(group, value.stream, minIdle, MOST_LOOKS, now, judge, DANGLING);
  } finally {
    goneTo = null;
    // Also where damage ends the search: what has left the group is recorded.
    recordAcknowledged(turn.database, turn.entry, group, leaving);
  }
}

/** Delivers up to `limit` due entries again; `budget` says which deliveries count. Returns how many. */
export function deliverDue(
  turn: ConsumerRef,
  minIdle: number,
  limit: number,
  now: number,
  sink: ClaimSink,
  budget: HandOverBudget | null = null,
): number {
  begin(turn);
  reporting.sink = sink;
  const claims = beginClaims(turn, reporting);
  const { group, value, consumer } = turn;
  try {
    return claimDue(
      group,
      value.stream,
      consumer,
      minIdle,
      limit,
      MOST_LOOKS,
      now,
      judge,
      claims,
      budget,
    );
  } finally {
    recordAcknowledged(turn.database, turn.entry, group, leaving);
    endClaims(turn, now);
  }
}

function begin(turn: Pick<ConsumerRef, 'database' | 'entry' | 'group'>): void {
  turn.database.touchGroup(turn.entry, turn.group);
  leaving.clear();
  moved = 0;
  movedBytes = 0;
  const { database, entry, group } = turn;
  at.database = database;
  at.entry = entry;
  at.group = group;
}

/** Entries that were set aside are tried again if their destination accepts them now. */
function recheckAside({ database, entry, group }: ConsumerRef): void {
  const { policy, pending } = group;
  if (policy === null || !pending.order.hasAside) return;
  const { deadLetter } = policy;
  if (deadLetter === null || takesDeadLetters(database, entry, deadLetter)) pending.recheckAside();
}

function judge(pending: PendingCursor): Due {
  const policy = at.group.policy as GroupPolicy;
  const isCondemned = pending.consumer === AWAITING_DEAD_LETTER;
  if (!isCondemned && !isSpent(policy, pending.count)) return 'deliver';
  if (moved >= MOST_MOVED || movedBytes >= MOST_BYTES) return 'later';
  const reason = isCondemned ? GIVEN_BACK : `delivered ${pending.count} times ${NOT_SETTLED}`;
  if (!moveToDeadLetter(pending, policy.deadLetter, reason)) return 'leave';
  moved++;
  if (policy.deadLetter !== null) movedBytes += deadLetterBytes();
  return 'gone';
}

/** Moves the pending entry out of its group; the caller records it as acknowledged. False where it cannot be moved. */
function moveToDeadLetter(
  pending: PendingCursor,
  destination: Uint8Array | null,
  reason: string,
  silent = false,
  count = pending.count,
): boolean {
  const { database, entry, group } = at;
  if (
    destination !== null &&
    !appendDeadLetter(database, entry, group, pending.id, count, destination, reason)
  ) {
    return false;
  }
  leaving.push(pending.id);
  group.drop(pending);
  if (!silent) {
    database.engine.deadLetters?.onDeadLetter(
      entry,
      group,
      pending.id,
      reason,
      destination !== null,
    );
  }
  return true;
}

// --- XNACK ---

export interface PolicyNackOptions {
  /** FATAL and DEADLETTER: its deliveries are used up, whatever their number. */
  mode: NackMode | 'DEADLETTER';
  retryCount: number;
  force: boolean;
  /** Milliseconds before it is due again; -1 = as the policy says. */
  delay: number;
  /** For the dead letter; null = none was given. */
  reason: string | null;
}

/**
 * XNACK in a group with a policy: each entry is delayed, released, or goes to the dead letter. Returns
 * how many of the ids were pending (or made so by FORCE) and are dealt with. `gone` receives those of
 * them whose entries are no longer in the stream.
 */
export function nackEntries(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  group: ConsumerGroup,
  ids: IdList,
  options: PolicyNackOptions,
  gone: IdList | null = null,
): number {
  begin({ database, entry, group });
  delayed.clear();
  released.clear();
  awaiting.clear();
  const distinct = options.force ? withoutRepeats(ids) : ids;
  goneTo = gone;
  try {
    for (let i = 0; i < distinct.count; i++) {
      nackEntry(value, group, distinct.get(i, scratch), options);
    }
  } finally {
    goneTo = null;
  }
  recordAcknowledged(database, entry, group, leaving);
  recordReleased(database, entry, group);
  recordTimed(StreamRecord.RETRY_LATER, delayed, delayedTimes, delayedCounts);
  recordTimed(StreamRecord.AWAIT_DEAD_LETTER, awaiting, awaitingTimes, awaitingCounts);
  if (released.count + delayed.count > 0) database.signalKeyReady(entry);
  return leaving.count + released.count + delayed.count + awaiting.count;
}

/** With FORCE a repeated id whose entry has become a dead letter would be made pending again. */
function withoutRepeats(ids: IdList): IdList {
  if (ids.count === 1) return ids;
  const seen = new Set<string>();
  unique.clear();
  for (let i = 0; i < ids.count; i++) {
    const id = ids.get(i, scratch);
    const name = id.toString();
    if (seen.has(name)) continue;
    seen.add(name);
    unique.push(id);
  }
  return unique;
}

function nackEntry(
  value: StreamValue,
  group: ConsumerGroup,
  id: StreamId,
  options: PolicyNackOptions,
): void {
  const policy = group.policy as GroupPolicy;
  const { engine } = at.database;
  const found = group.pending.find(id, cursor);
  if (!value.stream.has(id)) {
    if (found) dropDangling();
    return;
  }
  const { mode, retryCount } = options;
  const before = found ? cursor.count : 0;
  const count = retryCount >= 0 ? retryCount : nackedCount(before, mode);
  if (!found) {
    // An entry that was never delivered is not delayed.
    if (options.force && mode !== 'DEADLETTER') release(group, id, count);
    return;
  }
  const ends =
    mode === 'DEADLETTER' ||
    (mode === 'FATAL' && (policy.deadLetter !== null || policy.maxDeliveries > 0)) ||
    (mode === 'FAIL' && isSpent(policy, count));
  if (ends) {
    const deliveries = retryCount >= 0 ? count : cursor.count;
    const why = options.reason ?? GIVEN_BACK;
    if (!moveToDeadLetter(cursor, policy.deadLetter, why, false, deliveries))
      setAwaitingDeadLetter(group);
    return;
  }
  let { delay } = options;
  if (delay < 0) {
    delay =
      mode === 'FAIL' && policy.backoff !== null
        ? backoffMs(policy.backoff, count, engine.random.fraction())
        : 0;
  }
  if (delay === 0) {
    release(group, id, count);
    return;
  }
  const time = engine.steady + delay;
  group.delay(cursor, time, count);
  delayedTimes[delayed.count] = time;
  delayedCounts[delayed.count] = count;
  delayed.push(id);
}

/** Its count stays as it was: the dead letter contains it. */
function setAwaitingDeadLetter(group: ConsumerGroup): void {
  const { count } = cursor;
  const time = at.database.engine.steady;
  group.awaitDeadLetter(cursor, time, count);
  awaitingTimes[awaiting.count] = time;
  awaitingCounts[awaiting.count] = count;
  awaiting.push(cursor.id);
}

function release(group: ConsumerGroup, id: StreamId, count: number): void {
  group.setReleased(id, count);
  counts[released.count] = count;
  released.push(id);
}

function dropDangling(): void {
  DANGLING.deleted(cursor.id);
  at.group.drop(cursor);
}

function recordReleased(database: Database, entry: KeyEntry, group: ConsumerGroup): void {
  const { engine } = database;
  if (released.count === 0 || !engine.recording) return;
  const record = beginGroupRecord(StreamRecord.RELEASE, database, entry, group);
  released.encode(record);
  for (let i = 0; i < released.count; i++) writeCount(record, counts[i]);
  engine.journal.end();
}

function recordTimed(
  type: number,
  ids: IdList,
  times: readonly number[],
  deliveries: readonly number[],
): void {
  const { database, entry, group } = at;
  const { engine } = database;
  if (ids.count === 0 || !engine.recording) return;
  const record = beginGroupRecord(type, database, entry, group);
  ids.encode(record);
  for (let i = 0; i < ids.count; i++) {
    record.f64(times[i]);
    writeCount(record, deliveries[i]);
  }
  engine.journal.end();
}

// --- For a broker in the same process ---

/**
 * Moves a pending entry, delivered `count` times, to a dead-letter stream of the caller's choice, or
 * drops it (null). False where it is not pending, or cannot be moved. `silent` = the listener is not
 * notified.
 */
export function deadLetterEntry(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  id: StreamId,
  destination: Uint8Array | null,
  reason: string,
  silent: boolean,
  count: number,
): boolean {
  begin({ database, entry, group });
  const gone =
    group.pending.find(id, cursor) && moveToDeadLetter(cursor, destination, reason, silent, count);
  recordAcknowledged(database, entry, group, leaving);
  return gone;
}

/** Makes a pending entry the consumer's, with this delivery time (steady ms; it may lie ahead) and count. */
export function assignEntry(turn: ConsumerRef, id: StreamId, time: number, count: number): void {
  const { database, entry, group, consumer } = turn;
  const { engine } = database;
  database.touchGroup(entry, group);
  consumer.activeTime = engine.steady;
  group.setPending(id, consumer, time, count);
  if (engine.recording) {
    const record = beginGroupRecord(StreamRecord.CLAIM, database, entry, group);
    record.bytes(consumer.name);
    record.varint(engine.steady);
    one.clear();
    one.push(id);
    one.encode(record);
    record.varint(time);
    writeCount(record, count);
    engine.journal.end();
  }
}

const DANGLING: Pick<ClaimSink, 'deleted'> = {
  deleted(id) {
    leaving.push(id);
    goneTo?.push(id);
    at.database.engine.deadLetters?.onTrimmed?.(at.entry, at.group, id);
  },
};
/** As DANGLING, between a reader's sink and what claims. */
class Reporting implements ClaimSink {
  sink!: ClaimSink;

  get full(): boolean {
    return this.sink.full === true;
  }

  claimed(entry: PendingCursor, idle: number, count: number, unsettled: boolean): void {
    this.sink.claimed(entry, idle, count, unsettled);
  }

  deleted(id: StreamId): void {
    at.database.engine.deadLetters?.onTrimmed?.(at.entry, at.group, id);
    this.sink.deleted(id);
  }
}

// Scratch: never held across calls.
/** What the present call works on. */
const at = scratchRecord({} as Pick<ConsumerRef, 'database' | 'entry' | 'group'>);
const reporting = scratchRecord(new Reporting());
const cursor = reused(new PendingCursor());
const scratch = new StreamId();
const leaving = new IdList();
/** Receives the ids that `hasDue` finds gone, for its caller. */
let goneTo: IdList | null = null;
const released = new IdList();
const delayed = new IdList();
const one = new IdList();
const counts: number[] = [];
const delayedTimes: number[] = [];
const delayedCounts: number[] = [];
const awaiting = new IdList();
const awaitingTimes: number[] = [];
const awaitingCounts: number[] = [];
const unique = new IdList();
let moved = 0;
let movedBytes = 0;
