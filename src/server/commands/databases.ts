/**
 * Whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB.
 *
 * Flushing replaces the keyspace and leaves the old one to the garbage collector, so ASYNC and SYNC
 * are equal. Source: Redis 7.0 db.c.
 */
import type { Command } from '../command/command.ts';
import type { Session } from '../connection/session.ts';
import { DB_OUT_OF_RANGE, isFlushMode, SYNTAX } from './common.ts';

function flush(session: Session, all: boolean): void {
  const { args, database, engine, reply } = session;
  if (args.count > 2 || (args.count === 2 && !isFlushMode(args, 1))) {
    reply.error(SYNTAX);
    return;
  }
  if (all) engine.flushAll();
  else database.flush();
  reply.ok();
}

function swap(session: Session): void {
  const { args, engine, reply } = session;
  const { databases } = engine;
  const indices = [args.integer(1), args.integer(2)];
  for (const [i, index] of indices.entries()) {
    if (index === null || Math.abs(index) > 0x7fff_ffff) {
      reply.error(`ERR invalid ${i === 0 ? 'first' : 'second'} DB index`);
      return;
    }
  }
  const [a, b] = indices.map((index) => databases[index as number]);
  if (a === undefined || b === undefined) {
    reply.error(DB_OUT_OF_RANGE);
    return;
  }
  engine.swap(a, b);
  reply.ok();
}

export const databaseCommands: readonly Command[] = [
  {
    name: 'dbsize',
    arity: 1,
    flags: ['readonly', 'fast'],
    group: 'server',
    since: '1.0.0',
    summary: 'Counts the keys of the database.',
    complexity: 'O(1)',
    categories: ['keyspace'],
    run: (session) => session.reply.integer(session.database.size),
  },
  {
    name: 'flushall',
    arity: -1,
    flags: ['write'],
    group: 'server',
    since: '1.0.0',
    summary: 'Removes every key of every database.',
    complexity: 'O(1); memory and disk are given back later',
    categories: ['keyspace', 'dangerous'],
    run: (session) => flush(session, true),
  },
  {
    name: 'flushdb',
    arity: -1,
    flags: ['write'],
    group: 'server',
    since: '1.0.0',
    summary: 'Removes every key of the database.',
    complexity: 'O(1); memory and disk are given back later',
    categories: ['keyspace', 'dangerous'],
    run: (session) => flush(session, false),
  },
  {
    name: 'swapdb',
    arity: 3,
    flags: ['write', 'fast'],
    group: 'server',
    since: '4.0.0',
    summary: 'Lets two databases exchange all their keys.',
    complexity: 'O(N) of keys that are watched or waited for',
    categories: ['keyspace', 'dangerous'],
    run: swap,
  },
];
