/**
 * What of a pending page's entries can be due first, known without its columns.
 *
 * Invariant: no entry of its kind has an earlier time (a released one: place in the row) than the bound
 * says; Infinity = the page has none of the kind. Bounds may be too early while entries change or go;
 * `tighten` makes them exact.
 * Cost: a comparison an entry that is written; `tighten` O(entries of the page).
 */
import { AWAITING_DEAD_LETTER, DELAYED, HOLE, UNOWNED } from './pending-owners.ts';

export class PageBounds {
  owned = Number.POSITIVE_INFINITY;
  delayed = Number.POSITIVE_INFINITY;
  released = Number.POSITIVE_INFINITY;
  awaitingDeadLetter = false;

  note(consumer: number, time: number): void {
    if (consumer < AWAITING_DEAD_LETTER) {
      if (time < this.owned) this.owned = time;
    } else if (consumer === UNOWNED) {
      if (time < this.released) this.released = time;
    } else if (consumer === DELAYED) {
      if (time < this.delayed) this.delayed = time;
    } else if (consumer === AWAITING_DEAD_LETTER) {
      this.awaitingDeadLetter = true;
    }
  }

  /** There is nothing in the page. */
  clear(): void {
    this.owned = this.delayed = this.released = Number.POSITIVE_INFINITY;
    this.awaitingDeadLetter = false;
  }

  /** Nothing is known: what was stored before bounds were. */
  forget(): void {
    this.owned = this.delayed = this.released = Number.NEGATIVE_INFINITY;
    this.awaitingDeadLetter = true;
  }

  copy(other: PageBounds): void {
    this.owned = other.owned;
    this.delayed = other.delayed;
    this.released = other.released;
    this.awaitingDeadLetter = other.awaitingDeadLetter;
  }

  /** The bounds that the first `used` positions of these columns give. */
  tighten(consumers: Uint32Array, times: Float64Array, used: number): void {
    this.clear();
    for (let at = 0; at < used; at++) {
      if (consumers[at] !== HOLE) this.note(consumers[at], times[at]);
    }
  }
}
