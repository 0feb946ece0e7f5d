/**
 * Whether two replies to one command are the same: byte for byte, or after taking away what time
 * decides and what is known to differ.
 */
import { KNOWN_DIFFERENCES, type KnownDifference } from './known-differences.ts';
import { hideClockIds, normalise } from './normalise.ts';
import { fieldsOf, parseTree, type ReplyTree, removeFields, serialiseTree } from './reply-tree.ts';

export class Comparer {
  /** How often each known difference was met. */
  readonly known = new Map<string, number>();
  /** A known difference was met after which the data of the two differs. */
  partedWays = false;
  readonly #rows: readonly KnownDifference[];

  /** `version`: of the server beside Rivulet. */
  constructor(version = 7.0) {
    this.#rows = KNOWN_DIFFERENCES.filter(({ since }) => version < since);
  }

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
    for (const { translate } of this.#rows) if (rivulet.type !== '-') translate?.(rivulet, args);
    normalise(redis, args);
    normalise(rivulet, args);
    if (serialiseTree(redis) === serialiseTree(rivulet)) return true;
    const known = this.#rows.find((row) => row.explains?.(redis, rivulet, args) === true);
    if (known === undefined) return false;
    this.#note(known);
    return true;
  }

  /**
   * Whether what the server beside Rivulet says of its own value it says of Rivulet's too, but for times
   * and these fields of consumers.
   */
  areSame(
    own: Buffer,
    moved: Buffer,
    args: readonly string[],
    ignored: readonly string[],
  ): boolean {
    const [left, right] = [own, moved].map((reply) => {
      const tree = parseTree(reply);
      hideClockIds(tree);
      normalise(tree, args);
      const groups = fieldsOf(tree).find(([name]) => name === 'groups')?.[1].items ?? [];
      for (const group of groups) {
        const consumers = fieldsOf(group).find(([name]) => name === 'consumers')?.[1].items ?? [];
        for (const consumer of consumers) removeFields(consumer, ignored);
      }
      return tree;
    });
    if (serialiseTree(left) === serialiseTree(right)) return true;
    return this.#rows.some((row) => row.explains?.(left, right, args) === true);
  }

  /** Whether it is known that redis-server serves a blocked reader with this and Rivulet does not. */
  explainsServing(redis: Buffer, args: readonly string[]): boolean {
    const tree = parseTree(redis);
    const known = this.#rows.find((row) => row.explainsServing?.(tree, args) === true);
    if (known !== undefined) this.#note(known);
    return known !== undefined;
  }

  #note(known: KnownDifference): void {
    this.known.set(known.what, (this.known.get(known.what) ?? 0) + 1);
    if (known.partsWays === true) this.partedWays = true;
  }
}
