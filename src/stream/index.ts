/**
 * The public names of `src/stream`.
 */
export { Block } from './block.ts';
export type { FrozenChanges } from './block-ledger.ts';
export { type ColdBlocks, noColdBlocks } from './cold-blocks.ts';
export { contentHash } from './content-hash.ts';
export { Idempotency } from './idempotency.ts';
export { defaultNodeLimits, type NodeLimits } from './node-limits.ts';
export { Stream } from './stream.ts';
export { StreamId } from './stream-id.ts';
export { StreamIterator } from './stream-iterator.ts';
export { TrimRule, type TrimStrategy, trim } from './trim.ts';
