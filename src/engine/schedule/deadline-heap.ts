/**
 * Things with a time, earliest first: a four-ary heap whose members know their place in it.
 *
 * Invariant: item.heapIndex is the item's index in the heap, -1 outside; no member's `expireAt` is
 * before its parent's. Because members know their place, changing or removing one costs no search
 * and leaves nothing stale behind.
 * Cost: O(log n), no allocation but the array's growth.
 */
export interface Timed {
  /** Milliseconds of whatever clock the heap's user goes by. */
  expireAt: number;
  heapIndex: number;
}

export class DeadlineHeap<T extends Timed> {
  private readonly items: T[] = [];

  get size(): number {
    return this.items.length;
  }

  /** The one whose time comes first. */
  first(): T | undefined {
    return this.items[0];
  }

  /** Adds the item, or restores the order after its `expireAt` changed. */
  update(item: T): void {
    if (item.heapIndex < 0) {
      this.items.push(item);
      this.rise(item, this.items.length - 1);
      return;
    }
    this.rise(item, item.heapIndex);
    this.sink(item, item.heapIndex);
  }

  /** Removes the item; nothing happens when it is not in the heap. */
  remove(item: T): void {
    const index = item.heapIndex;
    if (index < 0) return;
    item.heapIndex = -1;
    const last = this.items.pop() as T;
    if (last === item) return;
    this.rise(last, index);
    this.sink(last, last.heapIndex);
  }

  private rise(item: T, index: number): void {
    const items = this.items;
    while (index > 0) {
      const parentIndex = (index - 1) >> 2;
      const parent = items[parentIndex];
      if (parent.expireAt <= item.expireAt) break;
      items[index] = parent;
      parent.heapIndex = index;
      index = parentIndex;
    }
    items[index] = item;
    item.heapIndex = index;
  }

  private sink(item: T, index: number): void {
    const items = this.items;
    const count = items.length;
    for (;;) {
      const firstChild = index * 4 + 1;
      if (firstChild >= count) break;
      let least = firstChild;
      const end = Math.min(firstChild + 4, count);
      for (let i = firstChild + 1; i < end; i++) {
        if (items[i].expireAt < items[least].expireAt) least = i;
      }
      const child = items[least];
      if (child.expireAt >= item.expireAt) break;
      items[index] = child;
      child.heapIndex = index;
      index = least;
    }
    items[index] = item;
    item.heapIndex = index;
  }
}
