/**
 * How entries look in replies: `[id, [field, value, ...]]`, the same in RESP2 and RESP3.
 *
 * Cost: bytes go straight from the block into the reply; no string, no object per entry.
 */
import type { Stream } from '../../../stream/stream.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import { StreamIterator } from '../../../stream/stream-iterator.ts';
import { scratch } from '../../../util/scratch.ts';
import type { Reply } from '../../output/reply.ts';

/** The entry at the iterator's position. */
export function writeEntry(reply: Reply, entry: StreamIterator): void {
  reply.array(2);
  reply.id(entry.id);
  writeFields(reply, entry);
}

export function writeFields(reply: Reply, entry: StreamIterator): void {
  reply.array(entry.fieldCount * 2);
  while (entry.nextField()) {
    reply.bulkSlice(entry.fieldBuffer, entry.fieldOffset, entry.fieldLength);
    reply.bulkSlice(entry.valueBuffer, entry.valueOffset, entry.valueLength);
  }
}

/** Goes to one entry; undefined where the stream has none with this id. Valid until the next call. */
export function findEntry(stream: Stream, id: StreamId): StreamIterator | undefined {
  single.seek(stream, id, id);
  return single.next() ? single : undefined;
}

/** At most `count` entries of [start, end] as an array; `count` 0 = all. */
export function writeRange(
  reply: Reply,
  stream: Stream,
  start: StreamId,
  end: StreamId,
  count: number,
  reverse: boolean,
): void {
  const mark = reply.deferred();
  range.seek(stream, start, end, reverse);
  let length = 0;
  while (range.next()) {
    writeEntry(reply, range);
    if (++length === count) break;
  }
  reply.setLength(mark, length);
}

/** Bounds of whole streams; never changed. */
export const FIRST_ID: StreamId = StreamId.min();
export const LAST_ID: StreamId = StreamId.max();

// Scratch: never held across commands.
const single = scratch(new StreamIterator());
const range = scratch(new StreamIterator());
