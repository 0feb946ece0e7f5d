/**
 * Numbered slots that are linked into lists: the memory of the delivery order.
 *
 * A slot has four numbers: the slots before and after it in its list (0 = none), where its entry is
 * (page handle and position), and its bucket in the list with the list's code. Slot 0 is no slot.
 * Slots are stable, and freed ones are used again.
 * Cost: 16 bytes a slot, no object.
 */
const WORDS = 4;
const BEFORE = 0;
const AFTER = 1;
const PLACE = 2;
const BUCKET = 3;
const CHUNK_BITS = 8;
const CHUNK = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK - 1;
const CODE_BITS = 2;
const CODE_MASK = (1 << CODE_BITS) - 1;

export class SlotLinks {
  readonly #chunks: Uint32Array[] = [];
  // Slots from here on have never been used.
  #fresh = 1;
  // Freed slots, linked through AFTER.
  #free = 0;

  get bytes(): number {
    return this.#chunks.length * CHUNK * WORDS * 4;
  }

  take(place: number): number {
    let slot = this.#free;
    if (slot !== 0) this.#free = this.after(slot);
    else {
      slot = this.#fresh++;
      if (slot >>> CHUNK_BITS >= this.#chunks.length) {
        this.#chunks.push(new Uint32Array(CHUNK * WORDS));
      }
    }
    this.setPlace(slot, place);
    return slot;
  }

  release(slot: number): void {
    this.setAfter(slot, this.#free);
    this.#free = slot;
  }

  before(slot: number): number {
    return this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + BEFORE];
  }

  after(slot: number): number {
    return this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + AFTER];
  }

  place(slot: number): number {
    return this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + PLACE];
  }

  /** The bucket of its list that the slot is in. */
  bucket(slot: number): number {
    return this.#bucketWord(slot) >>> CODE_BITS;
  }

  /** Which kind of list the slot is in. */
  code(slot: number): number {
    return this.#bucketWord(slot) & CODE_MASK;
  }

  setBefore(slot: number, before: number): void {
    this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + BEFORE] = before;
  }

  setAfter(slot: number, after: number): void {
    this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + AFTER] = after;
  }

  setPlace(slot: number, place: number): void {
    this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + PLACE] = place;
  }

  setBucket(slot: number, bucket: number, code: number): void {
    const word = ((bucket << CODE_BITS) | code) >>> 0;
    this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + BUCKET] = word;
  }

  #bucketWord(slot: number): number {
    return this.#chunks[slot >>> CHUNK_BITS][(slot & CHUNK_MASK) * WORDS + BUCKET];
  }
}

/** A list of slots in the order in which they were pushed. */
export class RowList {
  first = 0;
  last = 0;
  readonly #links: SlotLinks;
  readonly #code: number;

  constructor(links: SlotLinks, code: number) {
    this.#links = links;
    this.#code = code;
  }

  push(slot: number): void {
    const links = this.#links;
    links.setBucket(slot, 0, this.#code);
    links.setBefore(slot, this.last);
    links.setAfter(slot, 0);
    if (this.last === 0) this.first = slot;
    else links.setAfter(this.last, slot);
    this.last = slot;
  }

  /** The slot must be in this list. */
  remove(slot: number): void {
    const links = this.#links;
    const before = links.before(slot);
    const after = links.after(slot);
    if (before === 0) this.first = after;
    else links.setAfter(before, after);
    if (after === 0) this.last = before;
    else links.setBefore(after, before);
  }

  /** Appends all of another list of the same code, which is empty then. O(1). */
  takeAll(other: RowList): void {
    if (other.first === 0) return;
    if (this.last === 0) this.first = other.first;
    else {
      this.#links.setAfter(this.last, other.first);
      this.#links.setBefore(other.first, this.last);
    }
    this.last = other.last;
    other.first = other.last = 0;
  }
}
