/** Where a group begins to read, and that position as an id of a stream. */
import { RivuletError } from '../errors.ts';
import { StreamId } from '../stream/stream-id.ts';

export type Position = 'new' | 'earliest' | { readonly id: string } | { readonly time: Date };

/** The id after which a group at this position begins. */
export function afterId(position: Position, last: StreamId): StreamId {
  if (position === 'new') return last.clone();
  if (position === 'earliest') return StreamId.min();
  if ('id' in position) return readId(position.id);
  const id = StreamId.of(Math.max(1, position.time.getTime()));
  id.decrement();
  return id;
}

/** Throws INVALID_ARGUMENT where the text is no id. */
export function readId(text: string): StreamId {
  const id = StreamId.parse(text);
  if (id === null) {
    throw new RivuletError('INVALID_ARGUMENT', `${JSON.stringify(text)} is no id of a message`);
  }
  return id;
}
