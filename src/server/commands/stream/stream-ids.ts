/**
 * Reads stream ids out of a command's arguments, with Redis's three readings of them.
 *
 * - strict: `ms` or `ms-seq`; `-` and `+` are refused (XADD, XACK, XDEL, XREAD, XGROUP CREATE ...);
 * - loose: `-` and `+` too (XGROUP SETID);
 * - interval: loose, and `(id` for an open end (XRANGE, XPENDING, XAUTOCLAIM).
 *
 * Every reader returns false after it has written the error.
 * Source: streamParseStrictIDOrReply, streamParseIDOrReply and streamParseIntervalIDOrReply.
 */
import type { IdList } from '../../../stream/id-list.ts';
import type { StreamId } from '../../../stream/stream-id.ts';
import type { Arguments } from '../../../util/arguments.ts';
import type { Session } from '../../connection/session.ts';

export const INVALID_ID = 'ERR Invalid stream ID specified as stream command argument';

const MINUS = 45;
const PLUS = 43;
const OPEN = 40;

/** Whether the argument is this one character. */
export function isCharacter(args: Arguments, index: number, code: number): boolean {
  return args.lengths[index] === 1 && args.buffer[args.offsets[index]] === code;
}

/** Strict, without an error: for arguments that may be something else than an id. */
export function tryReadId(args: Arguments, index: number, id: StreamId): boolean {
  return id.read(args.buffer, args.offsets[index], args.lengths[index]);
}

export function readStrictId(session: Session, index: number, id: StreamId): boolean {
  if (tryReadId(session.args, index, id)) return true;
  session.reply.error(INVALID_ID);
  return false;
}

/** All of the arguments [from, from + count), or an error and false. */
export function readStrictIds(
  session: Session,
  from: number,
  count: number,
  scratch: StreamId,
  ids: IdList,
): boolean {
  ids.clear();
  for (let i = from; i < from + count; i++) {
    if (!readStrictId(session, i, scratch)) return false;
    ids.push(scratch);
  }
  return true;
}

export function readLooseId(session: Session, index: number, id: StreamId): boolean {
  const { args } = session;
  if (isCharacter(args, index, MINUS)) id.setMin();
  else if (isCharacter(args, index, PLUS)) id.setMax();
  else return readStrictId(session, index, id);
  return true;
}

/** The first id of an interval: a missing sequence is 0, `(id` starts after it. */
export function readIntervalStart(session: Session, index: number, id: StreamId): boolean {
  if (!readIntervalEdge(session, index, id, false)) return false;
  if (!isOpen(session.args, index) || id.increment()) return true;
  session.reply.error('ERR invalid start ID for the interval');
  return false;
}

/** The last id of an interval: a missing sequence is the largest, `(id` ends before it. */
export function readIntervalEnd(session: Session, index: number, id: StreamId): boolean {
  if (!readIntervalEdge(session, index, id, true)) return false;
  if (!isOpen(session.args, index) || id.decrement()) return true;
  session.reply.error('ERR invalid end ID for the interval');
  return false;
}

function isOpen(args: Arguments, index: number): boolean {
  return args.lengths[index] > 1 && args.buffer[args.offsets[index]] === OPEN;
}

function readIntervalEdge(
  session: Session,
  index: number,
  id: StreamId,
  missingSeqIsMax: boolean,
): boolean {
  const { args } = session;
  const open = isOpen(args, index) ? 1 : 0;
  if (open === 0) {
    if (isCharacter(args, index, MINUS)) {
      id.setMin();
      return true;
    }
    if (isCharacter(args, index, PLUS)) {
      id.setMax();
      return true;
    }
  }
  const from = args.offsets[index] + open;
  if (id.read(args.buffer, from, args.lengths[index] - open, missingSeqIsMax)) return true;
  session.reply.error(INVALID_ID);
  return false;
}
