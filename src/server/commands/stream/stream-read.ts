/**
 * XREAD and XREADGROUP: reading several streams at once, waiting where there is nothing.
 *
 * A call goes in three steps: `resolve` finds streams and groups and gives `$`, `+` and `>` their
 * meaning, `serve` replies with what there is, and where there is nothing `wait` suspends the
 * connection; then, whenever one of the keys is touched, the whole command is executed again.
 * Cost: an entry goes from the block to the reply and into the pending list in one pass; nothing is
 * allocated per entry.
 * Source: xreadCommand.
 */
import {
  canClaimIdle,
  type HandOverBudget,
  type LookBudget,
} from '../../../consumer-groups/claim.ts';
import type { ConsumerGroup } from '../../../consumer-groups/group.ts';
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import { deliverDue, hasDue } from '../../../engine/streams/group-policy.ts';
import {
  type ConsumerRef,
  claimIdleEntries,
  Delivery,
  redeliver,
} from '../../../engine/streams/stream-deliveries.ts';
import { findGroup, seeConsumer } from '../../../engine/streams/stream-groups.ts';
import { isDamage } from '../../../stream/block/block-damage.ts';
import { IdList } from '../../../stream/id-list.ts';
import type { Stream } from '../../../stream/stream.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import { StreamIterator } from '../../../stream/stream-iterator.ts';
import { Arguments } from '../../../util/arguments.ts';
import { scratch, scratchRecord } from '../../../util/scratch.ts';
import type { Command } from '../../command/command.ts';
import type { BlockingWait, Session } from '../../connection/session.ts';
import { deadlineIn } from '../common.ts';
import { LAST_ID, writeEntry } from './stream-entry-reply.ts';
import { noGroupToRead } from './stream-errors.ts';
import { isCharacter, readStrictId } from './stream-ids.ts';
import { readStream, valueIn } from './stream-lookup.ts';
import { ReadOptions, readKeys } from './stream-read-options.ts';
import { ReadReply } from './stream-read-reply.ts';

const DOLLAR = 36;
const PLUS = 43;
const GREATER = 62;
/** A reader that would claim entries of any age looks for new ones this often, ms. */
const LEAST_WAIT_TO_CLAIM = 10;
/**
 * With CLAIM, pending entries that one turn may find gone from the stream, over all streams of the call.
 * Where there are more the call continues in the next turn: other clients' commands run in between.
 */
const MOST_GONE = 25_000;

function read(session: Session, forGroup: boolean): void {
  if (!options.read(session, forGroup)) return;
  if (resolve(session, forGroup) && !serve(session, forGroup)) {
    if (session.denyBlocking || (options.block < 0 && !continues())) session.reply.nullArray();
    else wait(session, forGroup);
  }
  forget();
}

// --- What is asked for ---

/** Fills `sources`. Returns false after an error. */
function resolve(session: Session, forGroup: boolean): boolean {
  const { args } = session;
  for (let i = 0; i < options.streams; i++) {
    const key = options.keysAt + i;
    const entry = readStream(session, key);
    if (entry === null) return false;
    if (i === sources.length) sources.push(new Source());
    const source = sources[i];
    source.entry = entry;
    source.group = undefined;
    source.unfinished = false;
    if (forGroup) {
      const group =
        entry === undefined ? undefined : findGroup(valueIn(entry), args, options.groupAt);
      if (group === undefined) {
        noGroupToRead(session, key, options.groupAt);
        return false;
      }
      source.group = group;
    }
    if (!resolveId(session, forGroup, options.idsAt + i, source)) return false;
  }
  return true;
}

function resolveId(session: Session, forGroup: boolean, at: number, source: Source): boolean {
  const { args, reply } = session;
  const { after, entry } = source;
  const dollar = isCharacter(args, at, DOLLAR);
  if (dollar || isCharacter(args, at, PLUS)) {
    if (forGroup) {
      reply.error(meaninglessForGroups(dollar ? '$' : '+'));
      return false;
    }
    after.setMin();
    if (entry === undefined) return true;
    const { stream } = valueIn(entry);
    if (dollar) after.copy(stream.lastId);
    // The last entry itself is wanted, so what comes after its predecessor.
    else if (stream.lastNonDeletedId(after)) after.decrement();
    return true;
  }
  if (isCharacter(args, at, GREATER)) {
    if (!forGroup) {
      reply.error(ONLY_WITH_GROUP);
      return false;
    }
    after.setMax();
    return true;
  }
  return readStrictId(session, at, after);
}

const ONLY_WITH_GROUP =
  'ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.';

function meaninglessForGroups(id: '$' | '+'): string {
  return (
    `ERR The ${id} ID is meaningless in the context of XREADGROUP: you want to read the history of ` +
    'this consumer by specifying a proper ID, or use the > ID to get new messages. ' +
    `The ${id} ID would just return an empty result set.`
  );
}

/** One of the streams of a call. */
class Source {
  entry: KeyEntry | undefined;
  /** XREADGROUP's. */
  group: ConsumerGroup | undefined;
  /** Wanted is what comes after it; the greatest id means `>`. */
  readonly after = new StreamId();
  /** There may be more that is due than one search has seen. */
  unfinished = false;
}

/** Whether the search for something to claim has come to no end: it continues in the next turn. */
function continues(): boolean {
  for (let i = 0; i < options.streams; i++) {
    if (sources[i].unfinished && sources[i].group?.policy === null) return true;
  }
  return false;
}

/** The scratch must not keep a stream in memory that may be deleted before the next call. */
function forget(): void {
  for (let i = 0; i < options.streams && i < sources.length; i++) {
    sources[i].entry = undefined;
    sources[i].group = undefined;
  }
  output.stream = undefined;
}

// --- Replying ---

/** Replies with what there is; false, with nothing written, where there is nothing. */
function serve(session: Session, forGroup: boolean): boolean {
  output.begin(session);
  handOvers.left = options.handover < 0 ? Number.POSITIVE_INFINITY : options.handover;
  // As in Redis a history read ends claiming for the streams after it, too.
  output.claim = options.claim;
  // Within MULTI there is no later turn.
  looks.left = session.denyBlocking ? Number.POSITIVE_INFINITY : MOST_GONE;
  for (let i = 0; i < options.streams && !output.full && !output.complete; i++) {
    if (sources[i].entry === undefined) continue;
    try {
      if (forGroup) serveGroup(session, i);
      else serveStream(session, i);
    } catch (error) {
      // The client gets what was delivered before the damage; its next read meets the damage at once.
      if (!isDamage(error) || !output.endEarly()) throw error;
      break;
    }
  }
  return output.end();
}

function serveStream(session: Session, i: number): void {
  const { entry, after } = sources[i];
  const { stream } = valueIn(entry as KeyEntry);
  if (!hasEntriesAfter(stream, after)) return;
  output.beginStream(session, options.keysAt + i);
  start.copy(after).increment();
  iterator.seek(stream, start, LAST_ID);
  while (!output.full && iterator.next()) {
    writeEntry(session.reply, iterator);
    output.count();
  }
  output.endStream();
}

function serveGroup(session: Session, i: number): void {
  const { engine } = session;
  const source = sources[i];
  const entry = source.entry as KeyEntry;
  const group = source.group as ConsumerGroup;
  const value = valueIn(entry);
  const history = !source.after.isMax();
  turn.database = session.database;
  turn.entry = entry;
  turn.value = value;
  output.stream = value.stream;
  turn.group = group;
  turn.consumer = seeConsumer(session.database, entry, group, session.args, options.groupAt + 1);
  const { policy } = group;
  const { claim } = output;
  const minIdle = claim >= 0 || policy === null ? claim : policy.ackWait;
  source.unfinished = false;
  gone.clear();
  const claims =
    !history &&
    minIdle >= 0 &&
    (policy === null
      ? findIdle(source, minIdle, engine.steady)
      : findDue(source, minIdle, engine.steady));
  const news = !history && hasEntriesAfter(value.stream, group.lastId);
  if (history) output.claim = -1;
  if (!history && !claims && !news && gone.count === 0) return;
  output.beginStream(session, options.keysAt + i);
  for (let j = 0; j < gone.count; j++) output.deleted(gone.get(j, start));
  if (history) {
    redeliver(turn, source.after, output.limit, engine.steady, output);
  } else {
    const limit = output.limit || Number.POSITIVE_INFINITY;
    if (claims && policy === null) {
      claimIdleEntries(turn, minIdle, limit, looks, engine.steady, output);
    } else if (claims) {
      const budget = options.handover < 0 ? null : handOvers;
      deliverDue(turn, minIdle, limit, engine.steady, output, budget);
    }
    if (news && !output.full) deliverNews(session);
  }
  output.endStream();
}

function findIdle(source: Source, minIdle: number, now: number): boolean {
  const { group, value } = turn;
  const found = canClaimIdle(group, value.stream, minIdle, looks, now);
  source.unfinished = found === 'unfinished';
  return found === 'due';
}

function findDue(source: Source, minIdle: number, now: number): boolean {
  const found = hasDue(turn, minIdle, now, options.handover < 0 ? null : gone);
  source.unfinished = found === 'unfinished';
  return found === 'due';
}

function deliverNews(session: Session): void {
  start.copy(turn.group.lastId).increment();
  iterator.seek(turn.value.stream, start, LAST_ID);
  let counts = true;
  delivery.begin(turn, options.noAck, session.engine.steady);
  let delivered = 0;
  try {
    while (!output.full && iterator.next()) {
      if (counts && handOvers.left-- <= 0) {
        counts = false;
        delivery.end();
        delivery.begin(turn, options.noAck, session.engine.steady, 0);
      }
      output.fresh(iterator, counts);
      delivery.deliver(iterator.id);
      output.count();
      delivered++;
    }
  } catch (error) {
    // The consumer gets what is before the damage; its next read meets the damage at once.
    if (delivered === 0 || !isDamage(error)) throw error;
  } finally {
    delivery.end();
  }
}

function hasEntriesAfter(stream: Stream, id: StreamId): boolean {
  // Most often nothing was ever added behind it, and the last entry need not be looked for.
  if (stream.length === 0 || stream.lastId.compare(id) <= 0) return false;
  stream.lastNonDeletedId(last);
  return last.compare(id) > 0;
}

// --- Waiting ---

function wait(session: Session, forGroup: boolean): void {
  const { args, engine } = session;
  const keys: Buffer[] = [];
  for (let i = 0; i < options.streams; i++) keys.push(args.copy(options.keysAt + i));
  // One that does not block waits only for the turns in which it continues.
  const deadline = deadlineIn(engine, Math.max(options.block, 0));
  keepResolved(session);
  session.block(new Reader(session, keys, deadline, forGroup));
}

/** `$` means what was last when the call came, so that is what the kept copy of the call has to say. */
function keepResolved(session: Session): void {
  const { args } = session;
  let resolved: (Buffer | string)[] | undefined;
  for (let i = 0; i < options.streams; i++) {
    const at = options.idsAt + i;
    if (!isCharacter(args, at, DOLLAR)) continue;
    resolved ??= Array.from({ length: args.count }, (_, n) => args.view(n));
    resolved[at] = sources[i].after.toString();
  }
  if (resolved !== undefined) session.args = Arguments.of(...resolved);
}

class Reader implements BlockingWait {
  readonly database: Session['database'];
  readonly keys: readonly Buffer[];
  readonly deadline: number;
  wakeAt: number;
  readonly #forGroup: boolean;
  /** What it waits for, so that a look needs no arguments: ids, by stream; null = its last entry. */
  readonly #after: (StreamId | null)[] = [];
  /** As latin1; '' for XREAD. */
  readonly #group: string;
  readonly #claim: number;

  constructor(session: Session, keys: readonly Buffer[], deadline: number, forGroup: boolean) {
    this.database = session.database;
    this.keys = keys;
    this.deadline = deadline;
    this.#forGroup = forGroup;
    this.#group = forGroup ? session.args.latin1(options.groupAt) : '';
    this.#claim = options.claim;
    for (let i = 0; i < options.streams; i++) {
      const isLast = isCharacter(session.args, options.idsAt + i, PLUS);
      this.#after.push(isLast ? null : sources[i].after.clone());
    }
    this.wakeAt = nextClaim(session);
  }

  ready(): boolean {
    const { engine } = this.database;
    let next = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.keys.length; i++) {
      const value = this.database.findKey(this.keys[i])?.value;
      const after = this.#after[i];
      if (!this.#forGroup) {
        if (value?.type !== 'stream' || value.stream.length === 0) continue;
        if (after === null || value.stream.lastId.compare(after) > 0) return true;
        continue;
      }
      const group = value?.type === 'stream' ? value.groups.get(this.#group) : undefined;
      // Without the group it fails, and its own history there always is.
      if (value?.type !== 'stream' || group === undefined || after?.isMax() !== true) return true;
      if (value.stream.lastId.compare(group.lastId) > 0) return true;
      const minIdle = this.#claim >= 0 ? this.#claim : (group.policy?.ackWait ?? -1);
      if (minIdle < 0) continue;
      if (group.pending.order.hasDue(minIdle, engine.steady)) return true;
      next = Math.min(next, nextClaimOf(group, minIdle, engine.steady));
    }
    this.wakeAt = engine.time.whenSteady(next);
    return false;
  }

  retry(session: Session): boolean {
    const done = this.#again(session);
    forget();
    return done;
  }

  #again(session: Session): boolean {
    if (!options.read(session, this.#forGroup)) return true;
    // XREAD goes on waiting while its keys are missing or hold something else; XREADGROUP fails.
    if (!this.#forGroup && !canServe(session)) return false;
    if (!resolve(session, this.#forGroup) || serve(session, this.#forGroup)) return true;
    if (options.block < 0 && !continues()) {
      session.reply.nullArray();
      return true;
    }
    this.wakeAt = nextClaim(session);
    return false;
  }

  timedOut(session: Session): void {
    session.reply.nullArray();
  }
}

/** Whether one of XREAD's keys holds a stream with something to read, whatever the others hold. */
function canServe(session: Session): boolean {
  const { args, database } = session;
  const after = new StreamId();
  for (let i = 0; i < options.streams; i++) {
    const value = database.find(args, options.keysAt + i)?.value;
    if (value?.type !== 'stream' || value.stream.length === 0) continue;
    const at = options.idsAt + i;
    if (isCharacter(args, at, PLUS)) return true;
    const known = after.read(args.buffer, args.offsets[at], args.lengths[at]);
    if (known && hasEntriesAfter(value.stream, after)) return true;
  }
  return false;
}

/** Monotonic ms at which there may be something to claim; Infinity without CLAIM and policies. */
function nextClaim(session: Session): number {
  const { steady: now, time } = session.engine;
  let next = Number.POSITIVE_INFINITY;
  for (let i = 0; i < options.streams; i++) {
    const { group, unfinished } = sources[i];
    if (unfinished) return time.monotonic;
    const minIdle = options.claim >= 0 ? options.claim : (group?.policy?.ackWait ?? -1);
    if (group === undefined || minIdle < 0) continue;
    next = Math.min(next, nextClaimOf(group, minIdle, now));
  }
  return time.whenSteady(next);
}

/** By the steady date. What is delivered from now on is old enough only later. */
function nextClaimOf(group: ConsumerGroup, minIdle: number, now: number): number {
  const later = now + Math.max(minIdle, LEAST_WAIT_TO_CLAIM);
  return Math.min(later, group.pending.order.nextIdleAt(minIdle, now));
}

// Scratch: never held across commands.
const options = new ReadOptions();
const sources: Source[] = [];
const output = new ReadReply(options);
const iterator = scratch(new StreamIterator());
const delivery = new Delivery();
const start = new StreamId();
/** Pending entries of the present stream that were found gone before anything was due. */
const gone = new IdList();
const last = new StreamId();
const turn = scratchRecord({} as ConsumerRef);
/** What is left of HANDOVER over all streams of the call. */
const handOvers: HandOverBudget = { left: 0 };
const looks: LookBudget = { left: 0 };

export const streamReadCommands: readonly Command[] = [
  {
    name: 'xread',
    arity: -4,
    flags: ['readonly', 'blocking', 'movablekeys'],
    keys: readKeys(1),
    group: 'stream',
    since: '5.0.0',
    summary: 'Returns entries of one or more streams after given ids; waits until there are any.',
    complexity: 'O(N) for each stream, N being the number of entries returned.',
    run: (session) => read(session, false),
  },
  {
    name: 'xreadgroup',
    arity: -7,
    flags: ['write', 'blocking', 'movablekeys'],
    keys: readKeys(4),
    group: 'stream',
    since: '5.0.0',
    summary: 'Returns new entries, or pending ones, to a consumer of a group.',
    complexity: 'O(N) for each stream, N being the number of entries returned.',
    run: (session) => read(session, true),
  },
];
