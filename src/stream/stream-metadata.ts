/**
 * What a checkpoint keeps of a stream beside its blocks, and its form as bytes.
 */
import { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { StreamId } from './stream-id.ts';

export interface StreamMetadata {
  readonly lastId: StreamId;
  readonly firstId: StreamId;
  readonly maxDeletedId: StreamId;
  /** The last entry in any block, tombstones included: nothing is stored beyond it. */
  readonly lastPacked: StreamId;
  readonly length: number;
  readonly entriesAdded: number;
  /** What its nodes would take as Redis's listpacks. */
  readonly nodeBytes: number;
  readonly blocks: number;
  /** Redis's count of tree nodes; 0 without blocks. */
  readonly nodes: number;
}

const VERSION = 2;
const BYTES = 1 + 4 * 16 + 5 * 8;

export function writeMetadata(metadata: StreamMetadata): Buffer {
  writer.clear();
  writer.u8(VERSION);
  metadata.lastId.encode(writer);
  metadata.firstId.encode(writer);
  metadata.maxDeletedId.encode(writer);
  metadata.lastPacked.encode(writer);
  writer.f64(metadata.length);
  writer.f64(metadata.entriesAdded);
  writer.f64(metadata.nodeBytes);
  writer.f64(metadata.blocks);
  writer.f64(metadata.nodes);
  return writer.toBuffer();
}

/** Throws RangeError where the bytes are damaged or of another version. */
export function readMetadata(bytes: Buffer): StreamMetadata {
  const reader = new ByteReader(bytes);
  const version = reader.u8();
  if (version !== VERSION) {
    throw new RangeError(`stream metadata has format ${version}, this program reads ${VERSION}`);
  }
  const metadata = {
    lastId: new StreamId().decode(reader),
    firstId: new StreamId().decode(reader),
    maxDeletedId: new StreamId().decode(reader),
    lastPacked: new StreamId().decode(reader),
    length: reader.f64(),
    entriesAdded: reader.f64(),
    nodeBytes: reader.f64(),
    blocks: reader.f64(),
    nodes: reader.f64(),
  };
  const { length, entriesAdded, nodeBytes, blocks, nodes } = metadata;
  const whole = [length, nodeBytes, blocks].every(Number.isSafeInteger);
  // entriesAdded is what XSETID set, and may be anything up to 2^63.
  if (!whole || !Number.isInteger(entriesAdded) || !Number.isSafeInteger(nodes)) {
    throw new RangeError('stream metadata is damaged: a count is no whole number');
  }
  if (
    length < 0 ||
    nodeBytes < 0 ||
    entriesAdded < 0 ||
    blocks < 0 ||
    nodes < 0 ||
    (length > 0 && blocks === 0)
  ) {
    throw new RangeError('stream metadata is damaged: its counts contradict each other');
  }
  if (!reader.done) throw new RangeError('stream metadata is damaged: it is too long');
  return metadata;
}

/** One for all: a buffer per stream would be most of a checkpoint's garbage. */
const writer = new ByteWriter(BYTES);
