/**
 * Entries that wait for their time, of one keyspace: in order of time, equal ones in order of arrival.
 *
 * Holds: for each key a queue, a binary heap whose members know their place; the queues in a heap by
 * when their first entry is to be tried; the entries by number. They belong to the name of a stream,
 * not to the stream: deleting or renaming the key changes nothing here. A flush takes them with the
 * keyspace, SWAPDB moves them with it.
 * Invariant: an entry is never changed, only replaced by one of the same number. A key whose entries
 * cannot be added now is postponed as a whole, so they keep their times and their order. That is not
 * recorded: it ends when the key is free, and a restart finds it out again.
 * Cost: O(log n) to add and to remove; the first k of a key O(k log k).
 */
import { DeadlineHeap, type Timed } from './deadline-heap.ts';
import type { Keyspace } from './keyspace.ts';

const GONE = -1;
const ASIDE = -2;

export class ScheduledEntry {
  /** Names it: unique among all that this data has ever had. */
  readonly number: number;
  readonly key: Buffer;
  /** Unix ms. */
  readonly due: number;
  /** What to trim afterwards, and the fields: scheduled-entries.ts. */
  readonly body: Buffer;
  readonly space: Keyspace;
  /** In its queue; GONE outside, ASIDE when it is listed and not due. */
  heapIndex = GONE;

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

/** What waits for one key. */
class KeyQueue implements Timed {
  readonly name: string;
  /** A binary heap. */
  readonly items: ScheduledEntry[] = [];
  /** Entries that cannot be added for a reason that will not pass. */
  private aside: ScheduledEntry[] = [];
  /** Its entries are not tried before this unix ms. */
  notBefore = 0;
  expireAt = 0;
  heapIndex = -1;

  constructor(name: string) {
    this.name = name;
  }

  get size(): number {
    return this.items.length + this.aside.length;
  }

  /** Infinity when nothing is due ever. */
  get readyAt(): number {
    const { items } = this;
    return items.length === 0 ? Number.POSITIVE_INFINITY : Math.max(items[0].due, this.notBefore);
  }

  add(entry: ScheduledEntry): void {
    this.items.push(entry);
    this.#rise(entry, this.items.length - 1);
  }

  setAside(entry: ScheduledEntry): void {
    entry.heapIndex = ASIDE;
    this.aside.push(entry);
  }

  remove(entry: ScheduledEntry): void {
    const index = entry.heapIndex;
    if (index === ASIDE) {
      this.aside = this.aside.filter((each) => each !== entry);
      entry.heapIndex = GONE;
      return;
    }
    const last = this.items.pop() as ScheduledEntry;
    entry.heapIndex = GONE;
    if (last === entry) return;
    this.#rise(last, index);
    this.#sink(last, last.heapIndex);
  }

  /** The first `limit`, in order. */
  first(limit: number): ScheduledEntry[] {
    const found = this.#firstDue(limit);
    if (this.aside.length === 0) return found;
    return [...this.aside, ...found].sort((a, b) => (isBefore(a, b) ? -1 : 1)).slice(0, limit);
  }

  #firstDue(limit: number): ScheduledEntry[] {
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

export class Schedule {
  private readonly queues = new DeadlineHeap<KeyQueue>();
  /** Keys that are postponed, or were. */
  private postponed = 0;
  private readonly byNumber = new Map<number, ScheduledEntry>();
  /** By the key as latin1. */
  private readonly byKey = new Map<string, KeyQueue>();

  get size(): number {
    return this.byNumber.size;
  }

  /** The entry that is to be tried first. */
  first(): ScheduledEntry | undefined {
    return this.queues.first()?.items[0];
  }

  /** When `first` is to be tried, unix ms; Infinity when nothing waits. */
  get firstAt(): number {
    return this.queues.first()?.expireAt ?? Number.POSITIVE_INFINITY;
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
  firstOf(key: Uint8Array, limit: number): ScheduledEntry[] {
    return this.byKey.get(latin1(key))?.first(limit) ?? [];
  }

  add(entry: ScheduledEntry): void {
    this.byNumber.set(entry.number, entry);
    const name = latin1(entry.key);
    let queue = this.byKey.get(name);
    if (queue === undefined) {
      queue = new KeyQueue(name);
      this.byKey.set(name, queue);
    }
    queue.add(entry);
    this.place(queue);
  }

  remove(entry: ScheduledEntry): void {
    this.byNumber.delete(entry.number);
    const queue = this.byKey.get(latin1(entry.key));
    if (queue === undefined) return;
    queue.remove(entry);
    this.place(queue);
    if (queue.size > 0) return;
    if (queue.notBefore !== 0) this.postponed--;
    this.byKey.delete(queue.name);
  }

  /** It is not due any more, but listed and cancelled as before. */
  putAside(entry: ScheduledEntry): void {
    const queue = this.byKey.get(latin1(entry.key));
    if (queue === undefined || entry.heapIndex < 0) return;
    queue.remove(entry);
    queue.setAside(entry);
    this.place(queue);
  }

  /** No entry of this one's key is tried before `until`. Their times stay what they are. */
  postpone(entry: ScheduledEntry, until: number): void {
    const queue = this.byKey.get(latin1(entry.key));
    if (queue === undefined) return;
    if (queue.notBefore === 0) this.postponed++;
    queue.notBefore = until;
    this.place(queue);
  }

  /** The key has lost its value or its name: what was postponed for it may be tried. */
  freed(key: Uint8Array): void {
    if (this.postponed === 0) return;
    const queue = this.byKey.get(latin1(key));
    if (queue === undefined || queue.notBefore === 0) return;
    this.postponed--;
    queue.notBefore = 0;
    this.place(queue);
  }

  private place(queue: KeyQueue): void {
    queue.expireAt = queue.readyAt;
    if (queue.expireAt === Number.POSITIVE_INFINITY) this.queues.remove(queue);
    else this.queues.update(queue);
  }
}

function isBefore(a: ScheduledEntry, b: ScheduledEntry): boolean {
  return a.due < b.due || (a.due === b.due && a.number < b.number);
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

function latin1(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}
