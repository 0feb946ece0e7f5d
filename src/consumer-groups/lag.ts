/**
 * How many entries a group has read, and how many it has still to read, without counting them.
 *
 * A group keeps `entriesRead`, a position in the count of all entries ever added, as long as it can
 * be known; deletions in the middle ("tombstones") make it unknown, and some ids let it be computed
 * again. The rules are those of Redis 8.x (t_stream.c: streamReplyWithCGLag,
 * streamEstimateDistanceFromFirstEverEntry, and the counting in streamReplyWithRange).
 * Differences from 7.0, where it was wrong (redis/redis#13473, #13958): a group wholly behind a
 * trimmed head lags by the stream's length; a delivery counts up only from a position at or after the
 * first entry and with no tombstone at or after that position (7.0 looked from the delivered id on, so
 * it goes on counting where 8.x gives up: the last delivered entry was deleted).
 * Cost: a few comparisons.
 */
import type { StreamId } from '../stream/stream-id.ts';
import { minus, plus, type Whole } from '../util/whole.ts';
import type { StreamCounters } from './stream-view.ts';

/** `entriesRead` that is not known. */
export const UNKNOWN_READ = -1;

export interface GroupPosition {
  readonly lastId: StreamId;
  entriesRead: Whole;
}

/** Entries that the group has still to get; null when it cannot be computed. */
export function lagOf(stream: StreamCounters, group: GroupPosition): Whole | null {
  if (stream.entriesAdded === 0 || stream.length === 0) return 0;
  const { firstId, maxDeletedId } = stream;
  if (group.lastId.compare(firstId) < 0 && maxDeletedId.compare(firstId) < 0) return stream.length;
  if (group.entriesRead !== UNKNOWN_READ && !hasTombstoneFrom(stream, group.lastId)) {
    return minus(stream.entriesAdded, group.entriesRead);
  }
  const read = estimateRead(stream, group.lastId);
  return read === UNKNOWN_READ ? null : minus(stream.entriesAdded, read);
}

/** As `lagOf`, rounded beyond 2^53: for a metric. */
export function roundedLag(stream: StreamCounters, group: GroupPosition): number | null {
  const lag = lagOf(stream, group);
  return lag === null ? null : Number(lag);
}

/** Moves the group's position to an entry just delivered; ids at or before it change nothing. */
export function advance(stream: StreamCounters, group: GroupPosition, id: StreamId): void {
  if (id.compare(group.lastId) <= 0) return;
  if (
    group.entriesRead !== UNKNOWN_READ &&
    group.lastId.compare(stream.firstId) >= 0 &&
    !hasTombstoneFrom(stream, group.lastId)
  ) {
    group.entriesRead = plus(group.entriesRead, 1);
  } else if (stream.entriesAdded !== 0) {
    group.entriesRead = estimateRead(stream, id);
  }
  group.lastId.copy(id);
}

/** The position of an id in the count of all entries ever added, where it can be known. */
export function estimateRead(stream: StreamCounters, id: StreamId): Whole {
  if (stream.entriesAdded === 0) return 0;
  const toLast = id.compare(stream.lastId);
  if (stream.length === 0 && toLast <= 0) return stream.entriesAdded;
  if (!id.isZero() && id.compare(stream.maxDeletedId) < 0) return UNKNOWN_READ;
  if (toLast === 0) return stream.entriesAdded;
  if (toLast > 0) return UNKNOWN_READ;
  if (stream.maxDeletedId.isZero() || stream.maxDeletedId.compare(stream.firstId) < 0) {
    const toFirst = id.compare(stream.firstId);
    if (toFirst < 0) return minus(stream.entriesAdded, stream.length);
    if (toFirst === 0) return minus(stream.entriesAdded, stream.length - 1);
  }
  return UNKNOWN_READ;
}

/** Whether an entry at or after `id` was deleted from the middle, as far as the stream knows. */
function hasTombstoneFrom(stream: StreamCounters, id: StreamId): boolean {
  if (stream.length === 0 || stream.maxDeletedId.isZero()) return false;
  return id.compare(stream.maxDeletedId) <= 0;
}
