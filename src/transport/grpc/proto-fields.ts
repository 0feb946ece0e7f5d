/**
 * The few protobuf fields that gRPC's error details need: varints and length-delimited ones.
 *
 * Invariant: reading malformed bytes ends with null, never with an exception or a hang. Cost: one pass.
 */

export type ProtoField = readonly [number: number, value: string | number | Uint8Array];

export function encodeFields(fields: readonly ProtoField[]): Buffer {
  const parts: Buffer[] = [];
  for (const [number, value] of fields) {
    if (typeof value === 'number') parts.push(varint(number << 3), varint(value));
    else {
      const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
      parts.push(varint((number << 3) | 2), varint(bytes.length), Buffer.from(bytes));
    }
  }
  return Buffer.concat(parts);
}

/** Fields in order, unknown wire types skipped; null for bytes that are no message. */
export function decodeFields(bytes: Uint8Array): [number, number | Uint8Array][] | null {
  const fields: [number, number | Uint8Array][] = [];
  let at = 0;
  const next = (): number => {
    let value = 0;
    for (let shift = 0; shift < 64; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) return Number.NaN;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return Number.NaN;
  };
  while (at < bytes.length) {
    const key = next();
    const type = key % 8;
    const number = Math.floor(key / 8);
    if (type === 0) {
      const value = next();
      if (Number.isNaN(value)) return null;
      fields.push([number, value]);
    } else if (type === 2) {
      const length = next();
      if (!(at + length <= bytes.length)) return null;
      fields.push([number, bytes.subarray(at, at + length)]);
      at += length;
    } else if (type === 1) at += 8;
    else if (type === 5) at += 4;
    else return null;
  }
  return fields;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  while (left >= 0x80) {
    bytes.push((left % 0x80) | 0x80);
    left = Math.floor(left / 0x80);
  }
  bytes.push(left);
  return Buffer.from(bytes);
}
