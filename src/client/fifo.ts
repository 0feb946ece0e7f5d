/**
 * A queue: first in, first out, in a ring that doubles when full.
 *
 * Cost: O(1) each way; the ring keeps its size, and holds no reference to items that were taken.
 */
export class Fifo<T> {
  #ring: (T | undefined)[] = new Array(64).fill(undefined);
  #head = 0;
  length = 0;

  push(item: T): void {
    if (this.length === this.#ring.length) this.#grow();
    this.#ring[(this.#head + this.length++) & (this.#ring.length - 1)] = item;
  }

  peek(): T | undefined {
    return this.length === 0 ? undefined : this.#ring[this.#head];
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#ring[this.#head];
    this.#ring[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.length--;
    return item;
  }

  /** Empties the queue and returns what was in it, in order. */
  drain(): T[] {
    const items: T[] = [];
    for (let item = this.shift(); item !== undefined; item = this.shift()) items.push(item);
    return items;
  }

  #grow(): void {
    const size = this.#ring.length;
    const ring: (T | undefined)[] = new Array(size * 2).fill(undefined);
    for (let i = 0; i < this.length; i++) ring[i] = this.#ring[(this.#head + i) & (size - 1)];
    this.#ring = ring;
    this.#head = 0;
  }
}
