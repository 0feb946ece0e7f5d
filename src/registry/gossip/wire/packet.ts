/**
 * A datagram of memberlist: encryption, checksum, compression, and several messages in one.
 *
 * Invariants: `openPacket` throws nothing, whatever the bytes are: what it cannot read it refuses with a
 * reason, and the good messages of a datagram with a bad one are given; layers nest at most
 * `MAX_LAYERS` deep, all compressed parts of a datagram have at most `MAX_PLAIN_BYTES` together, and at
 * most `MAX_TAKEN` parts of a datagram are read, good and bad ones, on all layers together. Cost: linear
 * in what it holds.
 */
import { crc32 } from 'node:zlib';
import { decompressLzw } from './lzw.ts';
import {
  COMPOUND,
  COMPRESSED,
  CRC,
  decodeMessage,
  ENCRYPTED,
  Fields,
  type GossipMessage,
} from './messages.ts';
import { Malformed, RawReader, Truncated } from './raw-msgpack.ts';
import { SEAL_BYTES, type Sealer } from './seal.ts';

const MAX_LAYERS = 8;
const MAX_PLAIN_BYTES = 256 * 1024;
/** One datagram of memberlist has 255 messages in one layer, compressed as a whole. */
const MAX_TAKEN = 512;
const MAX_PARTS = 255;
/** memberlist's label, which names one of several rings on a network; ours have none. */
const LABEL = 244;
/** Versions of the protocol from this one on take a checksum. */
const CRC_VERSION = 5;
const CRC_BYTES = 5;
/** Type and number of the messages, and the length of each. */
const COMPOUND_BYTES = 2;
export const PART_BYTES = 2;

export interface OpenedPacket {
  readonly messages: GossipMessage[];
  /** Why something in it was refused; null where nothing was. */
  readonly refused: string | null;
}

export function openPacket(bytes: Uint8Array, sealer: Sealer | null): OpenedPacket {
  const opened = new Opening();
  try {
    const plain = sealer === null ? bytes : sealer.open(bytes);
    if (plain === null) throw new Malformed('it was not encrypted with the key of this ring');
    opened.take(withoutChecksum(plain), 0);
  } catch (error) {
    opened.refuse(error);
  }
  return opened;
}

/** The bytes that one datagram leaves for messages. */
export function roomOf(maxPacketBytes: number, sealer: Sealer | null): number {
  return maxPacketBytes - CRC_BYTES - COMPOUND_BYTES - (sealer === null ? 0 : SEAL_BYTES);
}

/** One datagram of encoded messages, at most 255; `peerVersion` is the newest protocol that the peer reads. */
export function sealPacket(
  parts: readonly Uint8Array[],
  peerVersion: number,
  sealer: Sealer | null,
): Uint8Array {
  let bytes = parts.length === 1 ? (parts[0] as Uint8Array) : compound(parts);
  if (peerVersion >= CRC_VERSION) {
    const head = Buffer.alloc(CRC_BYTES);
    head[0] = CRC;
    head.writeUInt32BE(crc32(bytes), 1);
    bytes = Buffer.concat([head, bytes]);
  }
  return sealer === null ? bytes : sealer.seal(bytes);
}

function compound(parts: readonly Uint8Array[]): Uint8Array {
  const head = Buffer.alloc(COMPOUND_BYTES + PART_BYTES * parts.length);
  head[0] = COMPOUND;
  head[1] = parts.length;
  for (const [index, part] of parts.entries()) {
    head.writeUInt16BE(part.length, COMPOUND_BYTES + PART_BYTES * index);
  }
  return Buffer.concat([head, ...parts]);
}

function withoutChecksum(bytes: Uint8Array): Uint8Array {
  if (bytes.length < CRC_BYTES || bytes[0] !== CRC) return bytes;
  const rest = bytes.subarray(CRC_BYTES);
  const expected = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).readUInt32BE(1);
  if (crc32(rest) !== expected) throw new Malformed('its checksum is wrong');
  return rest;
}

/** What a compressed message holds, at most `most` bytes. Throws `Malformed` or `Truncated`. */
function decompress(bytes: Uint8Array, most: number): Uint8Array {
  const fields = new Fields(new RawReader(bytes).value());
  return decompressed(fields, most);
}

export function decompressed(fields: Fields, most: number): Uint8Array {
  const algorithm = fields.count('Algo', 255);
  if (algorithm !== 0) throw new Malformed(`its compression ${algorithm} is not known`);
  return decompressLzw(fields.bytes('Buf'), most);
}

class Opening implements OpenedPacket {
  readonly messages: GossipMessage[] = [];
  refused: string | null = null;
  #plainLeft = MAX_PLAIN_BYTES;
  #taken = 0;

  take(bytes: Uint8Array, layer: number): void {
    this.#taken++;
    const type = bytes[0];
    if (type === undefined) throw new Malformed('it is empty');
    if (layer > MAX_LAYERS) throw new Malformed('it is nested too deeply');
    const rest = bytes.subarray(1);
    if (type === COMPOUND) this.#takeParts(rest, layer);
    else if (type === COMPRESSED) {
      const plain = decompress(rest, this.#plainLeft);
      this.#plainLeft -= plain.length;
      this.take(plain, layer + 1);
    } else if (type === LABEL) throw new Malformed('it has a label, and this ring has none');
    else if (type === ENCRYPTED || type === CRC) throw new Malformed('its layers are in no order');
    else this.messages.push(decodeMessage(type, rest));
  }

  refuse(error: unknown): void {
    if (!(error instanceof Malformed || error instanceof Truncated)) throw error;
    this.refused ??= error.message;
  }

  /** A part that cannot be read does not hide the others. */
  #takeParts(bytes: Uint8Array, layer: number): void {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const count = view[0] ?? 0;
    let offset = 1 + PART_BYTES * count;
    if (bytes.length < offset) throw new Truncated(offset);
    for (let index = 0; index < Math.min(count, MAX_PARTS); index++) {
      if (this.#taken >= MAX_TAKEN) throw new Malformed(`it has more than ${MAX_TAKEN} parts`);
      const end = offset + view.readUInt16BE(1 + PART_BYTES * index);
      if (end > bytes.length) throw new Truncated(end);
      try {
        this.take(bytes.subarray(offset, end), layer + 1);
      } catch (error) {
        this.refuse(error);
      }
      offset = end;
    }
  }
}
