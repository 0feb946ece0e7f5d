/**
 * The pending entries of a group: delivered, not acknowledged. Redis's PEL, as packed pages.
 *
 * Holds: pages of up to 512 entries (pending-page.ts) in id order. No object per entry, no second
 * index: a search for one consumer's entries walks pages, whose summaries say which to skip. The
 * delivery order (delivery-order.ts) is built when first asked for and kept from then on; pages come into
 * it one by one.
 * Invariant: pages' `low`s ascend; an entry stands in the last page whose `low` is not after its id
 * (the first page takes all that is before). `size` is the sum of the pages' `live`.
 * A removal leaves a hole; a page goes when it is empty, and is rewritten, together with a neighbour
 * where both fit one page, when three quarters of it are holes.
 * A page may be in the checkpoint only; it is loaded when its entries are needed, and in delivery order
 * only when they may be the next ones.
 * Cost: appending O(1), finding O(log n), inserting in the middle O(512), removal amortised O(1) after
 * finding. About 26 bytes an entry.
 */
import { StreamId } from '../../stream/stream-id.ts';
import { DeliveryOrder } from '../delivery-order/delivery-order.ts';
import { mergeOrder } from '../delivery-order/merge-order.ts';
import type { PageBounds } from './page-bounds.ts';
import { PageChanges } from './page-changes.ts';
import { decodePage } from './page-codec.ts';
import { fitsNarrow, gather, gatheredId, pack } from './page-rebuild.ts';
import { type Epoch, NO_EPOCH, type PageStore } from './page-store.ts';
import { discardColumns, PAGE_ENTRIES, takeColumns } from './pending-columns.ts';
import type { PendingCursor } from './pending-cursor.ts';
import { AWAITING_DEAD_LETTER, DELAYED, HOLE, PendingPage, UNOWNED } from './pending-page.ts';

// Two neighbours become one page when they fill three quarters of it at most.
const MERGED_AT_MOST = 384;
// What V8 takes for a page and its typed arrays beside their content, measured.
const PAGE_OVERHEAD = 1100;
// A page with fewer positions is not worth rewriting for its holes.
const REWRITTEN_AT_LEAST = 16;

export class PendingList {
  /** Number of pending entries. */
  size = 0;
  /** The id that the next page gets. */
  nextPageId = 1;
  /** Pages of version 1 hold the end of a delay too early by this many ms (the group's ACKWAIT). */
  delayShift = 0;
  /** No entry was delivered later (steady ms). */
  latest = Number.NEGATIVE_INFINITY;
  /** How often an entry was released; a released entry keeps the number as its place in the row. */
  releases = 0;

  readonly #pages: PendingPage[] = [];
  // By page handle, for the delivery order; a freed handle is null and reused.
  readonly #handles: (PendingPage | null)[] = [];
  #freeHandles: number[] = [];
  #order: DeliveryOrder | null = null;
  readonly #changes: PageChanges;
  readonly #epoch: Epoch;
  // Rises when positions change their meaning, so that cursors find their place again.
  #version = 0;
  // No entry of a page that is not in the delivery order was delivered later.
  #latestOutside = Number.NEGATIVE_INFINITY;
  // The page that was found last.
  #recent = 0;
  // Where #place has put an id.
  #target: PendingPage | null = null;

  constructor(epoch: Epoch = NO_EPOCH) {
    this.#epoch = epoch;
    this.#changes = new PageChanges(epoch);
  }

  /** Connects the list with the checkpoint, before it has unloaded or frozen pages. */
  attach(store: PageStore): void {
    this.#changes.store = store;
  }

  get pageCount(): number {
    return this.#pages.length;
  }

  /** Bytes in memory, bookkeeping included: an estimate, O(pages), for MEMORY USAGE and limits. */
  get residentBytes(): number {
    let bytes = this.#order === null ? 0 : this.#order.bytes;
    for (const page of this.#pages) bytes += PAGE_OVERHEAD + (page.columns?.bytes ?? 0);
    return bytes;
  }

  // --- Reading ---

  has(id: StreamId): boolean {
    if (this.size === 0) return false;
    const page = this.#load(this.#pages[this.#pageOf(id)]);
    const position = page.search(id);
    return page.isAt(position, id) && !page.isHole(position);
  }

  /** Puts the cursor on the entry with this id; false where it is not pending. */
  find(id: StreamId, cursor: PendingCursor): boolean {
    if (this.size === 0) return false;
    const index = this.#pageOf(id);
    const page = this.#load(this.#pages[index]);
    const position = page.search(id);
    if (!page.isAt(position, id) || page.isHole(position)) return false;
    cursor.id.copy(id);
    this.#set(cursor, index, page, position);
    return true;
  }

  /** Puts the cursor on the first entry at or after the id; false where there is none. */
  seek(id: StreamId, cursor: PendingCursor): boolean {
    if (this.size === 0) return false;
    const index = this.#pageOf(id);
    return this.#nextFrom(cursor, index, this.#load(this.#pages[index]).search(id));
  }

  /** As `seek`, for entries of one consumer. */
  seekConsumer(consumer: number, id: StreamId, cursor: PendingCursor): boolean {
    if (this.size === 0) return false;
    const index = this.#pageOf(id);
    const page = this.#pages[index];
    const from = page.mayHave(consumer) ? this.#load(page).search(id) : page.used;
    return this.#nextOfFrom(cursor, consumer, index, from);
  }

  /** Cursor.next. */
  advance(cursor: PendingCursor): boolean {
    if (cursor.version === this.#version) {
      return this.#nextFrom(cursor, cursor.pageIndex, cursor.at + 1);
    }
    return following.copy(cursor.id).increment() && this.seek(following, cursor);
  }

  /** Cursor.nextOf. */
  advanceOf(cursor: PendingCursor, consumer: number): boolean {
    if (cursor.version === this.#version) {
      return this.#nextOfFrom(cursor, consumer, cursor.pageIndex, cursor.at + 1);
    }
    return following.copy(cursor.id).increment() && this.seekConsumer(consumer, following, cursor);
  }

  /** The least pending id; false where nothing is pending. */
  min(into: StreamId): boolean {
    if (this.size === 0) return false;
    const page = this.#load(this.#pages[0]);
    page.readId(page.nextLive(0), into);
    return true;
  }

  /** The greatest pending id; false where nothing is pending. */
  max(into: StreamId): boolean {
    if (this.size === 0) return false;
    const page = this.#load(this.#pages[this.#pages.length - 1]);
    page.readId(page.lastLive(), into);
    return true;
  }

  // --- Changes: through ConsumerGroup, which keeps the consumers' counts ---

  /** Adds an entry; false, and nothing changed, where the id is pending already. */
  insert(id: StreamId, consumer: number, time: number, count: number): boolean {
    const position = this.#place(id);
    if (position === -1) return false;
    const page = this.#target!;
    const columns = page.columns!;
    columns.time[position] = time;
    columns.count[position] = count;
    columns.consumer[position] = consumer;
    page.notePresence(consumer);
    this.#noteTime(page, consumer, time);
    page.live++;
    this.size++;
    if (this.#order !== null) this.#order.add(page, position);
    return true;
  }

  /** Adds an entry without a consumer, after the others without one. */
  insertReleased(id: StreamId, count: number): boolean {
    if (!this.insert(id, UNOWNED, this.releases + 1, count)) return false;
    this.releases++;
    return true;
  }

  /** Changes the entry at the cursor; it is then the last of those with its time. */
  update(cursor: PendingCursor, consumer: number, time: number, count: number): void {
    this.#settle(cursor);
    const page = cursor.page!;
    this.#changing(page);
    const columns = page.columns!;
    columns.time[cursor.at] = time;
    columns.count[cursor.at] = count;
    this.#noteTime(page, consumer, time);
    if (columns.consumer[cursor.at] !== consumer) {
      columns.consumer[cursor.at] = consumer;
      page.notePresence(consumer);
    }
    if (this.#order !== null) this.#order.moved(page, cursor.at);
  }

  /** Takes the entry at the cursor from its consumer; it is then the last of those without one. */
  release(cursor: PendingCursor, count: number): void {
    this.update(cursor, UNOWNED, ++this.releases, count);
  }

  /**
   * Releases all delayed entries and those that wait for their dead letter, in the order of their times; of
   * equal times the lower id. O(n log n) at most, without a search for an entry.
   */
  releaseDelayed(): void {
    const times: number[] = [];
    const places: number[] = [];
    for (const page of this.#pages) {
      if (!page.mayHave(DELAYED) && !page.mayHave(AWAITING_DEAD_LETTER)) continue;
      // Into the order before the first is released: from then on the list of delayed ones is not sound.
      const { consumer, time } = this.#enter(this.#load(page)).columns!;
      for (let at = page.nextLive(0); at < page.used; at = page.nextLive(at + 1)) {
        if (consumer[at] !== DELAYED && consumer[at] !== AWAITING_DEAD_LETTER) continue;
        times.push(time[at]);
        places.push(page.handle * PAGE_ENTRIES + at);
      }
    }
    for (const i of mergeOrder(Float64Array.from(times))) {
      const page = this.#handles[Math.floor(places[i] / PAGE_ENTRIES)]!;
      const at = places[i] % PAGE_ENTRIES;
      this.#changing(page);
      page.columns!.consumer[at] = UNOWNED;
      page.columns!.time[at] = ++this.releases;
      page.notePresence(UNOWNED);
      page.bounds.note(UNOWNED, this.releases);
      if (this.#order !== null) this.#order.releasedWithAll(page, at);
    }
    if (this.#order !== null) this.#order.endDelays();
  }

  /** Removes the entry at the cursor; the cursor goes on from there. */
  remove(cursor: PendingCursor): void {
    this.#settle(cursor);
    const page = cursor.page!;
    this.#changing(page);
    if (this.#order !== null) this.#order.remove(page, cursor.at);
    page.columns!.consumer[cursor.at] = HOLE;
    page.live--;
    this.size--;
    if (page.live === 0) this.#dropPage(cursor.pageIndex);
    else if (page.live * 4 <= page.used && page.used >= REWRITTEN_AT_LEAST) {
      this.#rewrite(cursor.pageIndex);
    }
  }

  /**
   * Removes a consumer's entries, of which there are `count`; returns how many were found. A page that
   * is all the consumer's goes without being read. `slots`: indices of consumers are below it.
   */
  removeConsumer(consumer: number, count: number, slots: number): number {
    let removed = 0;
    for (const page of this.#pages) {
      if (removed >= count) break;
      if (!page.mayHave(consumer)) continue;
      if (page.soleOwner(slots) === consumer) {
        removed += page.live;
        this.#empty(page);
      } else {
        const before = page.live;
        this.#removeWhere(this.#load(page), (owner) => owner === consumer);
        removed += before - page.live;
      }
    }
    this.#tidy();
    return removed;
  }

  /**
   * Removes all entries from one id to another, both included, and tells whose they were. Pages that
   * lie between the ids and are one consumer's go without being read.
   */
  removeRange(
    from: StreamId,
    to: StreamId,
    slots: number,
    tell: (owner: number, count: number) => void,
  ): void {
    if (this.size === 0) return;
    const pages = this.#pages;
    for (let i = this.#pageOf(from); i < pages.length && pages[i].low.compare(to) <= 0; i++) {
      const page = pages[i];
      const isInside =
        from.compare(page.low) <= 0 && i + 1 < pages.length && pages[i + 1].low.compare(to) <= 0;
      const owner = isInside ? page.soleOwner(slots) : UNOWNED;
      if (owner !== UNOWNED) {
        tell(owner, page.live);
        this.#empty(page);
        continue;
      }
      this.#load(page);
      const first = page.search(from);
      this.#removeWhere(page, (owner, at) => {
        if (at < first || page.readId(at, middleId).compare(to) > 0) return false;
        tell(owner, 1);
        return true;
      });
    }
    this.#tidy();
  }

  /** Removes entries of a page that is loaded; `#tidy` follows. */
  #removeWhere(page: PendingPage, goes: (owner: number, at: number) => boolean): void {
    const { consumer } = page.columns!;
    for (let at = page.nextLive(0); at < page.used; at = page.nextLive(at + 1)) {
      if (!goes(consumer[at], at)) continue;
      this.#changing(page);
      if (this.#order !== null) this.#order.remove(page, at);
      consumer[at] = HOLE;
      page.live--;
      this.size--;
    }
  }

  /** All entries of the page go; `#tidy` follows. */
  #empty(page: PendingPage): void {
    if (page.columns !== null) {
      this.#removeWhere(page, () => true);
      return;
    }
    this.#changing(page);
    this.size -= page.live;
    page.live = 0;
  }

  /** After removals from many pages: empty ones go, and those that are mostly holes are rewritten. */
  #tidy(): void {
    const pages = this.#pages;
    let kept = 0;
    for (const page of pages) {
      // One page stays, for the next entry.
      const isLastOne = this.size === 0 && kept === 0 && page === pages[pages.length - 1];
      if (page.live === 0 && !isLastOne) {
        this.#letGo(page);
        continue;
      }
      if (page.live === 0) this.#clear(page);
      else if (page.live * 4 <= page.used && page.used >= REWRITTEN_AT_LEAST) {
        const before = kept === 0 ? undefined : pages[kept - 1];
        this.#enter(page);
        if (before !== undefined && isMergeable(before, page)) {
          this.#changing(before);
          this.#pack(before, 0, gather(page, gather(before, 0)), null);
          this.#letGo(page);
          continue;
        }
        this.#pack(page, 0, gather(page, 0), null);
      }
      pages[kept++] = page;
    }
    pages.length = kept;
    this.#version++;
  }

  /** The only page has nothing left in it. */
  #clear(page: PendingPage): void {
    page.columns ??= takeColumns(1, false, this.#order !== null);
    page.clear();
  }

  // --- Delivery order ---

  /** The entries in delivery order; the first call builds it. Pages are loaded when it comes to them. */
  get order(): DeliveryOrder {
    if (this.#order === null) this.#order = this.#buildOrder();
    return this.#order;
  }

  /** The owned entries delivered at `time` or later, as slots of the delivery order. */
  slotsSince(time: number): number[] {
    return this.order.slotsSince(time, this.#latestOutside);
  }

  /** The entry at the cursor cannot be delivered: the order leaves it out until `recheckAside`. */
  setAside(cursor: PendingCursor): void {
    this.#settle(cursor);
    this.order.setAside(cursor.page!.columns!.slot![cursor.at]);
  }

  /** Entries that were set aside are looked at again. */
  recheckAside(): void {
    this.#order?.recheckAside();
  }

  /** Puts the cursor on the entry in this slot of the delivery order. */
  at(slot: number, cursor: PendingCursor): void {
    const page = this.#order!.pageOf(slot);
    page.readId(this.#order!.positionOf(slot), cursor.id);
    this.#set(cursor, this.#pageOf(cursor.id), page, this.#order!.positionOf(slot));
  }

  #buildOrder(): DeliveryOrder {
    // An entry that waits for its dead letter is looked for at any time. All other pages come into the
    // order when it comes to them, or before they change.
    const loaded = this.#pages.filter(({ bounds }) => bounds.awaitingDeadLetter);
    for (const page of loaded) this.#load(page);
    this.#latestOutside = this.latest;
    const count = loaded.reduce((sum, { live }) => sum + live, 0);
    const keys = new Float64Array(count);
    const places = new Uint32Array(count);
    let n = 0;
    for (const page of loaded) {
      const { consumer, time, length } = page.columns!;
      page.columns!.slot = new Uint32Array(length);
      for (let at = page.nextLive(0); at < page.used; at = page.nextLive(at + 1)) {
        // Released entries before all others, by their place in the row.
        keys[n] = consumer[at] === UNOWNED ? time[at] - Number.MAX_SAFE_INTEGER : time[at];
        places[n++] = page.handle * PAGE_ENTRIES + at;
      }
    }
    const order = new DeliveryOrder(this.#handles, this.#pages, (page) =>
      this.#enter(this.#load(page)),
    );
    for (const i of mergeOrder(keys)) {
      order.add(this.#handles[Math.floor(places[i] / PAGE_ENTRIES)]!, places[i] % PAGE_ENTRIES);
    }
    return order;
  }

  // --- Checkpoint ---

  /**
   * Visits up to `limit` of the pages that have to be written for the epoch that has ended, each
   * once; true when none is left.
   */
  takeFrozen(visit: (page: PendingPage) => void, limit?: number): boolean {
    return this.#changes.takeFrozen(visit, limit);
  }

  /** Ids of the pages that the checkpoint has to forget for the epoch that has ended. */
  takeFrozenRemoved(): number[] {
    return this.#changes.takeFrozenRemoved();
  }

  /** After a checkpoint that failed: every loaded page has to be written again by the next one. */
  markAllDirty(): void {
    for (const page of this.#pages) if (page.columns !== null) this.#changes.changing(page);
  }

  /** The pages in order, loaded or not. */
  pages(): readonly PendingPage[] {
    return this.#pages;
  }

  /**
   * A page that the checkpoint has: in ascending order of `low`, before any other change. Its bounds
   * are the caller's to set.
   */
  restorePage(
    id: number,
    low: StreamId,
    live: number,
    presenceLow: number,
    presenceHigh: number,
  ): PageBounds {
    const page = this.#newPage(this.#pages.length, low, id);
    discardColumns(page.columns!);
    page.columns = null;
    page.stored = true;
    page.live = page.used = live;
    page.presenceLow = presenceLow;
    page.presenceHigh = presenceHigh;
    this.size += live;
    return page.bounds;
  }

  /** Fills this empty list with another's entries. */
  copyFrom(other: PendingList): void {
    for (const source of other.#pages) {
      const columns = other.#load(source).columns!;
      const page = this.#newPage(this.#pages.length, source.low, source.id);
      page.columns = takeColumns(Math.max(1, source.used), columns.wide, false);
      page.columns.copyFrom(columns, 0, source.used, 0, false);
      page.used = source.used;
      page.live = source.live;
      page.presenceLow = source.presenceLow;
      page.presenceHigh = source.presenceHigh;
      page.bounds.copy(source.bounds);
      this.#changes.changing(page);
    }
    this.size = other.size;
    this.nextPageId = other.nextPageId;
    this.releases = other.releases;
    this.latest = other.latest;
  }

  #load(page: PendingPage): PendingPage {
    if (page.columns === null) {
      const store = this.#changes.store;
      if (store === null) throw new Error(`pending page ${page.id} has no store to load it from`);
      decodePage(page, store.load(page.id), this.delayShift);
      if (this.#order !== null) this.#order.addPage(page);
    }
    return page;
  }

  /**
   * Loads the pages that may hold ids up to `last`, until `isOver`; true when all of those are loaded.
   * Meant to be called again and again.
   */
  loadPages(isOver: () => boolean, last: StreamId): boolean {
    for (const page of this.#pages) {
      if (page.low.compare(last) > 0) break;
      if (page.columns !== null) continue;
      this.#load(page);
      if (isOver()) return false;
    }
    return true;
  }

  /** Puts a loaded page's entries into the delivery order, where they are not in it. */
  #enter(page: PendingPage): PendingPage {
    if (this.#order !== null && page.columns!.slot === null) this.#order.addPage(page);
    return page;
  }

  #noteTime(page: PendingPage, consumer: number, time: number): void {
    page.bounds.note(consumer, time);
    if (consumer < AWAITING_DEAD_LETTER && time > this.latest) this.latest = time;
  }

  #changing(page: PendingPage): void {
    if (this.#order !== null && page.columns !== null) this.#enter(page);
    if (page.epoch !== this.#epoch.current) this.#changes.changing(page);
  }

  // --- Cursors ---

  /** The cursor's id is set already. */
  #set(cursor: PendingCursor, index: number, page: PendingPage, position: number): void {
    cursor.list = this;
    cursor.page = page;
    cursor.pageIndex = index;
    cursor.at = position;
    cursor.version = this.#version;
  }

  /** Finds the cursor's entry again where pages were rearranged since. */
  #settle(cursor: PendingCursor): void {
    if (cursor.version === this.#version) return;
    if (!this.find(cursor.id, cursor)) throw new Error(`not pending: ${cursor.id}`);
  }

  #nextFrom(cursor: PendingCursor, index: number, from: number): boolean {
    for (; index < this.#pages.length; index++, from = 0) {
      const page = this.#load(this.#pages[index]);
      const position = page.nextLive(from);
      if (position === page.used) continue;
      page.readId(position, cursor.id);
      this.#set(cursor, index, page, position);
      return true;
    }
    return false;
  }

  #nextOfFrom(cursor: PendingCursor, consumer: number, index: number, from: number): boolean {
    for (; index < this.#pages.length; index++, from = 0) {
      const page = this.#pages[index];
      if (!page.mayHave(consumer)) continue;
      const position = this.#load(page).nextOf(consumer, from);
      if (position === page.used) continue;
      page.readId(position, cursor.id);
      this.#set(cursor, index, page, position);
      return true;
    }
    return false;
  }

  // --- Places ---

  /** Index of the last page whose `low` is not after the id; 0 where all are. */
  #pageOf(id: StreamId): number {
    const pages = this.#pages;
    const recent = this.#recent;
    if (recent < pages.length && pages[recent].low.compare(id) <= 0) {
      if (recent + 1 === pages.length || pages[recent + 1].low.compare(id) > 0) return recent;
    }
    let from = 0;
    let to = pages.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (pages[middle].low.compare(id) <= 0) from = middle + 1;
      else to = middle;
    }
    this.#recent = from === 0 ? 0 : from - 1;
    return this.#recent;
  }

  /**
   * Makes a position for a new id and writes the id there: #target is its page. -1 where the id is
   * pending already.
   */
  #place(id: StreamId): number {
    const last = this.#pages.length - 1;
    if (last < 0) return this.#append(this.#newPage(0, id), id);
    const page = this.#pages[last];
    if (page.columns === null && page.low.compare(id) <= 0) this.#load(page);
    if (page.columns !== null && page.isAfterLast(id)) {
      if (page.used === 0) {
        this.#changing(page);
        page.low.copy(id);
      }
      const room = !page.full && (page.fits(id) || page.used < PAGE_ENTRIES / 2);
      return this.#append(room ? page : this.#newPage(last + 1, id), id);
    }
    return this.#placeInside(this.#pageOf(id), id);
  }

  #append(page: PendingPage, id: StreamId): number {
    this.#changing(page);
    if (!page.fits(id)) this.#pack(page, 0, gather(page, 0), id);
    page.grow();
    page.writeId(page.used, id);
    this.#target = page;
    return page.used++;
  }

  #placeInside(index: number, id: StreamId): number {
    const page = this.#load(this.#pages[index]);
    if (id.compare(page.low) < 0) {
      this.#changing(page);
      if (!page.lowerTo(id)) this.#makeRoom(index, id);
      return this.#placeInside(index, id);
    }
    const position = page.search(id);
    if (page.isAt(position, id)) {
      if (!page.isHole(position)) return -1;
      this.#changing(page);
      this.#target = page;
      return position;
    }
    this.#changing(page);
    // A hole next door may take any id between its neighbours.
    if (page.fits(id)) {
      if (position < page.used && page.isHole(position)) return this.#writeAt(page, position, id);
      if (position > 0 && page.isHole(position - 1)) return this.#writeAt(page, position - 1, id);
    }
    if (page.full || !page.fits(id)) {
      this.#makeRoom(index, id);
      return this.#placeInside(this.#pageOf(id), id);
    }
    page.grow();
    page.open(position);
    this.#version++;
    if (this.#order !== null) {
      for (let moved = position + 1; moved < page.used; moved++) {
        if (!page.isHole(moved)) this.#order.relocated(page, moved);
      }
    }
    return this.#writeAt(page, position, id);
  }

  #writeAt(page: PendingPage, position: number, id: StreamId): number {
    page.writeId(position, id);
    this.#target = page;
    return position;
  }

  /** Rewrites a page so that the id fits it: lower base, wider form, without holes, or split. */
  #makeRoom(index: number, id: StreamId): void {
    const page = this.#pages[index];
    const count = gather(page, 0);
    if (id.compare(page.low) < 0) page.low.copy(id);
    if (count <= MERGED_AT_MOST) {
      this.#pack(page, 0, count, id);
      return;
    }
    const half = count >>> 1;
    const upper = this.#newPage(index + 1, gatheredId(half, middleId));
    this.#changing(upper);
    const goesUp = id.compare(middleId) >= 0;
    this.#pack(page, 0, half, goesUp ? null : id);
    this.#pack(upper, half, count, goesUp ? id : null);
  }

  #pack(page: PendingPage, from: number, to: number, including: StreamId | null): void {
    this.#version++;
    pack(page, from, to, this.#order, including);
  }

  // --- Pages ---

  #newPage(index: number, low: StreamId, id = this.nextPageId++): PendingPage {
    const page = new PendingPage(id, low);
    page.columns = takeColumns(1, !fitsNarrow(low, low), this.#order !== null);
    page.handle = this.#freeHandles.pop() ?? this.#handles.length;
    this.#handles[page.handle] = page;
    if (index === this.#pages.length) this.#pages.push(page);
    else {
      this.#pages.splice(index, 0, page);
      this.#version++;
    }
    return page;
  }

  /** Removes an empty page; the last one of all stays, with little room, for the next entry. */
  #dropPage(index: number): void {
    this.#version++;
    const page = this.#pages[index];
    if (this.#pages.length === 1) {
      page.clear();
      return;
    }
    if (index === 0) this.#pages.shift();
    else this.#pages.splice(index, 1);
    this.#letGo(page);
  }

  /** The page is not, or will not be, in the list any longer. */
  #letGo(page: PendingPage): void {
    this.#changes.removing(page);
    this.#handles[page.handle] = null;
    this.#freeHandles.push(page.handle);
    if (page.columns !== null) discardColumns(page.columns);
    page.columns = null;
    page.live = page.used = 0;
  }

  /** Rewrites a page of many holes, together with a neighbour where one page can hold both. */
  #rewrite(index: number): void {
    const page = this.#pages[index];
    if (this.#mergeable(index - 1, page)) this.#merge(index - 1);
    else if (this.#mergeable(index + 1, page)) this.#merge(index);
    else this.#pack(page, 0, gather(page, 0), null);
  }

  #mergeable(index: number, page: PendingPage): boolean {
    const other = this.#pages[index];
    return other !== undefined && isMergeable(other, page);
  }

  #merge(index: number): void {
    const page = this.#pages[index];
    const next = this.#pages[index + 1];
    this.#changing(page);
    this.#enter(next);
    this.#pack(page, 0, gather(next, gather(page, 0)), null);
    this.#dropPage(index + 1);
  }
}

function isMergeable(a: PendingPage, b: PendingPage): boolean {
  return a.columns !== null && b.columns !== null && a.live + b.live <= MERGED_AT_MOST;
}

const following = new StreamId();
const middleId = new StreamId();
