/**
 * XTRIM, and the trimming half of XADD: removes entries from the head of a stream.
 *
 * Same nodes, same entries as Redis's streamTrim: whole nodes go while they can; then, unless the
 * trim is approximate, single entries of the next node become tombstones. LIMIT stops before the
 * first node that would push the count of removed entries over it.
 * Determinism: the outcome depends on the rule and on the stream's node layout and nothing else. The
 * layout is part of what is exported and restored (the last block goes on filling where it stopped),
 * so the same rule replayed on a recovered stream removes the same entries.
 */
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
 * goes on behind it. `removed` (DELREF) is told the id of every entry that goes. With either,
 * entries are looked at one by one and a node goes when nothing live is left in it. The id passed
 * to both is scratch: clone it to keep it.
 */
export function trim(
  _stream: Stream,
  _rule: TrimRule,
  _mayGo: ((id: StreamId) => boolean) | null = null,
  _removed: ((id: StreamId) => void) | null = null,
): number {
  throw new Error('to be filled in');
}
