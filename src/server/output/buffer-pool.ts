/**
 * Buffers of one size, lent and given back.
 *
 * Holds: idle buffers, at most `keep` of them. Invariant: a buffer is given back only when nothing refers to it.
 * Cost: O(1); lending an idle buffer allocates nothing.
 */
export class BufferPool {
  readonly size: number;
  readonly #keep: number;
  readonly #idle: Buffer[] = [];

  constructor(size: number, keep: number) {
    this.size = size;
    this.#keep = keep;
  }

  borrow(): Buffer {
    return this.#idle.pop() ?? Buffer.allocUnsafeSlow(this.size);
  }

  /** Takes back any buffer; one of another size is left to the garbage collector. */
  give(buffer: Buffer): void {
    if (buffer.length === this.size && this.#idle.length < this.#keep) this.#idle.push(buffer);
  }
}
