/**
 * A walk over the entries of a group that are due, the longest due first, during which the one that
 * is visited may be claimed, dropped or set aside, and no other.
 *
 * Due: released ones always; owned ones that have been idle for `minIdle` ms; delayed ones whose delay
 * is over, whatever `minIdle` is. What was aside and is to be looked at again comes before all.
 * Invariant: no entry is visited twice. What is claimed is put behind all that is idle longer; where
 * the walk asks for no idle time at all that place may lie ahead of it, so entries of this very
 * moment (and later: the clock may have gone back) are noted before the first visit.
 * Cost: O(1) an entry; without an idle time a list of the entries of this moment.
 */

import type { PendingCursor } from '../pending/pending-cursor.ts';
import type { PendingList } from '../pending/pending-list.ts';
import { AWAITING_DEAD_LETTER, DELAYED, UNOWNED } from '../pending/pending-page.ts';
import type { DeliveryOrder } from './delivery-order.ts';

const NONE: readonly number[] = [];

export class IdleScan {
  readonly #pending: PendingList;
  readonly #order: DeliveryOrder;
  readonly #minIdle: number;
  readonly #now: number;
  readonly #ofNow: readonly number[];
  #visitedOfNow = 0;
  // The slots to visit next, of each list; 0 = none is left.
  #recheck: number;
  #released: number;
  #owned: number;
  #delayed: number;

  /** Builds the group's delivery order where it is not there. */
  constructor(pending: PendingList, minIdle: number, now: number) {
    const order = pending.order;
    this.#pending = pending;
    this.#order = order;
    this.#minIdle = minIdle;
    this.#now = now;
    this.#ofNow = minIdle > 0 ? NONE : pending.slotsSince(now);
    this.#recheck = order.recheck.first;
    this.#released = order.released.firstUpTo();
    this.#owned = order.owned.firstUpTo(now - minIdle);
    this.#delayed = order.delayed.firstUpTo(now);
  }

  /** Puts the cursor on the next entry; false where none is due. */
  next(cursor: PendingCursor): boolean {
    const slot = this.#nextSlot();
    if (slot === 0) return false;
    this.#pending.at(slot, cursor);
    return true;
  }

  #nextSlot(): number {
    const order = this.#order;
    for (let slot = this.#recheck; slot !== 0; slot = this.#recheck) {
      this.#recheck = order.after(slot);
      if (this.#isDue(slot)) return slot;
      order.putBack(slot);
    }
    let slot = this.#released;
    if (slot !== 0) {
      this.#released = order.released.afterUpTo(slot);
      return slot;
    }
    const ownedAt = this.#dueAt(this.#owned, this.#minIdle);
    const restingAt = this.#dueAt(this.#delayed, 0);
    if (restingAt <= this.#now && restingAt < ownedAt) {
      slot = this.#delayed;
      this.#delayed = order.delayed.afterUpTo(slot, this.#now);
      return slot;
    }
    if (ownedAt <= this.#now && order.time(this.#owned) < this.#now) {
      slot = this.#owned;
      this.#owned = order.owned.afterUpTo(slot, this.#now - this.#minIdle);
      return slot;
    }
    // Those of this moment come from the list that was noted.
    this.#owned = 0;
    if (restingAt <= this.#now) return this.#nextSlot();
    if (this.#visitedOfNow === this.#ofNow.length) return 0;
    return this.#ofNow[this.#visitedOfNow++];
  }

  #dueAt(slot: number, minIdle: number): number {
    return slot === 0 ? Number.POSITIVE_INFINITY : this.#order.time(slot) + minIdle;
  }

  #isDue(slot: number): boolean {
    const consumer = this.#order.pageOf(slot).columns!.consumer[this.#order.positionOf(slot)];
    if (consumer === UNOWNED || consumer === AWAITING_DEAD_LETTER) return true;
    return this.#dueAt(slot, consumer === DELAYED ? 0 : this.#minIdle) <= this.#now;
  }
}

/**
 * Whether an entry has been idle for `minIdle` ms. One that XNACK released always has; a delayed one
 * has when its delay is over; one that waits for its dead letter never has.
 */
export function isIdle(entry: PendingCursor, minIdle: number, now: number): boolean {
  const { consumer } = entry;
  if (consumer === UNOWNED) return true;
  if (consumer === DELAYED) return entry.time <= now;
  return consumer !== AWAITING_DEAD_LETTER && (minIdle <= 0 || now - entry.time >= minIdle);
}
