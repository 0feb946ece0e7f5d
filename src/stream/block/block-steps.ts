/**
 * Where every 128th entry of a large block begins, so that a block of very many entries is searched
 * and read backwards in stretches and not from its first entry.
 *
 * A step is what a cursor needs to stand just before the entry: its place from the block's start, and
 * the id of the entry before. Entries never move within a block, so a step stays true.
 * Invariant: a block of n entries, tombstones included, has a step before each entry whose number is a
 * multiple of 128, but for number 0; blocks of up to 128 entries have none.
 * Cost: 20 bytes for 128 entries.
 */
import type { StreamId } from '../stream-id.ts';

/** Changed by tests only, and only between streams. */
export const stretchLimits = { entries: 128 };

const WORDS = 5;

export class BlockSteps {
  /** How many there are: the stretches of the block less one. */
  count = 0;
  #words = new Uint32Array(4 * WORDS);

  add(offset: number, msHi: number, msLo: number, seqHi: number, seqLo: number): void {
    if (this.count * WORDS === this.#words.length) {
      const grown = new Uint32Array(this.#words.length * 2);
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words.set([offset, msHi, msLo, seqHi, seqLo], this.count++ * WORDS);
  }

  /** Where the entry of the i-th step begins, from the block's start. */
  offset(i: number): number {
    return this.#words[i * WORDS];
  }

  /** The id of the entry before it. */
  readPrevious(i: number, into: StreamId): StreamId {
    const at = i * WORDS;
    const words = this.#words;
    return into.set(words[at + 1], words[at + 2], words[at + 3], words[at + 4]);
  }

  /** The last step all of whose entries before it are before `id`; -1 = none. */
  before(id: StreamId): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(middle, id) < 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  clone(): BlockSteps {
    const copy = new BlockSteps();
    copy.count = this.count;
    copy.#words = this.#words.slice();
    return copy;
  }

  #compare(i: number, id: StreamId): number {
    const at = i * WORDS;
    const words = this.#words;
    if (words[at + 1] !== id.msHi) return words[at + 1] - id.msHi;
    if (words[at + 2] !== id.msLo) return words[at + 2] - id.msLo;
    if (words[at + 3] !== id.seqHi) return words[at + 3] - id.seqHi;
    return words[at + 4] - id.seqLo;
  }
}
