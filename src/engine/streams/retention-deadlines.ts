/**
 * The streams of one keyspace with a maximum age (retention.ts), by when the oldest entry of each
 * expires.
 *
 * Invariant: `StreamValue.retentionDeadline` is in the heap exactly while the stream has a maximum age
 * and an entry, at a time not later than its oldest entry's end. The tick corrects a time that is too
 * early.
 * Cost: O(log streams) to watch and to remove.
 */

import type { KeyEntry } from '../keyspace/key-entry.ts';
import { DeadlineHeap } from '../schedule/deadline-heap.ts';
import type { StreamDeadline, StreamValue } from './stream-value.ts';

export class RetentionDeadlines {
  readonly #heap = new DeadlineHeap<StreamDeadline>();

  /** Unix ms at which the first stream is due; Infinity when there is none. */
  get firstAt(): number {
    return this.#heap.first()?.expireAt ?? Number.POSITIVE_INFINITY;
  }

  /** Takes out the first stream when it is due. */
  takeDue(now: number): KeyEntry | undefined {
    const first = this.#heap.first();
    if (first === undefined || first.expireAt > now) return undefined;
    this.#heap.remove(first);
    return first.entry as KeyEntry;
  }

  /**
   * Enters the stream for the time at which its oldest entry expires, or removes it. Returns that
   * time (unix ms) when it is new.
   */
  watch(entry: KeyEntry, value: StreamValue): number | null {
    const maxAge = value.retention?.maxAge ?? 0;
    // A closed stream (damaged-streams.ts) has no entries to look at.
    if (maxAge === 0 || value.damage !== null) {
      this.remove(value);
      return null;
    }
    value.retentionDeadline ??= { entry, expireAt: 0, heapIndex: -1 };
    const deadline = value.retentionDeadline;
    const { stream } = value;
    if (stream.length === 0) {
      this.#heap.remove(deadline);
      return null;
    }
    const end = stream.firstId.ms + maxAge + 1;
    if (deadline.heapIndex >= 0 && deadline.expireAt === end) return null;
    deadline.expireAt = end;
    this.#heap.update(deadline);
    return end;
  }

  /** As `watch`, at a time that the caller gives, without reading the stream. */
  watchAt(entry: KeyEntry, value: StreamValue, at: number): void {
    value.retentionDeadline ??= { entry, expireAt: 0, heapIndex: -1 };
    value.retentionDeadline.expireAt = at;
    this.#heap.update(value.retentionDeadline);
  }

  /** The stream leaves the keyspace, or has no maximum age any more. */
  remove(value: StreamValue): void {
    if (value.retentionDeadline === null) return;
    this.#heap.remove(value.retentionDeadline);
    value.retentionDeadline = null;
  }
}
