/**
 * XTRIM, and the trimming half of XADD: removes entries from the head of a stream.
 *
 * Same nodes, same entries as Redis's streamTrim: whole nodes go while they can; then, unless the
 * trim is approximate, single entries of the next node become tombstones. LIMIT stops before the
 * first node that would push the count of removed entries over it.
 * Determinism: the outcome depends on the rule and on the stream's node layout and nothing else. The
 * layout is part of what is exported and restored (the last block goes on filling where it stopped),
 * so the same rule replayed on a recovered stream removes the same entries.
 * Cost: O(log blocks) a node removed whole, plus one scan of a node. Sections of cold nodes that go
 * whole are not read.
 */
import type { Block } from './block/block.ts';
import { BlockCursor } from './block/block-cursor.ts';
import { TOMBSTONE } from './block/entry-format.ts';
import { compareToId } from './radix-tree.ts';
import type { Stream } from './stream.ts';
import { StreamId } from './stream-id.ts';

export type TrimStrategy = 'none' | 'maxlen' | 'minid';

/** What to trim. Mutable, so that one scratch instance serves a hot path. */
export class TrimRule {
  strategy: TrimStrategy = 'none';
  /** For 'maxlen': how many entries stay. */
  maxlen = 0;
  /** For 'minid': the smallest id that stays. */
  readonly minid: StreamId = new StreamId();
  /** `~`: whole nodes only. */
  approximate = false;
  /** The most entries to remove; 0 = no limit. Looked at before each node, as Redis does. */
  limit = 0;
}

/**
 * Trims and returns how many entries went. Where it meets damage it throws, and what went before
 * that is gone: `stream.length` says how much.
 *
 * `mayGo` (ACKED) is asked for every live entry in reach: one that may not go stays, and the scan
 * goes on behind it, but never past the first node that could not go whole. `removed` (DELREF) is
 * told the id of every entry that goes. With either, entries are looked at one by one, `~` is
 * ignored (Redis 8.6, redis/redis#14623), and a node goes when nothing live is left in it. The id
 * passed to both is scratch: clone it to keep it. Neither may change the stream. `mayGo` is false for
 * every id after `lastToGo`: the scan ends there. A cold node becomes resident when an entry of it
 * goes, not before.
 *
 * `before`: only nodes whose entries are all before it go, and they go whole.
 */
export function trim(
  stream: Stream,
  rule: TrimRule,
  mayGo: ((id: StreamId) => boolean) | null = null,
  removed: ((id: StreamId) => void) | null = null,
  lastToGo: StreamId = MAX,
  before: StreamId | null = null,
): number {
  if (rule.strategy === 'none') return 0;
  const length = stream.length;
  try {
    trimBlocks(stream, rule, mayGo, removed, lastToGo, before);
  } finally {
    if (stream.length !== length) stream.refreshFirstId();
  }
  return length - stream.length;
}

function trimBlocks(
  stream: Stream,
  rule: TrimRule,
  mayGo: ((id: StreamId) => boolean) | null,
  removed: ((id: StreamId) => void) | null,
  lastToGo: StreamId,
  wholeBefore: StreamId | null,
): void {
  const oneByOne = mayGo !== null || removed !== null;
  const before = stream.length;
  let after: StreamId | null = null;
  for (;;) {
    // Whatever went before, what is left begins with a section: it may be cold, and go whole.
    if (!oneByOne) trimColdSections(stream, rule, before, wholeBefore);
    if (wholeBefore !== null && !nextIsBefore(stream, after, wholeBefore)) break;
    // A node that stays is not read: it may be cold, or damaged.
    if (rule.strategy === 'maxlen') {
      if (stream.length <= rule.maxlen) break;
    } else if (!stream.index.nextFirstId(after, next) || next.compare(rule.minid) >= 0) {
      break;
    }
    const block: Block | undefined =
      after === null ? stream.index.first() : stream.index.higher(after);
    if (block === undefined) break;
    if (mayGo !== null && compareToId(block, lastToGo) > 0) break;
    if (rule.limit > 0 && before - stream.length + block.live > rule.limit) break;
    const whole =
      rule.strategy === 'maxlen'
        ? stream.length - block.live >= rule.maxlen
        : block.compareLast(rule.minid) < 0;
    if (!whole && rule.approximate && !oneByOne) break;
    if (wholeBefore !== null && (!whole || block.compareLast(wholeBefore) >= 0)) break;
    after = block.readFirstId(at);
    if (whole && !oneByOne) {
      stream.removeBlock(block);
    } else if (trimInside(stream, block, rule, whole, mayGo, removed)) {
      break;
    }
  }
}

/** Whether the node after the one that begins with `id` (null: the first one) begins before `bound`. */
function nextIsBefore({ index }: Stream, id: StreamId | null, bound: StreamId): boolean {
  return index.nextFirstId(id, next) && next.compare(bound) < 0;
}

/**
 * Removes sections of cold nodes where the loop over nodes would remove each of their nodes. `before`:
 * the length of the stream before the trim.
 */
function trimColdSections(
  stream: Stream,
  rule: TrimRule,
  before: number,
  wholeBefore: StreamId | null,
): void {
  for (;;) {
    const section = stream.index.coldHead();
    if (section === undefined) return;
    if (wholeBefore !== null && !stream.index.headIsBefore(wholeBefore)) return;
    const left = stream.length - section.live;
    // At exactly maxlen that loop would leave nodes without live entries at the section's end.
    const whole =
      rule.strategy === 'maxlen' ? left > rule.maxlen : stream.index.headIsBefore(rule.minid);
    if (!whole || (rule.limit > 0 && before - left > rule.limit)) return;
    stream.removeHead(section);
  }
}

/**
 * Trims single entries; true when the rule is satisfied within the block. The block itself goes when
 * all of it was to go and has gone.
 */
function trimInside(
  stream: Stream,
  block: Block,
  rule: TrimRule,
  whole: boolean,
  mayGo: ((id: StreamId) => boolean) | null,
  removed: ((id: StreamId) => void) | null,
): boolean {
  if (stream.head === null) cursor.attach(block);
  else stream.head.attach(cursor, block);
  let satisfied = false;
  while (cursor.next()) {
    satisfied =
      rule.strategy === 'maxlen'
        ? stream.length <= rule.maxlen
        : cursor.id.compare(rule.minid) >= 0;
    if (satisfied) break;
    if ((cursor.header & TOMBSTONE) !== 0) continue;
    if (mayGo !== null && !mayGo(scratch.copy(cursor.id))) continue;
    const { start } = block;
    if (stream.makeResident(block)) cursor.moved(block, start);
    stream.markDeleted(block, cursor);
    if (removed !== null) removed(scratch.copy(cursor.id));
  }
  if (whole && block.live === 0) stream.removeBlock(block);
  else stream.compact(block);
  return satisfied || !whole;
}

const cursor = new BlockCursor();
const at = new StreamId();
const next = new StreamId();
const scratch = new StreamId();
const MAX = StreamId.max();
