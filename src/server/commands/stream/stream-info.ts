/**
 * XINFO: streams, groups and consumers as maps.
 *
 * Source: xinfoCommand; the fields of Redis 8.8, in its order.
 */
import type { Consumer } from '../../../consumer-groups/consumer.ts';
import { countValue } from '../../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../../consumer-groups/group.ts';
import { lagOf, UNKNOWN_READ } from '../../../consumer-groups/lag.ts';
import { PendingCursor } from '../../../consumer-groups/pending/pending-cursor.ts';
import { findGroup, groupsInOrder } from '../../../engine/streams/stream-groups.ts';
import type { StreamValue } from '../../../engine/streams/stream-value.ts';
import type { Stream } from '../../../stream/stream.ts';
import { StreamIterator } from '../../../stream/stream-iterator.ts';
import { scratch } from '../../../util/scratch.ts';
import { signed64 } from '../../../util/whole.ts';
import type { Command } from '../../command/command.ts';
import { keyAt } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import type { Reply } from '../../output/reply.ts';
import { NO_SUCH_KEY, NOT_AN_INTEGER, replyHelp, wrongSubcommand } from '../common.ts';
import { FIRST_ID, LAST_ID, writeEntry, writeRange } from './stream-entry-reply.ts';
import { noGroupForKey } from './stream-errors.ts';
import { readStream, valueIn } from './stream-lookup.ts';

function stream(session: Session): void {
  const { engine, reply } = session;
  const value = findValue(session);
  if (value === undefined) return;
  const count = readFull(session);
  if (count === undefined) return;
  reply.map(count === null ? 16 : 15);
  writeHead(session, value);
  if (count === null) {
    reply.bulkText('groups');
    reply.integer(value.groups.size);
    writeEdge(reply, 'first-entry', value.stream, false);
    writeEdge(reply, 'last-entry', value.stream, true);
    return;
  }
  reply.bulkText('entries');
  writeRange(reply, value.stream, FIRST_ID, LAST_ID, count, false);
  reply.bulkText('groups');
  reply.array(value.groups.size);
  for (const group of groupsInOrder(value)) {
    writeWholeGroup(reply, value.stream, group, count, engine.time.stepped);
  }
}

/** How many entries FULL shows of each list (0 = all); null without FULL; undefined after an error. */
function readFull(session: Session): number | null | undefined {
  const { args, reply } = session;
  if (args.count === 3) return null;
  const hasCount = args.count === 6 && args.is(4, 'COUNT');
  if (!args.is(3, 'FULL') || (args.count !== 4 && !hasCount)) {
    wrongSubcommand(session, 'XINFO');
    return undefined;
  }
  if (!hasCount) return SHOWN;
  const count = args.integer(5);
  if (count === null) {
    reply.error(NOT_AN_INTEGER);
    return undefined;
  }
  return count < 0 ? SHOWN : count;
}

const SHOWN = 10;

function writeHead(session: Session, value: StreamValue): void {
  const { engine, reply } = session;
  const { idempotency } = value;
  const window = idempotency ?? engine.idempotencyWindow;
  reply.bulkText('length');
  reply.integer(value.stream.length);
  reply.bulkText('radix-tree-keys');
  reply.integer(value.stream.radixTreeKeys);
  reply.bulkText('radix-tree-nodes');
  reply.integer(value.stream.radixTreeNodes);
  reply.bulkText('last-generated-id');
  reply.id(value.stream.lastId);
  reply.bulkText('max-deleted-entry-id');
  reply.id(value.stream.maxDeletedId);
  reply.bulkText('entries-added');
  reply.integer(signed64(value.stream.entriesAdded));
  reply.bulkText('recorded-first-entry-id');
  reply.id(value.stream.firstId);
  reply.bulkText('idmp-duration');
  reply.integer(window.duration);
  reply.bulkText('idmp-maxsize');
  reply.integer(window.maxsize);
  reply.bulkText('pids-tracked');
  reply.integer(idempotency?.pidsTracked ?? 0);
  reply.bulkText('iids-tracked');
  reply.integer(idempotency?.iidsTracked ?? 0);
  reply.bulkText('iids-added');
  reply.integer(idempotency?.iidsAdded ?? 0);
  reply.bulkText('iids-duplicates');
  reply.integer(idempotency?.iidsDuplicates ?? 0);
}

function writeEdge(reply: Reply, name: string, ofStream: Stream, reverse: boolean): void {
  reply.bulkText(name);
  iterator.seek(ofStream, FIRST_ID, LAST_ID, reverse);
  if (iterator.next()) writeEntry(reply, iterator);
  else reply.null();
}

function writeWholeGroup(
  reply: Reply,
  ofStream: Stream,
  group: ConsumerGroup,
  count: number,
  stepped: number,
): void {
  reply.map(8);
  reply.bulkText('name');
  reply.bulk(group.name);
  reply.bulkText('last-delivered-id');
  reply.id(group.lastId);
  writeProgress(reply, ofStream, group);
  reply.bulkText('pel-count');
  reply.integer(group.pending.size);
  reply.bulkText('nacked-count');
  reply.integer(group.nackedCount);
  reply.bulkText('pending');
  writePending(reply, group, null, count, stepped);
  reply.bulkText('consumers');
  reply.array(group.consumerCount);
  for (const consumer of group.consumers()) {
    reply.map(5);
    reply.bulkText('name');
    reply.bulk(consumer.name);
    reply.bulkText('seen-time');
    reply.integer(consumer.seenTime + stepped);
    reply.bulkText('active-time');
    reply.integer(consumer.activeTime === -1 ? -1 : consumer.activeTime + stepped);
    reply.bulkText('pel-count');
    reply.integer(consumer.pendingCount);
    reply.bulkText('pending');
    writePending(reply, group, consumer, count, stepped);
  }
}

/** Pending entries with their owners, or those of one consumer without. */
function writePending(
  reply: Reply,
  group: ConsumerGroup,
  consumer: Consumer | null,
  count: number,
  stepped: number,
): void {
  const mark = reply.deferred();
  const { pending } = group;
  let length = 0;
  let more =
    consumer === null
      ? pending.seek(FIRST_ID, cursor)
      : pending.seekConsumer(consumer.index, FIRST_ID, cursor);
  while (more) {
    const isReleased = group.consumerAt(cursor.consumer) === undefined;
    reply.array(consumer === null ? 4 : 3);
    reply.id(cursor.id);
    if (consumer === null) {
      const owner = group.consumerAt(cursor.consumer);
      if (owner === undefined) reply.bulkText('');
      else reply.bulk(owner.name);
    }
    // As in Redis, a released entry has the delivery time 0.
    reply.integer(isReleased ? 0 : cursor.time + stepped);
    reply.integer(countValue(cursor.count));
    if (++length === count) break;
    more = consumer === null ? cursor.next() : cursor.nextOf(consumer.index);
  }
  reply.setLength(mark, length);
}

function writeProgress(reply: Reply, ofStream: Stream, group: ConsumerGroup): void {
  reply.bulkText('entries-read');
  if (group.entriesRead === UNKNOWN_READ) reply.null();
  else reply.integer(signed64(group.entriesRead));
  const lag = lagOf(ofStream, group);
  reply.bulkText('lag');
  if (lag === null) reply.null();
  else reply.integer(signed64(lag));
}

function groups(session: Session): void {
  const { reply } = session;
  const value = findValue(session);
  if (value === undefined) return;
  reply.array(value.groups.size);
  for (const group of groupsInOrder(value)) {
    reply.map(6);
    reply.bulkText('name');
    reply.bulk(group.name);
    reply.bulkText('consumers');
    reply.integer(group.consumerCount);
    reply.bulkText('pending');
    reply.integer(group.pending.size);
    reply.bulkText('last-delivered-id');
    reply.id(group.lastId);
    writeProgress(reply, value.stream, group);
  }
}

function consumers(session: Session): void {
  const { args, engine, reply } = session;
  const value = findValue(session);
  if (value === undefined) return;
  const group = findGroup(value, args, 3);
  if (group === undefined) {
    noGroupForKey(session, 2, 3);
    return;
  }
  reply.array(group.consumerCount);
  for (const consumer of group.consumers()) {
    const { activeTime } = consumer;
    reply.map(4);
    reply.bulkText('name');
    reply.bulk(consumer.name);
    reply.bulkText('pending');
    reply.integer(consumer.pendingCount);
    reply.bulkText('idle');
    reply.integer(Math.max(engine.steady - consumer.seenTime, 0));
    reply.bulkText('inactive');
    reply.integer(activeTime === -1 ? -1 : engine.steady - activeTime);
  }
}

/** The stream of the key; undefined after an error. */
function findValue(session: Session): StreamValue | undefined {
  const entry = readStream(session, 2);
  if (entry === undefined) session.reply.error(NO_SUCH_KEY);
  return entry ? valueIn(entry) : undefined;
}

// Scratch: never held across commands.
const iterator = scratch(new StreamIterator());
const cursor = scratch(new PendingCursor());

const KEY = keyAt(2, 'RO', 'access');

export const streamInfoCommands: readonly Command[] = [
  {
    name: 'xinfo',
    arity: -2,
    flags: [],
    group: 'stream',
    since: '5.0.0',
    summary: 'A container for commands that show streams.',
    subcommands: [
      row('consumers', 4, 'Returns the consumers of a group.', consumers),
      row('groups', 3, 'Returns the groups of a stream.', groups),
      {
        name: 'xinfo|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'stream',
        since: '5.0.0',
        summary: 'Returns helpful text about the subcommands.',
        run: (session) => replyHelp(session, 'XINFO', HELP),
      },
      row('stream', -3, 'Returns what is known about a stream.', stream),
    ],
  },
];

function row(
  name: string,
  arity: number,
  summary: string,
  run: (session: Session) => void,
): Command {
  return {
    name: `xinfo|${name}`,
    arity,
    flags: ['readonly'],
    keys: KEY,
    group: 'stream',
    since: '5.0.0',
    summary,
    complexity: 'O(1) for each item returned.',
    run,
  };
}

const HELP = [
  'CONSUMERS <key> <groupname>',
  '    Show consumers of <groupname>.',
  'GROUPS <key>',
  '    Show the stream consumer groups.',
  'STREAM <key> [FULL [COUNT <count>]',
  '    Show information about the stream.',
];
