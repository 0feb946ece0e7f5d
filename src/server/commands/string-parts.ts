/**
 * Parts of strings: GETRANGE and its old name SUBSTR, SETRANGE.
 *
 * Source: Redis 7.0 t_string.c.
 */
import { EventClass } from '../../engine/keyspace-events.ts';
import type { Command } from '../command.ts';
import { keyAt, READ_KEY } from '../key-specs.ts';
import type { Session } from '../session.ts';
import { MAX_STRING, NOT_AN_INTEGER, readString, TOO_LONG, WRONG_TYPE } from './common.ts';

const EMPTY = Buffer.alloc(0);

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

function setRange(session: Session): void {
  const { args, database, reply } = session;
  const offset = args.integer(2);
  if (offset === null || offset < 0) {
    reply.error(offset === null ? NOT_AN_INTEGER : 'ERR offset is out of range');
    return;
  }
  const entry = database.find(args, 1);
  const value = entry?.value;
  if (value !== undefined && value.type !== 'string') {
    reply.error(WRONG_TYPE);
    return;
  }
  const old = value?.bytes ?? EMPTY;
  const size = args.lengths[3];
  if (size === 0) {
    reply.integer(old.length);
    return;
  }
  if (offset + size > MAX_STRING) {
    reply.error(TOO_LONG);
    return;
  }
  if (entry !== undefined && value !== undefined && offset === old.length) {
    database.append(entry, value, args.view(3));
  } else {
    const bytes = Buffer.alloc(Math.max(old.length, offset + size));
    old.copy(bytes);
    args.view(3).copy(bytes, offset);
    if (entry === undefined) database.set(args.view(1), { type: 'string', bytes }, 0);
    else database.setString(entry, bytes, entry.expireAt);
  }
  if (session.engine.events !== null) database.tell(EventClass.STRING, 'setrange', args.view(1));
  reply.integer(Math.max(old.length, offset + size));
}

export const partCommands: readonly Command[] = [
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
    name: 'setrange',
    arity: 4,
    flags: ['write', 'denyoom'],
    keys: keyAt(1, 'RW', 'update'),
    group: 'string',
    since: '2.2.0',
    summary: 'Writes over a part of a string, which grows by zero bytes where it is too short.',
    complexity: 'O(N) of the string',
    run: setRange,
  },
  {
    name: 'substr',
    arity: 4,
    flags: ['readonly'],
    keys: READ_KEY,
    group: 'string',
    since: '1.0.0',
    summary: 'The former name of GETRANGE.',
    complexity: 'O(N) of the part',
    run: getRange,
  },
];
