/**
 * Whether two replies to one command are the same: byte for byte, or after taking away what time
 * decides and what is known to differ.
 */
import { KNOWN_DIFFERENCES, type KnownDifference } from './known-differences.ts';
import { hideClockIds, normalise } from './normalise.ts';
import { parseTree, type ReplyTree, serialiseTree } from './reply-tree.ts';

export class Comparer {
  /** How often each known difference was met. */
  readonly known = new Map<string, number>();
  /** A known difference was met after which the data of the two differs. */
  partedWays = false;

  /** `queued` are the commands between MULTI and the EXEC that is compared. */
  areEqual(
    redis: Buffer,
    rivulet: Buffer,
    args: readonly string[],
    queued: readonly (readonly string[])[] = [],
  ): boolean {
    if (redis.equals(rivulet)) return true;
    const trees = { redis: parseTree(redis), rivulet: parseTree(rivulet) };
    hideClockIds(trees.redis);
    hideClockIds(trees.rivulet);
    if (
      args[0].toUpperCase() === 'EXEC' &&
      trees.redis.items !== null &&
      trees.rivulet.items !== null
    ) {
      const [items, others] = [trees.redis.items, trees.rivulet.items];
      return (
        items.length === others.length &&
        items.every((item, i) => this.#areEqual(item, others[i], queued[i] ?? ['?']))
      );
    }
    return this.#areEqual(trees.redis, trees.rivulet, args);
  }

  #areEqual(redis: ReplyTree, rivulet: ReplyTree, args: readonly string[]): boolean {
    for (const { translate } of KNOWN_DIFFERENCES)
      if (rivulet.type !== '-') translate?.(rivulet, args);
    normalise(redis, args);
    normalise(rivulet, args);
    if (serialiseTree(redis) === serialiseTree(rivulet)) return true;
    const known = KNOWN_DIFFERENCES.find((row) => row.explains?.(redis, rivulet, args) === true);
    if (known === undefined) return false;
    this.#note(known);
    return true;
  }

  /** Whether it is known that redis-server serves a blocked reader with this and Rivulet does not. */
  explainsServing(redis: Buffer, args: readonly string[]): boolean {
    const tree = parseTree(redis);
    const known = KNOWN_DIFFERENCES.find((row) => row.explainsServing?.(tree, args) === true);
    if (known !== undefined) this.#note(known);
    return known !== undefined;
  }

  #note(known: KnownDifference): void {
    this.known.set(known.what, (this.known.get(known.what) ?? 0) + 1);
    if (known.partsWays === true) this.partedWays = true;
  }
}
