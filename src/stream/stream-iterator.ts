/**
 * A cursor over the live entries of a stream between two ids, either way.
 *
 * Invariant: a cursor is valid as long as the stream does not change; `seek` again after a change.
 * (A stale cursor reads old bytes; it never reads out of bounds.)
 * Cost: seek O(log blocks) + one block's scan; next O(1), no allocation per entry. One scratch
 * instance can serve a whole server.
 */
import type { Stream } from './stream.ts';
import { StreamId } from './stream-id.ts';

export class StreamIterator {
  /** The current entry's id. Scratch: overwritten by `next`. */
  readonly id: StreamId = new StreamId();
  /** Field/value pairs of the current entry. */
  fieldCount = 0;
  /** Sum of the lengths of the current entry's values (and of its field names, where they are its own). */
  bodyLength = 0;

  // The current pair, set by nextField: views into the block's bytes, valid until the stream changes.
  fieldBuffer: Uint8Array = EMPTY;
  fieldOffset = 0;
  fieldLength = 0;
  valueBuffer: Uint8Array = EMPTY;
  valueOffset = 0;
  valueLength = 0;

  /** Starts over [start, end], both inclusive; `reverse` goes from end to start. */
  seek(_stream: Stream, _start: StreamId, _end: StreamId, _reverse = false): void {
    throw new Error('to be filled in');
  }

  /** Moves to the next live entry; false at the end. */
  next(): boolean {
    throw new Error('to be filled in');
  }

  /** Moves to the current entry's next pair; false after the last. May be called again after `rewindFields`. */
  nextField(): boolean {
    throw new Error('to be filled in');
  }

  /** Starts the current entry's pairs over. */
  rewindFields(): void {
    throw new Error('to be filled in');
  }
}

const EMPTY = new Uint8Array(0);
