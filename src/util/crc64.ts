/**
 * CRC-64 as Redis's dumps carry it (polynomial of Jones, reflected, no final inversion), as two
 * 32-bit halves, because a BigInt per byte would cost a hundred times as much.
 *
 * Check value: of `123456789` it is e9c6d914c4b8d9ca. Cost: O(bytes), about 4 ns a byte.
 * Source: https://reveng.sourceforge.io/crc-catalogue/ (CRC-64/REDIS).
 */
const POLY_HIGH = 0x95ac9329;
const POLY_LOW = 0xac4bc9b5;

const tableHigh = new Int32Array(256);
const tableLow = new Int32Array(256);

for (let byte = 0; byte < 256; byte++) {
  let high = 0;
  let low = byte;
  for (let bit = 0; bit < 8; bit++) {
    const odd = low & 1;
    low = (low >>> 1) | (high << 31);
    high >>>= 1;
    if (odd !== 0) {
      high ^= POLY_HIGH;
      low ^= POLY_LOW;
    }
  }
  tableHigh[byte] = high;
  tableLow[byte] = low;
}

/** Writes the checksum of bytes [0, length) to `target` at `at`: eight bytes, little-endian. */
export function writeCrc64(bytes: Uint8Array, length: number, target: Buffer, at: number): void {
  let high = 0;
  let low = 0;
  for (let i = 0; i < length; i++) {
    const index = (low ^ bytes[i]) & 255;
    low = ((low >>> 8) | (high << 24)) ^ tableLow[index];
    high = (high >>> 8) ^ tableHigh[index];
  }
  target.writeInt32LE(low | 0, at);
  target.writeInt32LE(high | 0, at + 4);
}
