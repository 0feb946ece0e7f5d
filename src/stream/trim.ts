/**
 * XTRIM, and the trimming half of XADD: removes entries from the head of a stream.
 *
 * Same nodes, same entries as Redis's streamTrim: whole nodes go while they can; then, unless the
 * trim is approximate, single entries of the next node become tombstones. LIMIT stops before the
 * first node that would push the count of removed entries over it.
 * Determinism: the outcome depends on the rule and on the stream's node layout and nothing else. The
 * layout is part of what is exported and restored (the last block goes on filling where it stopped),
 * so the same rule replayed on a recovered stream removes the same entries.
 * Cost: O(log blocks) a node removed whole, plus one scan of a node.
 */
import type { Block } from './block.ts';
import { BlockCursor } from './block-cursor.ts';
import { TOMBSTONE } from './entry-format.ts';
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
 * Trims and returns how many entries went.
 *
 * `mayGo` (ACKED) is asked for every live entry in reach: one that may not go stays, and the scan
 * goes on behind it, but never past the first node that could not go whole. `removed` (DELREF) is
 * told the id of every entry that goes. With either, entries are looked at one by one, `~` is
 * ignored (Redis 8.6, redis/redis#14623), and a node goes when nothing live is left in it. The id
 * passed to both is scratch: clone it to keep it. Neither may change the stream.
 */
export function trim(
  stream: Stream,
  rule: TrimRule,
  mayGo: ((id: StreamId) => boolean) | null = null,
  removed: ((id: StreamId) => void) | null = null,
): number {
  if (rule.strategy === 'none') return 0;
  const before = stream.length;
  const oneByOne = mayGo !== null || removed !== null;
  let block = stream.index.first();
  while (block !== undefined) {
    if (rule.strategy === 'maxlen' && stream.length <= rule.maxlen) break;
    if (rule.limit > 0 && before - stream.length + block.live > rule.limit) break;
    const whole =
      rule.strategy === 'maxlen'
        ? stream.length - block.live >= rule.maxlen
        : block.compareLast(rule.minid) < 0;
    if (!whole && rule.approximate && !oneByOne) break;
    block.readFirstId(at);
    if (whole && !oneByOne) {
      stream.removeBlock(block);
    } else if (trimInside(stream, block, rule, whole, mayGo, removed)) {
      break;
    }
    block = stream.index.higher(at);
  }
  if (stream.length !== before) stream.refreshFirstId();
  return before - stream.length;
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
  stream.makeResident(block);
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
    stream.bury(block, cursor.headerAt);
    if (removed !== null) removed(scratch.copy(cursor.id));
  }
  if (whole && block.live === 0) stream.removeBlock(block);
  return satisfied || !whole;
}

const cursor = new BlockCursor();
const at = new StreamId();
const scratch = new StreamId();
