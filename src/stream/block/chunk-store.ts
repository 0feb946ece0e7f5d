/**
 * Where the bytes of finished blocks lie: side by side in chunks of up to 64 KiB.
 *
 * A typed array costs about 350 bytes beside its content, so blocks share them. Blocks
 * refer to their chunk, and when the last of them has gone the garbage collector frees it; how many
 * there are is counted for MEMORY USAGE.
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
  /** Blocks in each chunk that is held. */
  readonly #blocks = new Map<Uint8Array, number>();
  #held = 0;
  /** Bytes of blocks in chunks of another stream. */
  #borrowed = 0;

  /** Bytes of all chunks that blocks hold. */
  get heldBytes(): number {
    return this.#held + this.#borrowed;
  }

  /** A block whose bytes are a whole chunk: in a shared one, a small rest would hold the whole. */
  keep(block: Block): void {
    this.#blocks.set(block.bytes, 1);
    this.#held += block.bytes.length;
  }

  /** A block whose bytes are in a chunk of the stream that it was copied from. */
  borrow(block: Block): void {
    this.#borrowed += block.length;
  }

  /** The block is about to leave, or to be moved. */
  release(block: Block): void {
    const chunk = block.bytes;
    const left = this.#blocks.get(chunk);
    if (left === undefined) {
      if (block.shared) this.#borrowed -= block.length;
      return;
    }
    this.#blocks.set(chunk, left - 1);
    if (left === 1 && chunk !== this.#chunk) this.#drop(chunk);
  }

  #drop(chunk: Uint8Array): void {
    this.#blocks.delete(chunk);
    this.#held -= chunk.length;
  }

  /** Moves the block's bytes, at their exact size, into a chunk. */
  place(block: Block): void {
    const length = block.length;
    if (length > this.#chunk.length - this.#used) {
      if (this.#blocks.get(this.#chunk) === 0) this.#drop(this.#chunk);
      this.#chunk = new Uint8Array(Math.max(length, this.#nextSize(length)));
      this.#used = 0;
      this.#held += this.#chunk.length;
    }
    const chunk = this.#chunk;
    chunk.set(block.bytes.subarray(block.start, block.start + length), this.#used);
    block.bytes = chunk;
    block.start = this.#used;
    this.#blocks.set(chunk, (this.#blocks.get(chunk) ?? 0) + 1);
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
