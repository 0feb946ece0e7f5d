/**
 * Reads many cold blocks of one stream in slices, before a command that needs them runs.
 *
 * A command is one step for every client, so it cannot be cut into slices; what takes its time is the
 * reading and checking of blocks. So those are read while the command has not begun, and it then finds
 * them in memory (stored-blocks.ts). Other clients may change the stream meanwhile: the command runs on
 * what the stream is by then, and reads by itself what is missing.
 * Invariants: what was read is forgotten when a checkpoint commits, because stored blocks may have been
 * replaced: reading then begins again, MOST_RESTARTS times at most. All reads ahead together hold
 * MOST_BYTES at most. Every read ahead is ended.
 * Cost: about 30 us a block, and its bytes until the command has run.
 */
import type { PendingList } from '../../consumer-groups/pending/pending-list.ts';
import type { Block } from '../../stream/block/block.ts';
import { isDamage } from '../../stream/block/block-damage.ts';
import type { IdList } from '../../stream/id-list.ts';
import { compareToId } from '../../stream/radix-tree.ts';
import type { Stream } from '../../stream/stream.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { StoredBlocks } from './stored-blocks.ts';

/** With fewer blocks a command is quick without. */
const WORTHWHILE = 256;
/** Bytes of all blocks that are read ahead. */
const MOST_BYTES = 64 * 1024 * 1024;
const MOST_RESTARTS = 3;

/** What a command is about to look at. */
export interface NeededBlocks {
  readonly stream: Stream;
  /** Blocks that begin at this id or after it. @default all */
  readonly first?: StreamId | undefined;
  /** And not after this one. @default all */
  readonly last?: StreamId | undefined;
  /** Instead: those that may hold these ids. */
  readonly ids?: IdList;
  /** The command looks at no more entries, from `first` on. @default any number */
  readonly most?: number;
  /** Pending lists whose pages are needed, as far as the blocks are. */
  readonly pending?: readonly PendingList[];
}

/** Whether so many blocks (an upper bound) may be worth a read ahead. */
export function mayReadAhead(stream: Stream, blocks = Number.POSITIVE_INFINITY): boolean {
  return Math.min(stream.coldCount, blocks) >= WORTHWHILE;
}

/** Null where nothing is worth it. */
export function readAhead(needed: NeededBlocks): ReadAhead | null {
  const { coldBlocks } = needed.stream;
  if (!mayReadAhead(needed.stream) || !(coldBlocks instanceof StoredBlocks)) return null;
  return new ReadAhead(needed, coldBlocks);
}

export class ReadAhead {
  /** All are read, or no more may be. */
  isDone = false;
  readonly #stream: Stream;
  readonly #stored: StoredBlocks;
  readonly #first: StreamId;
  readonly #last: StreamId;
  /** Ids that the blocks may hold; null where all from #first to #last are read. */
  readonly #ids: IdList | null;
  readonly #pending: readonly PendingList[];
  readonly #most: number;
  readonly #next: StreamId;
  #nextId = 0;
  #nextList = 0;
  /** Live entries in the blocks since #first. */
  #entries = 0;
  /** All blocks are read, or no more may be; the pages up to #reached follow. */
  #blocksDone = false;
  #reached: StreamId;
  #restarts = 0;

  constructor({ stream, first, last, ids, most, pending }: NeededBlocks, stored: StoredBlocks) {
    this.#stream = stream;
    this.#stored = stored;
    this.#first = (first ?? FIRST).clone();
    this.#next = this.#first.clone();
    this.#last = this.#reached = (last ?? LAST).clone();
    this.#most = most ?? Number.POSITIVE_INFINITY;
    this.#ids = ids === undefined ? null : ids.clone();
    this.#pending = pending ?? [];
    stored.reader.ahead.add(this);
    stored.keepers++;
  }

  /** Reads for its share of `ms`: all reads ahead together take that much of one turn. */
  stepFor(ms: number, monotonic: () => number): void {
    const until = monotonic() + ms / Math.max(1, this.#stored.reader.ahead.size);
    this.step(() => monotonic() >= until);
  }

  /** Reads until `isOver` says that the slice is over. */
  step(isOver: () => boolean): void {
    try {
      while (!this.#blocksDone) {
        if (this.#ids === null) this.#readNext();
        else this.#readForNextId(this.#ids);
        if (isOver()) return;
      }
      while (this.#nextList < this.#pending.length) {
        if (!this.#pending[this.#nextList]!.loadPages(isOver, this.#reached)) return;
        this.#nextList++;
      }
      this.isDone = true;
    } catch (error) {
      // The command will meet the damage, if it needs the block, and say so.
      this.isDone = true;
      if (!isDamage(error)) throw error;
    }
  }

  #readNext(): void {
    const block = this.#stream.coldBlockFrom(this.#next);
    if (block === undefined || compareToId(block, this.#last) > 0) {
      this.#blocksDone = true;
      return;
    }
    block.readFirstId(this.#next);
    this.#keep(block);
    this.#entries += block.live;
    if (this.#entries >= this.#most) {
      this.#reached = this.#next.clone();
      this.#blocksDone = true;
    } else if (!this.#next.increment()) this.#blocksDone = true;
  }

  #readForNextId(ids: IdList): void {
    if (this.#nextId === ids.count) {
      this.#blocksDone = true;
      return;
    }
    const block = this.#stream.coldBlockOf(ids.get(this.#nextId++, wanted));
    if (block !== undefined) this.#keep(block);
  }

  #keep(block: Block): void {
    const { reader } = this.#stored;
    this.#stored.keep(block);
    if (reader.aheadBytes > MOST_BYTES) this.#blocksDone = true;
  }

  /** A checkpoint has committed: what was read may be out of date. */
  restart(): void {
    this.#stored.forgetKept();
    this.#blocksDone = ++this.#restarts > MOST_RESTARTS;
    this.#next.copy(this.#first);
    this.#nextId = this.#entries = 0;
  }

  /** The command has run, or will not. */
  end(): void {
    this.isDone = true;
    if (!this.#stored.reader.ahead.delete(this)) return;
    if (--this.#stored.keepers === 0) this.#stored.forgetKept();
  }
}

const FIRST = StreamId.min();
const LAST = StreamId.max();
const wanted = new StreamId();
