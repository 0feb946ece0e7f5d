/**
 * Entries that wait for their time, of one keyspace: in order of time, equal ones in order of arrival.
 *
 * A date (AT) and the end of a delay (DELAY) go by two clocks that a step moves apart. So each key has
 * a queue of both, and the queues are in two heaps by when their first entry is due. The entries
 * belong to the name of a stream, not to the stream: deleting or renaming the key changes nothing
 * here. A flush takes them with the keyspace, SWAPDB moves them with it.
 * Invariant: a key whose entries cannot be added now is postponed as a whole, so they keep their times
 * and their order. That is not recorded: it ends when the key is free, and a restart finds it out
 * again.
 * Cost: O(log n) to add and to remove; the first k of a key O(k log k).
 */

import type { TurnClock } from '../turn-clock.ts';
import { DeadlineHeap, type Timed } from './deadline-heap.ts';
import { type ScheduledEntry, ScheduledQueue, waitOf } from './scheduled-queue.ts';

/** What waits for one key. */
class ScheduledKey implements Timed {
  readonly name: string;
  readonly dates = new ScheduledQueue();
  readonly delays = new ScheduledQueue();
  /** Entries that cannot be added for a reason that will not pass. */
  aside: ScheduledEntry[] = [];
  /** While it is postponed: until this monotonic ms. */
  expireAt = 0;
  /** Its place among the postponed keys. */
  heapIndex = -1;

  constructor(name: string) {
    this.name = name;
  }

  get size(): number {
    return this.dates.items.length + this.delays.items.length + this.aside.length;
  }

  queueOf(entry: ScheduledEntry): ScheduledQueue {
    return entry.isDelay ? this.delays : this.dates;
  }

  remove(entry: ScheduledEntry): void {
    if (!entry.isAside) {
      this.queueOf(entry).remove(entry);
      return;
    }
    this.aside = this.aside.filter((each) => each !== entry);
    entry.leaveAside();
  }

  /** The first `limit`, in order. */
  first(limit: number, time: TurnClock): ScheduledEntry[] {
    const found = [...this.aside, ...this.dates.first(limit), ...this.delays.first(limit)];
    return found.sort((a, b) => (isBefore(a, b, time) ? -1 : 1)).slice(0, limit);
  }
}

export class Schedule {
  private readonly dates = new DeadlineHeap<ScheduledQueue>();
  private readonly delays = new DeadlineHeap<ScheduledQueue>();
  private readonly postponed = new DeadlineHeap<ScheduledKey>();
  private readonly byNumber = new Map<number, ScheduledEntry>();
  /** By the key as latin1. */
  private readonly byKey = new Map<string, ScheduledKey>();

  get size(): number {
    return this.byNumber.size;
  }

  /** The entry that is to be tried now; undefined = none. */
  firstDue(time: TurnClock): ScheduledEntry | undefined {
    for (;;) {
      const key = this.postponed.first();
      if (key === undefined || key.expireAt > time.monotonic) break;
      this.resume(key);
    }
    const date = this.dates.first()?.items[0];
    const delay = this.delays.first()?.items[0];
    const first = delay === undefined || (date && isBefore(date, delay, time)) ? date : delay;
    return first === undefined || waitOf(first, time) > 0 ? undefined : first;
  }

  /** When something is to be tried, monotonic ms; Infinity when nothing waits. */
  firstAt(time: TurnClock): number {
    const date = this.dates.first()?.expireAt ?? Number.POSITIVE_INFINITY;
    const delay = this.delays.first()?.expireAt ?? Number.POSITIVE_INFINITY;
    const postponed = this.postponed.first()?.expireAt ?? Number.POSITIVE_INFINITY;
    return Math.min(time.whenDate(date), time.whenSteady(delay), postponed);
  }

  get(number: number): ScheduledEntry | undefined {
    return this.byNumber.get(number);
  }

  entries(): Iterable<ScheduledEntry> {
    return this.byNumber.values();
  }

  /** How many wait for this key. */
  count(key: Uint8Array): number {
    return this.byKey.get(latin1(key))?.size ?? 0;
  }

  /** The first `limit` of a key, in the order in which they will come. */
  firstOf(key: Uint8Array, limit: number, time: TurnClock): ScheduledEntry[] {
    return this.byKey.get(latin1(key))?.first(limit, time) ?? [];
  }

  add(entry: ScheduledEntry): void {
    this.byNumber.set(entry.number, entry);
    const name = latin1(entry.key);
    let key = this.byKey.get(name);
    if (key === undefined) {
      key = new ScheduledKey(name);
      this.byKey.set(name, key);
    }
    key.queueOf(entry).add(entry);
    this.place(key);
  }

  remove(entry: ScheduledEntry): void {
    this.byNumber.delete(entry.number);
    const key = this.byKey.get(latin1(entry.key));
    if (key === undefined) return;
    key.remove(entry);
    this.place(key);
    if (key.size > 0) return;
    this.postponed.remove(key);
    this.byKey.delete(key.name);
  }

  /** It is not due any more, but listed and cancelled as before. */
  putAside(entry: ScheduledEntry): void {
    const key = this.byKey.get(latin1(entry.key));
    if (key === undefined || entry.heapIndex < 0) return;
    key.remove(entry);
    entry.setAside();
    key.aside.push(entry);
    this.place(key);
  }

  /** No entry of this one's key is tried before `until` (monotonic ms). Their times stay. */
  postpone(entry: ScheduledEntry, until: number): void {
    const key = this.byKey.get(latin1(entry.key));
    if (key === undefined) return;
    key.expireAt = until;
    this.postponed.update(key);
    this.place(key);
  }

  /** The key has lost its value or its name: what was postponed for it may be tried. */
  onKeyFreed(key: Uint8Array): void {
    if (this.postponed.size === 0) return;
    const found = this.byKey.get(latin1(key));
    if (found !== undefined && found.heapIndex >= 0) this.resume(found);
  }

  private resume(key: ScheduledKey): void {
    this.postponed.remove(key);
    this.place(key);
  }

  private place(key: ScheduledKey): void {
    placeIn(this.dates, key.dates, key.heapIndex >= 0);
    placeIn(this.delays, key.delays, key.heapIndex >= 0);
  }
}

function placeIn(
  heap: DeadlineHeap<ScheduledQueue>,
  queue: ScheduledQueue,
  isPostponed: boolean,
): void {
  if (isPostponed || queue.items.length === 0) heap.remove(queue);
  else heap.update(queue);
}

function isBefore(a: ScheduledEntry, b: ScheduledEntry, time: TurnClock): boolean {
  const difference = waitOf(a, time) - waitOf(b, time);
  return difference < 0 || (difference === 0 && a.number < b.number);
}

function latin1(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}
