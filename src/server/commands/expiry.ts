/**
 * When keys expire: EXPIRE and its variants, TTL and its variants, PERSIST.
 *
 * Invariant: a key that is set to expire in the past is deleted at once, with the record of a deletion.
 * Source: Redis 7.0 expire.c.
 */
import { EventClass } from '../../engine/keyspace/keyspace-events.ts';
import type { Command, CommandFlag } from '../command/command.ts';
import { READ_KEY, UPDATED_KEY } from '../command/key-specs.ts';
import type { Session } from '../connection/session.ts';
import { readTime, type TimeUnit } from './common.ts';

interface Conditions {
  nx: boolean;
  xx: boolean;
  gt: boolean;
  lt: boolean;
}

const conditions: Conditions = { nx: false, xx: false, gt: false, lt: false };

/** Reads NX, XX, GT, LT; false, with the error replied, when they are wrong or contradict each other. */
function readConditions(session: Session): boolean {
  const { args, reply } = session;
  conditions.nx = conditions.xx = conditions.gt = conditions.lt = false;
  for (let i = 3; i < args.count; i++) {
    if (args.is(i, 'NX')) conditions.nx = true;
    else if (args.is(i, 'XX')) conditions.xx = true;
    else if (args.is(i, 'GT')) conditions.gt = true;
    else if (args.is(i, 'LT')) conditions.lt = true;
    else {
      reply.error(`ERR Unsupported option ${args.text(i)}`);
      return false;
    }
  }
  const { nx, xx, gt, lt } = conditions;
  if (nx && (xx || gt || lt)) {
    reply.error('ERR NX and XX, GT or LT options at the same time are not compatible');
    return false;
  }
  if (gt && lt) {
    reply.error('ERR GT and LT options at the same time are not compatible');
    return false;
  }
  return true;
}

/** Whether the conditions allow a key that expires at `present` (0 = never) to expire at `time` instead. */
function mayChange(present: number, time: number): boolean {
  const { nx, xx, gt, lt } = conditions;
  if (nx && present !== 0) return false;
  if (xx && present === 0) return false;
  if (gt && (present === 0 || time <= present)) return false;
  return !(lt && present !== 0 && time >= present);
}

function expire(session: Session, unit: TimeUnit, command: string): void {
  const { args, database, engine, reply } = session;
  if (!readConditions(session)) return;
  const time = readTime(session, 2, unit, command, false);
  if (time === null) return;
  const entry = database.find(args, 1);
  if (entry === undefined || !mayChange(entry.expireAt, time)) {
    reply.integer(0);
    return;
  }
  if (time <= engine.now) {
    database.remove(entry);
  } else {
    database.setExpiry(entry, time);
    database.notify(EventClass.GENERIC, 'expire', entry.key);
  }
  reply.integer(1);
}

/** The milliseconds left (or, with `absolute`, the time itself) in units of `unit` ms. */
function timeLeft(session: Session, unit: number, absolute: boolean): void {
  const { args, database, engine, reply } = session;
  const entry = database.peek(args, 1);
  if (entry === undefined) {
    reply.integer(-2);
  } else if (entry.expireAt === 0) {
    reply.integer(-1);
  } else {
    const ms = absolute ? entry.expireAt : Math.max(0, entry.expireAt - engine.now);
    reply.integer(unit === 1 ? ms : Math.floor((ms + 500) / 1000));
  }
}

function persist(session: Session): void {
  const { args, database, reply } = session;
  const entry = database.find(args, 1);
  const had = entry !== undefined && entry.expireAt !== 0;
  if (had) {
    database.setExpiry(entry, 0);
    database.notify(EventClass.GENERIC, 'persist', entry.key);
  }
  reply.integer(had ? 1 : 0);
}

const WRITE: readonly CommandFlag[] = ['write', 'fast'];
const READ: readonly CommandFlag[] = ['readonly', 'fast'];

function expireRow(name: string, unit: TimeUnit, since: string, summary: string): Command {
  return {
    name,
    arity: -3,
    flags: WRITE,
    keys: UPDATED_KEY,
    group: 'generic',
    since,
    summary,
    complexity: 'O(log N) of keys that expire',
    run: (session) => expire(session, unit, name),
  };
}

function timeRow(
  name: string,
  unit: number,
  absolute: boolean,
  since: string,
  summary: string,
): Command {
  return {
    name,
    arity: 2,
    flags: READ,
    keys: READ_KEY,
    group: 'generic',
    since,
    summary,
    complexity: 'O(1)',
    run: (session) => timeLeft(session, unit, absolute),
  };
}

export const expiryCommands: readonly Command[] = [
  expireRow('expire', 'EX', '1.0.0', 'Lets a key expire after the given seconds.'),
  expireRow('expireat', 'EXAT', '1.2.0', 'Lets a key expire at a Unix time in seconds.'),
  expireRow('pexpire', 'PX', '2.6.0', 'Lets a key expire after the given milliseconds.'),
  expireRow('pexpireat', 'PXAT', '2.6.0', 'Lets a key expire at a Unix time in milliseconds.'),
  timeRow('expiretime', 1000, true, '7.0.0', 'Gives the Unix second at which a key expires.'),
  timeRow('pexpiretime', 1, true, '7.0.0', 'Gives the Unix millisecond at which a key expires.'),
  timeRow('pttl', 1, false, '2.6.0', 'Gives the milliseconds until a key expires.'),
  timeRow('ttl', 1000, false, '1.0.0', 'Gives the seconds until a key expires.'),
  {
    name: 'persist',
    arity: 2,
    flags: WRITE,
    keys: UPDATED_KEY,
    group: 'generic',
    since: '2.2.0',
    summary: 'Lets a key never expire.',
    complexity: 'O(log N) of keys that expire',
    run: persist,
  },
];
