/**
 * Strings: GET, SET and their kin. Numbers have a file of their own (string-numbers.ts).
 *
 * Invariant: a write hands the engine whole values and absolute times; what it journals is therefore
 * the effect, whatever the options were. Source: Redis 7.0 t_string.c.
 */

import type { KeyEntry } from '../../engine/key-entry.ts';
import { EventClass } from '../../engine/keyspace-events.ts';
import type { Command } from '../command.ts';
import { everyKey, type KeySpec, KNOWN_KEY, keyAt, READ_KEY } from '../key-specs.ts';
import type { Session } from '../session.ts';
import {
  NOT_AN_INTEGER,
  pastTime,
  readString,
  readTime,
  SYNTAX,
  type TimeUnit,
  WRONG_TYPE,
  wrongArity,
} from './common.ts';

/** Longest string: Redis's proto-max-bulk-len default. */
const MAX_LENGTH = 512 * 1024 * 1024;
const EMPTY = Buffer.alloc(0);
/** SET reads the value only with GET. */
const SET_KEY: KeySpec = {
  ...keyAt(1, 'RW', 'access', 'update', 'variable_flags'),
  notes: 'RW and ACCESS due to the optional `GET` argument',
  flagsOf(args) {
    for (let i = 3; i < args.count; i++) if (args.is(i, 'GET')) return ['RW', 'access', 'update'];
    return ['OW', 'update'];
  },
};

/** The options of SET and GETEX, read into one scratch object. */
interface StringOptions {
  /** NX or XX. */
  condition: '' | 'NX' | 'XX';
  get: boolean;
  keepTtl: boolean;
  persist: boolean;
  unit: '' | TimeUnit;
  /** The argument with the time. */
  time: number;
}

const options: StringOptions = {
  condition: '',
  get: false,
  keepTtl: false,
  persist: false,
  unit: '',
  time: 0,
};

/** Reads options from argument `from` on; false, with the error replied, where they are wrong. */
function readOptions(session: Session, from: number, forGet: boolean): boolean {
  const { args } = session;
  options.condition = options.unit = '';
  options.get = options.keepTtl = options.persist = false;
  for (let i = from; i < args.count; i++) {
    const timeless = options.unit === '' && !options.persist && !options.keepTtl;
    if (!forGet && args.is(i, 'NX') && options.condition !== 'XX') options.condition = 'NX';
    else if (!forGet && args.is(i, 'XX') && options.condition !== 'NX') options.condition = 'XX';
    else if (!forGet && args.is(i, 'GET')) options.get = true;
    else if (!forGet && args.is(i, 'KEEPTTL') && (timeless || options.keepTtl)) {
      options.keepTtl = true;
    } else if (forGet && args.is(i, 'PERSIST') && (timeless || options.persist)) {
      options.persist = true;
    } else {
      const unit = unitAt(session, i);
      // The same unit may come twice, the later one counts; two different ones may not.
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

function unitAt(session: Session, i: number): '' | TimeUnit {
  const { args } = session;
  if (args.is(i, 'EX')) return 'EX';
  if (args.is(i, 'PX')) return 'PX';
  if (args.is(i, 'EXAT')) return 'EXAT';
  return args.is(i, 'PXAT') ? 'PXAT' : '';
}

/** Gives the key this value and expiry, whatever it held. */
function store(session: Session, entry: KeyEntry | undefined, i: number, expireAt: number): void {
  const { args, database } = session;
  const bytes = args.copy(i);
  if (entry === undefined) database.set(args.view(1), { type: 'string', bytes }, expireAt);
  else database.setString(entry, bytes, expireAt);
}

/** As `store`, told as what SET does: `given` says that the command came with a time. */
function storeAndTell(
  session: Session,
  entry: KeyEntry | undefined,
  i: number,
  expireAt: number,
  given: boolean,
): void {
  store(session, entry, i, expireAt);
  const { args, database, engine } = session;
  if (engine.events === null) return;
  database.tell(EventClass.STRING, 'set', args.view(1));
  if (given) database.tell(EventClass.GENERIC, 'expire', args.view(1));
}

function replyValue(session: Session, entry: KeyEntry | undefined): void {
  if (entry === undefined || entry.value.type !== 'string') session.reply.null();
  else session.reply.bulk(entry.value.bytes);
}

function set(session: Session): void {
  const { args, database, reply } = session;
  if (args.count === 3) {
    storeAndTell(session, database.find(args, 1), 2, 0, false);
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
  if (options.get) {
    if (entry !== undefined && entry.value.type !== 'string') {
      reply.error(WRONG_TYPE);
      return;
    }
    replyValue(session, entry);
  }
  if (options.condition === 'NX' ? entry !== undefined : options.condition && entry === undefined) {
    if (!options.get) reply.null();
    return;
  }
  if (options.keepTtl && entry !== undefined) expireAt = entry.expireAt;
  storeAndTell(session, entry, 2, expireAt, options.unit !== '');
  if (!options.get) reply.ok();
}

function setWithTime(session: Session, unit: TimeUnit, command: string): void {
  const time = readTime(session, 2, unit, command, true);
  if (time === null) return;
  storeAndTell(session, session.database.find(session.args, 1), 3, time, true);
  session.reply.ok();
}

function setIfAbsent(session: Session): void {
  const { args, database, reply } = session;
  const absent = database.find(args, 1) === undefined;
  if (absent) storeAndTell(session, undefined, 2, 0, false);
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
  storeAndTell(session, entry, 2, 0, false);
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
      database.tell(EventClass.GENERIC, 'expire', entry.key);
    }
  } else if (options.persist && entry.expireAt !== 0) {
    database.setExpiry(entry, 0);
    database.tell(EventClass.GENERIC, 'persist', entry.key);
  }
}

function multiGet(session: Session): void {
  const { args, database, reply } = session;
  reply.array(args.count - 1);
  for (let i = 1; i < args.count; i++) replyValue(session, database.read(args, i));
}

function multiSet(session: Session): void {
  const { args, database } = session;
  for (let i = 1; i < args.count; i += 2) {
    const bytes = args.copy(i + 1);
    const entry = database.find(args, i);
    if (entry === undefined) database.set(args.view(i), { type: 'string', bytes }, 0);
    else database.setString(entry, bytes, 0);
    database.tell(EventClass.STRING, 'set', args.view(i));
  }
}

function mset(session: Session): void {
  if (session.args.count % 2 === 0) {
    wrongArity(session, 'mset');
    return;
  }
  multiSet(session);
  session.reply.ok();
}

function msetnx(session: Session): void {
  const { args, database, reply } = session;
  if (args.count % 2 === 0) {
    wrongArity(session, 'msetnx');
    return;
  }
  for (let i = 1; i < args.count; i += 2) {
    if (database.find(args, i) !== undefined) {
      reply.integer(0);
      return;
    }
  }
  multiSet(session);
  reply.integer(1);
}

function append(session: Session): void {
  const { args, database, reply } = session;
  const entry = database.find(args, 1);
  if (entry === undefined) {
    store(session, undefined, 2, 0);
    database.tell(EventClass.STRING, 'append', args.view(1));
    reply.integer(args.lengths[2]);
    return;
  }
  const { value } = entry;
  if (value.type !== 'string') {
    reply.error(WRONG_TYPE);
    return;
  }
  if (value.bytes.length + args.lengths[2] > MAX_LENGTH) {
    reply.error('ERR string exceeds maximum allowed size (proto-max-bulk-len)');
    return;
  }
  database.append(entry, value, args.view(2));
  database.tell(EventClass.STRING, 'append', entry.key);
  reply.integer(value.bytes.length);
}

function length(session: Session): void {
  const entry = readString(session, 1);
  if (entry === null) return;
  session.reply.integer(entry?.value.type === 'string' ? entry.value.bytes.length : 0);
}

function getRange(session: Session): void {
  const { args, reply } = session;
  let start = args.integer(2);
  let end = args.integer(3);
  if (start === null || end === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  const entry = readString(session, 1);
  if (entry === null) return;
  const bytes = entry?.value.type === 'string' ? entry.value.bytes : EMPTY;
  if (start < 0 && end < 0 && start > end) {
    reply.bulk(EMPTY);
    return;
  }
  if (start < 0) start = Math.max(0, bytes.length + start);
  if (end < 0) end = Math.max(0, bytes.length + end);
  end = Math.min(end, bytes.length - 1);
  if (start > end || bytes.length === 0) reply.bulk(EMPTY);
  else reply.bulkSlice(bytes, start, end - start + 1);
}

export const stringCommands: readonly Command[] = [
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
    name: 'getrange',
    arity: 4,
    flags: ['readonly'],
    keys: READ_KEY,
    group: 'string',
    since: '2.4.0',
    summary: 'Gives a part of a string.',
    complexity: 'O(N) of the part',
    run: getRange,
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
  {
    name: 'psetex',
    arity: 4,
    flags: ['write', 'denyoom'],
    keys: keyAt(1, 'OW', 'update'),
    group: 'string',
    since: '2.6.0',
    summary: 'Sets a string that expires after so many milliseconds.',
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
    summary: 'Sets a string that expires after so many seconds.',
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
