/**
 * Where a stream finds those of its blocks that are not in memory.
 *
 * Implemented by the engine on top of the checkpoint, one object per stream; the blocks sort there by
 * their first id. It may keep a small cache of what it read last: the stream treats what it gets as
 * read-only until it adopts the block (a tombstone, a trim, an append), and after that never asks
 * for that block's old bytes again.
 * It answers from the last committed checkpoint and needs to know nothing of newer changes: the
 * stream itself skips blocks that are resident or removed since.
 */
import type { Block } from './block.ts';
import type { StreamId } from './stream-id.ts';

export interface ColdBlocks {
  /** The stored block with the smallest first id >= `id`. */
  firstAtOrAfter(id: StreamId): Block | undefined;
  /** The stored block with the largest first id <= `id`. */
  lastAtOrBefore(id: StreamId): Block | undefined;
}

/** For streams that are wholly in memory. */
export const noColdBlocks: ColdBlocks = {
  firstAtOrAfter: () => undefined,
  lastAtOrBefore: () => undefined,
};
