/**
 * Strings: GET, SET and their variants. Other files: numbers (string-numbers.ts, string-floats.ts), parts
 * (string-parts.ts), several at once (string-many.ts), conditions (string-conditions.ts), LCS (lcs.ts).
 *
 * Invariant: a write passes whole values and absolute times to the engine, so that the log holds effects,
 * whatever the options were. Source: Redis 7.0 t_string.c.
 */

import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import { EventClass } from '../../../engine/keyspace/keyspace-events.ts';
import type { Command } from '../../command/command.ts';
import { type KeySpec, KNOWN_KEY, keyAt, READ_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import {
  MAX_STRING,
  pastTime,
  readString,
  readTime,
  SYNTAX,
  type TimeUnit,
  TOO_LONG,
  timeUnitAt,
  WRONG_TYPE,
} from '../common.ts';
import { lcsCommands } from './lcs.ts';
import {
  conditionAt,
  conditionCommands,
  holds,
  type StringCondition,
} from './string-conditions.ts';
import { manyCommands } from './string-many.ts';
import { partCommands } from './string-parts.ts';

/** SET reads the value only with GET or a condition on it. */
const SET_KEY: KeySpec = {
  ...keyAt(1, 'RW', 'access', 'update', 'variable_flags'),
  notes: 'RW and ACCESS due to the optional `GET` argument',
  flagsOf(args) {
    for (let i = 3; i < args.count; i++) {
      if (args.is(i, 'GET') || conditionAt(args, i) !== undefined)
        return ['RW', 'access', 'update'];
    }
    return ['OW', 'update'];
  },
};

/** The options of SET and GETEX, read into one scratch object. */
interface StringOptions {
  condition: '' | 'NX' | 'XX' | StringCondition;
  /** The argument that a condition compares with. */
  compared: number;
  get: boolean;
  keepTtl: boolean;
  persist: boolean;
  unit: '' | TimeUnit;
  /** The argument with the time. */
  time: number;
}

const options: StringOptions = {
  condition: '',
  compared: 0,
  get: false,
  keepTtl: false,
  persist: false,
  unit: '',
  time: 0,
};

/** Reads options from argument `from` on; false, with the error replied, when they are wrong. */
function readOptions(session: Session, from: number, forGet: boolean): boolean {
  const { args } = session;
  options.condition = options.unit = '';
  options.get = options.keepTtl = options.persist = false;
  for (let i = from; i < args.count; i++) {
    const timeless = options.unit === '' && !options.persist && !options.keepTtl;
    const condition: StringOptions['condition'] = options.condition;
    const comparison: StringCondition | undefined =
      forGet || condition !== '' ? undefined : conditionAt(args, i);
    if (!forGet && args.is(i, 'NX') && (condition === '' || condition === 'NX')) {
      options.condition = 'NX';
    } else if (!forGet && args.is(i, 'XX') && (condition === '' || condition === 'XX')) {
      options.condition = 'XX';
    } else if (comparison !== undefined && i + 1 < args.count) {
      options.condition = comparison;
      options.compared = ++i;
    } else if (!forGet && args.is(i, 'GET')) options.get = true;
    else if (!forGet && args.is(i, 'KEEPTTL') && (timeless || options.keepTtl)) {
      options.keepTtl = true;
    } else if (forGet && args.is(i, 'PERSIST') && (timeless || options.persist)) {
      options.persist = true;
    } else {
      const unit = timeUnitAt(args, i);
      // The same unit may be given twice, the later one counts; two different ones are an error.
      if (unit === '' || i + 1 >= args.count || !(timeless || options.unit === unit)) {
        session.reply.error(SYNTAX);
        return false;
      }
      options.unit = unit;
      options.time = ++i;
    }
  }
  return true;
}

/** Stores this value and expiry under the key, whatever it held. */
function store(session: Session, entry: KeyEntry | undefined, i: number, expireAt: number): void {
  const { args, database } = session;
  const bytes = args.copy(i);
  if (entry === undefined) database.set(args.view(1), { type: 'string', bytes }, expireAt);
  else database.setString(entry, bytes, expireAt);
}

/** As `store`, with the keyspace events of SET. `given`: the command had a time. */
function storeAndNotify(
  session: Session,
  entry: KeyEntry | undefined,
  i: number,
  expireAt: number,
  given: boolean,
): void {
  store(session, entry, i, expireAt);
  const { args, database, engine } = session;
  if (engine.events === null) return;
  database.notify(EventClass.STRING, 'set', args.view(1));
  if (given) database.notify(EventClass.GENERIC, 'expire', args.view(1));
}

function replyValue(session: Session, entry: KeyEntry | undefined): void {
  if (entry === undefined || entry.value.type !== 'string') session.reply.null();
  else session.reply.bulk(entry.value.bytes);
}

function set(session: Session): void {
  const { args, database, reply } = session;
  if (args.count === 3) {
    storeAndNotify(session, database.find(args, 1), 2, 0, false);
    reply.ok();
    return;
  }
  if (!readOptions(session, 3, false)) return;
  let expireAt = 0;
  if (options.unit !== '') {
    const time = readTime(session, options.time, options.unit, 'set', true);
    if (time === null) return;
    expireAt = time;
  }
  const entry = database.find(args, 1);
  if (options.get && entry !== undefined && entry.value.type !== 'string') {
    reply.error(WRONG_TYPE);
    return;
  }
  const met = isMet(session, entry);
  if (met === null) return;
  if (options.get) replyValue(session, entry);
  if (!met) {
    if (!options.get) reply.null();
    return;
  }
  if (options.keepTtl && entry !== undefined) expireAt = entry.expireAt;
  storeAndNotify(session, entry, 2, expireAt, options.unit !== '');
  if (!options.get) reply.ok();
}

/** Whether the condition of SET holds; null, with the error replied, when it cannot be evaluated. */
function isMet(session: Session, entry: KeyEntry | undefined): boolean | null {
  const { condition, compared } = options;
  if (condition === '') return true;
  if (condition === 'NX' || condition === 'XX')
    return (entry === undefined) === (condition === 'NX');
  return holds(session, condition, compared, entry?.value);
}

function setWithTime(session: Session, unit: TimeUnit, command: string): void {
  const time = readTime(session, 2, unit, command, true);
  if (time === null) return;
  storeAndNotify(session, session.database.find(session.args, 1), 3, time, true);
  session.reply.ok();
}

function setIfAbsent(session: Session): void {
  const { args, database, reply } = session;
  const absent = database.find(args, 1) === undefined;
  if (absent) storeAndNotify(session, undefined, 2, 0, false);
  reply.integer(absent ? 1 : 0);
}

function get(session: Session): void {
  const entry = readString(session, 1);
  if (entry !== null) replyValue(session, entry);
}

function getSet(session: Session): void {
  const entry = readString(session, 1);
  if (entry === null) return;
  replyValue(session, entry);
  storeAndNotify(session, entry, 2, 0, false);
}

function getAndDelete(session: Session): void {
  const entry = readString(session, 1);
  if (entry === null) return;
  replyValue(session, entry);
  if (entry !== undefined) session.database.remove(entry);
}

function getAndExpire(session: Session): void {
  const { database, engine } = session;
  if (!readOptions(session, 2, true)) return;
  const entry = readString(session, 1);
  if (entry === null) return;
  if (entry === undefined) {
    session.reply.null();
    return;
  }
  let time: number | null = 0;
  if (options.unit !== '') {
    time = readTime(session, options.time, options.unit, 'getex', true);
    if (time === null) return;
  }
  replyValue(session, entry);
  if (time !== 0) {
    if (time <= engine.now) {
      database.remove(entry);
    } else {
      database.setExpiry(entry, pastTime(time));
      database.notify(EventClass.GENERIC, 'expire', entry.key);
    }
  } else if (options.persist && entry.expireAt !== 0) {
    database.setExpiry(entry, 0);
    database.notify(EventClass.GENERIC, 'persist', entry.key);
  }
}

function append(session: Session): void {
  const { args, database, reply } = session;
  const entry = database.find(args, 1);
  if (entry === undefined) {
    store(session, undefined, 2, 0);
    database.notify(EventClass.STRING, 'append', args.view(1));
    reply.integer(args.lengths[2]);
    return;
  }
  const { value } = entry;
  if (value.type !== 'string') {
    reply.error(WRONG_TYPE);
    return;
  }
  if (value.bytes.length + args.lengths[2] > MAX_STRING) {
    reply.error(TOO_LONG);
    return;
  }
  database.append(entry, value, args.view(2));
  database.notify(EventClass.STRING, 'append', entry.key);
  reply.integer(value.bytes.length);
}

function length(session: Session): void {
  const entry = readString(session, 1);
  if (entry === null) return;
  session.reply.integer(entry?.value.type === 'string' ? entry.value.bytes.length : 0);
}

const ownCommands: readonly Command[] = [
  {
    name: 'append',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    keys: keyAt(1, 'RW', 'insert'),
    group: 'string',
    since: '2.0.0',
    summary: 'Appends to a string, which is created when it is missing.',
    complexity: 'O(N) of the whole string in memory, O(1) in the log',
    run: append,
  },
  {
    name: 'get',
    arity: 2,
    flags: ['readonly', 'fast'],
    keys: READ_KEY,
    group: 'string',
    since: '1.0.0',
    summary: 'Gives the string of a key.',
    complexity: 'O(1)',
    run: get,
  },
  {
    name: 'getdel',
    arity: 2,
    flags: ['write', 'fast'],
    keys: keyAt(1, 'RW', 'access', 'delete'),
    group: 'string',
    since: '6.2.0',
    summary: 'Gives the string of a key and removes the key.',
    complexity: 'O(1)',
    run: getAndDelete,
  },
  {
    name: 'getex',
    arity: -2,
    flags: ['write', 'fast'],
    keys: {
      ...keyAt(1, 'RW', 'access', 'update'),
      notes: 'RW and UPDATE because it changes the TTL',
    },
    group: 'string',
    since: '6.2.0',
    summary: 'Gives the string of a key and may change when the key expires.',
    complexity: 'O(1)',
    run: getAndExpire,
  },
  {
    name: 'getset',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'string',
    since: '1.0.0',
    summary: 'Sets a string and gives what it was before.',
    complexity: 'O(1)',
    run: getSet,
  },
  {
    name: 'psetex',
    arity: 4,
    flags: ['write', 'denyoom'],
    keys: keyAt(1, 'OW', 'update'),
    group: 'string',
    since: '2.6.0',
    summary: 'Sets a string that expires after the given milliseconds.',
    complexity: 'O(1)',
    run: (session) => setWithTime(session, 'PX', 'psetex'),
  },
  {
    name: 'set',
    arity: -3,
    flags: ['write', 'denyoom'],
    keys: SET_KEY,
    group: 'string',
    since: '1.0.0',
    summary: 'Sets a string, whatever the key held before.',
    complexity: 'O(1)',
    run: set,
  },
  {
    name: 'setex',
    arity: 4,
    flags: ['write', 'denyoom'],
    keys: keyAt(1, 'OW', 'update'),
    group: 'string',
    since: '2.0.0',
    summary: 'Sets a string that expires after the given seconds.',
    complexity: 'O(1)',
    run: (session) => setWithTime(session, 'EX', 'setex'),
  },
  {
    name: 'setnx',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    keys: keyAt(1, 'OW', 'insert'),
    group: 'string',
    since: '1.0.0',
    summary: 'Sets a string, unless the key exists.',
    complexity: 'O(1)',
    run: setIfAbsent,
  },
  {
    name: 'strlen',
    arity: 2,
    flags: ['readonly', 'fast'],
    keys: KNOWN_KEY,
    group: 'string',
    since: '2.2.0',
    summary: 'Gives the length of a string in bytes.',
    complexity: 'O(1)',
    run: length,
  },
];

export const stringCommands: readonly Command[] = [
  ...ownCommands,
  ...manyCommands,
  ...partCommands,
  ...conditionCommands,
  ...lcsCommands,
];
