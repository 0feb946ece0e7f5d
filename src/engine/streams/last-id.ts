/**
 * IFLAST: whether a stream's last generated id is the one that a caller saw.
 *
 * Holds: the one comparison that XADD, EXEC and the embedded broker's journal share. Invariant: `0-0`
 * matches a stream that does not exist, and one that never had an entry.
 */
import type { StreamId } from '../../stream/stream-id.ts';
import type { StreamValue } from './stream-value.ts';

export function isLastId(value: StreamValue | undefined, id: StreamId): boolean {
  return value === undefined ? id.isZero() : value.stream.lastId.equals(id);
}
