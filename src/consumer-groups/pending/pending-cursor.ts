/**
 * A place in a pending list: one pending entry, read without an object per entry.
 *
 * Cursors are reused: each walk keeps one. A cursor stays usable while the entries around it
 * change, its own included: when the pages have been rearranged, `next` looks its place up again by
 * its id. Only `consumer`, `time` and `count` need an entry that is still there.
 */
import { StreamId } from '../../stream/stream-id.ts';
import { type PendingPage, UNOWNED } from './pending-page.ts';

/** The list that a cursor walks, as far as the cursor needs it. */
export interface WalkedList {
  advance(cursor: PendingCursor): boolean;
  advanceOf(cursor: PendingCursor, consumer: number): boolean;
}

export class PendingCursor {
  /** The entry's id: a copy, the cursor's own. */
  readonly id = new StreamId();

  // Set by PendingList alone.
  list: WalkedList | null = null;
  page: PendingPage | null = null;
  pageIndex = 0;
  at = 0;
  version = 0;

  /** Lets go of the list (util/scratch.ts). */
  release(): void {
    this.list = null;
    this.page = null;
  }

  /** Index of its consumer (ConsumerGroup.consumerAt), or UNOWNED, DELAYED or AWAITING_DEAD_LETTER. */
  get consumer(): number {
    return this.page!.columns!.consumer[this.at];
  }

  /** Steady ms of its last delivery, or of the end of its delay; 0 for a released entry. */
  get time(): number {
    const columns = this.page!.columns!;
    return columns.consumer[this.at] === UNOWNED ? 0 : columns.time[this.at];
  }

  /** Its delivery count as kept in memory: delivery-count.ts. */
  get count(): number {
    return this.page!.columns!.count[this.at];
  }

  /** Moves to the next entry in id order; false at the end. */
  next(): boolean {
    return this.list!.advance(this);
  }

  /** Moves to the consumer's next entry in id order; false at the end. */
  nextOf(consumer: number): boolean {
    return this.list!.advanceOf(this, consumer);
  }
}
