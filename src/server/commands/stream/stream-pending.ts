/**
 * XPENDING: entries that a group has delivered and that are not acknowledged.
 *
 * Source: xpendingCommand.
 */
import { type PendingQuery, scanPending } from '../../../consumer-groups/claim.ts';
import { countValue } from '../../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../../consumer-groups/group.ts';
import type { PendingCursor } from '../../../consumer-groups/pending/pending-cursor.ts';
import { findConsumer, findGroup } from '../../../engine/streams/stream-groups.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import type { Command } from '../../command/command.ts';
import { READ_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { NOT_AN_INTEGER, SYNTAX } from '../common.ts';
import { noGroup } from './stream-errors.ts';
import { readIntervalEnd, readIntervalStart } from './stream-ids.ts';
import { readStream, valueIn } from './stream-lookup.ts';

function pending(session: Session): void {
  const { args, engine, reply } = session;
  const detailed = args.count > 3;
  if (detailed && (args.count < 6 || args.count > 9)) {
    reply.error(SYNTAX);
    return;
  }
  if (detailed && !readQuery(session)) return;
  const entry = readStream(session, 1);
  if (entry === null) return;
  const group = entry === undefined ? undefined : findGroup(valueIn(entry), args, 2);
  if (group === undefined) {
    noGroup(session, 1, 2);
    return;
  }
  if (!detailed) {
    writeSummary(session, group);
    return;
  }
  query.consumer = null;
  if (consumerAt < args.count) {
    const consumer = findConsumer(group, args, consumerAt);
    if (consumer === undefined) {
      reply.array(0);
      return;
    }
    query.consumer = consumer;
  }
  const mark = reply.deferred();
  const length = scanPending(group, query, engine.steady, (at, idle) => {
    writePending(session, group, at, idle);
  });
  reply.setLength(mark, length);
}

/** `[IDLE ms] start end count [consumer]`. Returns false after an error. */
function readQuery(session: Session): boolean {
  const { args, reply } = session;
  let at = 3;
  query.minIdle = 0;
  if (args.is(3, 'IDLE')) {
    const minIdle = args.integer(4);
    if (minIdle === null || args.count < 8) {
      reply.error(minIdle === null ? NOT_AN_INTEGER : SYNTAX);
      return false;
    }
    query.minIdle = minIdle;
    at = 5;
  }
  const count = args.integer(at + 2);
  if (count === null) {
    reply.error(NOT_AN_INTEGER);
    return false;
  }
  query.count = Math.max(count, 0);
  consumerAt = at + 3;
  return readIntervalStart(session, at, query.start) && readIntervalEnd(session, at + 1, query.end);
}

/** How many, the first and the last id, and how many each consumer has. */
function writeSummary(session: Session, group: ConsumerGroup): void {
  const { reply } = session;
  const { pending: list } = group;
  reply.array(4);
  reply.integer(list.size);
  if (list.size === 0) {
    reply.null();
    reply.null();
    reply.nullArray();
    return;
  }
  list.min(query.start);
  reply.id(query.start);
  list.max(query.end);
  reply.id(query.end);
  const mark = reply.deferred();
  let length = 0;
  for (const consumer of group.consumers()) {
    if (consumer.pendingCount === 0) continue;
    reply.array(2);
    reply.bulk(consumer.name);
    reply.bulkText(String(consumer.pendingCount));
    length++;
  }
  reply.setLength(mark, length);
}

function writePending(
  session: Session,
  group: ConsumerGroup,
  at: PendingCursor,
  idle: number,
): void {
  const { reply } = session;
  const owner = group.consumerAt(at.consumer);
  reply.array(4);
  reply.id(at.id);
  if (owner === undefined) reply.bulkText('');
  else reply.bulk(owner.name);
  reply.integer(owner === undefined ? -1 : idle);
  reply.integer(countValue(at.count));
}

// Scratch: never held across commands.
const query: PendingQuery = {
  start: new StreamId(),
  end: new StreamId(),
  count: 0,
  consumer: null,
  minIdle: 0,
};
let consumerAt = 0;

export const streamPendingCommands: readonly Command[] = [
  {
    name: 'xpending',
    arity: -3,
    flags: ['readonly'],
    keys: READ_KEY,
    group: 'stream',
    since: '5.0.0',
    summary: 'Returns the pending entries of a group, or a summary of them.',
    complexity:
      'O(N), N being the number of entries returned; O(1) for a summary of few consumers.',
    run: pending,
  },
];
