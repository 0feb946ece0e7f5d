/**
 * Which entries of a stream its groups still need, asked in ascending order of ids (trims by ACKED).
 *
 * Holds: a cursor in each group's pending list that moves along with the ids.
 * Invariant: the pending lists do not change during a scan, and every id is after the one before.
 * Cost: O(1) an entry where stream and pending list go along together, against O(log pending) for a
 * search of each id; a gap of more than MOST_STEPS pending entries is crossed by one search.
 */

import type { StreamId } from '../stream/stream-id.ts';
import type { ConsumerGroup } from './group.ts';
import { PendingCursor } from './pending/pending-cursor.ts';

const MOST_STEPS = 16;

interface GroupPlace {
  readonly group: ConsumerGroup;
  readonly cursor: PendingCursor;
  /** -1: the cursor has no place yet; 0: no pending entry is left; 1: the cursor is at one. */
  state: -1 | 0 | 1;
}

export class ReferenceScan {
  readonly #places: GroupPlace[] = [];

  constructor(groups: Iterable<ConsumerGroup>) {
    for (const group of groups) {
      this.#places.push({ group, cursor: new PendingCursor(), state: -1 });
    }
  }

  /** Whether a group has still to read the entry, or has it pending. */
  isReferenced(id: StreamId): boolean {
    for (const place of this.#places) {
      if (id.compare(place.group.lastId) > 0 || isPending(place, id)) return true;
    }
    return false;
  }
}

function isPending(place: GroupPlace, id: StreamId): boolean {
  const { group, cursor } = place;
  for (let steps = 0; ; steps++) {
    if (place.state === 0) return false;
    if (place.state === 1) {
      const order = cursor.id.compare(id);
      if (order >= 0) return order === 0;
    }
    const isFound =
      place.state === -1 || steps === MOST_STEPS ? group.pending.seek(id, cursor) : cursor.next();
    place.state = isFound ? 1 : 0;
  }
}
