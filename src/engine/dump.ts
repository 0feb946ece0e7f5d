/**
 * DUMP's payload: a value (value-codec.ts) with Redis's footer.
 *
 *     value · u16 version, little-endian · u64 crc64 of all before it, little-endian
 *
 * The version's high byte marks the payload as ours, so that neither server takes the other's.
 */
import { writeCrc64 } from '../util/crc64.ts';
import type { Value } from './key-entry.ts';
import { encodeValue } from './value-codec.ts';

const VERSION = 0x5201;
const FOOTER = 10;

export function dumpValue(value: Value): Buffer {
  const encoded = encodeValue(value);
  const payload = Buffer.allocUnsafeSlow(encoded.length + FOOTER);
  payload.set(encoded, 0);
  payload.writeUInt16LE(VERSION, encoded.length);
  writeCrc64(payload, encoded.length + 2, payload, encoded.length + 2);
  return payload;
}

/** The value's bytes, a view, in a payload whose version and checksum are right; null otherwise. */
export function openDump(payload: Buffer): Buffer | null {
  const end = payload.length - FOOTER;
  if (end < 0 || payload.readUInt16LE(end) !== VERSION) return null;
  writeCrc64(payload, end + 2, checksum, 0);
  return checksum.equals(payload.subarray(end + 2)) ? payload.subarray(0, end) : null;
}

const checksum = Buffer.alloc(8);
