/**
 * The rules of XCLAIM, XAUTOCLAIM, XREADGROUP (history and CLAIM), XPENDING and XNACK over one group.
 *
 * Each function changes the group as it goes and reports to a sink what it did, entry by entry, so that
 * the caller writes the reply and the journal's record in one pass. What a sink is given is valid
 * only during the call. The consumer that claims exists already: creating it, and its seen time, is
 * the caller's.
 * A pending entry whose stream entry is gone is called dangling: claims remove it from the pending
 * list and report it, history reads report it and leave it, CLAIM reads skip it.
 * Sources: t_stream.c of Redis 7.0 and 8.x, xclaimCommand, xautoclaimCommand, xpendingCommand,
 * streamReplyWithRangeFromConsumerPEL; redis.io's pages of XREADGROUP (CLAIM) and XNACK.
 */
import { StreamId } from '../stream/stream-id.ts';
import { scratch } from '../util/scratch.ts';
import type { Consumer } from './consumer.ts';
import { countDown, countUp, FATAL_COUNT } from './delivery-count.ts';
import { IdleScan, isIdle } from './delivery-order/idle-scan.ts';
import type { ConsumerGroup } from './group.ts';
import { PendingCursor } from './pending/pending-cursor.ts';
import { AWAITING_DEAD_LETTER, DELAYED, UNOWNED } from './pending/pending-page.ts';
import type { EntryAsker, StreamView } from './stream-view.ts';

export interface ClaimSink {
  /** True = no further entry, please (MAXSIZE). Asked before each entry by `claimIdle` alone. */
  readonly full?: boolean;
  /**
   * The entry is now the consumer's; the cursor shows its new time and count. `idle` (ms, 0 where
   * the clock went back) and `count` are those from before. An entry without a consumer has the delivery time
   * 0, so its `idle` is `now`, as Redis replies it. `unsettled`: a consumer had it and neither
   * acknowledged it nor gave it back.
   */
  claimed(entry: PendingCursor, idle: number, count: number, unsettled: boolean): void;
  /** A dangling entry was dropped from the pending list. */
  deleted(id: StreamId): void;
}

export interface ClaimOptions {
  /** Claims only what has been idle this long (isIdle), ms; 0 = any entry, delayed ones too. */
  minIdle: number;
  /** Delivery time to set, unix ms: now, now - IDLE, or TIME; the caller has already capped it at now. */
  time: number;
  /** Delivery count to set (see countFrom), -1 = one more than before, or unchanged with justId. */
  retryCount: number;
  /** Makes the entry pending where the stream has it and the group does not. */
  force: boolean;
  justId: boolean;
}

/** XCLAIM of one id. LASTID is the caller's: it raises `group.lastId` once. */
export function claim(
  group: ConsumerGroup,
  stream: StreamView,
  consumer: Consumer,
  id: StreamId,
  options: ClaimOptions,
  now: number,
  sink: ClaimSink,
): void {
  const at = claimCursor;
  const found = group.pending.find(id, at);
  if (!stream.has(id)) {
    if (found) dropDangling(group, at, sink);
    return;
  }
  if (!found) {
    if (!options.force) return;
    // A made entry counts as delivered once before this claim: redis t_stream.c, streamCreateNACK.
    group.setPending(id, consumer, now, 1);
    group.pending.find(id, at);
  } else if (options.minIdle > 0 && !isIdle(at, options.minIdle, now)) {
    return;
  }
  take(group, at, consumer, options.time, options.retryCount, options.justId, now, sink);
}

export interface AutoClaimOptions {
  minIdle: number;
  /**
   * At most this many entries are claimed or found dangling; ten times as many are looked at, and at most
   * MOST_PASSED that are neither.
   */
  count: number;
  justId: boolean;
}

/** Entries that XAUTOCLAIM may pass over in one call. They are not in its reply; other clients wait meanwhile. */
const MOST_PASSED = 200_000;

/**
 * XAUTOCLAIM from `start` on; the ids that `entries` is asked for ascend. Sets `next` to the id at which the next call goes on, 0-0 at the end.
 * `next` may be the same object as `start`.
 */
export function autoClaim(
  group: ConsumerGroup,
  entries: EntryAsker,
  consumer: Consumer,
  start: StreamId,
  options: AutoClaimOptions,
  now: number,
  next: StreamId,
  sink: ClaimSink,
): void {
  const at = claimCursor;
  let left = options.count;
  let attempts = options.count * 10;
  let passed = 0;
  let more = group.pending.seek(start, at);
  for (; more && attempts > 0 && left > 0 && passed < MOST_PASSED; attempts--, more = at.next()) {
    if (!entries.has(at.id)) {
      dropDangling(group, at, sink);
      left--;
    } else if (isIdle(at, options.minIdle, now)) {
      take(group, at, consumer, now, -1, options.justId, now, sink);
      left--;
    } else {
      passed++;
    }
  }
  if (more) next.copy(at.id);
  else next.setMin();
}

/** How many dangling entries a call may still look at. */
export interface LookBudget {
  left: number;
}

/**
 * XREADGROUP CLAIM: takes up to `limit` entries, the longest idle first, that have been idle for at
 * least `minIdle` ms; released ones come before all, first released first. Dangling ones are left, and
 * set aside, so that they are not looked at again; the call ends when `looks` allows no other one. Returns
 * how many were claimed. The first call builds the group's delivery order.
 */
export function claimIdle(
  group: ConsumerGroup,
  stream: StreamView,
  consumer: Consumer,
  minIdle: number,
  limit: number,
  now: number,
  sink: ClaimSink,
  looks: LookBudget = { left: Number.POSITIVE_INFINITY },
): number {
  const at = claimCursor;
  const walk = new IdleScan(group.pending, minIdle, now);
  let claimed = 0;
  while (claimed < limit && looks.left > 0 && sink.full !== true && walk.next(at)) {
    if (!stream.has(at.id)) {
      group.pending.setAside(at);
      looks.left--;
      continue;
    }
    take(group, at, consumer, now, -1, false, now, sink);
    claimed++;
  }
  return claimed;
}

/**
 * Which deliveries count. A consumer that fetches ahead of its handlers says how many of the entries
 * it hands over at once; the delivery count of the others stays as it is. So does that of an entry
 * that a consumer had and did not settle: it is handed over alone, and counted by a separate claim.
 */
export interface HandOverBudget {
  left: number;
}

/** What becomes of a due entry of a group with a policy; `later` = not in this turn. */
export type Due = 'deliver' | 'leave' | 'gone' | 'later';

/** What a search for something due has come to; `unfinished` = to be gone on with in a later turn. */
export type Search = 'due' | 'nothing' | 'unfinished';

/**
 * XREADGROUP in a group with a policy: as `claimIdle`, but dangling entries are dropped and told, and
 * `judge` decides on every other. It may drop the entry that it is shown ('gone') and no other; what
 * it leaves is set aside, so that it does not stand before others again. At most `looks` entries that
 * are not claimed are looked at.
 */
export function claimDue(
  group: ConsumerGroup,
  stream: StreamView,
  consumer: Consumer,
  minIdle: number,
  limit: number,
  looks: number,
  now: number,
  judge: (entry: PendingCursor) => Due,
  sink: ClaimSink,
  budget: HandOverBudget | null = null,
): number {
  const at = claimCursor;
  const walk = new IdleScan(group.pending, minIdle, now);
  let claimed = 0;
  while (claimed < limit && looks > 0 && sink.full !== true && walk.next(at)) {
    if (!stream.has(at.id)) {
      looks--;
      dropDangling(group, at, sink);
      continue;
    }
    const due = judge(at);
    if (due === 'deliver') {
      const counts = budget === null || (isUnowned(at) && budget.left-- > 0);
      take(group, at, consumer, now, counts ? -1 : at.count, false, now, sink);
      claimed++;
      continue;
    }
    if (due === 'later') break;
    if (due === 'leave') group.pending.setAside(at);
    looks--;
  }
  return claimed;
}

/**
 * Whether `claimDue` would claim anything, having dropped or set aside what stands before that. At
 * most `looks` entries are looked at; a later search goes on behind them.
 */
export function findDue(
  group: ConsumerGroup,
  stream: StreamView,
  minIdle: number,
  looks: number,
  now: number,
  judge: (entry: PendingCursor) => Due,
  sink: Pick<ClaimSink, 'deleted'>,
): Search {
  const at = claimCursor;
  const walk = new IdleScan(group.pending, minIdle, now);
  for (; walk.next(at); looks--) {
    if (looks === 0) return 'unfinished';
    if (!stream.has(at.id)) {
      dropDangling(group, at, sink);
      continue;
    }
    const due = judge(at);
    if (due === 'deliver') return 'due';
    if (due === 'later') return 'unfinished';
    if (due === 'leave') group.pending.setAside(at);
  }
  return 'nothing';
}

/**
 * Whether `claimIdle` would claim anything. Builds the group's delivery order, as it does. When `looks`
 * allows no further dangling entry the search ends; a later one continues behind them.
 */
export function canClaimIdle(
  group: ConsumerGroup,
  stream: StreamView,
  minIdle: number,
  looks: LookBudget,
  now: number,
): Search {
  const at = claimCursor;
  const walk = new IdleScan(group.pending, minIdle, now);
  for (; walk.next(at); looks.left--) {
    if (looks.left <= 0) return 'unfinished';
    if (stream.has(at.id)) return 'due';
    group.pending.setAside(at);
  }
  return 'nothing';
}

export interface HistorySink {
  /** True = no further entry, please (MAXSIZE). */
  readonly full?: boolean;
  /** Redelivered: its time is now, its count one more. */
  delivered(entry: PendingCursor): void;
  /** Dangling: replied as an id without fields; nothing was changed. */
  missing(id: StreamId): void;
}

/** XREADGROUP with an id: the consumer's own pending entries after `after`. `limit` 0 = all. */
export function readHistory(
  group: ConsumerGroup,
  stream: StreamView,
  consumer: Consumer,
  after: StreamId,
  limit: number,
  now: number,
  sink: HistorySink,
): number {
  const at = claimCursor;
  const from = fromId.copy(after);
  if (consumer.pendingCount === 0 || !from.increment()) return 0;
  let seen = 0;
  let more = group.pending.seekConsumer(consumer.index, from, at);
  while (more) {
    if (stream.has(at.id)) {
      group.pending.update(at, consumer.index, now, countUp(at.count));
      sink.delivered(at);
    } else {
      sink.missing(at.id);
    }
    // The last one that the consumer can have: no search through the pages behind it.
    if (++seen === limit || seen === consumer.pendingCount || sink.full === true) break;
    more = at.nextOf(consumer.index);
  }
  return seen;
}

export interface PendingQuery {
  /** Inclusive. */
  start: StreamId;
  /** Inclusive. */
  end: StreamId;
  count: number;
  /** null = those of every consumer and of none. */
  consumer: Consumer | null;
  /** Only entries idle for at least this time, ms (isIdle); 0 = all. */
  minIdle: number;
}

/** XPENDING with a range: visits entries in id order, changes nothing, returns how many it visited. */
export function scanPending(
  group: ConsumerGroup,
  query: PendingQuery,
  now: number,
  visit: (entry: PendingCursor, idle: number) => void,
): number {
  const { consumer, minIdle } = query;
  if (query.count <= 0 || consumer?.pendingCount === 0) return 0;
  const at = claimCursor;
  let visited = 0;
  let more =
    consumer === null
      ? group.pending.seek(query.start, at)
      : group.pending.seekConsumer(consumer.index, query.start, at);
  while (more && at.id.compare(query.end) <= 0) {
    if (minIdle <= 0 || isIdle(at, minIdle, now)) {
      visit(at, idleOf(at, now));
      if (++visited === query.count) break;
    }
    more = consumer === null ? at.next() : at.nextOf(consumer.index);
  }
  return visited;
}

/** How XNACK changes the delivery count. */
export type NackMode = 'SILENT' | 'FAIL' | 'FATAL';

export interface NackOptions {
  mode: NackMode;
  /** Delivery count to set (see countFrom), -1 = as the mode says. */
  retryCount: number;
  /** Makes an entry pending without a consumer where the stream has it and the group does not. */
  force: boolean;
}

/**
 * XNACK of one id: the entry belongs to no consumer, and is the last of those. True when it was released
 * (or made, with `force`); its new count is then `releasedCount()`.
 */
export function nack(
  group: ConsumerGroup,
  stream: StreamView,
  id: StreamId,
  options: NackOptions,
): boolean {
  const at = claimCursor;
  const found = group.pending.find(id, at);
  if (!found && !(options.force && stream.has(id))) return false;
  released =
    options.retryCount >= 0 ? options.retryCount : nackedCount(found ? at.count : 0, options.mode);
  if (found) group.release(at, released);
  else group.setReleased(id, released);
  return true;
}

/** The delivery count that the last successful `nack` left: for the journal. */
export function releasedCount(): number {
  return released;
}

/** Milliseconds since the entry was delivered, never negative; 0 for an entry of no consumer. */
export function idleOf(entry: PendingCursor, now: number): number {
  if (isUnowned(entry)) return 0;
  return Math.max(0, now - entry.time);
}

/** The delivery count that a nack in this mode leaves. */
export function nackedCount(count: number, mode: NackMode | 'DEADLETTER'): number {
  if (mode === 'FATAL') return FATAL_COUNT;
  return mode === 'SILENT' ? countDown(count) : count;
}

function take(
  group: ConsumerGroup,
  at: PendingCursor,
  consumer: Consumer,
  time: number,
  retryCount: number,
  justId: boolean,
  now: number,
  sink: ClaimSink,
): void {
  const idle = isUnowned(at) ? now : idleOf(at, now);
  const before = at.count;
  const unsettled = !isUnowned(at);
  const count = retryCount >= 0 ? retryCount : justId ? before : countUp(before);
  group.assign(at, consumer, time, count);
  consumer.activeTime = now;
  sink.claimed(at, idle, before, unsettled);
}

function isUnowned({ consumer }: PendingCursor): boolean {
  return consumer === UNOWNED || consumer === DELAYED || consumer === AWAITING_DEAD_LETTER;
}

function dropDangling(
  group: ConsumerGroup,
  at: PendingCursor,
  sink: Pick<ClaimSink, 'deleted'>,
): void {
  group.drop(at);
  sink.deleted(at.id);
}

// Never held across calls; none of these functions calls another that uses them.
const claimCursor = scratch(new PendingCursor());
const fromId = new StreamId();
let released = 0;
