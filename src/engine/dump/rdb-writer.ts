/**
 * Writes the primitives of Redis's RDB encoding: lengths, strings, times, ids (rdb-reader.ts).
 *
 * Strings are never compressed. Short ones that are 32-bit integers are written as such, as Redis
 * does. Cost: O(bytes).
 */
import type { StreamId } from '../../stream/stream-id.ts';
import { ByteWriter } from '../../util/byte-writer.ts';
import type { Whole } from '../../util/whole.ts';
import { integerIn } from './listpack.ts';
import { LENGTH_32, LENGTH_64 } from './rdb-reader.ts';

const TWO_32 = 0x1_0000_0000;
/** Only so short strings are looked at as integers. */
const INTEGER_TEXT = 11;
const ENCODED = 0xc0;

export class RdbWriter extends ByteWriter {
  /** Whole, from 0 to 2^64. */
  length64(high: number, low: number): void {
    this.ensure(9);
    const { buffer } = this;
    let at = this.length;
    if (high !== 0) {
      buffer[at++] = LENGTH_64;
      at = buffer.writeUInt32BE(high, at);
      at = buffer.writeUInt32BE(low, at);
    } else if (low < 64) buffer[at++] = low;
    else if (low < 16_384) {
      buffer[at++] = (low >> 8) | 64;
      buffer[at++] = low & 255;
    } else {
      buffer[at++] = LENGTH_32;
      at = buffer.writeUInt32BE(low, at);
    }
    this.length = at;
  }

  /** -1 is written as the greatest number there is, as C does. */
  count(value: Whole): void {
    if (typeof value === 'bigint') {
      const bits = BigInt.asUintN(64, value);
      this.length64(Number(bits >> 32n), Number(bits & 0xffff_ffffn));
      return;
    }
    if (value < 0) this.length64(TWO_32 - 1, TWO_32 - 1);
    else this.length64(Math.floor(value / TWO_32), value % TWO_32);
  }

  id(id: StreamId): void {
    this.length64(id.msHi, id.msLo);
    this.length64(id.seqHi, id.seqLo);
  }

  time(ms: number): void {
    this.ensure(8);
    this.buffer.writeUInt32LE(ms - Math.floor(ms / TWO_32) * TWO_32, this.length);
    this.buffer.writeInt32LE(Math.floor(ms / TWO_32), this.length + 4);
    this.length += 8;
  }

  string(bytes: Uint8Array): void {
    const value =
      bytes.length > 0 && bytes.length <= INTEGER_TEXT
        ? integerIn(bytes, 0, bytes.length)
        : undefined;
    if (typeof value === 'number' && value >= -0x8000_0000 && value <= 0x7fff_ffff) {
      this.#integer(value);
      return;
    }
    this.count(bytes.length);
    this.raw(bytes, 0, bytes.length);
  }

  #integer(value: number): void {
    this.ensure(5);
    const { buffer, length } = this;
    if (value >= -128 && value <= 127) {
      buffer[length] = ENCODED;
      this.length = buffer.writeInt8(value, length + 1);
    } else if (value >= -32_768 && value <= 32_767) {
      buffer[length] = ENCODED | 1;
      this.length = buffer.writeInt16LE(value, length + 1);
    } else {
      buffer[length] = ENCODED | 2;
      this.length = buffer.writeInt32LE(value, length + 1);
    }
  }
}
