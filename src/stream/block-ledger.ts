/**
 * What a checkpoint has to learn of a stream's blocks: which changed, which are gone.
 *
 * Time is counted in epochs, one per checkpoint of this stream. A block's `epoch` says where it is:
 *
 *     === ledger.epoch   dirty: changed since the last freeze, and in the list of such blocks
 *     0 <= e < epoch     frozen: the checkpoint under way has yet to take it
 *     CAPTURED           taken by the checkpoint under way, unchanged since
 *     CLEAN              as the last durable checkpoint has it
 *     REMOVED            no longer part of the stream
 *
 * So the hot path pays one compare. A frozen block that is about to change or go is handed to the
 * hook first, which makes the checkpoint a picture of one moment (copy on write).
 * Removed blocks are remembered only where a checkpoint may hold them; removals at the head, which
 * is where nearly all are, as one bound. Both are asked again when cold blocks are looked up, until
 * the checkpoint that drops them is durable.
 */
import { type Block, CAPTURED, CLEAN, REMOVED } from './block.ts';
import { type RadixLeaf, RadixTree } from './radix-tree.ts';
import { StreamId } from './stream-id.ts';

/** What changed in a stream since the last freeze, besides the blocks that `nextFrozen` gives. */
export interface FrozenChanges {
  /** Every stored block whose first id is below this one is gone; null = none by this rule. */
  readonly removedBelow: StreamId | null;
  /** First ids of further stored blocks that are gone. */
  readonly removed: readonly StreamId[];
}

class Removals {
  /** 0-0 = none. */
  readonly below = new StreamId();
  readonly single = new RadixTree<RadixLeaf>();

  has(id: StreamId): boolean {
    return id.compare(this.below) < 0 || this.single.find(id) !== undefined;
  }

  add(leaf: RadixLeaf): void {
    this.single.insert(leaf);
  }

  raise(bound: StreamId): void {
    if (bound.compare(this.below) > 0) this.below.copy(bound);
  }
}

export class BlockLedger {
  epoch = 0;
  onFrozenBlockChange: ((block: Block) => void) | null = null;
  #dirty: Block[] = [];
  /** Removed blocks that are still in #dirty. */
  #dead = 0;
  #frozen: Block[] = [];
  #nextFrozen = 0;
  #removals = new Removals();
  #removalsUnderWay: Removals | null = null;

  get hasChanges(): boolean {
    return (
      this.#dirty.length > this.#dead ||
      this.#removals.single.size > 0 ||
      !this.#removals.below.isZero()
    );
  }

  /** A block that no checkpoint has seen. */
  added(block: Block): void {
    block.epoch = this.epoch;
    this.#dirty.push(block);
  }

  /** Before a block that is not dirty changes. */
  beforeChange(block: Block): void {
    if (this.isFrozen(block)) this.#capture(block);
    this.added(block);
  }

  /** Before a block leaves the stream. `isFirst`: no block is before it. */
  beforeRemove(block: Block, isFirst: boolean): void {
    if (this.isFrozen(block)) this.#capture(block);
    const wasDirty = block.epoch === this.epoch;
    block.epoch = REMOVED;
    if (wasDirty) this.#buryDirty();
    if (block.stored) this.forget(block, isFirst);
  }

  /** A stored block, resident or not, is no longer part of the stream. */
  forget(block: Block, isFirst: boolean): void {
    const bound = block.readFirstId(new StreamId());
    if (isFirst && bound.increment()) this.#removals.raise(bound);
    else this.#removals.add(keyOf(block));
  }

  /** Whether a block that the checkpoint holds under this first id has been removed since. */
  isForgotten(id: StreamId): boolean {
    return this.#removals.has(id) || (this.#removalsUnderWay?.has(id) ?? false);
  }

  isFrozen(block: Block): boolean {
    return block.epoch >= 0 && block.epoch !== this.epoch;
  }

  freeze(): FrozenChanges {
    if (this.#removalsUnderWay !== null)
      throw new Error('a checkpoint of this stream is under way');
    const { below, single } = this.#removals;
    this.#frozen = this.#dirty;
    this.#nextFrozen = 0;
    this.#dirty = [];
    this.#dead = 0;
    this.epoch++;
    this.#removalsUnderWay = this.#removals;
    this.#removals = new Removals();
    return {
      removedBelow: below.isZero() ? null : below,
      removed: Array.from(single.leaves(), idOf),
    };
  }

  nextFrozen(): Block | undefined {
    while (this.#nextFrozen < this.#frozen.length) {
      const block = this.#frozen[this.#nextFrozen];
      if (this.isFrozen(block)) return block;
      this.#nextFrozen++;
    }
    return undefined;
  }

  captured(block: Block): void {
    if (!this.isFrozen(block)) throw new Error('only a frozen block can be captured');
    block.epoch = CAPTURED;
    block.stored = true;
  }

  committed(): void {
    if (this.nextFrozen() !== undefined) throw new Error('a frozen block was never captured');
    for (const block of this.#frozen) if (block.epoch === CAPTURED) block.epoch = CLEAN;
    this.#frozen = [];
    this.#removalsUnderWay = null;
  }

  aborted(): void {
    for (const block of this.#frozen) {
      if (block.epoch === CAPTURED || this.isFrozen(block)) this.added(block);
    }
    this.#frozen = [];
    const failed = this.#removalsUnderWay;
    this.#removalsUnderWay = null;
    if (failed === null) return;
    this.#removals.raise(failed.below);
    for (const leaf of failed.single.leaves()) this.#removals.add(leaf);
  }

  #capture(block: Block): void {
    this.onFrozenBlockChange?.(block);
    if (this.isFrozen(block)) throw new Error('a frozen block changes and nobody has captured it');
  }

  /** Keeps removed blocks from piling up in the list, and their bytes with them. */
  #buryDirty(): void {
    this.#dead++;
    if (this.#dead > 32 && this.#dead * 2 > this.#dirty.length) {
      this.#dirty = this.#dirty.filter((block) => block.epoch === this.epoch);
      this.#dead = 0;
    }
  }
}

function keyOf(leaf: RadixLeaf): RadixLeaf {
  return { key0: leaf.key0, key1: leaf.key1, key2: leaf.key2, key3: leaf.key3 };
}

function idOf(leaf: RadixLeaf): StreamId {
  return new StreamId(leaf.key0 >>> 0, leaf.key1 >>> 0, leaf.key2 >>> 0, leaf.key3 >>> 0);
}
