/**
 * Whose turn it is: items of one lane one after the other, different lanes beside each other.
 *
 * Holds: a ready queue, and behind every busy lane the items that wait for it. Invariant: of each
 * lane at most one item is ready or taken; it stays so until `done`. Items without a lane are always
 * ready. Cost: O(1) to add, take and finish; O(lane) to remove one from the middle.
 */
export class Lanes<Item> {
  readonly #laneOf: (item: Item) => string | null;
  readonly #waiting = new Map<string, Item[]>();
  #ready: Item[] = [];

  constructor(laneOf: (item: Item) => string | null) {
    this.#laneOf = laneOf;
  }

  get readyCount(): number {
    return this.#ready.length;
  }

  add(item: Item): void {
    const lane = this.#laneOf(item);
    if (lane === null) {
      this.#ready.push(item);
      return;
    }
    const queue = this.#waiting.get(lane);
    if (queue === undefined) {
      this.#waiting.set(lane, []);
      this.#ready.push(item);
    } else {
      queue.push(item);
    }
  }

  /** One that is taken comes again, before all others of its lane, which is still its own. */
  again(item: Item): void {
    this.#ready.unshift(item);
  }

  /** What `take` would give; it stays. */
  peek(): Item | null {
    return this.#ready[0] ?? null;
  }

  take(): Item | null {
    return this.#ready.shift() ?? null;
  }

  /** The taken item is finished: the next of its lane is ready. */
  done(item: Item): void {
    const lane = this.#laneOf(item);
    if (lane === null) return;
    const next = this.#waiting.get(lane)?.shift();
    if (next === undefined) this.#waiting.delete(lane);
    else this.#ready.push(next);
  }

  /** Takes out one that has not been taken yet. */
  remove(item: Item): void {
    const lane = this.#laneOf(item);
    const queue = lane === null ? undefined : this.#waiting.get(lane);
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

  /** Everything that has not been taken, which then is forgotten here. Taken items keep their lanes. */
  clear(): Item[] {
    const ready = this.#ready;
    this.#ready = [];
    const items = [...ready];
    // The lane of a ready item is free now; that of a taken one stays busy until `done`.
    for (const item of ready) {
      const lane = this.#laneOf(item);
      if (lane === null) continue;
      items.push(...(this.#waiting.get(lane) ?? []));
      this.#waiting.delete(lane);
    }
    for (const queue of this.#waiting.values()) items.push(...queue.splice(0));
    return items;
  }
}
