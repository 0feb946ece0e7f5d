/**
 * Where the bytes of finished blocks lie: side by side in chunks of up to 64 KiB.
 *
 * A typed array costs about 350 bytes beside its content, so blocks share them. Nobody counts who
 * uses a chunk: blocks refer to it, and when the last of them has gone the garbage collector frees it.
 * A stream's chunks start small and grow with it, so that small streams stay small and the unused end
 * of the newest chunk stays a small part of the whole.
 */
import type { Block } from './block.ts';

const LARGEST_CHUNK = 65_536;

export class ChunkStore {
  #chunk: Uint8Array = EMPTY;
  #used = 0;
  /** Bytes placed so far: what the size of the next chunk follows. */
  #placed = 0;

  /** Moves the block's bytes, at their exact size, into a chunk. */
  place(block: Block): void {
    const length = block.length;
    if (length > this.#chunk.length - this.#used) {
      this.#chunk = new Uint8Array(Math.max(length, this.#nextSize(length)));
      this.#used = 0;
    }
    const chunk = this.#chunk;
    chunk.set(block.bytes.subarray(block.start, block.start + length), this.#used);
    block.bytes = chunk;
    block.start = this.#used;
    this.#used += length;
    this.#placed += length;
    if (this.#used === chunk.length) {
      this.#chunk = EMPTY;
      this.#used = 0;
    }
  }

  #nextSize(length: number): number {
    const wanted = Math.min(LARGEST_CHUNK, this.#placed >> 2);
    // Whole blocks of the present size, with a little to spare for their variation.
    const blocks = Math.max(1, Math.floor(wanted / length));
    return blocks === 1 ? length : blocks * length + (length >> 5) * blocks;
  }
}

const EMPTY = new Uint8Array(0);
