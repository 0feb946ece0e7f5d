/**
 * One page of a pending list: up to 512 entries in id order, as columns.
 *
 * Holds: where its ids begin, its columns (null while it is only in the checkpoint), and summaries
 * that answer without the columns: how many entries live, which consumers they may belong to, what
 * can be due first.
 * Invariant: positions [0, used) hold ids in ascending order; `live` of them are entries, the others
 * holes left by removals. Every id of the page is >= `low` and below the next page's `low`. The
 * presence summary has the bit of every consumer that has an entry here, and perhaps more.
 * Cost: binary search in at most 512 positions; nothing allocated.
 */
import type { StreamId } from '../../stream/stream-id.ts';
import { PageBounds } from './page-bounds.ts';
import { type Columns, discardColumns, PAGE_ENTRIES, takeColumns } from './pending-columns.ts';
import { HOLE, UNOWNED } from './pending-owners.ts';

export { PAGE_ENTRIES } from './pending-columns.ts';
export { AWAITING_DEAD_LETTER, DELAYED, HOLE, UNOWNED } from './pending-owners.ts';

const TWO_32 = 0x1_0000_0000;
// The columns that an empty list keeps, in entries.
const KEPT_LENGTH = 32;

export class PendingPage {
  /** Names the page in the checkpoint; never used twice in one list. */
  readonly id: number;
  /** Bound and base of the ids. Changed only when an id before the list's first is inserted. */
  readonly low: StreamId;
  columns: Columns | null = null;
  used = 0;
  live = 0;
  /** One bit for each consumer index modulo 64; UNOWNED has none, other special ones theirs. */
  presenceLow = 0;
  presenceHigh = 0;
  readonly bounds = new PageBounds();
  /** The page's number in handles of the delivery order. */
  handle = 0;

  // For the copy-on-write of checkpoints: PendingList.
  /** The epoch in which it was last marked dirty. */
  epoch = -1;
  /** Whether a checkpoint has, or may have, an entry under `id`. */
  stored = false;

  // Where the last search ended: acknowledgements mostly come in order.
  #hint = 0;

  constructor(id: number, low: StreamId) {
    this.id = id;
    this.low = low.clone();
  }

  /** The first position whose id is >= the given one; `used` where there is none. */
  search(id: StreamId): number {
    const columns = this.columns!;
    return columns.wide ? this.#searchWide(columns, id) : this.#searchNarrow(columns, id);
  }

  #searchNarrow(columns: Columns, id: StreamId): number {
    const ms = (id.msHi - this.low.msHi) * TWO_32 + (id.msLo - this.low.msLo);
    // A sequence beyond 32 bits is after every one in a narrow page.
    const seq = id.seqHi === 0 ? id.seqLo : TWO_32;
    const { ms: allMs, seq: allSeq } = columns;
    const hint = this.#hint;
    if (hint < this.used && allMs[hint] === ms && allSeq[hint] === seq) {
      this.#hint = hint + 1;
      return hint;
    }
    let from = 0;
    let to = this.used;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const at = allMs[middle];
      if (at < ms || (at === ms && allSeq[middle] < seq)) from = middle + 1;
      else to = middle;
    }
    this.#hint = from + 1;
    return from;
  }

  #searchWide(columns: Columns, id: StreamId): number {
    let from = 0;
    let to = this.used;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (compareWide(columns, middle, id) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  /** Whether the id comes after everything in the page. */
  isAfterLast(id: StreamId): boolean {
    const last = this.used - 1;
    if (last < 0) return true;
    const columns = this.columns!;
    if (columns.wide) return compareWide(columns, last, id) < 0;
    const ms = (id.msHi - this.low.msHi) * TWO_32 + (id.msLo - this.low.msLo);
    const lastMs = columns.ms[last];
    return ms > lastMs || (ms === lastMs && (id.seqHi !== 0 || id.seqLo > columns.seq[last]));
  }

  /** Whether the id stands at this position, as an entry or a hole. */
  isAt(position: number, id: StreamId): boolean {
    if (position >= this.used) return false;
    const columns = this.columns!;
    if (columns.wide) return compareWide(columns, position, id) === 0;
    return (
      columns.seq[position] === id.seqLo &&
      id.seqHi === 0 &&
      columns.ms[position] === (id.msHi - this.low.msHi) * TWO_32 + (id.msLo - this.low.msLo)
    );
  }

  isHole(position: number): boolean {
    return this.columns!.consumer[position] === HOLE;
  }

  /** Whether the id can be written in the page's present form. */
  fits(id: StreamId): boolean {
    if (this.columns!.wide) return true;
    const ms = (id.msHi - this.low.msHi) * TWO_32 + (id.msLo - this.low.msLo);
    return id.seqHi === 0 && ms >= 0 && ms < TWO_32;
  }

  /**
   * Lets the page begin at an earlier id; false where that would change the distances in `ms`, and
   * the page has to be rewritten.
   */
  lowerTo(id: StreamId): boolean {
    const sameMs = id.msHi === this.low.msHi && id.msLo === this.low.msLo;
    if (!sameMs && !this.columns!.wide) return false;
    this.low.copy(id);
    return true;
  }

  readId(position: number, into: StreamId): StreamId {
    const columns = this.columns!;
    if (columns.msHigh !== null && columns.seqHigh !== null) {
      return into.set(
        columns.msHigh[position],
        columns.ms[position],
        columns.seqHigh[position],
        columns.seq[position],
      );
    }
    const ms = this.low.msLo + columns.ms[position];
    const carry = ms >= TWO_32 ? 1 : 0;
    return into.set(this.low.msHi + carry, ms - carry * TWO_32, 0, columns.seq[position]);
  }

  /** The id must fit, and the position must be the caller's to write. */
  writeId(position: number, id: StreamId): void {
    const columns = this.columns!;
    columns.seq[position] = id.seqLo;
    if (columns.msHigh !== null && columns.seqHigh !== null) {
      columns.msHigh[position] = id.msHi;
      columns.ms[position] = id.msLo;
      columns.seqHigh[position] = id.seqHi;
    } else {
      columns.ms[position] = (id.msHi - this.low.msHi) * TWO_32 + (id.msLo - this.low.msLo);
    }
  }

  /** The next position at or after `from` that holds an entry; `used` where there is none. */
  nextLive(from: number): number {
    const { consumer } = this.columns!;
    const used = this.used;
    while (from < used && consumer[from] === HOLE) from++;
    return from;
  }

  /** The next position at or after `from` that holds an entry of the consumer; `used` = none. */
  nextOf(consumer: number, from: number): number {
    const column = this.columns!.consumer;
    const used = this.used;
    while (from < used && column[from] !== consumer) from++;
    return from;
  }

  /** The last position that holds an entry; -1 where there is none. */
  lastLive(): number {
    const { consumer } = this.columns!;
    let at = this.used - 1;
    while (at >= 0 && consumer[at] === HOLE) at--;
    return at;
  }

  mayHave(consumer: number): boolean {
    const bit = 1 << (consumer & 31);
    return ((consumer & 32) === 0 ? this.presenceLow & bit : this.presenceHigh & bit) !== 0;
  }

  /**
   * The only consumer that can have entries here; UNOWNED where there may be several, or none's.
   * `slots`: indices of consumers are below it.
   */
  soleOwner(slots: number): number {
    const { owned, delayed, released, awaitingDeadLetter } = this.bounds;
    const none = Number.POSITIVE_INFINITY;
    const isOwned = owned < none && delayed === none && released === none && !awaitingDeadLetter;
    // One bit, which is that of one index.
    const low = this.presenceLow;
    const isOne = this.presenceHigh === 0 && low !== 0 && (low & (low - 1)) === 0;
    return isOwned && isOne && slots <= 64 ? 31 - Math.clz32(low) : UNOWNED;
  }

  notePresence(consumer: number): void {
    if (consumer === UNOWNED) return;
    if ((consumer & 32) === 0) this.presenceLow |= 1 << (consumer & 31);
    else this.presenceHigh |= 1 << (consumer & 31);
  }

  /** Makes the bounds exact; nothing where the page is only in the checkpoint. */
  tightenBounds(): void {
    const { columns } = this;
    if (columns !== null) this.bounds.tighten(columns.consumer, columns.time, this.used);
  }

  /** Makes room for one more position; the caller has made sure that the page is not full. */
  grow(): void {
    const old = this.columns!;
    if (this.used < old.length) return;
    const grown = takeColumns(this.used + 1, old.wide, old.slot !== null);
    grown.copyFrom(old, 0, this.used, 0);
    this.columns = grown;
    discardColumns(old);
  }

  /** Shifts positions [position, used) up by one; there is room. */
  open(position: number): void {
    const columns = this.columns!;
    columns.copyFrom(columns, position, this.used - position, position + 1);
    this.used++;
  }

  /** Forgets all positions; the next id becomes the base. Keeps a small set of columns. */
  clear(): void {
    const columns = this.columns!;
    this.used = this.live = this.presenceLow = this.presenceHigh = 0;
    this.bounds.clear();
    this.#hint = 0;
    if (!columns.wide && columns.length <= KEPT_LENGTH) return;
    this.columns = takeColumns(1, false, columns.slot !== null);
    discardColumns(columns);
  }

  get full(): boolean {
    return this.used === PAGE_ENTRIES;
  }
}

function compareWide(columns: Columns, position: number, id: StreamId): number {
  const msHigh = columns.msHigh![position];
  if (msHigh !== id.msHi) return msHigh - id.msHi;
  const ms = columns.ms[position];
  if (ms !== id.msLo) return ms - id.msLo;
  const seqHigh = columns.seqHigh![position];
  if (seqHigh !== id.seqHi) return seqHigh - id.seqHi;
  return columns.seq[position] - id.seqLo;
}
