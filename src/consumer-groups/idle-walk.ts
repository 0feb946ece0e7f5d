/**
 * A walk over the entries of a group that have been idle for so long, the longest idle first, during
 * which the one that is visited may be claimed or dropped.
 *
 * Invariant: no entry is visited twice. What is claimed is put behind all that is idle longer; where
 * the walk asks for no idle time at all that place may lie ahead of it, so entries of this very
 * moment (and later: the clock may have gone back) are noted before the first visit.
 * Cost: O(1) an entry; without an idle time a list of the entries of this moment.
 */
import type { DeliveryOrder } from './delivery-order.ts';
import type { PendingCursor } from './pending-cursor.ts';
import type { PendingList } from './pending-list.ts';
import { NOBODY } from './pending-page.ts';

const NONE: readonly number[] = [];

export class IdleWalk {
  readonly #pending: PendingList;
  readonly #order: DeliveryOrder;
  readonly #minIdle: number;
  readonly #now: number;
  readonly #ofNow: readonly number[];
  #visitedOfNow = 0;
  // The slot to visit next of those idle since before now; 0 = none is left.
  #next: number;

  /** Builds the group's delivery order where it is not there. */
  constructor(pending: PendingList, minIdle: number, now: number) {
    this.#pending = pending;
    this.#order = pending.order;
    this.#minIdle = minIdle;
    this.#now = now;
    this.#ofNow = minIdle > 0 ? NONE : this.#order.slotsSince(now);
    this.#next = this.#order.first;
  }

  /** Puts the cursor on the next entry; false where none is idle for so long. */
  next(cursor: PendingCursor): boolean {
    const slot = this.#next;
    if (slot !== 0) {
      this.#pending.at(slot, cursor);
      if (cursor.consumer === NOBODY || cursor.time < this.#now) {
        this.#next = this.#order.after(slot);
        return isIdle(cursor, this.#minIdle, this.#now);
      }
      this.#next = 0;
    }
    if (this.#visitedOfNow === this.#ofNow.length) return false;
    this.#pending.at(this.#ofNow[this.#visitedOfNow++], cursor);
    return true;
  }
}

/** Whether an entry has been idle for `minIdle` ms; one that XNACK released always has. */
export function isIdle(entry: PendingCursor, minIdle: number, now: number): boolean {
  return minIdle <= 0 || entry.consumer === NOBODY || now - entry.time >= minIdle;
}
