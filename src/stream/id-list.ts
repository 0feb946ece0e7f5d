/**
 * A reusable list of stream ids: what XACK, XDEL, XCLAIM and a delivery carry from the parser to the
 * structures and into the log.
 *
 * Holds: four unsigned 32-bit words per id in one typed array that only grows.
 * Invariant: ids are in the order in which they were pushed; duplicates are allowed.
 * Cost: no allocation once it has grown to the largest list seen; two to four bytes per id in the
 * log where ids ascend, seventeen where they do not.
 */
import type { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { StreamId } from './stream-id.ts';

/** How an encoded id relates to the one before it. */
const WHOLE = 0;
const SAME_MS = 1;
const LATER_MS = 2;

export class IdList {
  count = 0;
  #words = new Uint32Array(4 * 128);
  readonly #id = new StreamId();

  clear(): this {
    this.count = 0;
    return this;
  }

  push(id: StreamId): void {
    const at = this.count * 4;
    if (at === this.#words.length) this.#grow();
    const words = this.#words;
    words[at] = id.msHi;
    words[at + 1] = id.msLo;
    words[at + 2] = id.seqHi;
    words[at + 3] = id.seqLo;
    this.count++;
  }

  /** Copies the id at `index` into `id` and returns it. */
  get(index: number, id: StreamId): StreamId {
    const at = index * 4;
    const words = this.#words;
    id.msHi = words[at];
    id.msLo = words[at + 1];
    id.seqHi = words[at + 2];
    id.seqLo = words[at + 3];
    return id;
  }

  /** A list of the same ids, no larger than they need. */
  clone(): IdList {
    const copy = new IdList();
    copy.#words = this.#words.slice(0, Math.max(4, this.count * 4));
    copy.count = this.count;
    return copy;
  }

  encode(writer: ByteWriter): void {
    writer.varint(this.count);
    const words = this.#words;
    for (let i = 0; i < this.count; i++) {
      const at = i * 4;
      if (i > 0 && words[at] === words[at - 4] && words[at + 2] === words[at - 2]) {
        if (words[at + 1] === words[at - 3] && words[at + 3] >= words[at - 1]) {
          writer.u8(SAME_MS);
          writer.varint(words[at + 3] - words[at - 1]);
          continue;
        }
        if (words[at + 1] > words[at - 3]) {
          writer.u8(LATER_MS);
          writer.varint(words[at + 1] - words[at - 3]);
          writer.varint(words[at + 3]);
          continue;
        }
      }
      writer.u8(WHOLE);
      this.get(i, this.#id).encode(writer);
    }
  }

  /** Replaces the content by what `encode` wrote. Throws RangeError on anything else. */
  decode(reader: ByteReader): this {
    this.clear();
    const id = this.#id;
    const count = reader.varint();
    for (let i = 0; i < count; i++) {
      const kind = reader.u8();
      if (kind === WHOLE) id.decode(reader);
      else if (i > 0 && kind === SAME_MS) id.seqLo += reader.varint();
      else if (i > 0 && kind === LATER_MS) {
        id.msLo += reader.varint();
        id.seqLo = reader.varint();
      } else throw new RangeError(`unknown kind ${kind} of id in a list`);
      this.push(id);
    }
    return this;
  }

  #grow(): void {
    const words = new Uint32Array(this.#words.length * 2);
    words.set(this.#words);
    this.#words = words;
  }
}
