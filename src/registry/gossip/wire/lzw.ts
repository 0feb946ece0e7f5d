/**
 * LZW as Go's compress/lzw writes it for memberlist: least significant bit first, literals of 8 bits.
 *
 * Reading only: we never compress. Invariants: the output is at most `most` bytes, and a longer one is
 * refused before it is made; whatever the input is, the work is linear in the output. Throws `Malformed`.
 * Cost: two tables of 4096 entries for each call.
 */
import { Malformed } from './raw-msgpack.ts';

const LITERALS = 256;
const CLEAR = 256;
const END = 257;
const MAX_WIDTH = 12;
const TABLE = 1 << MAX_WIDTH;

export function decompressLzw(bytes: Uint8Array, most: number): Uint8Array {
  const prefix = new Uint16Array(TABLE);
  const suffix = new Uint8Array(TABLE);
  const lengths = new Uint16Array(TABLE);
  let output = Buffer.alloc(Math.min(most, Math.max(64, bytes.length * 4)));
  let size = 0;
  let width = 9;
  /** The last code that has an entry. */
  let high = END;
  let last = -1;
  let bits = 0;
  let count = 0;
  let at = 0;

  /** Makes room for as many bytes more. */
  const grow = (more: number) => {
    if (size + more > most) throw new Malformed(`it is longer than ${most} bytes`);
    if (size + more <= output.length) return;
    const larger = Buffer.alloc(Math.min(most, Math.max(size + more, output.length * 2)));
    output.copy(larger, 0, 0, size);
    output = larger;
  };
  /** Writes what a code means before `end`, backwards; gives its first byte. */
  const expand = (code: number, end: number): number => {
    let each = code;
    let place = end;
    while (each >= LITERALS) {
      output[--place] = suffix[each] as number;
      each = prefix[each] as number;
    }
    output[--place] = each;
    return each;
  };
  const lengthOf = (code: number) => (code < LITERALS ? 1 : (lengths[code] as number));

  for (;;) {
    while (count < width) {
      if (at >= bytes.length) throw new Malformed('it ends within its compressed form');
      bits |= (bytes[at++] as number) << count;
      count += 8;
    }
    const code = bits & ((1 << width) - 1);
    bits >>>= width;
    count -= width;
    if (code === END) return output.subarray(0, size);
    if (code === CLEAR) {
      width = 9;
      high = END;
      last = -1;
      continue;
    }
    let first: number;
    if (code < LITERALS || code <= high) {
      const length = lengthOf(code);
      grow(length);
      first = expand(code, size + length);
      size += length;
    } else if (code === high + 1 && last !== -1) {
      // The code that is being defined: the last one and its own first byte again.
      const length = lengthOf(last) + 1;
      grow(length);
      first = expand(last, size + length - 1);
      output[size + length - 1] = first;
      size += length;
    } else throw new Malformed('its compressed form has a code before its definition');
    if (last !== -1 && high + 1 < TABLE) {
      high++;
      prefix[high] = last;
      suffix[high] = first;
      lengths[high] = Math.min(0xffff, lengthOf(last) + 1);
    }
    if (high + 1 >= 1 << width && width < MAX_WIDTH) width++;
    last = code;
  }
}
