/**
 * Entries that wait for their time, of one keyspace: in order of time, equal ones in order of arrival.
 *
 * Holds: a binary heap whose members know their place, and them by number and by key. They belong to
 * the name of a stream, not to the stream: deleting or renaming the key changes nothing here. A
 * flush takes them with the keyspace, SWAPDB moves them with it.
 * Invariant: an entry is never changed, only replaced by one of the same number.
 * Cost: O(log n) to add and to remove.
 */
import type { Keyspace } from './keyspace.ts';

export class ScheduledEntry {
  /** Names it: unique among all that this data has ever had. */
  readonly number: number;
  readonly key: Buffer;
  /** Unix ms. */
  readonly due: number;
  /** What to trim afterwards, and the fields: scheduled-entries.ts. */
  readonly body: Buffer;
  readonly space: Keyspace;
  heapIndex = -1;

  constructor(number: number, key: Buffer, due: number, body: Buffer, space: Keyspace) {
    this.number = number;
    this.key = key;
    this.due = due;
    this.body = body;
    this.space = space;
  }

  /** It has neither been added nor cancelled. */
  get waiting(): boolean {
    return this.space.schedule.get(this.number) === this;
  }
}

export class Schedule {
  private readonly heap: ScheduledEntry[] = [];
  private readonly byNumber = new Map<number, ScheduledEntry>();
  /** By the key as latin1. */
  private readonly byKey = new Map<string, Set<ScheduledEntry>>();

  get size(): number {
    return this.heap.length;
  }

  first(): ScheduledEntry | undefined {
    return this.heap[0];
  }

  get(number: number): ScheduledEntry | undefined {
    return this.byNumber.get(number);
  }

  entries(): Iterable<ScheduledEntry> {
    return this.heap;
  }

  /** How many wait for this key. */
  count(key: Uint8Array): number {
    return this.byKey.get(latin1(key))?.size ?? 0;
  }

  /** The first `limit` of a key, in the order in which they will come. O(n log limit). */
  firstOf(key: Uint8Array, limit: number): ScheduledEntry[] {
    const list: ScheduledEntry[] = [];
    for (const entry of this.byKey.get(latin1(key)) ?? []) {
      if (list.length === limit && !isBefore(entry, list[limit - 1])) continue;
      let [from, to] = [0, list.length];
      while (from < to) {
        const middle = (from + to) >>> 1;
        if (isBefore(entry, list[middle])) to = middle;
        else from = middle + 1;
      }
      list.splice(from, 0, entry);
      if (list.length > limit) list.pop();
    }
    return list;
  }

  add(entry: ScheduledEntry): void {
    this.byNumber.set(entry.number, entry);
    const key = latin1(entry.key);
    const siblings = this.byKey.get(key);
    if (siblings === undefined) this.byKey.set(key, new Set([entry]));
    else siblings.add(entry);
    this.heap.push(entry);
    this.rise(entry, this.heap.length - 1);
  }

  remove(entry: ScheduledEntry): void {
    this.putAside(entry);
    this.byNumber.delete(entry.number);
    const key = latin1(entry.key);
    const siblings = this.byKey.get(key);
    siblings?.delete(entry);
    if (siblings?.size === 0) this.byKey.delete(key);
  }

  /** It is not due any more, but listed and cancelled as before. */
  putAside(entry: ScheduledEntry): void {
    const index = entry.heapIndex;
    if (index < 0) return;
    const last = this.heap.pop() as ScheduledEntry;
    entry.heapIndex = -1;
    if (last !== entry) {
      this.rise(last, index);
      this.sink(last, last.heapIndex);
    }
  }

  private rise(entry: ScheduledEntry, index: number): void {
    const { heap } = this;
    while (index > 0) {
      const above = (index - 1) >> 1;
      if (!isBefore(entry, heap[above])) break;
      heap[index] = heap[above];
      heap[index].heapIndex = index;
      index = above;
    }
    heap[index] = entry;
    entry.heapIndex = index;
  }

  private sink(entry: ScheduledEntry, index: number): void {
    const { heap } = this;
    for (;;) {
      let below = index * 2 + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1], heap[below])) below++;
      if (!isBefore(heap[below], entry)) break;
      heap[index] = heap[below];
      heap[index].heapIndex = index;
      index = below;
    }
    heap[index] = entry;
    entry.heapIndex = index;
  }
}

function isBefore(a: ScheduledEntry, b: ScheduledEntry): boolean {
  return a.due < b.due || (a.due === b.due && a.number < b.number);
}

function latin1(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}
