/**
 * Writes pages again: without holes, in a wider or narrower form, two made one, or one made two.
 *
 * Entries are gathered into one wide scratch and packed from there, so every way of rearranging pages
 * is these two steps. Slots of the delivery order travel with their entries.
 * Cost: O(entries gathered), at most two pages.
 */
import { StreamId } from '../../stream/stream-id.ts';
import type { DeliveryOrder } from '../delivery-order/delivery-order.ts';
import { Columns, discardColumns, PAGE_ENTRIES, takeColumns } from './pending-columns.ts';
import { HOLE, type PendingPage } from './pending-page.ts';

const scratch = new Columns(2 * PAGE_ENTRIES, true);
const scratchSlots = new Uint32Array(2 * PAGE_ENTRIES);
const id = new StreamId();

/** Copies a page's entries to the scratch from `at` on and returns where they end. */
export function gather(page: PendingPage, at: number): number {
  const columns = page.columns!;
  for (let i = 0; i < page.used; i++) {
    if (columns.consumer[i] === HOLE) continue;
    page.readId(i, id);
    writeScratchId(at);
    scratch.time[at] = columns.time[i];
    scratch.count[at] = columns.count[i];
    scratch.consumer[at] = columns.consumer[i];
    if (columns.slot !== null) scratchSlots[at] = columns.slot[i];
    at++;
  }
  return at;
}

/** The id of a gathered entry. */
export function gatheredId(at: number, into: StreamId): StreamId {
  return into.set(scratch.msHigh![at], scratch.ms[at], scratch.seqHigh![at], scratch.seq[at]);
}

/**
 * Fills a page with the gathered entries [from, to), all at or after `page.low`. `including` is an
 * id that the page's form has to fit as well. The order, where there is one, learns the new places.
 */
export function pack(
  page: PendingPage,
  from: number,
  to: number,
  order: DeliveryOrder | null,
  including: StreamId | null = null,
): void {
  const old = page.columns;
  const count = to - from;
  const wide = !isNarrow(page, from, to, including);
  page.columns = takeColumns(Math.min(count + 1, PAGE_ENTRIES), wide, order !== null);
  if (old !== null) discardColumns(old);
  page.used = page.live = count;
  page.presenceLow = page.presenceHigh = 0;
  page.bounds.clear();
  const target = page.columns;
  for (let i = 0; i < count; i++) {
    page.writeId(i, gatheredId(from + i, id));
    target.time[i] = scratch.time[from + i];
    target.count[i] = scratch.count[from + i];
    target.consumer[i] = scratch.consumer[from + i];
    page.notePresence(target.consumer[i]);
    page.bounds.note(target.consumer[i], target.time[i]);
    if (order !== null) {
      target.slot![i] = scratchSlots[from + i];
      order.relocated(page, i);
    }
  }
}

function writeScratchId(at: number): void {
  scratch.msHigh![at] = id.msHi;
  scratch.ms[at] = id.msLo;
  scratch.seqHigh![at] = id.seqHi;
  scratch.seq[at] = id.seqLo;
}

function isNarrow(
  page: PendingPage,
  from: number,
  to: number,
  including: StreamId | null,
): boolean {
  if (including !== null && !fitsNarrow(page.low, including)) return false;
  for (let i = from; i < to; i++) if (!fitsNarrow(page.low, gatheredId(i, id))) return false;
  return true;
}

/** Whether an id at or after `low` can be written in the narrow form. */
export function fitsNarrow(low: StreamId, other: StreamId): boolean {
  if (other.seqHi !== 0) return false;
  return (other.msHi - low.msHi) * 0x1_0000_0000 + (other.msLo - low.msLo) < 0x1_0000_0000;
}
