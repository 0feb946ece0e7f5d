/**
 * A list of entries by time, with the pages of which it has none yet.
 *
 * Invariant: a slot is handed out only when no page that is not loaded can have an entry before it.
 * Cost: as TimeList's, and the pages that it loads.
 */
import type { PendingPage } from '../pending/pending-page.ts';
import type { UnloadedPages } from '../pending/unloaded-pages.ts';
import type { SlotLinks } from './slot-links.ts';
import { type SlotKeys, TimeList } from './time-list.ts';

/** What the list asks about slots and about pages without any. */
export interface DueKeys extends SlotKeys {
  /** Whether an entry of the page at this time or later can stand before the slot's. */
  mayPrecede(bound: number, page: PendingPage, slot: number): boolean;
}

export class DueList extends TimeList {
  readonly #unloaded: UnloadedPages;
  readonly #keys: DueKeys;
  readonly #links: SlotLinks;
  readonly #load: (page: PendingPage) => void;

  constructor(
    links: SlotLinks,
    keys: DueKeys,
    code: number,
    unloaded: UnloadedPages,
    load: (page: PendingPage) => void,
  ) {
    super(links, keys, code);
    this.#links = links;
    this.#keys = keys;
    this.#unloaded = unloaded;
    this.#load = load;
  }

  /** The first slot, where its time is not after `limit`; 0 where there is none. */
  firstUpTo(limit = Number.POSITIVE_INFINITY): number {
    for (;;) {
      const slot = this.first;
      if (!this.#loadBefore(slot, limit)) return this.#within(slot, limit);
    }
  }

  /** The slot after one that was handed out, where its time is not after `limit`; 0 = there is none. */
  afterUpTo(slot: number, limit = Number.POSITIVE_INFINITY): number {
    for (;;) {
      const next = this.#links.after(slot);
      if (!this.#loadBefore(next, limit)) return this.#within(next, limit);
    }
  }

  /**
   * The first time after `time`; Infinity where there is none. It may be too early where a page is not
   * loaded: then that page will be when it has come.
   */
  timeLater(time: number): number {
    while (this.#unloaded.bound <= time) this.#loadNext();
    const slot = this.firstLater(time);
    const loaded = slot === 0 ? Number.POSITIVE_INFINITY : this.#keys.time(slot);
    return Math.min(loaded, this.#unloaded.bound);
  }

  loadAll(): void {
    while (this.#unloaded.first !== undefined) this.#loadNext();
  }

  #within(slot: number, limit: number): number {
    return slot !== 0 && this.#keys.time(slot) <= limit ? slot : 0;
  }

  /** Loads a page that may have an entry before this slot (0: any) and not after `limit`. */
  #loadBefore(slot: number, limit: number): boolean {
    const { bound, first } = this.#unloaded;
    if (first === undefined || bound > limit) return false;
    if (slot !== 0 && !this.#keys.mayPrecede(bound, first, slot)) return false;
    this.#loadNext();
    return true;
  }

  #loadNext(): void {
    const page = this.#unloaded.first!;
    this.#load(page);
  }
}
