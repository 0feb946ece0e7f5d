/**
 * The pending entries in the order in which they become due.
 *
 * Four lists, by what an entry waits for:
 *   released  given back by XNACK: first released first, due always
 *   owned     delivered to a consumer: by delivery time, due when idle for as long as is asked
 *   delayed   given back to wait (DELAYED): by the moment at which the rest ends
 *   aside     used up, and their dead letter cannot be written now: not looked at until `recheck`
 * Entries of equal time stand by id, so the order follows from what is stored and is the same after a
 * restart; what was set aside is found out again.
 * Built by the pending list at its first use, in O(pages log pages); a group that never asks for it pays nothing. 20 bytes an entry more. A page's `slot` column
 * leads from the entry to its slot; slots are stable, and a moved entry only tells where to.
 * A page's entries come into the lists when a list comes to them, or before the page changes. Each list has
 * the pages outside in the order of their bounds, and takes one in (from the checkpoint, where it is only
 * there) before it hands out an entry that one of the page's may precede: so what is asked for decides how
 * much is read and linked.
 * Cost: O(1) for an entry delivered now, released or removed; O(log n) for any other.
 */
import { StreamId } from '../../stream/stream-id.ts';
import type { PageBounds } from '../pending/page-bounds.ts';
import {
  AWAITING_DEAD_LETTER,
  DELAYED,
  type PendingPage,
  UNOWNED,
} from '../pending/pending-page.ts';
import { UnloadedPages } from '../pending/unloaded-pages.ts';
import { type DueKeys, DueList } from './due-list.ts';
import { RowList, SlotLinks } from './slot-links.ts';

const OWNED = 0;
const DELAYED_LIST = 1;
const RELEASED = 2;
const ASIDE = 3;

/** Bits of a place that are the position in its page. */
const POSITION_BITS = 9;
const POSITION_MASK = (1 << POSITION_BITS) - 1;

const idA = new StreamId();
const idB = new StreamId();

export class DeliveryOrder implements DueKeys {
  // By page handle; the pending list's own array.
  readonly #pages: readonly (PendingPage | null)[];
  readonly #links = new SlotLinks();
  readonly released: DueList;
  readonly owned: DueList;
  readonly delayed: DueList;
  readonly aside = new RowList(this.#links, ASIDE);
  /** What was aside and is to be looked at once more, before all others. */
  readonly recheck = new RowList(this.#links, ASIDE);

  /** `load` reads a page's columns and gives the page to `addPage`. */
  constructor(
    handles: readonly (PendingPage | null)[],
    pages: readonly PendingPage[],
    load: (page: PendingPage) => void,
  ) {
    this.#pages = handles;
    const list = (code: number, boundOf: (bounds: PageBounds) => number): DueList =>
      new DueList(this.#links, this, code, new UnloadedPages(pages, boundOf), load);
    this.released = list(RELEASED, ({ released }) => released);
    this.owned = list(OWNED, ({ owned }) => owned);
    this.delayed = list(DELAYED_LIST, ({ delayed }) => delayed);
  }

  get bytes(): number {
    return this.#links.bytes;
  }

  /** The next slot of the same list, of pages that are loaded; 0 at its end. */
  after(slot: number): number {
    return this.#links.after(slot);
  }

  /** All but what is aside: released entries, owned ones, delayed ones. Nothing may change meanwhile. */
  *slots(): Generator<number> {
    for (const list of [this.released, this.owned, this.delayed]) {
      for (let slot = list.firstUpTo(); slot !== 0; slot = list.afterUpTo(slot)) yield slot;
    }
  }

  pageOf(slot: number): PendingPage {
    return this.#pages[this.#links.place(slot) >>> POSITION_BITS]!;
  }

  positionOf(slot: number): number {
    return this.#links.place(slot) & POSITION_MASK;
  }

  /**
   * When the first entry becomes due, owned ones when they are idle for `minIdle` ms, counting only
   * moments later than `after`: Infinity where none will. A reader that has just found nothing to
   * claim passes now, so that entries that were idle already and could not be claimed (their stream
   * entries are gone) do not wake it again and again. A released entry is due always.
   */
  nextIdleAt(minIdle: number, after = Number.NEGATIVE_INFINITY): number {
    if (after < 0 && this.released.firstUpTo() !== 0) return 0;
    const owned = this.owned.timeLater(after - minIdle) + minIdle;
    return Math.min(owned, this.delayed.timeLater(after));
  }

  /** Whether something is due now: O(1). What is aside does not count, what is gone does. */
  hasDue(minIdle: number, now: number): boolean {
    return (
      this.recheck.first !== 0 ||
      this.released.firstUpTo() !== 0 ||
      this.owned.firstUpTo(now - minIdle) !== 0 ||
      this.delayed.firstUpTo(now) !== 0
    );
  }

  /**
   * The owned entries delivered at `time` or later, in order. `latestOutside`: no entry of a page that
   * is not in the lists was delivered later.
   */
  slotsSince(time: number, latestOutside: number): number[] {
    if (latestOutside >= time) this.owned.loadAll();
    const slots: number[] = [];
    for (let slot = this.owned.last; slot !== 0; slot = this.#links.before(slot)) {
      if (this.time(slot) < time) break;
      slots.push(slot);
    }
    return slots.reverse();
  }

  // --- For what cannot be delivered ---

  get hasAside(): boolean {
    return this.aside.first !== 0;
  }

  setAside(slot: number): void {
    this.#unlink(slot);
    this.aside.push(slot);
  }

  /** Everything that is aside is to be looked at again. O(1). */
  recheckAside(): void {
    this.recheck.takeAll(this.aside);
  }

  /** An entry that was rechecked and is not due: it takes its place among those like it. */
  putBack(slot: number): void {
    this.#unlink(slot);
    this.#link(slot);
  }

  // --- For the pending list ---

  /** The page's entries come into the lists; its columns are there. */
  addPage(page: PendingPage): void {
    const columns = page.columns!;
    columns.slot = new Uint32Array(columns.length);
    for (let at = page.nextLive(0); at < page.used; at = page.nextLive(at + 1)) this.add(page, at);
  }

  /** Puts the entry at this place, which is new here, into the order. Its columns are written already. */
  add(page: PendingPage, position: number): void {
    const slot = this.#links.take(placeOf(page, position));
    page.columns!.slot![position] = slot;
    this.#link(slot);
  }

  /** The entry's time or owner has changed. */
  moved(page: PendingPage, position: number): void {
    this.putBack(page.columns!.slot![position]);
  }

  /** The entry was released, as all delayed ones are; `endDelays` follows. */
  releasedWithAll(page: PendingPage, position: number): void {
    const slot = page.columns!.slot![position];
    if (this.#links.code(slot) !== DELAYED_LIST) this.#unlink(slot);
    this.released.insert(slot);
  }

  remove(page: PendingPage, position: number): void {
    const slot = page.columns!.slot![position];
    this.#unlink(slot);
    this.#links.release(slot);
  }

  /** No entry is delayed any longer; the pages with entries that were are loaded. */
  endDelays(): void {
    this.delayed.clear();
  }

  /** The entry of the slot at this place has come here from another place. */
  relocated(page: PendingPage, position: number): void {
    this.#links.setPlace(page.columns!.slot![position], placeOf(page, position));
  }

  // --- Links ---

  #link(slot: number): void {
    const consumer = this.#consumer(slot);
    if (consumer === UNOWNED) this.released.insert(slot);
    else if (consumer === DELAYED) this.delayed.insert(slot);
    else if (consumer === AWAITING_DEAD_LETTER) this.aside.push(slot);
    else this.owned.insert(slot);
  }

  #unlink(slot: number): void {
    switch (this.#links.code(slot)) {
      case OWNED:
        this.owned.remove(slot);
        break;
      case DELAYED_LIST:
        this.delayed.remove(slot);
        break;
      case RELEASED:
        this.released.remove(slot);
        break;
      default: {
        // Only a list's ends know the list, so either will do for one in the middle.
        const { recheck, aside } = this;
        const isRechecked = recheck.first === slot || recheck.last === slot;
        (isRechecked ? recheck : aside).remove(slot);
      }
    }
  }

  /** Whether the first of two entries is the earlier one; of equal times, the lower id. */
  precedes(a: number, b: number): boolean {
    const timeA = this.time(a);
    const timeB = this.time(b);
    if (timeA !== timeB) return timeA < timeB;
    this.pageOf(a).readId(this.positionOf(a), idA);
    this.pageOf(b).readId(this.positionOf(b), idB);
    return idA.compare(idB) < 0;
  }

  /** Whether an entry of the page at this time or later can stand before the slot's. */
  mayPrecede(bound: number, page: PendingPage, slot: number): boolean {
    const time = this.time(slot);
    if (bound !== time) return bound < time;
    this.pageOf(slot).readId(this.positionOf(slot), idA);
    return page.low.compare(idA) < 0;
  }

  time(slot: number): number {
    const place = this.#links.place(slot);
    return this.#pages[place >>> POSITION_BITS]!.columns!.time[place & POSITION_MASK];
  }

  #consumer(slot: number): number {
    const place = this.#links.place(slot);
    return this.#pages[place >>> POSITION_BITS]!.columns!.consumer[place & POSITION_MASK];
  }
}

function placeOf(page: PendingPage, position: number): number {
  return ((page.handle << POSITION_BITS) | position) >>> 0;
}
