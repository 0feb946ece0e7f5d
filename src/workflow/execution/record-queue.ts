/**
 * Records of one instance that wait for the next commit, in their order.
 *
 * Invariants: a lazy record may be applied before it is stored; until a commit has it, it stays in the queue.
 * A record that is not applied yet is stored and applied before the instance is suspended or ends. Cost: O(1) for a
 * record, besides lazy ones, of which at most MOST_LAZY wait.
 */
import type { Item } from './host.ts';

/** Lazy records that may wait for the next commit: as many steps run again after a crash. */
const MOST_LAZY = 100;

export class RecordQueue {
  #items: Item[] = [];

  put(item: Item): void {
    this.#items.push(item);
  }

  /** Before those that came meanwhile. */
  putBack(items: readonly Item[]): void {
    this.#items.unshift(...items);
  }

  /** Everything, in order. */
  take(): Item[] {
    return this.#items.splice(0);
  }

  /** The code asks for them again. */
  dropStates(): void {
    this.#items = this.#items.filter(({ kind }) => kind !== 'state');
  }

  get hasState(): boolean {
    return this.#items.some(({ kind }) => kind === 'state');
  }

  get hasNew(): boolean {
    return this.#items.some(({ applied }) => applied !== true);
  }

  get isFull(): boolean {
    return this.#items.length >= MOST_LAZY;
  }

  /** The first record that is not applied, where it need not be stored before. */
  get lazyNext(): Item | undefined {
    const next = this.#items.find(({ applied }) => applied !== true);
    return next?.lazy === true ? next : undefined;
  }

  /**
   * A lazy record is applied at the code's time `at`, right after the record `after`, with what the code had
   * asked for until then.
   */
  applied(item: Item, data: unknown, at: number, after: string): void {
    this.#items[this.#items.indexOf(item)] = { ...item, data, at, after, applied: true };
  }
}
