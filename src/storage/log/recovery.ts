/**
 * Reading the log back: every record after the checkpoint, in order, and the verdict on its end.
 *
 * Where frames stop, recovery has to tell three things apart:
 *   the end      only zeros follow, or the file ends;
 *   a torn write a crash met a frame on its way: some of its sectors were never written (they read as
 *                zero), or it was written without waiting for the disk and no later frame claims that
 *                it got there. Nothing in it was acknowledged as safe: it is cut off and reported;
 *   damage       what was safe on disk has changed: every sector of the frame is there and the
 *                checksum is wrong, or a later frame or segment proves that it had been written.
 *                Recovery refuses, because only a person may decide to lose data.
 * Invariants: after a cut the file ends at the last whole frame, so stale bytes never pass for frames;
 * what was read is on disk, not only in the page cache, when recovery ends.
 * Damage before the checkpoint's position is harmless and only warned of.
 * Cost: one sequential read of the log after the checkpoint, two crc32 calls per frame.
 */
import { ByteReader } from '../../util/byte-writer.ts';
import type { Disk } from '../disk/disk.ts';
import { StorageError } from '../storage-error.ts';
import {
  countZeroSectors,
  FRAME_HEADER,
  type FrameHeader,
  frameSize,
  RECORD_HEADER,
  segmentStart,
} from './frame.ts';
import type { OldSegment } from './segment-allocator.ts';
import { type Finding, REPAIR_HINT, type Remains, SegmentReader } from './segment-reader.ts';

/** One record: its type, its body (valid during the call), and the log position after it. */
export type RecordVisitor = (type: number, body: ByteReader, position: number) => void;

export interface RecoveryOptions {
  readonly disk: Disk;
  readonly directory: string;
  /** The checkpoint's position: records that end at or before it are skipped. */
  readonly from: number;
  readonly visit: RecordVisitor;
  /** Bytes of segments read so far, and of all that are to be read; called after each frame. */
  readonly onProgress?: ((read: number, total: number) => void) | undefined;
}

export interface RecoveryReport {
  /** Where the log goes on: after the last whole record, or at the checkpoint when that is further. */
  readonly position: number;
  readonly frames: number;
  readonly records: number;
  /** Record bytes visited. */
  readonly bytes: number;
  /** The segments that are there, oldest first. */
  readonly segments: readonly OldSegment[];
  /** A write that a crash tore: nothing in it had been acknowledged as safe. */
  readonly cut: { readonly file: string; readonly offset: number; readonly bytes: number } | null;
  /** Whether the log was closed in order. */
  readonly clean: boolean;
  /** Things an operator should know, as sentences. */
  readonly warnings: readonly string[];
}

export async function recoverLog(options: RecoveryOptions): Promise<RecoveryReport> {
  return new Recovery(options).run();
}

/** The segments in a directory by start position. Names like ours that are not are refused. */
export async function listSegments(disk: Disk, directory: string): Promise<OldSegment[]> {
  const segments: OldSegment[] = [];
  for (const name of await disk.list(directory)) {
    const start = segmentStart(name);
    if (start !== null) segments.push({ name, start, bytes: 0 });
    else if (name.endsWith('.rlog')) {
      throw new StorageError(
        'FOREIGN_FILE',
        `${directory}/${name} ends in .rlog but has no log segment's name. Move it away.`,
        { file: `${directory}/${name}` },
      );
    }
  }
  return segments.sort((a, b) => a.start - b.start);
}

class Recovery {
  readonly #options: RecoveryOptions;
  readonly #body = new ByteReader(Buffer.alloc(0));
  readonly #warnings: string[] = [];
  readonly #checkBody: (header: FrameHeader) => boolean;
  #position = 0;
  #frames = 0;
  #records = 0;
  #bytes = 0;
  #clean = false;
  #cut: RecoveryReport['cut'] = null;
  /** Bytes of the segments that are done with, and of all. */
  #read = 0;
  #total = 0;

  constructor(options: RecoveryOptions) {
    this.#options = options;
    // A frame that ends before the checkpoint is only stepped over.
    this.#checkBody = (header) => header.position + header.bodyLength > options.from;
  }

  async run(): Promise<RecoveryReport> {
    const { disk, directory, from } = this.#options;
    const segments = await listSegments(disk, directory);
    const first = segments.findLastIndex((segment) => segment.start <= from);
    if (first < 0 && (segments.length > 0 || from > 0)) throw missing(directory, from, segments);
    this.#position = first < 0 ? from : segments[first].start;
    if (this.#options.onProgress !== undefined)
      await this.#measure(segments.slice(Math.max(first, 0)));
    for (let i = Math.max(first, 0); i < segments.length; i++) {
      await this.#segment(segments[i], segments[i + 1] ?? null);
    }
    if (this.#position < from) {
      this.#warnings.push(
        `The log ends at position ${this.#position}, before the checkpoint at ${from}, which holds ` +
          'everything. The log goes on from there.',
      );
      this.#position = from;
    }
    return {
      position: this.#position,
      frames: this.#frames,
      records: this.#records,
      bytes: this.#bytes,
      segments: segments.filter((segment) => segment.start < this.#position),
      cut: this.#cut,
      clean: this.#clean,
      warnings: this.#warnings,
    };
  }

  async #measure(segments: readonly OldSegment[]): Promise<void> {
    const { disk, directory } = this.#options;
    for (const { name } of segments) {
      const file = await disk.open(`${directory}/${name}`);
      try {
        this.#total += await file.size();
      } finally {
        await file.close();
      }
    }
  }

  async #segment(segment: OldSegment, next: OldSegment | null): Promise<void> {
    const { disk, directory, from } = this.#options;
    const reader = await SegmentReader.open(disk, directory, segment.name, segment.start);
    try {
      segment.bytes = reader.size;
      for (;;) {
        const finding = await reader.find(this.#checkBody);
        if (finding === 'frame' && this.#follows(reader)) {
          this.#frame(reader);
          this.#options.onProgress?.(this.#read + reader.offset, this.#total);
        } else if (next !== null && next.start === this.#position) {
          return;
        } else if (this.#position >= from || !(await this.#skip(reader))) {
          await this.#end(reader, finding, next);
          segment.bytes = Math.min(segment.bytes, reader.offset);
          return;
        }
      }
    } finally {
      this.#read += reader.size;
      await reader.close();
    }
  }

  /** Whether the frame is the next one; records missing before the checkpoint do no harm. */
  #follows(reader: SegmentReader): boolean {
    const { position } = reader.header;
    if (position <= this.#position || position > this.#options.from) {
      return position === this.#position;
    }
    this.#warnings.push(
      `${reader.path} misses positions ${this.#position} to ${position}, which the checkpoint holds.`,
    );
    this.#position = position;
    return true;
  }

  #frame(reader: SegmentReader): void {
    const { header } = reader;
    const end = header.position + header.bodyLength;
    if (end > this.#options.from) this.#visitRecords(reader, end);
    this.#position = end;
    this.#clean = header.records === 0;
    this.#frames++;
    reader.offset += reader.frameBytes;
  }

  #visitRecords(reader: SegmentReader, end: number): void {
    const { from, visit } = this.#options;
    const body = this.#body;
    const buffer = reader.window;
    let at = reader.at + FRAME_HEADER;
    let position = this.#position;
    body.buffer = buffer;
    while (position < end) {
      const length = buffer.readUInt32LE(at);
      const type = buffer[at + 4];
      at += RECORD_HEADER;
      position += RECORD_HEADER + length;
      if (position > end) throw damaged(reader, 'holds a record longer than its frame');
      if (position > from) {
        body.at = at;
        body.end = at + length;
        visit(type, body, position);
        this.#records++;
        this.#bytes += RECORD_HEADER + length;
      }
      at += length;
    }
  }

  /** Steps over damage that the checkpoint makes harmless; false when no frame before it follows. */
  async #skip(reader: SegmentReader): Promise<boolean> {
    const { from } = this.#options;
    const remains = await reader.examine(this.#position + 1);
    if (remains.frameAt === null) return false;
    if (remains.framePosition > from) throw damaged(reader, 'fails its checksum');
    this.#warnings.push(
      `${reader.path} is damaged at offset ${reader.offset}; the checkpoint at position ${from} ` +
        'holds what was there, so nothing is lost.',
    );
    reader.offset = remains.frameAt;
    this.#position = remains.framePosition;
    await reader.load(0);
    return true;
  }

  /** Frames stop here, and the next segment, if any, does not follow on. */
  async #end(reader: SegmentReader, finding: Finding, next: OldSegment | null): Promise<void> {
    const { directory, from } = this.#options;
    const remains = await reader.examine(this.#position);
    if (next !== null && next.start > from) {
      if (remains.end > reader.offset) throw damaged(reader, 'fails its checksum');
      throw new StorageError(
        'LOG_MISSING',
        `${directory} misses the log from position ${this.#position} to ${next.start}: a segment ` +
          `before ${next.name} was removed or cut. Put it back. ${REPAIR_HINT}`,
        { file: reader.path, offset: reader.offset },
      );
    }
    const how = await damage(reader, finding, remains, this.#position);
    if (how !== null) throw damaged(reader, how);
    if (remains.end > reader.offset) this.#noteCut(reader, finding, remains);
    if (next === null) {
      if (reader.size > reader.offset) await reader.file.truncate(reader.offset);
      // A process that was killed may have left frames that only the page cache holds: they have
      // been acknowledged, and what comes now relies on them.
      await reader.file.sync();
    }
  }

  #noteCut(reader: SegmentReader, finding: Finding, remains: Remains): void {
    const known = finding === 'bad body' || finding === 'cut short';
    const end = known
      ? Math.max(remains.end, Math.min(reader.offset + reader.frameBytes, reader.size))
      : remains.end;
    this.#cut = { file: reader.path, offset: reader.offset, bytes: end - reader.offset };
    this.#clean = false;
  }
}

/**
 * The verdict on what stands where frames stop in the last segment: how acknowledged data is damaged,
 * or null when it is the end or a torn write.
 */
export async function damage(
  reader: SegmentReader,
  finding: Finding,
  remains: Remains,
  position: number,
): Promise<string | null> {
  if (finding === 'frame') return 'stands at the wrong position';
  if (remains.provenDurable > position) {
    return 'fails its checksum, and later frames prove that it was whole';
  }
  if (finding === 'bad header') return 'has a header that fails its checksum';
  if (finding === 'bad body' && reader.header.through && !(await hasHoles(reader))) {
    return 'was written completely and fails its checksum';
  }
  return null;
}

/** Whether some sector of the frame was never written: it reads as zero and should not. */
async function hasHoles(reader: SegmentReader): Promise<boolean> {
  const size = frameSize(reader.header.bodyLength);
  await reader.load(size);
  const zero = countZeroSectors(reader.window, reader.at, reader.at + size);
  return zero > reader.header.zeroSectors;
}

function damaged(reader: SegmentReader, how: string): StorageError {
  return new StorageError(
    'LOG_DAMAGED',
    `The log is damaged in ${reader.path} at offset ${reader.offset}: the frame there ${how}. ` +
      REPAIR_HINT,
    { file: reader.path, offset: reader.offset },
  );
}

function missing(directory: string, from: number, segments: readonly OldSegment[]): StorageError {
  return new StorageError(
    'LOG_MISSING',
    segments.length === 0
      ? `The checkpoint in ${directory} stands at log position ${from}, but there is no log. ` +
          `Put the log-*.rlog files back. ${REPAIR_HINT}`
      : `The log in ${directory} begins at position ${segments[0].start}, but the checkpoint ends ` +
          `at ${from}: segments before ${segments[0].name} are missing. Put them back. ${REPAIR_HINT}`,
    { file: directory },
  );
}
