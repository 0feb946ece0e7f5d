/**
 * The pending entries in the order of their delivery times, the longest idle first.
 *
 * Entries that XNACK released stand at the head, first released first; then the others by time, and
 * by id among equal times: so the order follows from what is stored, and is the same after a restart.
 * Holds: a doubly linked list through numbers, three a slot: the slots before and after it, and where
 * its entry is (page handle and position). A page's `slot` column leads back. Slot 0 is the list's
 * end. Slots are stable; when the pending list moves an entry it only tells where to.
 * Built by the pending list at its first use, in O(n log n) or O(n) where times mostly ascend with
 * ids; a group that never asks for it pays nothing. 16 bytes an entry more.
 * Cost: O(1) for an entry delivered now, released or removed, and for one that belongs beside the one
 * placed before it, as in a batch; another is searched from both ends and from there.
 */
import { StreamId } from '../stream/stream-id.ts';
import { NOBODY, type PendingPage } from './pending-page.ts';

const WORDS = 3;
const BEFORE = 0;
const AFTER = 1;
const PLACE = 2;
const CHUNK_BITS = 8;
const CHUNK = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK - 1;

/** Bits of a place that are the position in its page. */
export const POSITION_BITS = 9;
const POSITION_MASK = (1 << POSITION_BITS) - 1;

const idA = new StreamId();
const idB = new StreamId();

export class DeliveryOrder {
  // By page handle; the pending list's own array.
  readonly #pages: readonly (PendingPage | null)[];
  readonly #chunks: Uint32Array[] = [];
  // Slots from here on have never been used.
  #fresh = 1;
  // Freed slots, linked through AFTER.
  #free = 0;
  #first = 0;
  #last = 0;
  // The last of the released entries at the head; 0 = none.
  #lastReleased = 0;
  // The owned entry that was placed last and is still there: the next one is often its neighbour.
  #finger = 0;

  constructor(pages: readonly (PendingPage | null)[]) {
    this.#pages = pages;
  }

  get bytes(): number {
    return this.#chunks.length * CHUNK * WORDS * 4;
  }

  /** Slot of the longest idle entry; 0 = the list is empty. */
  get first(): number {
    return this.#first;
  }

  /** Slot of the entry delivered last. */
  get last(): number {
    return this.#last;
  }

  /** The next slot; 0 at the end. */
  after(slot: number): number {
    return this.#word(slot, AFTER);
  }

  pageOf(slot: number): PendingPage {
    return this.#pages[this.#word(slot, PLACE) >>> POSITION_BITS]!;
  }

  positionOf(slot: number): number {
    return this.#word(slot, PLACE) & POSITION_MASK;
  }

  /**
   * When the first entry becomes idle for `minIdle` ms, counting only moments later than `after`:
   * Infinity where none will. A reader that has just found nothing to claim passes now, so that
   * entries that were idle already and could not be claimed (their stream entries are gone) do not
   * wake it again and again. A released entry counts as idle always.
   */
  nextIdleAt(minIdle: number, after = Number.NEGATIVE_INFINITY): number {
    for (let slot = this.#first; slot !== 0; slot = this.after(slot)) {
      const at = this.#isReleased(slot) ? 0 : this.#time(slot) + minIdle;
      if (at > after) return at;
    }
    return Number.POSITIVE_INFINITY;
  }

  /** The owned entries delivered at `time` or later, in order. */
  slotsSince(time: number): number[] {
    const slots: number[] = [];
    for (let slot = this.#last; slot !== this.#lastReleased; slot = this.#word(slot, BEFORE)) {
      if (this.#time(slot) < time) break;
      slots.push(slot);
    }
    return slots.reverse();
  }

  // --- For the pending list ---

  /** Puts the entry at this place, which is new here, into the order. Its columns are written already. */
  add(page: PendingPage, position: number): void {
    const slot = this.#take();
    page.columns!.slot![position] = slot;
    this.#setWord(slot, PLACE, ((page.handle << POSITION_BITS) | position) >>> 0);
    this.#link(slot);
  }

  /** The entry's time or owner has changed. */
  moved(page: PendingPage, position: number): void {
    const slot = page.columns!.slot![position];
    this.#unlink(slot);
    this.#link(slot);
  }

  remove(page: PendingPage, position: number): void {
    const slot = page.columns!.slot![position];
    this.#unlink(slot);
    this.#setWord(slot, AFTER, this.#free);
    this.#free = slot;
  }

  /** The entry of the slot at this place has come here from another place. */
  relocated(page: PendingPage, position: number): void {
    const slot = page.columns!.slot![position];
    this.#setWord(slot, PLACE, ((page.handle << POSITION_BITS) | position) >>> 0);
  }

  // --- Links ---

  #link(slot: number): void {
    const before = this.#isReleased(slot) ? this.#lastReleased : this.#placeByTime(slot);
    const after = before === 0 ? this.#first : this.after(before);
    this.#setWord(slot, BEFORE, before);
    this.#setWord(slot, AFTER, after);
    if (before === 0) this.#first = slot;
    else this.#setWord(before, AFTER, slot);
    if (after === 0) this.#last = slot;
    else this.#setWord(after, BEFORE, slot);
    if (this.#isReleased(slot)) this.#lastReleased = slot;
    else this.#finger = slot;
  }

  #unlink(slot: number): void {
    const before = this.#word(slot, BEFORE);
    const after = this.#word(slot, AFTER);
    // A released neighbour is none to search from: its time is no time.
    if (this.#finger === slot) this.#finger = before === this.#lastReleased ? 0 : before;
    if (before === 0) this.#first = after;
    else this.#setWord(before, AFTER, after);
    if (after === 0) this.#last = before;
    else this.#setWord(after, BEFORE, before);
    // Released entries are a run at the head, so the one before it is released too, or none is left.
    if (this.#lastReleased === slot) this.#lastReleased = before;
  }

  /** The slot behind which an owned entry belongs: the last one that does not come after it. */
  #placeByTime(slot: number): number {
    const start = this.#lastReleased;
    let fromEnd = this.#last;
    let fromStart = start;
    let fromFinger = this.#finger;
    const isFingerBefore = fromFinger !== 0 && this.#precedes(fromFinger, slot);
    for (;;) {
      if (fromEnd === start || this.#precedes(fromEnd, slot)) return fromEnd;
      fromEnd = this.#word(fromEnd, BEFORE);
      const next = fromStart === 0 ? this.#first : this.after(fromStart);
      if (next === 0 || !this.#precedes(next, slot)) return fromStart;
      fromStart = next;
      if (fromFinger === 0) continue;
      // The ends have not met, so there is a slot on the finger's far side whichever way it goes.
      const beside = this.#word(fromFinger, isFingerBefore ? AFTER : BEFORE);
      if (isFingerBefore) {
        if (beside === 0 || !this.#precedes(beside, slot)) return fromFinger;
      } else if (beside === start || this.#precedes(beside, slot)) return beside;
      fromFinger = beside;
    }
  }

  /** Whether the first of two owned entries is the longer idle one; of equally idle ones, the lower id. */
  #precedes(a: number, b: number): boolean {
    const difference = this.#time(a) - this.#time(b);
    if (difference !== 0) return difference < 0;
    this.pageOf(a).readId(this.positionOf(a), idA);
    this.pageOf(b).readId(this.positionOf(b), idB);
    return idA.compare(idB) < 0;
  }

  #time(slot: number): number {
    const place = this.#word(slot, PLACE);
    return this.#pages[place >>> POSITION_BITS]!.columns!.time[place & POSITION_MASK];
  }

  #isReleased(slot: number): boolean {
    const place = this.#word(slot, PLACE);
    const { consumer } = this.#pages[place >>> POSITION_BITS]!.columns!;
    return consumer[place & POSITION_MASK] === NOBODY;
  }

  // --- Slots ---

  #take(): number {
    if (this.#free !== 0) {
      const slot = this.#free;
      this.#free = this.after(slot);
      return slot;
    }
    const slot = this.#fresh++;
    if (slot >>> CHUNK_BITS >= this.#chunks.length)
      this.#chunks.push(new Uint32Array(CHUNK * WORDS));
    return slot;
  }

  #word(slot: number, word: number): number {
    return this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + word];
  }

  #setWord(slot: number, word: number, value: number): void {
    this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + word] = value;
  }
}
