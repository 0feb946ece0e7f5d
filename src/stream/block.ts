/**
 * One block of a stream: what Redis calls a node.
 */
import type { StreamId } from './stream-id.ts';

export declare class Block {
  /** Live entries. */
  readonly live: number;
  /** Tombstones. */
  readonly deleted: number;
  /** The size that Redis's listpack of this node would have. */
  readonly listpackBytes: number;
  /** Sets `into` to the block's first id, which names it. */
  readFirstId(into: StreamId): StreamId;
  readLastId(into: StreamId): StreamId;
  /** Header and entries as one new Buffer, versioned. */
  export(): Buffer;
  /** The block in `bytes`, which it keeps. Throws RangeError where they are damaged. */
  static import(bytes: Uint8Array): Block;
}
