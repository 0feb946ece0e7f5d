/**
 * Parts of strings: GETRANGE and its old name SUBSTR, SETRANGE.
 *
 * Source: Redis 7.0 t_string.c.
 */
import { EventClass } from '../../../engine/keyspace/keyspace-events.ts';
import type { Command } from '../../command/command.ts';
import { keyAt, READ_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { MAX_STRING, NOT_AN_INTEGER, readString, TOO_LONG, WRONG_TYPE } from '../common.ts';

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
  const size = args.lengths[3];
  if (size === 0) {
    reply.integer(value?.bytes.length ?? 0);
    return;
  }
  if (offset + size > MAX_STRING) {
    reply.error(TOO_LONG);
    return;
  }
  const { bytes } = database.writePart(args.view(1), entry, offset, args.view(3));
  if (session.engine.events !== null) database.notify(EventClass.STRING, 'setrange', args.view(1));
  reply.integer(bytes.length);
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
    complexity: 'O(1) in the log, O(N) of the string where it is copied first',
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
