/**
 * Variable-length integers inside a block: seven bits a byte, low bits first, top bit = more follows.
 *
 * Two widths: lengths and counts (below 2^31) and differences of ids (64 bits in two halves).
 * Cost: no allocation; the second half of a 64-bit read is left in `varintHi`.
 */

/** Writes a whole number below 2^32 and returns where it ends. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  while (value > 127) {
    bytes[at++] = (value & 127) | 128;
    value >>>= 7;
  }
  bytes[at++] = value;
  return at;
}

/** How many bytes writeVarint takes. */
export function varintBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  return value < 0x1000_0000 ? 4 : 5;
}

/** Writes the unsigned 64-bit number of these halves (at most ten bytes). */
export function writeVarint64(bytes: Uint8Array, at: number, hi: number, lo: number): number {
  while (hi !== 0) {
    bytes[at++] = (lo & 127) | 128;
    lo = ((hi << 25) | (lo >>> 7)) >>> 0;
    hi >>>= 7;
  }
  return writeVarint(bytes, at, lo);
}

/** The upper half of what readVarint64 read last. */
export let varintHi = 0;
/** Where the varint read last ended. */
export let varintEnd = 0;

/** Reads a number below 2^32; its end is left in `varintEnd`. */
export function readVarint(bytes: Uint8Array, at: number): number {
  let byte = bytes[at++];
  let value = byte & 127;
  let shift = 7;
  while (byte > 127 && shift < 35) {
    byte = bytes[at++];
    value |= (byte & 127) << shift;
    shift += 7;
  }
  varintEnd = at;
  return value >>> 0;
}

/** Reads a 64-bit number: returns its lower half, leaves the upper in `varintHi`, the end in `varintEnd`. */
export function readVarint64(bytes: Uint8Array, at: number): number {
  let lo = 0;
  let hi = 0;
  let shift = 0;
  let byte: number;
  do {
    byte = bytes[at++];
    const bits = byte & 127;
    if (shift < 28) lo |= bits << shift;
    else if (shift === 28) {
      lo |= bits << 28;
      hi = bits >>> 4;
    } else hi |= bits << (shift - 32);
    shift += 7;
  } while (byte > 127 && shift < 70);
  varintHi = hi >>> 0;
  varintEnd = at;
  return lo >>> 0;
}
