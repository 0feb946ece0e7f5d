/**
 * A scheduled entry, and the heap of those of one key that are due by the same clock.
 *
 * Holds: a binary heap whose members know their place, in order of time, equal ones in order of
 * arrival.
 * Invariant: an entry is never changed, only replaced by one of the same number. `expireAt` is when
 * the first one is due.
 * Cost: O(log n) to add and to remove; the first k O(k log k).
 */

import type { KeyspaceId } from '../keyspace/keyspace-id.ts';
import type { TurnClock } from '../turn-clock.ts';
import type { Timed } from './deadline-heap.ts';

const GONE = -1;
const ASIDE = -2;

/** When an entry is due. */
export interface DueTime {
  /** Unix ms by the clock (AT), or steady ms (DELAY). */
  readonly at: number;
  readonly isDelay: boolean;
}

export class ScheduledEntry implements DueTime {
  /** Names it: unique among all that this data has ever had. */
  readonly number: number;
  readonly key: Buffer;
  readonly at: number;
  readonly isDelay: boolean;
  /** What to trim afterwards, and the fields: scheduled-entries.ts. */
  readonly body: Buffer;
  readonly space: KeyspaceId;
  /** In its queue; GONE outside, ASIDE when it is listed and not due. */
  heapIndex = GONE;

  constructor(number: number, key: Buffer, due: DueTime, body: Buffer, space: KeyspaceId) {
    this.number = number;
    this.key = key;
    this.at = due.at;
    this.isDelay = due.isDelay;
    this.body = body;
    this.space = space;
  }

  /** It has neither been added nor cancelled. */
  get waiting(): boolean {
    return this.heapIndex !== GONE;
  }

  get isAside(): boolean {
    return this.heapIndex === ASIDE;
  }

  setAside(): void {
    this.heapIndex = ASIDE;
  }

  leaveAside(): void {
    this.heapIndex = GONE;
  }
}

/** A date, a delay, or neither of them: null = now. */
export function dueTime(
  date: number | null | undefined,
  delayMs: number | null | undefined,
  steady: number,
): DueTime | null {
  if (typeof date === 'number') return { at: Math.ceil(date), isDelay: false };
  if (typeof delayMs !== 'number') return null;
  return { at: Math.ceil(steady + delayMs), isDelay: true };
}

/** In how many ms it is due; 0 and below: it is. */
export function waitOf(due: DueTime, time: TurnClock): number {
  return due.at - (due.isDelay ? time.steady : time.now);
}

export class ScheduledQueue implements Timed {
  readonly items: ScheduledEntry[] = [];
  /** Its place among the queues of other keys. */
  heapIndex = -1;

  /** When the first one is due; Infinity when there is none. */
  expireAt = Number.POSITIVE_INFINITY;

  add(entry: ScheduledEntry): void {
    this.items.push(entry);
    this.#rise(entry, this.items.length - 1);
    this.expireAt = this.items[0].at;
  }

  remove(entry: ScheduledEntry): void {
    const index = entry.heapIndex;
    const last = this.items.pop() as ScheduledEntry;
    entry.heapIndex = GONE;
    if (last !== entry) {
      this.#rise(last, index);
      this.#sink(last, last.heapIndex);
    }
    this.expireAt = this.items.length === 0 ? Number.POSITIVE_INFINITY : this.items[0].at;
  }

  /** The first `limit`, in order. */
  first(limit: number): ScheduledEntry[] {
    const { items } = this;
    // All of it, or most: sorting is the cheaper way.
    if (limit >= items.length / 4) {
      return items.toSorted((a, b) => (isBefore(a, b) ? -1 : 1)).slice(0, limit);
    }
    const found: ScheduledEntry[] = [];
    // Where the next one can be: the children of those found. A heap of places in the heap.
    const places: number[] = [0];
    while (found.length < limit && places.length > 0) {
      const place = takeFirst(places, items);
      found.push(items[place]);
      for (const child of [place * 2 + 1, place * 2 + 2]) {
        if (child < items.length) addPlace(places, items, child);
      }
    }
    return found;
  }

  #rise(entry: ScheduledEntry, index: number): void {
    const { items } = this;
    while (index > 0) {
      const above = (index - 1) >> 1;
      if (!isBefore(entry, items[above])) break;
      items[index] = items[above];
      items[index].heapIndex = index;
      index = above;
    }
    items[index] = entry;
    entry.heapIndex = index;
  }

  #sink(entry: ScheduledEntry, index: number): void {
    const { items } = this;
    for (;;) {
      let below = index * 2 + 1;
      if (below >= items.length) break;
      if (below + 1 < items.length && isBefore(items[below + 1], items[below])) below++;
      if (!isBefore(items[below], entry)) break;
      items[index] = items[below];
      items[index].heapIndex = index;
      index = below;
    }
    items[index] = entry;
    entry.heapIndex = index;
  }
}

function isBefore(a: ScheduledEntry, b: ScheduledEntry): boolean {
  return a.at < b.at || (a.at === b.at && a.number < b.number);
}

function addPlace(places: number[], items: readonly ScheduledEntry[], place: number): void {
  let index = places.length;
  places.push(place);
  while (index > 0) {
    const above = (index - 1) >> 1;
    if (!isBefore(items[place], items[places[above]])) break;
    places[index] = places[above];
    index = above;
  }
  places[index] = place;
}

function takeFirst(places: number[], items: readonly ScheduledEntry[]): number {
  const [first] = places;
  const last = places.pop() as number;
  if (places.length === 0) return first;
  let index = 0;
  for (;;) {
    let below = index * 2 + 1;
    if (below >= places.length) break;
    const right = below + 1;
    if (right < places.length && isBefore(items[places[right]], items[places[below]]))
      below = right;
    if (!isBefore(items[places[below]], items[last])) break;
    places[index] = places[below];
    index = below;
  }
  places[index] = last;
  return first;
}
