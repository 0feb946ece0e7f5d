/**
 * The columns of one pending page: five typed arrays of equal length.
 *
 * Narrow form: `ms` is the distance from the page's base in milliseconds, `seq` the whole sequence;
 * 24 bytes an entry. Wide form, for pages whose ids do not fit that: `ms` and `seq` are the low
 * halves of the id, `msHigh` and `seqHigh` the high ones; 32 bytes an entry.
 * Lengths are 8, 32, 128 or 512, so a short list stays small. Discarded narrow columns are kept for
 * reuse, a few of each length: a group that delivers and acknowledges at the same pace allocates
 * nothing.
 */
const LENGTHS = [8, 32, 128, 512] as const;
/** The most entries that a page holds. */
export const PAGE_ENTRIES = 512;

export class Columns {
  readonly length: number;
  readonly ms: Uint32Array;
  readonly seq: Uint32Array;
  readonly msHigh: Uint32Array | null;
  readonly seqHigh: Uint32Array | null;
  /**
   * Steady ms of the last delivery; for a delayed entry when its delay ends, for a released one its
   * place in the row of such.
   */
  readonly time: Float64Array;
  readonly count: Uint32Array;
  /** Index of the consumer, or UNOWNED, DELAYED, AWAITING_DEAD_LETTER, or HOLE where the entry was removed. */
  readonly consumer: Uint32Array;
  /** Slots in the delivery order; null while the group has none. */
  slot: Uint32Array | null = null;

  constructor(length: number, wide: boolean) {
    this.length = length;
    // One piece of memory for all: five separate allocations take longer than filling them.
    const memory = new ArrayBuffer(length * (wide ? 32 : 24));
    const column = (i: number): Uint32Array =>
      new Uint32Array(memory, length * 4 * (i + 2), length);
    this.time = new Float64Array(memory, 0, length);
    this.ms = column(0);
    this.seq = column(1);
    this.count = column(2);
    this.consumer = column(3);
    this.msHigh = wide ? column(4) : null;
    this.seqHigh = wide ? column(5) : null;
  }

  get wide(): boolean {
    return this.msHigh !== null;
  }

  get bytes(): number {
    return this.length * ((this.wide ? 32 : 24) + (this.slot === null ? 0 : 4));
  }

  /** Copies entries [from, from + count) of `source`, which has the same form, to `to` onwards. */
  copyFrom(source: Columns, from: number, count: number, to: number, withSlots = true): void {
    move(source.ms, from, count, this.ms, to);
    move(source.seq, from, count, this.seq, to);
    move(source.count, from, count, this.count, to);
    move(source.consumer, from, count, this.consumer, to);
    if (source === this) this.time.copyWithin(to, from, from + count);
    else this.time.set(source.time.subarray(from, from + count), to);
    if (source.msHigh !== null && source.seqHigh !== null) {
      move(source.msHigh, from, count, this.msHigh!, to);
      move(source.seqHigh, from, count, this.seqHigh!, to);
    }
    if (withSlots && source.slot !== null) move(source.slot, from, count, this.slot!, to);
  }
}

function move(
  source: Uint32Array,
  from: number,
  count: number,
  target: Uint32Array,
  to: number,
): void {
  if (source === target) target.copyWithin(to, from, from + count);
  else target.set(source.subarray(from, from + count), to);
}

const KEPT = 16;
const kept = new Map<number, Columns[]>(LENGTHS.map((length) => [length, []]));

/** Columns with room for at least `entries`; their content is arbitrary. */
export function takeColumns(entries: number, wide: boolean, withSlots: boolean): Columns {
  const length = LENGTHS.find((candidate) => candidate >= entries) ?? PAGE_ENTRIES;
  const columns = (wide ? undefined : kept.get(length)?.pop()) ?? new Columns(length, wide);
  columns.slot = withSlots ? new Uint32Array(length) : null;
  return columns;
}

export function discardColumns(columns: Columns): void {
  const free = kept.get(columns.length);
  if (free !== undefined && !columns.wide && free.length < KEPT) free.push(columns);
}
