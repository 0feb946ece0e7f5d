/**
 * DUMP and RESTORE of values, and OBJECT.
 *
 * Source: Redis 7.0 cluster.c (dumpCommand, restoreCommand) and object.c.
 */
import { dumpValue, loadValue, openDump, UnsupportedValueError } from '../../engine/dump/dump.ts';
import type { KeyEntry, Value } from '../../engine/keyspace/key-entry.ts';
import { Arguments } from '../../util/arguments.ts';
import type { Command } from '../command/command.ts';
import { keyAt, READ_KEY } from '../command/key-specs.ts';
import type { Session } from '../connection/session.ts';
import { NOT_AN_INTEGER, replyHelp, SYNTAX } from './common.ts';

/** Longest string that Redis stores beside its header. */
const EMBEDDED_STRING = 44;
/** Redis shares the objects of the integers below this, and OBJECT REFCOUNT shows it. */
const SHARED_INTEGERS = 10_000;
const SHARED_REFCOUNT = 0x7fff_ffff;

const stored = new Arguments();

function dump(session: Session): void {
  const entry = session.database.find(session.args, 1);
  if (entry === undefined) session.reply.null();
  else session.reply.bulk(dumpValue(session.engine, entry.value));
}

interface RestoreOptions {
  replace: boolean;
  absolute: boolean;
}

/** Reads the options of RESTORE; null, with the error replied, when they are wrong. */
function readRestoreOptions(session: Session): RestoreOptions | null {
  const { args, reply } = session;
  const options = { replace: false, absolute: false };
  // The two exclude each other, and one of them may be given again.
  let eviction: string | null = null;
  for (let i = 4; i < args.count; i++) {
    const more = i + 1 < args.count;
    if (args.is(i, 'REPLACE')) options.replace = true;
    else if (args.is(i, 'ABSTTL')) options.absolute = true;
    else if (
      more &&
      ((args.is(i, 'IDLETIME') && eviction !== 'FREQ') ||
        (args.is(i, 'FREQ') && eviction !== 'IDLETIME'))
    ) {
      const isIdle = args.is(i, 'IDLETIME');
      eviction = isIdle ? 'IDLETIME' : 'FREQ';
      const value = args.integer(++i);
      if (value === null) {
        reply.error(NOT_AN_INTEGER);
        return null;
      }
      if (value < 0 || (!isIdle && value > 255)) {
        reply.error(
          isIdle
            ? 'ERR Invalid IDLETIME value, must be >= 0'
            : 'ERR Invalid FREQ value, must be >= 0 and <= 255',
        );
        return null;
      }
    } else {
      reply.error(SYNTAX);
      return null;
    }
  }
  return options;
}

function restore(session: Session): void {
  const { args, database, engine, reply } = session;
  const options = readRestoreOptions(session);
  if (options === null) return;
  const present = database.find(args, 1);
  if (present !== undefined && !options.replace) {
    reply.error('BUSYKEY Target key name already exists.');
    return;
  }
  let time = args.integer(2);
  if (time === null || time < 0) {
    reply.error(time === null ? NOT_AN_INTEGER : 'ERR Invalid TTL value, must be >= 0');
    return;
  }
  const payload = openDump(args.view(3));
  if (payload === null) {
    reply.error('ERR DUMP payload version or checksum are wrong');
    return;
  }
  if (time !== 0 && !options.absolute) time += engine.now;
  time = Math.min(time, Number.MAX_SAFE_INTEGER);
  if (time !== 0 && time <= engine.now) {
    if (present !== undefined) database.remove(present);
  } else {
    const value = readValue(session, payload);
    if (value === null) return;
    database.restore(args.view(1), time, value);
  }
  reply.ok();
}

/** The value in an opened dump; null, with the error replied, where there is none. */
function readValue(session: Session, payload: Buffer): Value | null {
  try {
    return loadValue(session.engine, payload);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    session.reply.error(
      error instanceof UnsupportedValueError
        ? `ERR Bad data format: it is a ${error.message}; this server holds strings and streams only`
        : 'ERR Bad data format',
    );
    return null;
  }
}

/** The entry named by argument 2, without marking it as used; null is replied when there is none. */
function inspected(session: Session): KeyEntry | undefined {
  const entry = session.database.peek(session.args, 2);
  if (entry === undefined) session.reply.null();
  return entry;
}

/** The integer in a string that Redis would store as one. */
function integerIn(value: Value): number | null {
  if (value.type !== 'string') return null;
  stored.clear(value.bytes);
  stored.push(0, value.bytes.length);
  return stored.integer(0);
}

function encoding(session: Session): void {
  const entry = inspected(session);
  if (entry === undefined) return;
  const { value } = entry;
  if (value.type === 'stream') session.reply.bulkText('stream');
  else if (integerIn(value) !== null) session.reply.bulkText('int');
  else session.reply.bulkText(value.bytes.length <= EMBEDDED_STRING ? 'embstr' : 'raw');
}

function references(session: Session): void {
  const entry = inspected(session);
  if (entry === undefined) return;
  const integer = integerIn(entry.value);
  const shared = integer !== null && integer >= 0 && integer < SHARED_INTEGERS;
  session.reply.integer(shared ? SHARED_REFCOUNT : 1);
}

function idleTime(session: Session): void {
  const entry = inspected(session);
  if (entry === undefined) return;
  session.reply.integer(Math.max(0, session.engine.seconds - entry.accessed));
}

function frequency(session: Session): void {
  if (inspected(session) === undefined) return;
  session.reply.error(
    'ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that ' +
      'when switching between policies at runtime LRU and LFU data will take some time to adjust.',
  );
}

function objectRow(
  subcommand: string,
  since: string,
  summary: string,
  run: (session: Session) => void,
): Command {
  return {
    name: `object|${subcommand}`,
    arity: 3,
    flags: ['readonly'],
    keys: keyAt(2, 'RO'),
    group: 'generic',
    since,
    summary,
    complexity: 'O(1)',
    run,
  };
}

export const objectCommands: readonly Command[] = [
  {
    name: 'dump',
    arity: 2,
    flags: ['readonly'],
    keys: READ_KEY,
    group: 'generic',
    since: '2.6.0',
    summary: 'Gives the value of a key as bytes for RESTORE, here or on a Redis.',
    complexity: 'O(N) of the value',
    run: dump,
  },
  {
    name: 'object',
    arity: -2,
    flags: [],
    group: 'generic',
    since: '2.2.3',
    summary: 'Tells how a value is stored and used.',
    subcommands: [
      objectRow('encoding', '2.2.3', 'Names the form in which a value is stored.', encoding),
      objectRow('freq', '4.0.0', 'Not tracked here: replies the error of Redis.', frequency),
      {
        name: 'object|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'generic',
        since: '6.2.0',
        summary: 'Lists the subcommands.',
        complexity: 'O(1)',
        run: (session) =>
          replyHelp(session, 'OBJECT', [
            'ENCODING <key>',
            '    Name the form in which the value is stored.',
            'FREQ <key>',
            '    How often the key is used, where an LFU policy tracks it.',
            'IDLETIME <key>',
            '    Seconds since the key was last used.',
            'REFCOUNT <key>',
            '    How many share the value.',
          ]),
      },
      objectRow('idletime', '2.2.3', 'Gives the seconds since a key was last used.', idleTime),
      objectRow('refcount', '2.2.3', 'Tells how many keys share a value.', references),
    ],
  },
  {
    name: 'restore',
    arity: -4,
    flags: ['write', 'denyoom'],
    keys: keyAt(1, 'OW', 'update'),
    group: 'generic',
    since: '2.6.0',
    summary: 'Creates a key from the bytes that DUMP gave.',
    complexity: 'O(N) of the value',
    categories: ['dangerous'],
    run: restore,
  },
];
