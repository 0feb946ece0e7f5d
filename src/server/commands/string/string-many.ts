/**
 * Several strings at once: MGET, MSET, MSETNX, MSETEX.
 *
 * Source: Redis 7.0 t_string.c; MSETEX: the behaviour of Redis 8.4 to 8.10.
 */
import { EventClass } from '../../../engine/keyspace/keyspace-events.ts';
import type { Arguments } from '../../../util/arguments.ts';
import type { Command } from '../../command/command.ts';
import { everyKey, type KeySpec } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { readTime, SYNTAX, type TimeUnit, timeUnitAt, wrongArity } from '../common.ts';

const LARGEST_COUNT = 0x7fff_ffff;

/** The keys after a count of them, each with its value. */
const COUNTED_PAIRS: KeySpec = {
  first: 0,
  last: 0,
  step: 2,
  flags: ['OW', 'update'],
  find(args: Arguments): number[] {
    const count = args.integer(1) ?? 0;
    const keys: number[] = [];
    for (let i = 2; i + 1 < args.count && keys.length < count; i += 2) keys.push(i);
    return keys;
  },
};

function multiGet(session: Session): void {
  const { args, database, reply } = session;
  reply.array(args.count - 1);
  for (let i = 1; i < args.count; i++) {
    const value = database.read(args, i)?.value;
    if (value?.type !== 'string') reply.null();
    else reply.bulk(value.bytes);
  }
}

/** Sets the pairs of arguments [from, to). */
function setPairs(
  session: Session,
  from: number,
  to: number,
  expireAt: number,
  keepTtl: boolean,
): void {
  const { args, database } = session;
  for (let i = from; i < to; i += 2) {
    const bytes = args.copy(i + 1);
    const entry = database.find(args, i);
    const until = keepTtl ? (entry?.expireAt ?? 0) : expireAt;
    if (entry === undefined) database.set(args.view(i), { type: 'string', bytes }, until);
    else database.setString(entry, bytes, until);
    database.notify(EventClass.STRING, 'set', args.view(i));
    if (expireAt !== 0) database.notify(EventClass.GENERIC, 'expire', args.view(i));
  }
}

function mset(session: Session): void {
  const { args } = session;
  if (args.count % 2 === 0) {
    wrongArity(session, 'mset');
    return;
  }
  setPairs(session, 1, args.count, 0, false);
  session.reply.ok();
}

function msetnx(session: Session): void {
  const { args, reply } = session;
  if (args.count % 2 === 0) {
    wrongArity(session, 'msetnx');
    return;
  }
  if (isAnyThere(session, 1, args.count)) {
    reply.integer(0);
    return;
  }
  setPairs(session, 1, args.count, 0, false);
  reply.integer(1);
}

function isAnyThere(session: Session, from: number, to: number): boolean {
  for (let i = from; i < to; i += 2) {
    if (session.database.find(session.args, i) !== undefined) return true;
  }
  return false;
}

function areAllThere(session: Session, from: number, to: number): boolean {
  for (let i = from; i < to; i += 2) {
    if (session.database.find(session.args, i) === undefined) return false;
  }
  return true;
}

function msetex(session: Session): void {
  const { args, reply } = session;
  const count = args.integer(1);
  if (count === null || count < 1 || count > LARGEST_COUNT) {
    reply.error('ERR invalid numkeys value');
    return;
  }
  const end = 2 + count * 2;
  if (end > args.count) {
    reply.error('ERR wrong number of key-value pairs');
    return;
  }
  if (!readOptions(session, end)) return;
  let expireAt = 0;
  if (unit !== '') {
    const time = readTime(session, timeAt, unit, 'msetex', true);
    if (time === null) return;
    expireAt = time;
  }
  const refused =
    (condition === 'NX' && isAnyThere(session, 2, end)) ||
    (condition === 'XX' && !areAllThere(session, 2, end));
  if (!refused) setPairs(session, 2, end, expireAt, keepTtl);
  reply.integer(refused ? 0 : 1);
}

// The options of MSETEX.
let condition: '' | 'NX' | 'XX' = '';
let keepTtl = false;
let unit: '' | TimeUnit = '';
let timeAt = 0;

function readOptions(session: Session, from: number): boolean {
  const { args } = session;
  condition = unit = '';
  keepTtl = false;
  for (let i = from; i < args.count; i++) {
    const given = timeUnitAt(args, i);
    if (args.is(i, 'NX') && condition !== 'XX') condition = 'NX';
    else if (args.is(i, 'XX') && condition !== 'NX') condition = 'XX';
    else if (args.is(i, 'KEEPTTL') && unit === '') keepTtl = true;
    else if (given !== '' && i + 1 < args.count && !keepTtl && (unit === '' || unit === given)) {
      unit = given;
      timeAt = ++i;
    } else {
      session.reply.error(SYNTAX);
      return false;
    }
  }
  return true;
}

export const manyCommands: readonly Command[] = [
  {
    name: 'mget',
    arity: -2,
    flags: ['readonly', 'fast'],
    keys: everyKey('RO', 'access'),
    group: 'string',
    since: '1.0.0',
    summary: 'Gives the strings of several keys.',
    complexity: 'O(N) of keys',
    run: multiGet,
  },
  {
    name: 'mset',
    arity: -3,
    flags: ['write', 'denyoom'],
    keys: { ...everyKey('OW', 'update'), step: 2 },
    group: 'string',
    since: '1.0.1',
    summary: 'Sets several strings at once.',
    complexity: 'O(N) of keys',
    run: mset,
  },
  {
    name: 'msetex',
    arity: -4,
    flags: ['write', 'denyoom', 'movablekeys'],
    keys: COUNTED_PAIRS,
    group: 'string',
    since: '8.4.0',
    summary: 'Sets several strings at once with one time to expire, if none or all of them exist.',
    complexity: 'O(N) of keys',
    run: msetex,
  },
  {
    name: 'msetnx',
    arity: -3,
    flags: ['write', 'denyoom'],
    keys: { ...everyKey('OW', 'insert'), step: 2 },
    group: 'string',
    since: '1.0.1',
    summary: 'Sets several strings at once, unless one of the keys exists.',
    complexity: 'O(N) of keys',
    run: msetnx,
  },
];
