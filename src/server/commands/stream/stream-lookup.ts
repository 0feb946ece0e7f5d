/**
 * From a command's arguments to a stream: the look-ups that every stream command begins with.
 *
 * Cost: one look-up in the key table; nothing is allocated.
 */
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import type { StreamValue } from '../../../engine/streams/stream-value.ts';
import type { Session } from '../../connection/session.ts';
import { WRONG_TYPE } from '../common.ts';

/**
 * The key named by argument `i` where it holds a stream, undefined where there is no such key, null
 * after an error where it holds something else.
 */
export function findStream(session: Session, i: number): KeyEntry | undefined | null {
  return ofStream(session, session.database.find(session.args, i));
}

/** As `findStream`, counted as a hit or a miss: for commands that only read. */
export function readStream(session: Session, i: number): KeyEntry | undefined | null {
  return ofStream(session, session.database.read(session.args, i));
}

function ofStream(session: Session, entry: KeyEntry | undefined): KeyEntry | undefined | null {
  if (entry === undefined || entry.value.type === 'stream') return entry;
  session.reply.error(WRONG_TYPE);
  return null;
}

/** The stream of an entry that `findStream` gave. */
export function valueIn(entry: KeyEntry): StreamValue {
  return entry.value as StreamValue;
}
