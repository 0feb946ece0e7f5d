/**
 * Whether ids are those of entries, asked in ascending order.
 *
 * Holds: an iterator that moves along with the ids.
 * Invariant: the stream does not change during the walk, and every id is after the one before.
 * Cost: O(1) an id where ids and entries go along together, against a search of a block for each; a gap
 * of more than MOST_STEPS entries is crossed by one search.
 */
import type { Stream } from './stream.ts';
import { StreamId } from './stream-id.ts';
import { StreamIterator } from './stream-iterator.ts';

const MOST_STEPS = 64;
const MAX = StreamId.max();

export class EntryWalk {
  readonly #stream: Stream;
  readonly #iterator = new StreamIterator();
  #isSought = false;
  #isAtEnd = false;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  has(id: StreamId): boolean {
    const iterator = this.#iterator;
    if (!this.#isSought) this.#seek(id);
    for (let steps = 0; !this.#isAtEnd; steps++) {
      const order = iterator.id.compare(id);
      if (order >= 0) return order === 0;
      if (steps === MOST_STEPS) this.#seek(id);
      else this.#isAtEnd = !iterator.next();
    }
    return false;
  }

  /** Moves to the first entry at or after the id. */
  #seek(id: StreamId): void {
    this.#isSought = true;
    this.#iterator.seek(this.#stream, id, MAX);
    this.#isAtEnd = !this.#iterator.next();
  }
}
