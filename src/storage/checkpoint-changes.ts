/**
 * A checkpoint's changes as bytes, in slices that go to the writer's thread.
 *
 *   put          u8 1, key (length-prefixed), value length, value, four bytes for its checksum
 *   remove       u8 2, key
 *   remove range u8 3, from, to
 *
 * Invariant: a slice holds whole changes, in the order in which they were made.
 * Cost: one copy of key and value; the slice's buffer is handed over, not copied.
 */
import { ByteReader, ByteWriter } from '../util/byte-writer.ts';

export const CHECKSUM_BYTES = 4;

const PUT = 1;
const REMOVE = 2;
const REMOVE_RANGE = 3;
const NOTHING = new Uint8Array(0);

export class ChangeWriter {
  readonly #bytes: ByteWriter;

  /** Writes into `given` for as long as that is large enough. */
  constructor(capacity: number, given?: Buffer) {
    this.#bytes = new ByteWriter(given === undefined ? capacity : 0);
    if (given !== undefined) this.#bytes.buffer = given;
  }

  get length(): number {
    return this.#bytes.length;
  }

  put(key: Uint8Array, value: Uint8Array, rest: Uint8Array = NOTHING): void {
    const bytes = this.#bytes;
    bytes.u8(PUT);
    bytes.bytes(key);
    bytes.varint(value.length + rest.length);
    bytes.raw(value, 0, value.length);
    bytes.raw(rest, 0, rest.length);
    bytes.u32(0);
  }

  remove(key: Uint8Array): void {
    this.#bytes.u8(REMOVE);
    this.#bytes.bytes(key);
  }

  removeRange(from: Uint8Array, to: Uint8Array): void {
    this.#bytes.u8(REMOVE_RANGE);
    this.#bytes.bytes(from);
    this.#bytes.bytes(to);
  }

  /** The bytes so far; the writer is not to be used again. */
  take(): Buffer {
    return this.#bytes.buffer.subarray(0, this.#bytes.length);
  }
}

export interface ChangeTarget {
  /** `slot` is the value followed by CHECKSUM_BYTES that the target may fill in. */
  put(key: Buffer, slot: Buffer): void;
  remove(key: Buffer): void;
  removeRange(from: Buffer, to: Buffer): void;
}

/** Applies a slice's changes in order. */
export function applyChanges(slice: Buffer, target: ChangeTarget): void {
  const reader = new ByteReader(slice);
  while (!reader.done) {
    const kind = reader.u8();
    const key = reader.bytes();
    if (kind === PUT) target.put(key, reader.raw(reader.varint() + CHECKSUM_BYTES));
    else if (kind === REMOVE) target.remove(key);
    else target.removeRange(key, reader.bytes());
  }
}
