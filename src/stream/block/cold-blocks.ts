/**
 * Where a stream finds those of its blocks that are not in memory.
 *
 * Implemented by the engine on top of the checkpoint, one object per stream; the blocks sort there by
 * their first id.
 * It may keep a small cache of what it read last, provided that a commit drops from it the blocks which
 * that commit replaced. A block that is handed out belongs to the stream, which may go on to change
 * it; the bytes that it was imported from stay as they are.
 * It answers from the last committed checkpoint and needs to know nothing of newer changes: the
 * stream itself skips blocks that are resident or removed since.
 */

import type { StreamId } from '../stream-id.ts';
import type { Block } from './block.ts';

export interface ColdBlocks {
  /** The stored block with this first id. Throws STORAGE_DAMAGED where its bytes are damaged. */
  read(id: StreamId): Block | undefined;
  /**
   * Visits the first ids of the stored blocks that begin within [from, last], ascending. The id is
   * scratch.
   */
  firstIds(from: StreamId, last: StreamId, visit: (id: StreamId) => void): void;
}

/** For streams that are wholly in memory. */
export const noColdBlocks: ColdBlocks = {
  read: () => undefined,
  firstIds: () => {},
};
