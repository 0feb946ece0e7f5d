/**
 * The streams of one keyspace whose idempotent ids expire, by when the oldest id of each is out of its
 * window, in steady ms: a window is a duration.
 *
 * Not recorded: each id has its time, so a restart expires the same ones.
 * Invariant: `StreamValue.idempotencyDeadline` is in the heap while ids are tracked, at a time not
 * later than the first one's end.
 * Cost: O(log streams) where a stream's first id is recorded and where one expires; a tick in which
 * nothing expires looks at one stream a database.
 */

import type { KeyEntry } from '../keyspace/key-entry.ts';
import { DeadlineHeap } from '../schedule/deadline-heap.ts';
import type { StreamDeadline, StreamValue } from './stream-value.ts';

export class IdempotencyDeadlines {
  readonly #heap = new DeadlineHeap<StreamDeadline>();

  /** Streams with idempotent ids. */
  get size(): number {
    return this.#heap.size;
  }

  /** After ids were recorded, and where a stream enters the keyspace. */
  watch(entry: KeyEntry, value: StreamValue): void {
    const at = value.idempotency?.nextExpiry() ?? Number.POSITIVE_INFINITY;
    if (at === Number.POSITIVE_INFINITY) return;
    value.idempotencyDeadline ??= { entry, expireAt: 0, heapIndex: -1 };
    const deadline = value.idempotencyDeadline;
    if (deadline.heapIndex >= 0 && deadline.expireAt <= at) return;
    deadline.expireAt = at;
    this.#heap.update(deadline);
  }

  /** The stream leaves the keyspace. */
  remove(value: StreamValue): void {
    if (value.idempotencyDeadline === null) return;
    this.#heap.remove(value.idempotencyDeadline);
    value.idempotencyDeadline = null;
  }

  /** Expires the ids of at most `limit` streams that are out of their windows; returns of how many. */
  expire(steady: number, limit: number): number {
    let count = 0;
    for (; count < limit; count++) {
      const first = this.#heap.first();
      if (first === undefined || first.expireAt > steady) break;
      this.#heap.remove(first);
      const entry = first.entry as KeyEntry;
      const { value } = entry;
      if (value.type !== 'stream') continue;
      if (value.idempotency !== null) {
        value.idempotency.expire(steady);
        value.idempotency.isLate = false;
      }
      this.watch(entry, value);
    }
    return count;
  }
}
