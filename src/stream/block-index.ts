/**
 * The blocks of one stream in order, wherever they are: resident ones in the radix tree, cold ones
 * behind `cold`.
 *
 * The checkpoint holds every block as of some time ago, so an old version of a resident block and
 * blocks removed since may come back from it; both are skipped here. While `coldCount` is 0 nothing
 * is ever looked up, and neither is anything beyond `coldLast`.
 * `coldNodes` keeps what the cold blocks add to Redis's count of tree nodes: measured when a block is
 * evicted or taken back, estimated evenly when a cold block goes. So the sum is exact while no block
 * is cold, and otherwise may be off by the branchings that cold keys share with newer ones. It is
 * exact again once the last cold block has gone or come back.
 * Cost: that of the radix tree; a look-up and import per cold block.
 */
import { RivuletError } from '../errors.ts';
import type { Block } from './block.ts';
import type { BlockLedger } from './block-ledger.ts';
import { type ColdBlocks, noColdBlocks } from './cold-blocks.ts';
import { compareToId, RadixTree } from './radix-tree.ts';
import { StreamId } from './stream-id.ts';

export class BlockIndex {
  readonly tree: RadixTree<Block> = new RadixTree<Block>();
  cold: ColdBlocks = noColdBlocks;
  coldCount = 0;
  coldNodes = 0;
  /** No entry of a cold block has a greater id. */
  readonly coldLast: StreamId = new StreamId();
  /** The first cold block, as a head that is trimmed again and again asks for it. */
  #coldHead: Block | undefined = undefined;
  readonly #ledger: BlockLedger;

  constructor(ledger: BlockLedger) {
    this.#ledger = ledger;
  }

  get count(): number {
    return this.tree.size + this.coldCount;
  }

  /** What Redis's rax of these blocks would count. */
  get nodeCount(): number {
    if (this.coldCount === 0) return this.tree.nodeCount;
    // A leaf each and a root at least; at most a leaf, a branching and the runs before both.
    const estimate = residentNodes(this.tree) + this.coldNodes;
    return Math.min(Math.max(estimate, this.count + 1), this.count * 4);
  }

  isResident(block: Block): boolean {
    return this.coldCount === 0 || this.tree.find(block.readFirstId(probe)) === block;
  }

  first(): Block | undefined {
    const resident = this.tree.first();
    if (this.coldCount === 0) return resident;
    this.#coldHead ??= this.#coldFrom(MIN);
    if (this.#coldHead === undefined) throw this.#missing();
    return smaller(resident, this.#coldHead);
  }

  last(): Block | undefined {
    const resident = this.tree.last();
    if (this.coldCount === 0) return resident;
    if (resident !== undefined && compareToId(resident, this.coldLast) >= 0) return resident;
    const cold = this.#coldUpTo(this.coldLast);
    if (cold === undefined) throw this.#missing();
    return greater(resident, cold);
  }

  /** An id that no entry of any block is after. */
  lastPacked(into: StreamId): StreamId {
    const resident = this.tree.last();
    if (resident === undefined) return into.copy(this.coldLast);
    resident.readLastId(into);
    return into.compare(this.coldLast) < 0 ? into.copy(this.coldLast) : into;
  }

  /** The last block whose first id is <= `id`. */
  floor(id: StreamId): Block | undefined {
    const resident = this.tree.floor(id);
    if (this.coldCount === 0) return resident;
    if (resident !== undefined && compareToId(resident, this.coldLast) >= 0) return resident;
    return greater(resident, this.#coldUpTo(id));
  }

  /** As `floor`, but may leave out cold blocks none of whose entries can be at or after `id`. */
  floorFor(id: StreamId): Block | undefined {
    if (this.coldCount === 0 || id.compare(this.coldLast) > 0) return this.tree.floor(id);
    return this.floor(id);
  }

  /** The first block whose first id is > `id`. */
  higher(id: StreamId): Block | undefined {
    const resident = this.tree.higher(id);
    if (this.coldCount === 0 || id.compare(this.coldLast) >= 0) return resident;
    const from = id.clone();
    from.increment();
    return smaller(resident, this.#coldFrom(from));
  }

  /** The last block whose first id is < `id`. */
  lower(id: StreamId): Block | undefined {
    const resident = this.tree.lower(id);
    if (this.coldCount === 0) return resident;
    if (resident !== undefined && compareToId(resident, this.coldLast) >= 0) return resident;
    const to = id.clone();
    return to.decrement() ? greater(resident, this.#coldUpTo(to)) : resident;
  }

  /** A cold block becomes resident, to be changed. */
  adopt(block: Block): void {
    const before = residentNodes(this.tree);
    this.tree.insert(block);
    this.#uncount(block, residentNodes(this.tree) - before);
    block.stored = true;
  }

  /** A resident block becomes cold. */
  evict(block: Block): void {
    const before = residentNodes(this.tree);
    this.tree.remove(block.readFirstId(probe));
    this.coldNodes += before - residentNodes(this.tree);
    this.coldCount++;
    block.readLastId(probe);
    if (probe.compare(this.coldLast) > 0) this.coldLast.copy(probe);
    this.#coldHead = undefined;
  }

  /** A block, resident or cold, leaves the stream. */
  remove(block: Block, resident: boolean): void {
    if (resident) this.tree.remove(block.readFirstId(probe));
    else this.#uncount(block, Math.round(this.coldNodes / this.coldCount));
  }

  #uncount(block: Block, nodes: number): void {
    this.coldCount--;
    this.coldNodes = this.coldCount === 0 ? 0 : this.coldNodes - nodes;
    this.#coldHead = undefined;
    // When the last cold block goes, the others are all before it.
    if (block.compareLast(this.coldLast) >= 0) block.readFirstId(this.coldLast).decrement();
    if (this.coldCount === 0) this.coldLast.setMin();
  }

  #coldFrom(from: StreamId): Block | undefined {
    const at = from.clone();
    for (;;) {
      const block = this.cold.firstAtOrAfter(at);
      if (block === undefined || this.#isCold(block.readFirstId(at))) return block;
      if (!at.increment()) return undefined;
    }
  }

  #coldUpTo(to: StreamId): Block | undefined {
    const at = to.clone();
    for (;;) {
      const block = this.cold.lastAtOrBefore(at);
      if (block === undefined || this.#isCold(block.readFirstId(at))) return block;
      if (!at.decrement()) return undefined;
    }
  }

  #missing(): RivuletError {
    return new RivuletError(
      'STORAGE_DAMAGED',
      `the checkpoint lacks ${this.coldCount} blocks that a stream has left there`,
    );
  }

  #isCold(id: StreamId): boolean {
    return this.tree.find(id) === undefined && !this.#ledger.isForgotten(id);
  }
}

const MIN = StreamId.min();

function residentNodes(tree: RadixTree<Block>): number {
  return tree.size === 0 ? 0 : tree.nodeCount;
}

function smaller(a: Block | undefined, b: Block | undefined): Block | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return compareToId(a, b.readFirstId(scratch)) < 0 ? a : b;
}

function greater(a: Block | undefined, b: Block | undefined): Block | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return compareToId(a, b.readFirstId(scratch)) > 0 ? a : b;
}

const scratch = new StreamId();
const probe = new StreamId();
