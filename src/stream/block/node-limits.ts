/**
 * When a block is full: Redis's `stream-node-max-entries` and `stream-node-max-bytes`.
 *
 * One object is shared by all streams of a server and held by reference, so that CONFIG SET takes
 * effect at the next append, as in Redis.
 */
export interface NodeLimits {
  /** Entries of a node, deleted ones included; 0 = no limit. Redis's default: 100. */
  maxEntries: number;
  /** Bytes of a node in Redis's own encoding; 0 = the most there is, 1 GiB. Redis's default: 4096. */
  maxBytes: number;
}

export const defaultNodeLimits: Readonly<NodeLimits> = { maxEntries: 100, maxBytes: 4096 };

/** Redis's STREAM_LISTPACK_MAX_SIZE: no node and no entry's text is larger. */
export const LARGEST_NODE = 2 ** 30;
