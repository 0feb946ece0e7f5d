/**
 * What a checkpoint keeps of a stream beside its blocks, and its form as bytes.
 */
import { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { scratch } from '../util/scratch.ts';
import type { Whole } from '../util/whole.ts';
import { StreamId } from './stream-id.ts';

export interface StreamMetadata {
  readonly lastId: StreamId;
  readonly firstId: StreamId;
  readonly maxDeletedId: StreamId;
  /** The last entry in any block, tombstones included: nothing is stored beyond it. */
  readonly lastPacked: StreamId;
  readonly length: number;
  readonly entriesAdded: Whole;
  /** What its nodes would take as Redis's listpacks. */
  readonly nodeBytes: number;
  readonly blocks: number;
  /** Redis's count of tree nodes; 0 without blocks. */
  readonly nodes: number;
  /** How the blocks lie (block-sections.ts); none when one section would do. */
  readonly sections: readonly StreamSection[];
}

/** Blocks that begin within [from, last], and what is in them. NaN = not known. */
export interface StreamSection {
  readonly from: StreamId;
  readonly last: StreamId;
  readonly blocks: number;
  readonly live: number;
  readonly bytes: number;
}

/**
 * Version 2 knew no sections. The latest is written only where entriesAdded is beyond 2^53: it is then
 * a whole number of 64 bits.
 */
const VERSION = 3;
const WITH_WIDE_COUNT = 4;
const BYTES = 1 + 4 * 16 + 5 * 8;

export function writeMetadata(metadata: StreamMetadata): Buffer {
  writer.clear();
  const { entriesAdded } = metadata;
  writer.u8(typeof entriesAdded === 'number' ? VERSION : WITH_WIDE_COUNT);
  metadata.lastId.encode(writer);
  metadata.firstId.encode(writer);
  metadata.maxDeletedId.encode(writer);
  metadata.lastPacked.encode(writer);
  writer.f64(metadata.length);
  if (typeof entriesAdded === 'number') writer.f64(entriesAdded);
  else writer.u64(entriesAdded);
  writer.f64(metadata.nodeBytes);
  writer.f64(metadata.blocks);
  writer.f64(metadata.nodes);
  for (const { from, last, blocks, live, bytes } of metadata.sections) {
    from.encode(writer);
    last.encode(writer);
    writer.u32(blocks);
    writer.f64(live);
    writer.f64(bytes);
  }
  return writer.toBuffer();
}

/** Throws RangeError where the bytes are damaged or of another version. */
export function readMetadata(bytes: Buffer): StreamMetadata {
  const reader = new ByteReader(bytes);
  const version = reader.u8();
  if (version < 2 || version > WITH_WIDE_COUNT) {
    throw new RangeError(
      `stream metadata has format ${version}, this program reads up to ${WITH_WIDE_COUNT}`,
    );
  }
  const counts = {
    lastId: new StreamId().decode(reader),
    firstId: new StreamId().decode(reader),
    maxDeletedId: new StreamId().decode(reader),
    lastPacked: new StreamId().decode(reader),
    length: reader.f64(),
    entriesAdded: version === WITH_WIDE_COUNT ? reader.u64() : wholeOf(reader.f64()),
    nodeBytes: reader.f64(),
    blocks: reader.f64(),
    nodes: reader.f64(),
  };
  const { length, entriesAdded, nodeBytes, blocks, nodes } = counts;
  const whole = [length, nodeBytes, blocks].every(Number.isSafeInteger);
  if (!whole || !Number.isSafeInteger(nodes)) {
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
  const sections = version === 2 ? [] : readSections(reader, counts);
  if (!reader.done) throw new RangeError('stream metadata is damaged: it is too long');
  return { ...counts, sections };
}

/** Version 3 kept numbers beyond 2^53 rounded. */
function wholeOf(value: number): Whole {
  if (!Number.isInteger(value)) {
    throw new RangeError('stream metadata is damaged: a count is no whole number');
  }
  return Number.isSafeInteger(value) ? value : BigInt(value);
}

function readSections(
  reader: ByteReader,
  { blocks, length, nodeBytes }: Omit<StreamMetadata, 'sections'>,
): StreamSection[] {
  const sections: StreamSection[] = [];
  const sums = { blocks: 0, live: 0, bytes: 0 };
  while (!reader.done) {
    const section = {
      from: new StreamId().decode(reader),
      last: new StreamId().decode(reader),
      blocks: reader.u32(),
      live: reader.f64(),
      bytes: reader.f64(),
    };
    const previous = sections.at(-1)?.last;
    const ascends = previous === undefined || previous.compare(section.from) < 0;
    if (!ascends || section.from.compare(section.last) > 0 || section.blocks === 0) {
      throw new RangeError('stream metadata is damaged: its sections do not ascend');
    }
    sums.blocks += section.blocks;
    sums.live += section.live;
    sums.bytes += section.bytes;
    sections.push(section);
  }
  if (sections.length === 0) return sections;
  // Sums are NaN where a section's share is not known.
  const differ = (sum: number, whole: number): boolean => !Number.isNaN(sum) && sum !== whole;
  if (sums.blocks !== blocks || differ(sums.live, length) || differ(sums.bytes, nodeBytes)) {
    throw new RangeError('stream metadata is damaged: its sections contradict its counts');
  }
  return sections;
}

/** One for all: a buffer per stream would be most of a checkpoint's garbage. */
const writer = scratch(new ByteWriter(BYTES));
