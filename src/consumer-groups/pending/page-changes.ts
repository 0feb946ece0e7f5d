/**
 * Which pages of a pending list the next checkpoint has to write, and which it has to remove.
 *
 * Two generations: pages dirty in the present epoch, and frozen ones, dirty when an older epoch ended
 * and not captured yet. A page removed before any checkpoint saw it leaves no trace.
 * Invariant: `page.epoch === epoch.current` exactly when the page is in the present generation, so
 * the hot path asks that one question and comes here only at a page's first change in an epoch.
 */
import type { Epoch, PageStore } from './page-store.ts';
import type { PendingPage } from './pending-page.ts';

export class PageChanges {
  readonly epoch: Epoch;
  store: PageStore | null = null;
  #generation: number;
  #dirty = new Set<PendingPage>();
  // null = nothing: most lists are small, and many.
  #frozen: Set<PendingPage> | null = null;
  #removed: number[] | null = null;
  #frozenRemoved: number[] | null = null;

  constructor(epoch: Epoch) {
    this.epoch = epoch;
    this.#generation = epoch.current;
  }

  /** Before the first change of a page in this epoch. */
  changing(page: PendingPage): void {
    this.#turn();
    this.#capture(page);
    page.epoch = this.epoch.current;
    this.#dirty.add(page);
  }

  /** Before a page goes for good. */
  removing(page: PendingPage): void {
    this.#turn();
    this.#capture(page);
    this.#dirty.delete(page);
    if (!page.stored) return;
    if (this.#removed === null) this.#removed = [page.id];
    else this.#removed.push(page.id);
  }

  /**
   * Visits up to `limit` frozen pages that were not captured yet; they then count as captured. True
   * when none is left.
   */
  takeFrozen(visit: (page: PendingPage) => void, limit = Number.POSITIVE_INFINITY): boolean {
    this.#turn();
    const frozen = this.#frozen;
    if (frozen === null) return true;
    for (const page of frozen) {
      if (limit-- <= 0) return false;
      frozen.delete(page);
      page.stored = true;
      visit(page);
    }
    this.#frozen = null;
    return true;
  }

  /** Ids of stored pages that had gone when the epoch ended; each is reported once. */
  takeFrozenRemoved(): number[] {
    this.#turn();
    const removed = this.#frozenRemoved;
    this.#frozenRemoved = null;
    return removed ?? [];
  }

  #capture(page: PendingPage): void {
    if (this.#frozen === null || !this.#frozen.delete(page)) return;
    page.stored = true;
    this.store?.capture(page);
  }

  /** What was dirty in an ended epoch is frozen. What an abandoned checkpoint left stays so. */
  #turn(): void {
    if (this.#generation === this.epoch.current) return;
    this.#generation = this.epoch.current;
    if (this.#dirty.size > 0) {
      if (this.#frozen === null) this.#frozen = this.#dirty;
      else for (const page of this.#dirty) this.#frozen.add(page);
      this.#dirty = new Set();
    }
    if (this.#removed !== null) {
      this.#frozenRemoved = [...(this.#frozenRemoved ?? []), ...this.#removed];
      this.#removed = null;
    }
  }
}
