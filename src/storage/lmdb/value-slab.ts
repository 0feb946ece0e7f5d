/**
 * The buffers for values that LMDB returns: each value has its own, or, while very many are read in a
 * row, they are written one after the other into slabs, because a buffer object per value costs more than its bytes.
 *
 * Invariant: a slab's bytes are written once. A kept value keeps its whole slab.
 */
import type { ValueReader } from './lmdb-format.ts';

const SLAB = 256 * 1024;
/** Larger values get separate buffers: a slab should hold many. */
const LARGE = SLAB / 8;
/** Below this a loop copies faster than a view and `set`. */
const LOOP_COPY = 256;

export class ValueSlab implements ValueReader {
  /** True while values go into slabs; `buffer`, `at` and `end` then say where the last one is. */
  packing = false;
  buffer: Buffer = Buffer.alloc(0);
  at = 0;
  end = 0;

  /** This thread only reads. */
  encode(): Buffer {
    throw new Error('values are written by the worker');
  }

  decode(bytes: Uint8Array, length: number): Buffer | undefined {
    if (!this.packing) {
      const own = Buffer.allocUnsafeSlow(length);
      own.set(bytes.subarray(0, length));
      return own;
    }
    this.makeRoom(length);
    const { buffer, at } = this;
    if (length < LOOP_COPY) for (let i = 0; i < length; i++) buffer[at + i] = bytes[i];
    else buffer.set(bytes.subarray(0, length), at);
    return undefined;
  }

  private makeRoom(length: number): void {
    this.at = this.end;
    if (this.buffer.length - this.at < length) {
      this.buffer = Buffer.allocUnsafeSlow(length > LARGE ? length : SLAB);
      this.at = 0;
    }
    this.end = this.at + length;
  }
}
