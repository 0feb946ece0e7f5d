/**
 * A list of slots sorted by the time of their entries, by id among equal times.
 *
 * Holds: the linked list (slot-links.ts), and over it an index: the list is cut into buckets of up to
 * MOST slots, and the buckets' first slots stand in an array that a binary search goes through.
 * Invariant: a bucket's slots are neighbours in the list; no bucket is empty; buckets are in the order
 * of the list. A slot's key may change only while the slot is removed from the list, or just before.
 * Cost: O(1) for a slot that belongs at the end or beside the one inserted before it; another
 * O(log n + MOST). Splitting and removing a bucket moves the array behind it, once in MOST changes.
 */
import type { SlotLinks } from './slot-links.ts';

/** Slots in a bucket: when one more comes the bucket is split; a new one at the end begins at FULL. */
const MOST = 64;
const FULL = 48;

/** What the list asks about the entries behind its slots. */
export interface SlotKeys {
  /** Whether a's entry comes before b's: earlier, or of the same time with a lower id. */
  precedes(a: number, b: number): boolean;
  time(slot: number): number;
}

export class TimeList {
  first = 0;
  last = 0;
  readonly #links: SlotLinks;
  readonly #keys: SlotKeys;
  readonly #code: number;
  // The numbers of the buckets, in order; by number the first slot and how many there are.
  readonly #buckets: number[] = [];
  readonly #firsts: number[] = [];
  readonly #counts: number[] = [];
  readonly #free: number[] = [];
  // The slot that was inserted last and is still there: the next one is often its neighbour.
  #finger = 0;

  constructor(links: SlotLinks, keys: SlotKeys, code: number) {
    this.#links = links;
    this.#keys = keys;
    this.#code = code;
  }

  insert(slot: number): void {
    const links = this.#links;
    const before = this.#placeFor(slot);
    const after = before === 0 ? this.first : links.after(before);
    links.setBefore(slot, before);
    links.setAfter(slot, after);
    if (before === 0) this.first = slot;
    else links.setAfter(before, slot);
    if (after === 0) this.last = slot;
    else links.setBefore(after, slot);
    this.#finger = slot;
    this.#enter(slot, before, after);
  }

  /** The slot must be in this list; its key may have changed already. */
  remove(slot: number): void {
    const links = this.#links;
    const before = links.before(slot);
    const after = links.after(slot);
    const bucket = links.bucket(slot);
    if (this.#finger === slot) this.#finger = before;
    if (before === 0) this.first = after;
    else links.setAfter(before, after);
    if (after === 0) this.last = before;
    else links.setBefore(after, before);
    const left = --this.#counts[bucket];
    if (left === 0) {
      // The search must not compare the slot that goes: the one before it is compared in its place.
      this.#firsts[bucket] = before;
      this.#forget(bucket, before === 0 ? 0 : this.#indexOf(links.bucket(before)) + 1);
      return;
    }
    if (this.#firsts[bucket] === slot) this.#firsts[bucket] = after;
    if (left <= 16 && (left & (left - 1)) === 0) this.#merge(bucket);
  }

  /** Forgets all slots, which may be in other lists already. */
  clear(): void {
    this.first = this.last = 0;
    this.#finger = 0;
    this.#firsts.length = this.#counts.length = this.#free.length = 0;
    this.#buckets.length = 0;
  }

  /** The first slot whose time is later than this one; 0 where there is none. */
  firstLater(time: number): number {
    let from = 0;
    let to = this.#buckets.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#keys.time(this.#firsts[this.#buckets[middle]]) <= time) from = middle + 1;
      else to = middle;
    }
    if (from === 0) return this.first;
    let slot = this.#firsts[this.#buckets[from - 1]];
    while (slot !== 0 && this.#keys.time(slot) <= time) slot = this.#links.after(slot);
    return slot;
  }

  /** The slot behind which this one belongs: the last one that precedes it; 0 = it is the first. */
  #placeFor(slot: number): number {
    const links = this.#links;
    const keys = this.#keys;
    if (this.last === 0 || keys.precedes(this.last, slot)) return this.last;
    if (!keys.precedes(this.first, slot)) return 0;
    const finger = this.#finger;
    if (finger !== 0) {
      if (keys.precedes(finger, slot)) {
        // There is one after it: the last of all does not precede the slot.
        if (!keys.precedes(links.after(finger), slot)) return finger;
      } else {
        const before = links.before(finger);
        if (keys.precedes(before, slot)) return before;
      }
    }
    let from = 0;
    let to = this.#buckets.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (keys.precedes(this.#firsts[this.#buckets[middle]], slot)) from = middle + 1;
      else to = middle;
    }
    let place = this.#firsts[this.#buckets[from - 1]];
    for (;;) {
      const next = links.after(place);
      if (next === 0 || !keys.precedes(next, slot)) return place;
      place = next;
    }
  }

  #enter(slot: number, before: number, after: number): void {
    const links = this.#links;
    if (before === 0 && after === 0) {
      this.#open(slot, 0);
      return;
    }
    const bucket = links.bucket(before === 0 ? after : before);
    if (after === 0 && this.#counts[bucket] >= FULL) {
      this.#open(slot, this.#buckets.length);
      return;
    }
    links.setBucket(slot, bucket, this.#code);
    if (before === 0) this.#firsts[bucket] = slot;
    if (++this.#counts[bucket] > MOST) this.#split(bucket);
  }

  /** A new bucket of one slot at this place of the array. */
  #open(slot: number, index: number): number {
    const bucket = this.#free.pop() ?? this.#firsts.length;
    this.#firsts[bucket] = slot;
    this.#counts[bucket] = 1;
    this.#links.setBucket(slot, bucket, this.#code);
    if (index === this.#buckets.length) this.#buckets.push(bucket);
    else this.#buckets.splice(index, 0, bucket);
    return bucket;
  }

  #split(bucket: number): void {
    const links = this.#links;
    const half = this.#counts[bucket] >>> 1;
    let slot = this.#firsts[bucket];
    for (let i = 0; i < half; i++) slot = links.after(slot);
    const upper = this.#open(slot, this.#indexOf(bucket) + 1);
    const moved = this.#counts[bucket] - half;
    for (let i = 1; i < moved; i++) {
      slot = links.after(slot);
      links.setBucket(slot, upper, this.#code);
    }
    this.#counts[upper] = moved;
    this.#counts[bucket] = half;
  }

  /** A small bucket joins the next one where there is room. */
  #merge(bucket: number): void {
    const links = this.#links;
    const first = this.#firsts[bucket];
    const count = this.#counts[bucket];
    let slot = first;
    for (let i = 0; i < count; i++) slot = links.after(slot);
    if (slot === 0) return;
    const next = links.bucket(slot);
    if (this.#counts[next] + count > FULL) return;
    const index = this.#indexOf(bucket);
    slot = first;
    for (let i = 0; i < count; i++) {
      links.setBucket(slot, next, this.#code);
      slot = links.after(slot);
    }
    this.#firsts[next] = first;
    this.#counts[next] += count;
    this.#forget(bucket, index);
  }

  #forget(bucket: number, index: number): void {
    if (index === 0) this.#buckets.shift();
    else this.#buckets.splice(index, 1);
    this.#free.push(bucket);
  }

  #indexOf(bucket: number): number {
    const first = this.#firsts[bucket];
    let from = 0;
    let to = this.#buckets.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#keys.precedes(this.#firsts[this.#buckets[middle]], first)) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
