/**
 * The public names of `src/stream`.
 */
export { Block } from './block/block.ts';
export type { FrozenChanges } from './block/block-changes.ts';
export { type ColdBlocks, noColdBlocks } from './block/cold-blocks.ts';
export { defaultNodeLimits, type NodeLimits } from './block/node-limits.ts';
export { Idempotency } from './idempotency.ts';
export { Stream } from './stream.ts';
export { StreamId } from './stream-id.ts';
export { StreamIterator } from './stream-iterator.ts';
export { TrimRule, type TrimStrategy, trim } from './trim.ts';
