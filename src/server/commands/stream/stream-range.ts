/**
 * XLEN, XRANGE and XREVRANGE.
 *
 * Source: xrangeGenericCommand. COUNT 0 answers a null array, but only where the key exists.
 */
import { StreamId } from '../../../stream/stream-id.ts';
import type { Command } from '../../command/command.ts';
import { KNOWN_KEY, READ_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { NOT_AN_INTEGER, SYNTAX } from '../common.ts';
import { writeRange } from './stream-entry-reply.ts';
import { readIntervalEnd, readIntervalStart } from './stream-ids.ts';
import { readStream, valueIn } from './stream-lookup.ts';

function length(session: Session): void {
  const entry = readStream(session, 1);
  if (entry === null) return;
  session.reply.integer(entry === undefined ? 0 : valueIn(entry).stream.length);
}

function range(session: Session, reverse: boolean): void {
  const { reply } = session;
  if (!readIntervalStart(session, reverse ? 3 : 2, start)) return;
  if (!readIntervalEnd(session, reverse ? 2 : 3, end)) return;
  const count = readCount(session);
  if (count === null) return;
  const entry = readStream(session, 1);
  if (entry === null) return;
  if (entry === undefined) reply.array(0);
  else if (count === 0) reply.nullArray();
  else writeRange(reply, valueIn(entry).stream, start, end, Math.max(count, 0), reverse);
}

/** COUNT's value, at least 0; -1 where it is not given; null after an error. */
function readCount(session: Session): number | null {
  const { args, reply } = session;
  let count = -1;
  for (let i = 4; i < args.count; i += 2) {
    if (i + 1 === args.count || !args.is(i, 'COUNT')) {
      reply.error(SYNTAX);
      return null;
    }
    const given = args.integer(i + 1);
    if (given === null) {
      reply.error(NOT_AN_INTEGER);
      return null;
    }
    count = Math.max(given, 0);
  }
  return count;
}

// Scratch: never held across commands.
const start = new StreamId();
const end = new StreamId();

export const streamRangeCommands: readonly Command[] = [
  {
    name: 'xlen',
    arity: 2,
    flags: ['readonly', 'fast'],
    keys: KNOWN_KEY,
    group: 'stream',
    since: '5.0.0',
    summary: 'Returns the number of entries in a stream.',
    complexity: 'O(1)',
    run: length,
  },
  {
    name: 'xrange',
    arity: -4,
    flags: ['readonly'],
    keys: READ_KEY,
    group: 'stream',
    since: '5.0.0',
    summary: 'Returns the entries of a stream between two ids, in their order.',
    complexity: 'O(N), N being the number of entries returned.',
    run: (session) => range(session, false),
  },
  {
    name: 'xrevrange',
    arity: -4,
    flags: ['readonly'],
    keys: READ_KEY,
    group: 'stream',
    since: '5.0.0',
    summary: 'Returns the entries of a stream between two ids, last first.',
    complexity: 'O(N), N being the number of entries returned.',
    run: (session) => range(session, true),
  },
];
