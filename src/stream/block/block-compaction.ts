/**
 * Gives back the bytes of deleted entries: a tombstone keeps its place and id, its body becomes empty.
 *
 * Everything else of the block stays, Redis's size of it included, so layout and trims do not change.
 * Cost: one walk and copy of the block; done when at least half of it is dead, so O(1) a deletion.
 */

import { StreamId } from '../stream-id.ts';
import { varintBytes } from '../varint.ts';
import type { Block } from './block.ts';
import { BlockCursor } from './block-cursor.ts';
import { stretchLimits } from './block-steps.ts';
import { TOMBSTONE } from './entry-format.ts';

/** Less than this is not worth a copy. */
const LEAST_DEAD = 256;

export function isSparse(block: Block): boolean {
  return block.dead >= LEAST_DEAD && block.dead * 2 >= block.length;
}

/** The block's bytes become new ones of exactly its size. */
export function compact(block: Block): void {
  const from = block.bytes;
  const to = new Uint8Array(block.length);
  to.set(from.subarray(block.start, block.start + block.entriesAt));
  let at = block.entriesAt;
  let count = 0;
  cursor.attach(block);
  block.steps = null;
  while (cursor.next()) {
    const { headerAt, bodyAt, bodyEnd } = cursor;
    if (count > 0 && count % stretchLimits.entries === 0) block.addStep(at, previous);
    previous.copy(cursor.id);
    count++;
    const isDead = (cursor.header & TOMBSTONE) !== 0;
    const end = isDead ? bodyAt - varintBytes(bodyEnd - bodyAt) : bodyEnd;
    to.set(from.subarray(headerAt, end), at);
    at += end - headerAt;
    // The length of an empty body; the array holds zeros.
    if (isDead) at++;
  }
  block.bytes = to.slice(0, at);
  block.start = 0;
  block.length = at;
  block.dead = 0;
}

const cursor = new BlockCursor();
const previous = new StreamId();
