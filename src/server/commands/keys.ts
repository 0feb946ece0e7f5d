/**
 * Commands for keys of any type: DEL, EXISTS, TYPE, RENAME, COPY, MOVE, KEYS, SCAN, RANDOMKEY, TOUCH.
 *
 * Expiry is in expiry.ts, whole databases in databases.ts, DUMP, RESTORE and OBJECT in objects.ts. Source: Redis 7.0 db.c.
 */
import { mayReadAhead } from '../../engine/checkpoint/read-ahead.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import { pendingListsOf } from '../../engine/streams/stream-value.ts';
import { globMatches } from '../../util/glob.ts';
import type { Command } from '../command/command.ts';
import { everyKey, KNOWN_KEY, keyAt } from '../command/key-specs.ts';
import type { Session } from '../connection/session.ts';
import { NO_SUCH_KEY, NOT_AN_INTEGER, readDatabaseIndex, SAME_OBJECT, SYNTAX } from './common.ts';

function remove(session: Session): void {
  const { args, database, reply } = session;
  let removed = 0;
  for (let i = 1; i < args.count; i++) {
    const entry = database.peek(args, i);
    if (entry === undefined) continue;
    database.remove(entry);
    removed++;
  }
  reply.integer(removed);
}

/** EXISTS and TOUCH: a key named twice counts twice. */
function count(session: Session): void {
  const { args, database, reply } = session;
  let found = 0;
  for (let i = 1; i < args.count; i++) if (database.read(args, i) !== undefined) found++;
  reply.integer(found);
}

function type(session: Session): void {
  const entry = session.database.peek(session.args, 1);
  session.reply.simple(entry === undefined ? 'none' : entry.value.type);
}

function rename(session: Session, onlyIfAbsent: boolean): void {
  const { args, database, reply } = session;
  const entry = database.find(args, 1);
  if (entry === undefined) {
    reply.error(NO_SUCH_KEY);
    return;
  }
  const target = database.find(args, 2);
  if (onlyIfAbsent && target !== undefined) {
    reply.integer(0);
    return;
  }
  if (target !== entry) database.rename(entry, args.view(2));
  if (onlyIfAbsent) reply.integer(1);
  else reply.ok();
}

function copy(session: Session): void {
  const { args, database, engine, reply } = session;
  let destination = database;
  let replace = false;
  for (let i = 3; i < args.count; i++) {
    if (args.is(i, 'REPLACE')) {
      replace = true;
    } else if (args.is(i, 'DB') && i + 1 < args.count) {
      const index = readDatabaseIndex(session, ++i);
      if (index === null) return;
      destination = engine.databases[index];
    } else {
      reply.error(SYNTAX);
      return;
    }
  }
  if (destination === database && args.view(1).equals(args.view(2))) {
    reply.error(SAME_OBJECT);
    return;
  }
  const entry = database.find(args, 1);
  if (entry === undefined || (!replace && destination.find(args, 2) !== undefined)) {
    reply.integer(0);
    return;
  }
  const { value } = entry;
  if (value.type === 'stream' && mayReadAhead(value.stream)) {
    if (session.readFirst({ stream: value.stream, pending: pendingListsOf(value) })) return;
  }
  database.copy(entry, destination, args.view(2));
  reply.integer(1);
}

function move(session: Session): void {
  const { args, database, engine, reply } = session;
  const index = readDatabaseIndex(session, 2);
  if (index === null) return;
  const destination = engine.databases[index];
  if (destination === database) {
    reply.error(SAME_OBJECT);
    return;
  }
  const entry = database.find(args, 1);
  if (entry === undefined || destination.find(args, 1) !== undefined) {
    reply.integer(0);
    return;
  }
  database.move(entry, destination);
  reply.integer(1);
}

function keys(session: Session): void {
  const { args, database, reply } = session;
  const pattern = args.view(1);
  const mark = reply.deferred();
  let matches = 0;
  for (const entry of database.entries()) {
    if (!globMatches(pattern, entry.key)) continue;
    reply.bulk(entry.key);
    matches++;
  }
  reply.setLength(mark, matches);
}

/** As C's strtoul reads it: a sign is allowed, an empty argument is 0. null when it is not a cursor. */
function readCursor(session: Session): number | null {
  const text = session.args.latin1(1);
  if (/^([+-]?\d+)?$/.test(text)) {
    const value = BigInt(text.replace(/^\+/, '') || '0');
    if (value < 2n ** 64n && value > -(2n ** 64n)) return Number(BigInt.asUintN(32, value));
  }
  session.reply.error('ERR invalid cursor');
  return null;
}

function scan(session: Session): void {
  const { args, database, reply } = session;
  let cursor = readCursor(session);
  if (cursor === null) return;
  let buckets = 10;
  let pattern: Buffer | undefined;
  let wanted: string | undefined;
  for (let i = 2; i < args.count; i += 2) {
    const hasValue = i + 1 < args.count;
    if (hasValue && args.is(i, 'COUNT')) {
      const value = args.integer(i + 1);
      if (value === null || value < 1) {
        reply.error(value === null ? NOT_AN_INTEGER : SYNTAX);
        return;
      }
      buckets = value;
    } else if (hasValue && args.is(i, 'MATCH')) {
      pattern = args.view(i + 1);
    } else if (hasValue && args.is(i, 'TYPE')) {
      wanted = args.latin1(i + 1).toLowerCase();
    } else {
      reply.error(SYNTAX);
      return;
    }
  }
  const found: KeyEntry[] = [];
  cursor = database.scan(cursor, buckets, (entry) => {
    if (pattern !== undefined && !globMatches(pattern, entry.key)) return;
    if (wanted !== undefined && entry.value.type !== wanted) return;
    found.push(entry);
  });
  reply.array(2);
  reply.bulkText(String(cursor));
  reply.array(found.length);
  for (const entry of found) reply.bulk(entry.key);
}

function randomKey(session: Session): void {
  const entry = session.database.randomEntry();
  if (entry === undefined) session.reply.null();
  else session.reply.bulk(entry.key);
}

export const keyCommands: readonly Command[] = [
  {
    name: 'copy',
    arity: -3,
    flags: ['write', 'denyoom'],
    keys: [keyAt(1, 'RO', 'access'), keyAt(2, 'OW', 'update')],
    group: 'generic',
    since: '6.2.0',
    summary: 'Copies a value, with its expiry, to another key, in another database if wanted.',
    complexity: 'O(N) of the value',
    run: copy,
  },
  {
    name: 'del',
    arity: -2,
    flags: ['write'],
    keys: everyKey('RM', 'delete'),
    group: 'generic',
    since: '1.0.0',
    summary: 'Removes keys.',
    complexity: 'O(N) of keys',
    run: remove,
  },
  {
    name: 'exists',
    arity: -2,
    flags: ['readonly', 'fast'],
    keys: everyKey('RO'),
    group: 'generic',
    since: '1.0.0',
    summary: 'Counts how many of the keys exist.',
    complexity: 'O(N) of keys',
    run: count,
  },
  {
    name: 'keys',
    arity: 2,
    flags: ['readonly'],
    group: 'generic',
    since: '1.0.0',
    summary: 'Lists the keys that match a pattern.',
    complexity: 'O(N) of all keys; SCAN does the same in steps',
    categories: ['dangerous'],
    run: keys,
  },
  {
    name: 'move',
    arity: 3,
    flags: ['write', 'fast'],
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'generic',
    since: '1.0.0',
    summary: 'Takes a key to another database, unless that has one of the name.',
    complexity: 'O(1)',
    run: move,
  },
  {
    name: 'randomkey',
    arity: 1,
    flags: ['readonly'],
    group: 'generic',
    since: '1.0.0',
    summary: 'Gives the name of a random key.',
    complexity: 'O(1)',
    run: randomKey,
  },
  {
    name: 'rename',
    arity: 3,
    flags: ['write'],
    keys: [keyAt(1, 'RW', 'access', 'delete'), keyAt(2, 'OW', 'update')],
    group: 'generic',
    since: '1.0.0',
    summary: 'Gives a key another name, replacing what has that name.',
    complexity: 'O(1)',
    run: (session) => rename(session, false),
  },
  {
    name: 'renamenx',
    arity: 3,
    flags: ['write', 'fast'],
    keys: [keyAt(1, 'RW', 'access', 'delete'), keyAt(2, 'OW', 'insert')],
    group: 'generic',
    since: '1.0.0',
    summary: 'Gives a key another name, unless something has that name.',
    complexity: 'O(1)',
    run: (session) => rename(session, true),
  },
  {
    name: 'scan',
    arity: -2,
    flags: ['readonly'],
    group: 'generic',
    since: '2.8.0',
    summary: 'Lists the keys of a database in steps.',
    complexity: 'O(1) a step, O(N) in all',
    run: scan,
  },
  {
    name: 'touch',
    arity: -2,
    flags: ['readonly', 'fast'],
    keys: everyKey('RO'),
    group: 'generic',
    since: '3.2.1',
    summary: 'Counts how many of the keys exist and notes that they were used.',
    complexity: 'O(N) of keys',
    run: count,
  },
  {
    name: 'type',
    arity: 2,
    flags: ['readonly', 'fast'],
    keys: KNOWN_KEY,
    group: 'generic',
    since: '1.0.0',
    summary: 'Gives the type of the value of a key.',
    complexity: 'O(1)',
    run: type,
  },
  {
    name: 'unlink',
    arity: -2,
    flags: ['write', 'fast'],
    keys: everyKey('RM', 'delete'),
    group: 'generic',
    since: '4.0.0',
    summary: 'Removes keys, as DEL does: here no removal waits for memory to be given back.',
    complexity: 'O(N) of keys',
    run: remove,
  },
];
