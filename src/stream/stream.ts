/**
 * A stream: entries in ascending order of id, packed into blocks, found through a radix tree.
 *
 * One block is one Redis node: it is cut exactly where Redis 7.0.15 cuts (listpack-size.ts), so trim
 * results and radix-tree counts are Redis's. Blocks may be resident or cold (cold-blocks.ts).
 * Invariants: `length` = live entries; `firstId` = the first live entry's id, 0-0 when there is none;
 * `lastId` never goes down but by `setId`.
 * Cost: append O(1) amortised and no allocation; has/remove O(log blocks + entries of a block).
 */
import type { Arguments } from '../util/arguments.ts';
import type { Block } from './block.ts';
import type { ColdBlocks } from './cold-blocks.ts';
import type { NodeLimits } from './node-limits.ts';
import type { StreamId } from './stream-id.ts';

/** What changed in a stream since the last freeze, as of the freeze. Apply removals before puts. */
export interface FrozenChanges {
  /** Blocks that are new or changed: export each, then call `captured`. */
  readonly blocks: readonly Block[];
  /** Every stored block whose first id is below this one is gone; null = none by this rule. */
  readonly removedBelow: StreamId | null;
  /** First ids of further stored blocks that are gone. */
  readonly removed: readonly StreamId[];
}

export declare class Stream {
  /** last-generated-id. Change it with `append` or `setId` only, as all public ids here. */
  readonly lastId: StreamId;
  /** recorded-first-entry-id. */
  readonly firstId: StreamId;
  /** max-deleted-entry-id. */
  readonly maxDeletedId: StreamId;
  /** entries-added; exact up to 2^53. */
  readonly entriesAdded: number;
  readonly length: number;
  /** `limits` is held by reference. */
  constructor(limits: NodeLimits);

  /** XINFO STREAM radix-tree-keys. */
  get radixTreeKeys(): number;
  /** XINFO STREAM radix-tree-nodes; exact while no block is cold. */
  get radixTreeNodes(): number;

  /**
   * Appends one entry whose field/value pairs are args[from .. to). The caller has made sure that
   * `id` > lastId and that the pairs are whole and at least one.
   */
  append(id: StreamId, args: Arguments, from: number, to: number): void;
  /** Whether a live entry has this id. */
  has(id: StreamId): boolean;
  /** XDEL of one id: false when there is no such live entry. Raises maxDeletedId. */
  remove(id: StreamId): boolean;
  /** XSETID. `entriesAdded` < 0 and `maxDeletedId` null or 0-0 leave theirs as they are. */
  setId(lastId: StreamId, entriesAdded?: number, maxDeletedId?: StreamId | null): void;
  /** Sets `into` to the last live entry's id, or to 0-0 and returns false when there is none. */
  lastNonDeletedId(into: StreamId): boolean;
  /** Redis's streamRangeHasTombstones: whether maxDeletedId lies in [start, end] and may matter. */
  rangeHasTombstones(start: StreamId, end: StreamId): boolean;
  /** A deep copy for COPY: same entries, same node layout, all resident. */
  copy(): Stream;

  // What the checkpointer uses. Blocks are named by their first id (block.readFirstId(id)).
  /** Blocks that live only in the checkpoint. */
  readonly coldCount: number;
  /** Bytes of resident blocks, their bookkeeping included: an estimate for the block budget. */
  get residentBytes(): number;
  /** Called with a block frozen and not yet captured, before it changes or goes: export it now, then `captured`. */
  onFrozenBlockChange: ((block: Block) => void) | null;
  /** Whether `freeze` would have anything to hand out. */
  get hasBlockChanges(): boolean;
  /** Starts a checkpoint of this stream: takes the changes since the previous one. */
  freeze(): FrozenChanges;
  /** The block's bytes as of the freeze have been taken. */
  captured(block: Block): void;
  /** The checkpoint begun by `freeze` is durable: what was captured and not changed since is clean. */
  committed(): void;
  /** The checkpoint begun by `freeze` failed: its changes count as new again. */
  aborted(): void;
  /** Resident blocks that are clean, oldest first: candidates for `evict`. */
  evictable(): Iterable<Block>;
  /** Drops a clean block from memory; false when it is not clean. */
  evict(block: Block): boolean;
  /** All blocks in order, cold ones read one at a time. For DUMP. */
  blocks(): Iterable<Block>;

  /** Everything but the blocks: ids, counters, layout. Versioned. */
  export(): Buffer;
  /** A stream whose blocks are all cold. Throws RangeError where the metadata is damaged. */
  static restore(metadata: Buffer, cold: ColdBlocks, limits: NodeLimits): Stream;
  /** A stream from its metadata and all its blocks, resident. For RESTORE. Throws RangeError on damage. */
  static assemble(metadata: Buffer, blocks: Iterable<Block>, limits: NodeLimits): Stream;
  /** Gives a stream made by the constructor or `assemble` the place where evicted blocks are found. */
  attachColdBlocks(cold: ColdBlocks): void;
}
