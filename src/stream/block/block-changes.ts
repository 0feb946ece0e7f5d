/**
 * What a checkpoint has to learn of a stream's blocks: which changed, which are gone.
 *
 * Time is counted in epochs, one per checkpoint of this stream. A block's `epoch` says where it is:
 *
 *     === ledger.epoch   dirty: changed since the last freeze, and in the list of such blocks
 *     0 <= e < epoch     frozen: the running checkpoint has yet to take it
 *     CAPTURED           taken by the running checkpoint, unchanged since
 *     CLEAN              as the last durable checkpoint has it
 *     REMOVED            no longer part of the stream
 *
 * So the hot path pays one compare. A frozen block that is about to change or go is handed to the
 * hook first, which makes the checkpoint a picture of one moment (copy on write).
 * Removed blocks are remembered only where a checkpoint may hold them; removals at the head, which
 * is where nearly all are, as one bound. Both are asked again when cold blocks are looked up, until
 * the checkpoint that drops them is durable.
 */

import { type RadixLeaf, RadixTree } from '../radix-tree.ts';
import { StreamId } from '../stream-id.ts';
import { Block, CAPTURED, CLEAN, REMOVED } from './block.ts';

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

export class BlockChanges {
  epoch = 0;
  onFrozenBlockChange: ((block: Block) => void) | null = null;
  #dirty: Block[] = NONE;
  /** Removed blocks that are still in #dirty. */
  #dead = 0;
  #frozen: readonly Block[] = NONE;
  #nextFrozen = 0;
  #removals: Removals | null = null;
  #removalsUnderWay: Removals | null = null;
  #isUnderWay = false;

  get hasChanges(): boolean {
    return this.#dirty.length > this.#dead || this.#removals !== null;
  }

  /** A block that no checkpoint has seen. */
  added(block: Block): void {
    block.epoch = this.epoch;
    // V8 makes room for seventeen at the first push; most streams of a hundred thousand have one block.
    if (this.#dirty.length === 0) this.#dirty = [block];
    else this.#dirty.push(block);
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
    if (wasDirty) this.#removeDirty();
    if (block.stored) this.forget(block, isFirst);
  }

  /** A stored block, resident or not, is no longer part of the stream. */
  forget(block: Block, isFirst: boolean): void {
    const bound = block.readFirstId(new StreamId());
    this.#removals ??= new Removals();
    if (isFirst && bound.increment()) this.#removals.raise(bound);
    else this.#removals.add(keyOf(block));
  }

  /** All stored blocks up to the one with this first id, none of them resident, are gone. */
  forgetUpTo(id: StreamId): void {
    this.#removals ??= new Removals();
    const bound = id.clone();
    if (bound.increment()) this.#removals.raise(bound);
    else this.#removals.add(new Block(id));
  }

  /** Whether a block that the checkpoint holds under this first id has been removed since. */
  isForgotten(id: StreamId): boolean {
    return (this.#removals?.has(id) ?? false) || (this.#removalsUnderWay?.has(id) ?? false);
  }

  isFrozen(block: Block): boolean {
    return block.epoch >= 0 && block.epoch !== this.epoch;
  }

  freeze(): FrozenChanges {
    if (this.#isUnderWay) throw new Error('a checkpoint of this stream has begun and not ended');
    this.#isUnderWay = true;
    this.#frozen = this.#dirty;
    this.#nextFrozen = 0;
    this.#dirty = NONE;
    this.#dead = 0;
    this.epoch++;
    const removals = this.#removals;
    this.#removalsUnderWay = removals;
    this.#removals = null;
    if (removals === null) return NOTHING_REMOVED;
    return {
      removedBelow: removals.below.isZero() ? null : removals.below,
      removed: Array.from(removals.single.leaves(), idOf),
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
    this.#end();
  }

  aborted(): void {
    for (const block of this.#frozen) {
      if (block.epoch === CAPTURED || this.isFrozen(block)) this.added(block);
    }
    const failed = this.#removalsUnderWay;
    this.#end();
    if (failed === null) return;
    this.#removals ??= new Removals();
    this.#removals.raise(failed.below);
    for (const leaf of failed.single.leaves()) this.#removals.add(leaf);
  }

  #end(): void {
    this.#isUnderWay = false;
    this.#frozen = NONE;
    this.#removalsUnderWay = null;
  }

  #capture(block: Block): void {
    this.onFrozenBlockChange?.(block);
    if (this.isFrozen(block)) throw new Error('a frozen block changes before it was captured');
  }

  /** Keeps removed blocks from piling up in the list, and their bytes with them. */
  #removeDirty(): void {
    this.#dead++;
    if (this.#dead > 32 && this.#dead * 2 > this.#dirty.length) {
      this.#dirty = this.#dirty.filter((block) => block.epoch === this.epoch);
      this.#dead = 0;
    }
  }
}

/** Never written to. */
const NONE: Block[] = [];
const NOTHING_REMOVED: FrozenChanges = { removedBelow: null, removed: [] };

function keyOf(leaf: RadixLeaf): RadixLeaf {
  return { key0: leaf.key0, key1: leaf.key1, key2: leaf.key2, key3: leaf.key3 };
}

function idOf(leaf: RadixLeaf): StreamId {
  return new StreamId(leaf.key0 >>> 0, leaf.key1 >>> 0, leaf.key2 >>> 0, leaf.key3 >>> 0);
}
