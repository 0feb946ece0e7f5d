/**
 * A queue in which items of one key are taken one after the other, and items of different keys in
 * parallel.
 *
 * Holds: a ready queue, and for every busy key the items that wait for it. Invariant: of each key at
 * most one item is ready or taken, until `done`. Items without a key are always ready.
 * Cost: O(1) to add, take and finish; O(items of the key) to remove one from the middle.
 */
export class KeyedQueue<Item> {
  readonly #keyOf: (item: Item) => string | null;
  readonly #waiting = new Map<string, Item[]>();
  #ready: Item[] = [];

  constructor(keyOf: (item: Item) => string | null) {
    this.#keyOf = keyOf;
  }

  get readyCount(): number {
    return this.#ready.length;
  }

  add(item: Item): void {
    const key = this.#keyOf(item);
    if (key === null) {
      this.#ready.push(item);
      return;
    }
    const queue = this.#waiting.get(key);
    if (queue === undefined) {
      this.#waiting.set(key, []);
      this.#ready.push(item);
    } else {
      queue.push(item);
    }
  }

  /** A taken item is ready again, before all others. Its key is still busy with it. */
  requeueFront(item: Item): void {
    this.#ready.unshift(item);
  }

  /** What `take` would return. */
  peek(): Item | null {
    return this.#ready[0] ?? null;
  }

  take(): Item | null {
    return this.#ready.shift() ?? null;
  }

  /** The taken item is finished: the next one of its key is ready. */
  done(item: Item): void {
    const key = this.#keyOf(item);
    if (key === null) return;
    const next = this.#waiting.get(key)?.shift();
    if (next === undefined) this.#waiting.delete(key);
    else this.#ready.push(next);
  }

  /** Removes an item that has not been taken. */
  remove(item: Item): void {
    const key = this.#keyOf(item);
    const queue = key === null ? undefined : this.#waiting.get(key);
    const behind = queue?.indexOf(item) ?? -1;
    if (behind >= 0) {
      queue?.splice(behind, 1);
      return;
    }
    const at = this.#ready.indexOf(item);
    if (at < 0) return;
    this.#ready.splice(at, 1);
    this.done(item);
  }

  /** Removes and returns every item that has not been taken. The keys of taken items stay busy. */
  clear(): Item[] {
    const ready = this.#ready;
    this.#ready = [];
    const items = [...ready];
    // The key of a ready item is free now; the key of a taken one stays busy until `done`.
    for (const item of ready) {
      const key = this.#keyOf(item);
      if (key === null) continue;
      items.push(...(this.#waiting.get(key) ?? []));
      this.#waiting.delete(key);
    }
    for (const queue of this.#waiting.values()) items.push(...queue.splice(0));
    return items;
  }
}
