/**
 * MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 *
 * The records of one EXEC are in one frame of the log, because nothing is flushed while it runs: after a
 * crash all of its effects are there or none. Source: Redis 7.0 multi.c.
 * `EXEC IFLAST key id [key id ...]` is not Redis's: the queue runs only if each stream's last generated id
 * is the one given. It needs no WATCH, so it works across a reconnect.
 */
import { isLastId } from '../../engine/streams/last-id.ts';
import { StreamId } from '../../stream/stream-id.ts';
import type { Command } from '../command/command.ts';
import { everyKey } from '../command/key-specs.ts';
import { Transaction } from '../command/transaction.ts';
import type { Session } from '../connection/session.ts';
import { SYNTAX } from './common.ts';
import { readStrictId } from './stream/stream-ids.ts';
import { findStream, valueIn } from './stream/stream-lookup.ts';

/** The session's own; made at its first MULTI or WATCH. */
function transactionOf(session: Session): Transaction {
  session.transaction ??= new Transaction();
  return session.transaction;
}

function multi(session: Session): void {
  const transaction = transactionOf(session);
  if (transaction.active) {
    session.reply.error('ERR MULTI calls can not be nested');
    return;
  }
  transaction.begin();
  session.reply.ok();
}

function exec(session: Session): void {
  const { reply, transaction } = session;
  if (transaction === null || !transaction.active) {
    reply.error('ERR EXEC without MULTI');
    return;
  }
  transaction.expireWatched();
  const { refused } = transaction;
  let { dirty } = transaction;
  if (!refused && session.args.count > 1) {
    const holds = conditionsHold(session);
    if (holds === null) {
      transaction.discard();
      return;
    }
    dirty ||= !holds;
  }
  const queue = transaction.take();
  transaction.unwatch();
  if (refused) {
    reply.error('EXECABORT Transaction discarded because of previous errors.');
    return;
  }
  if (dirty) {
    reply.nullArray();
    return;
  }
  const { args } = session;
  reply.array(queue.length);
  for (const queued of queue) session.execute(queued.command, queued.args);
  session.args = args;
}

/** Whether the conditions of `EXEC IFLAST key id ...` hold; null after an error. All conditions are read before one is evaluated. */
function conditionsHold(session: Session): boolean | null {
  const { args, reply } = session;
  if (!args.is(1, 'IFLAST') || args.count < 4 || args.count % 2 === 1) {
    reply.error(SYNTAX);
    return null;
  }
  let holds = true;
  for (let i = 2; i < args.count; i += 2) {
    const entry = findStream(session, i);
    if (entry === null || !readStrictId(session, i + 1, id)) return null;
    holds &&= isLastId(entry && valueIn(entry), id);
  }
  return holds;
}

// Scratch: never held across commands.
const id = new StreamId();

function discard(session: Session): void {
  const { transaction, reply } = session;
  if (transaction === null || !transaction.active) {
    reply.error('ERR DISCARD without MULTI');
    return;
  }
  transaction.discard();
  reply.ok();
}

function watch(session: Session): void {
  const { args, database, reply } = session;
  const transaction = transactionOf(session);
  if (transaction.active) {
    reply.error('ERR WATCH inside MULTI is not allowed');
    return;
  }
  for (let i = 1; i < args.count; i++) transaction.watch(database, args.copy(i));
  reply.ok();
}

function unwatch(session: Session): void {
  session.transaction?.unwatch();
  session.reply.ok();
}

export const transactionCommands: readonly Command[] = [
  {
    name: 'discard',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'fast', 'allow_busy'],
    group: 'transactions',
    since: '2.0.0',
    summary: 'Forgets the commands queued since MULTI.',
    complexity: 'O(N) of queued commands',
    run: discard,
  },
  {
    name: 'exec',
    arity: -1,
    flags: ['noscript', 'loading', 'stale', 'skip_slowlog'],
    keys: { first: 2, last: -1, step: 2, flags: ['RO', 'access'] },
    group: 'transactions',
    since: '1.2.0',
    summary: 'Runs the commands queued since MULTI as one step.',
    complexity: 'as the queued commands',
    run: exec,
  },
  {
    name: 'multi',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'fast', 'allow_busy'],
    group: 'transactions',
    since: '1.2.0',
    summary: 'Begins to queue commands for EXEC.',
    complexity: 'O(1)',
    run: multi,
  },
  {
    name: 'unwatch',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'fast', 'allow_busy'],
    group: 'transactions',
    since: '2.2.0',
    summary: 'Forgets all watched keys.',
    complexity: 'O(N) of watched keys',
    run: unwatch,
  },
  {
    name: 'watch',
    arity: -2,
    flags: ['noscript', 'loading', 'stale', 'fast', 'allow_busy'],
    keys: everyKey('RO'),
    group: 'transactions',
    since: '2.2.0',
    summary: 'Makes the next EXEC fail if one of the keys changes before it.',
    complexity: 'O(N) of keys',
    run: watch,
  },
];
