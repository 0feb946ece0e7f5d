/**
 * Entries read from an engine of this process, without a reply that holds them all.
 *
 * XRANGE writes an entry of 40 MB into a reply that grows, and the reply is read again: five copies, in one
 * turn. Here a value is copied once, and only as much of it as is wanted.
 * Invariants: what is returned is a copy, as a block's bytes are used again; an id that is none, or a block
 * that cannot be read, is left to the command, which says so.
 */
import type { Stream } from '../../stream/stream.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { StreamIterator } from '../../stream/stream-iterator.ts';
import type { RawEntry } from '../sources/commands.ts';
import type { EntryRange } from '../sources/source.ts';

const BODY = Buffer.from('body');

/** Null: the bounds are no ids. */
export function entriesInMemory(
  stream: Stream,
  { from, isAfter, to, newest, limit, cut = Number.POSITIVE_INFINITY }: EntryRange,
): RawEntry[] | null {
  // `from` is where reading begins: the upper bound when it goes down.
  const start = boundOf(from, isAfter, newest);
  const end = boundOf(to, false, !newest);
  if (start === null || end === null) return null;
  const entries: RawEntry[] = [];
  const walk = new StreamIterator();
  const [low, high] = newest ? [end.id, start.id] : [start.id, end.id];
  walk.seek(stream, low, high, newest);
  while (entries.length < limit && walk.next()) {
    if (start.isOpen && walk.id.equals(start.id)) continue;
    if (end.isOpen && walk.id.equals(end.id)) break;
    entries.push(entryAt(walk, cut));
  }
  walk.release();
  return entries;
}

function entryAt(walk: StreamIterator, cut: number): RawEntry {
  const fields: Buffer[] = [];
  let [bytes, body, isCut] = [0, 0, false];
  while (walk.nextField()) {
    const name = copyOf(walk.fieldBuffer, walk.fieldOffset, walk.fieldLength, walk.fieldLength);
    fields.push(name, copyOf(walk.valueBuffer, walk.valueOffset, walk.valueLength, cut));
    bytes += walk.fieldLength + walk.valueLength;
    if (name.equals(BODY)) body = walk.valueLength;
    isCut ||= walk.valueLength > cut;
  }
  const id = walk.id.toString();
  return isCut ? { id, fields, whole: { bytes, body } } : { id, fields };
}

function copyOf(bytes: Uint8Array, from: number, length: number, most: number): Buffer {
  const end = from + Math.min(length, most);
  return Buffer.from(bytes.subarray(from, end));
}

interface Bound {
  readonly id: StreamId;
  /** The id itself is not meant. */
  readonly isOpen: boolean;
}

function boundOf(text: string | null, isAfter: boolean, isUpper: boolean): Bound | null {
  if (text === null) return { id: isUpper ? StreamId.max() : StreamId.min(), isOpen: false };
  const isOpen = isAfter || text.startsWith('(');
  const id = StreamId.parse(text.replace(/^\(/, ''), isUpper ? 'max' : 'zero');
  return id === null ? null : { id, isOpen };
}
