/**
 * XCLAIM and XAUTOCLAIM: pending entries change hands.
 *
 * Sources: xclaimCommand, xautoclaimCommand. The rules of claiming are in consumer-groups/claim.ts.
 */
import type { AutoClaimOptions, ClaimOptions, ClaimSink } from '../../../consumer-groups/claim.ts';
import { countFrom } from '../../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../../consumer-groups/group.ts';
import type { PendingCursor } from '../../../consumer-groups/pending/pending-cursor.ts';
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import {
  autoClaimEntries,
  type ConsumerRef,
  claimEntries,
} from '../../../engine/streams/stream-deliveries.ts';
import { findGroup, seeConsumer, setGroupId } from '../../../engine/streams/stream-groups.ts';
import { IdList } from '../../../stream/id-list.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import { scratchRecord } from '../../../util/scratch.ts';
import type { Whole } from '../../../util/whole.ts';
import type { Command } from '../../command/command.ts';
import { keyAt, UPDATED_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import type { Reply } from '../../output/reply.ts';
import { SYNTAX } from '../common.ts';
import { findEntry, writeEntry } from './stream-entry-reply.ts';
import { noGroup } from './stream-errors.ts';
import { readIntervalStart, readStrictId, tryReadId } from './stream-ids.ts';
import { findStream, valueIn } from './stream-lookup.ts';
import { keepOwned } from './stream-owner.ts';

/** LONG_MAX over the sixteen bytes of an id: Redis's bound of XAUTOCLAIM's COUNT. */
const LARGEST_COUNT = 2 ** 59 - 1;

function claim(session: Session): void {
  const { args, database, engine, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null) return;
  const group = entry === undefined ? undefined : findGroup(valueIn(entry), args, 2);
  if (entry === undefined || group === undefined) {
    noGroup(session, 1, 2);
    return;
  }
  const minIdle = args.integer(4);
  if (minIdle === null) {
    reply.error('ERR Invalid min-idle-time argument for XCLAIM');
    return;
  }
  options.minIdle = Math.max(minIdle, 0);
  ids.clear();
  let at = 5;
  for (; at < args.count && tryReadId(args, at, id); at++) ids.push(id);
  if (!readClaimOptions(session, at, group)) return;
  if (ownerAt > 0) keepOwned(session, group, ids, ownerAt);
  if (id.compare(group.lastId) > 0) setGroupId(database, entry, group, id, group.entriesRead);
  beginTurn(session, entry, group);
  const mark = reply.deferred();
  sink.begin(reply, options.justId);
  claimEntries(turn, ids, options, engine.steady, sink);
  reply.setLength(mark, sink.length);
}

/** What follows the ids; LASTID, 0-0 where it is not given, in `id`. Returns false after an error. */
function readClaimOptions(session: Session, from: number, group: ConsumerGroup): boolean {
  const { args, engine, reply } = session;
  options.retryCount = -1;
  options.force = false;
  options.justId = false;
  ownerAt = 0;
  id.setMin();
  let time = -1;
  for (let i = from; i < args.count; i++) {
    const more = i + 1 < args.count;
    if (args.is(i, 'FORCE')) {
      options.force = true;
    } else if (args.is(i, 'JUSTID')) {
      options.justId = true;
    } else if (more && args.is(i, 'LASTID')) {
      if (!readStrictId(session, ++i, id)) return false;
    } else if (more && args.is(i, 'OWNER')) {
      ownerAt = ++i;
    } else {
      const option = more ? TAKES_INTEGER.find((name) => args.is(i, name)) : undefined;
      if (option === undefined) {
        reply.errorBytes(`ERR Unrecognized XCLAIM option '${args.latin1(i)}'`);
        return false;
      }
      const value = args.integer(++i);
      if (value === null) {
        reply.error(`ERR Invalid ${option} option argument for XCLAIM`);
        return false;
      }
      if (option === 'RETRYCOUNT') {
        const count = args.whole(i) as Whole;
        options.retryCount = count < 0 ? -1 : countFrom(count);
      } else time = option === 'IDLE' ? engine.steady - value : value - engine.time.stepped;
    }
  }
  // A client's clock may be ahead of ours: what cannot be becomes now. In a group with a policy it can
  // be: the entry is due so much later (IDLE below 0).
  const { steady } = engine;
  const latest = group.policy === null ? steady : steady + LONGEST_AHEAD;
  options.time = time < 0 || time > latest ? steady : time;
  return true;
}

/** A hundred years, in ms. */
const LONGEST_AHEAD = 100 * 366 * 86_400_000;
/** The argument after OWNER; 0 where there is none. */
let ownerAt = 0;

const TAKES_INTEGER = ['IDLE', 'TIME', 'RETRYCOUNT'] as const;

function autoClaim(session: Session): void {
  const { args, engine, reply } = session;
  const minIdle = args.integer(4);
  if (minIdle === null) {
    reply.error('ERR Invalid min-idle-time argument for XAUTOCLAIM');
    return;
  }
  autoOptions.minIdle = Math.max(minIdle, 0);
  if (!readIntervalStart(session, 5, id) || !readAutoClaimOptions(session)) return;
  const entry = findStream(session, 1);
  if (entry === null) return;
  const group = entry === undefined ? undefined : findGroup(valueIn(entry), args, 2);
  if (entry === undefined || group === undefined) {
    noGroup(session, 1, 2);
    return;
  }
  beginTurn(session, entry, group);
  deleted.clear();
  reply.array(3);
  // The cursor comes first in the reply and is known last: claimed ids are kept until then.
  claimed.clear();
  autoClaimEntries(turn, id, autoOptions, engine.steady, id, collector);
  reply.id(id);
  writeClaimed(reply);
  reply.array(deleted.count);
  for (let i = 0; i < deleted.count; i++) reply.id(deleted.get(i, id));
}

function readAutoClaimOptions(session: Session): boolean {
  const { args, reply } = session;
  autoOptions.count = 100;
  autoOptions.justId = false;
  for (let i = 6; i < args.count; i++) {
    if (args.is(i, 'COUNT') && i + 1 < args.count) {
      const count = args.integer(++i);
      if (count === null || count < 1 || count > LARGEST_COUNT) {
        reply.error('ERR COUNT must be > 0');
        return false;
      }
      autoOptions.count = count;
    } else if (args.is(i, 'JUSTID')) {
      autoOptions.justId = true;
    } else {
      reply.error(SYNTAX);
      return false;
    }
  }
  return true;
}

function writeClaimed(reply: Reply): void {
  const { justId } = autoOptions;
  const mark = reply.deferred();
  sink.begin(reply, justId);
  for (let i = 0; i < claimed.count; i++) sink.write(claimed.get(i, other));
  reply.setLength(mark, sink.length);
}

function beginTurn(session: Session, entry: KeyEntry, group: ConsumerGroup): void {
  turn.database = session.database;
  turn.entry = entry;
  turn.value = valueIn(entry);
  turn.group = group;
  turn.consumer = seeConsumer(session.database, entry, group, session.args, 3);
}

/** Writes what is claimed: ids alone, or whole entries. */
class ReplySink implements ClaimSink {
  length = 0;
  #reply: Reply | undefined;
  #justId = false;

  begin(reply: Reply, justId: boolean): void {
    this.length = 0;
    this.#reply = reply;
    this.#justId = justId;
  }

  claimed(entry: PendingCursor): void {
    this.write(entry.id);
  }

  deleted(): void {}

  write(claimedId: StreamId): void {
    const reply = this.#reply as Reply;
    if (this.#justId) {
      reply.id(claimedId);
      this.length++;
      return;
    }
    const entry = findEntry(turn.value.stream, claimedId);
    if (entry === undefined) return;
    writeEntry(reply, entry);
    this.length++;
  }
}

// Scratch: never held across commands.
const id = new StreamId();
const other = new StreamId();
const ids = new IdList();
const claimed = new IdList();
const deleted = new IdList();
const sink = new ReplySink();
const collector: ClaimSink = {
  claimed: (entry) => claimed.push(entry.id),
  deleted: (gone) => deleted.push(gone),
};
const turn = scratchRecord({} as ConsumerRef);
const options: ClaimOptions = {
  minIdle: 0,
  time: 0,
  retryCount: -1,
  force: false,
  justId: false,
};
const autoOptions: AutoClaimOptions = { minIdle: 0, count: 100, justId: false };

export const streamClaimCommands: readonly Command[] = [
  {
    name: 'xclaim',
    arity: -6,
    flags: ['write', 'fast'],
    keys: UPDATED_KEY,
    group: 'stream',
    since: '5.0.0',
    summary: 'Gives pending entries to a consumer, as if they had been delivered to it.',
    complexity: 'O(log N) for each entry, N being the number of pending entries of the group.',
    run: claim,
  },
  {
    name: 'xautoclaim',
    arity: -6,
    flags: ['write', 'fast'],
    keys: keyAt(1, 'RW', 'delete'),
    group: 'stream',
    since: '6.2.0',
    summary: 'Gives pending entries that have been idle for long to a consumer.',
    complexity: 'O(1) if COUNT is small.',
    run: autoClaim,
  },
];
