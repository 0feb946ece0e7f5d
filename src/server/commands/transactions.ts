/**
 * MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 *
 * The records of one EXEC stand in one frame of the log: nothing is flushed while it runs, so after a
 * crash all of its effects are there or none. Source: Redis 7.0 multi.c.
 */
import type { Command } from '../command.ts';
import { everyKey } from '../key-specs.ts';
import type { Session } from '../session.ts';
import { Transaction } from '../transaction.ts';

function multi(session: Session): void {
  const transaction = Transaction.of(session);
  if (transaction.active) {
    session.reply.error('ERR MULTI calls can not be nested');
    return;
  }
  transaction.begin();
  session.reply.ok();
}

function exec(session: Session): void {
  const { reply } = session;
  const { transaction } = session;
  if (!(transaction instanceof Transaction) || !transaction.active) {
    reply.error('ERR EXEC without MULTI');
    return;
  }
  transaction.expireWatched();
  const { refused, dirty } = transaction;
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
  const transaction = Transaction.of(session);
  if (transaction.active) {
    reply.error('ERR WATCH inside MULTI is not allowed');
    return;
  }
  for (let i = 1; i < args.count; i++) transaction.watch(database, args.copy(i));
  reply.ok();
}

function unwatch(session: Session): void {
  if (session.transaction instanceof Transaction) session.transaction.unwatch();
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
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'skip_slowlog'],
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
    summary: 'Lets the next EXEC fail when one of the keys changes before.',
    complexity: 'O(N) of keys',
    run: watch,
  },
];
