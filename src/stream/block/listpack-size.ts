/**
 * The arithmetic of Redis's listpack: how many bytes an element, an entry or a node takes there.
 *
 * Our blocks have another encoding, but they must end where Redis's nodes end, because
 * approximate trims remove whole nodes and XINFO counts them. So every append adds up what Redis
 * 7.0.15 would have written (listpack.c, streamAppendItem in t_stream.c):
 *
 *     node    header(6) count deleted num-fields field... 0  entry...  end(1)
 *     entry   flags ms-delta seq-delta [num-fields field] value...  lp-count
 *
 * where an element is its encoding and its length once more (1 to 5 bytes, to walk backwards), and
 * text that is a canonical int64 is stored as an integer.
 * Cost: O(1) for text (its first bytes decide), O(digits) for integers; no allocation.
 */

/** Header and terminator of an empty listpack. */
export const EMPTY_LISTPACK_BYTES = 7;
/** An integer of 0..127: one byte and its length. Flags, the terminating 0, small counts. */
export const SMALL_INTEGER_BYTES = 2;

/** The size of an element holding a non-negative whole number below 2^53. */
export function integerElementBytes(value: number): number {
  if (value <= 127) return 2;
  if (value <= 4095) return 3;
  if (value <= 32_767) return 4;
  if (value <= 8_388_607) return 5;
  if (value <= 2_147_483_647) return 6;
  return 10;
}

/**
 * The size of an element holding the 64-bit number of these halves, read as signed, as Redis stores
 * the difference between an id and the node's first id.
 */
export function int64ElementBytes(hi: number, lo: number): number {
  if (hi === 0) return integerElementBytes(lo);
  if (hi === 0xffff_ffff && lo >= 0x8000_0000) return negativeElementBytes(0x1_0000_0000 - lo);
  return 10;
}

/** The size of an element holding -magnitude, for a magnitude of 1 to 2^31. */
function negativeElementBytes(magnitude: number): number {
  if (magnitude <= 4096) return 3;
  if (magnitude <= 32_768) return 4;
  if (magnitude <= 8_388_608) return 5;
  return 6;
}

/** The size of an element holding these bytes. */
export function stringElementBytes(buffer: Uint8Array, from: number, length: number): number {
  if (length <= 20 && length > 0) {
    const first = buffer[from];
    if (first <= 57 && (first >= 48 || first === 45)) {
      const size = integerTextBytes(buffer, from, length);
      if (size !== 0) return size;
    }
  }
  if (length < 64) return length + 2;
  // Twelve bits of length, then thirty-two; the length that follows the data grows by itself.
  const encoded = length < 4096 ? length + 2 : length + 5;
  if (encoded <= 127) return encoded + 1;
  if (encoded < 16_383) return encoded + 2;
  if (encoded < 2_097_151) return encoded + 3;
  if (encoded < 268_435_455) return encoded + 4;
  return encoded + 5;
}

/** The size of the integer that this text is; 0 when it is no canonical int64. */
function integerTextBytes(buffer: Uint8Array, from: number, length: number): number {
  const end = from + length;
  const negative = buffer[from] === 45;
  let at = negative ? from + 1 : from;
  const digits = end - at;
  if (digits === 0) return 0;
  // No leading zeros, and no minus zero.
  if (buffer[at] === 48) return length === 1 ? SMALL_INTEGER_BYTES : 0;
  let value = 0;
  for (; at < end; at++) {
    const digit = buffer[at] - 48;
    if (digit < 0 || digit > 9) return 0;
    value = value * 10 + digit;
  }
  if (digits >= 19 && !fitsInt64(buffer, end - digits, digits, negative)) return 0;
  if (!negative) return integerElementBytes(value);
  return value <= 2_147_483_648 ? negativeElementBytes(value) : 10;
}

const INT64_MAX_DIGITS = '9223372036854775807';

function fitsInt64(buffer: Uint8Array, from: number, digits: number, negative: boolean): boolean {
  if (digits > 19) return false;
  for (let i = 0; i < 18; i++) {
    const difference = buffer[from + i] - INT64_MAX_DIGITS.charCodeAt(i);
    if (difference !== 0) return difference < 0;
  }
  return buffer[from + 18] <= (negative ? 56 : 55);
}
