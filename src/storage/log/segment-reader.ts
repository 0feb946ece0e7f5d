/**
 * One segment, read front to back through a window of a few megabytes.
 *
 * Invariant: `header` describes the frame at `offset` only after `next` has returned 'frame'; its
 * bytes are then in `window` from `at` on, whole and checked.
 * Cost: one disk read per 4 MiB; a frame costs two crc32 calls and no allocation but views.
 */
import type { Disk, DiskFile } from '../disk/disk.ts';
import { StorageError } from '../storage-error.ts';
import {
  bodyIsWhole,
  FRAME_HEADER,
  type FrameHeader,
  frameSize,
  isZero,
  LOG_FORMAT,
  newFrameHeader,
  readFrameHeader,
  readSegmentHeader,
  SECTOR,
  type SegmentHeader,
} from './frame.ts';

const PIECE = 4 * 1024 * 1024;

/**
 * What the reader finds at an offset: a whole frame; nothing (the file ends or the sector is zero); a header
 * that fails its checksum; a frame that the file is too short for; a body that fails its checksum.
 */
export type Finding = 'frame' | 'nothing' | 'bad header' | 'cut short' | 'bad body';

/** What the sectors from an offset on contain, when there is no whole frame at it. */
export interface Remains {
  /** Where the last sector that is not zero ends; the offset itself when all are. */
  readonly end: number;
  /** The first later frame header that is valid, if any. */
  readonly frameAt: number | null;
  readonly framePosition: number;
  /** The highest position that a later frame says was on disk when it was written. */
  readonly provenDurable: number;
}

export class SegmentReader {
  readonly file: DiskFile;
  readonly name: string;
  readonly path: string;
  readonly size: number;
  readonly segment: SegmentHeader;
  readonly header: FrameHeader = newFrameHeader();
  window: Buffer;
  #windowAt: number;
  offset = SECTOR;

  private constructor(
    file: DiskFile,
    path: string,
    name: string,
    size: number,
    first: Buffer,
    segment: SegmentHeader,
  ) {
    this.file = file;
    this.path = path;
    this.name = name;
    this.size = size;
    this.window = first;
    this.#windowAt = 0;
    this.segment = segment;
  }

  /** Opens a segment and checks its header. Rejects with FOREIGN_FILE, NEWER_FORMAT or LOG_DAMAGED. */
  static async open(
    disk: Disk,
    directory: string,
    name: string,
    start: number,
  ): Promise<SegmentReader> {
    const path = `${directory}/${name}`;
    const file = await disk.open(path);
    try {
      const size = await file.size();
      const first = await file.read(0, Math.min(PIECE, size));
      return new SegmentReader(file, path, name, size, first, checkHeader(first, path, start));
    } catch (error) {
      await file.close().catch(() => {});
      throw error;
    }
  }

  /** Where in `window` the frame at `offset` begins. */
  get at(): number {
    return this.offset - this.#windowAt;
  }

  /** Bytes of the frame found, padding included. */
  get frameBytes(): number {
    return frameSize(this.header.bodyLength);
  }

  /** Looks at `offset`. The body is checked only where `checkBody` says so. */
  async find(checkBody: (header: FrameHeader) => boolean): Promise<Finding> {
    if (this.offset + FRAME_HEADER > this.size) return 'nothing';
    if (!this.#holds(SECTOR)) await this.load(SECTOR);
    if (!readFrameHeader(this.window, this.at, this.segment.salt, this.header)) {
      const end = Math.min(this.at + SECTOR, this.window.length);
      return isZero(this.window, this.at, end) ? 'nothing' : 'bad header';
    }
    if (this.header.version > LOG_FORMAT) throw newerFormat(this.path, this.header.version);
    if (this.offset + FRAME_HEADER + this.header.bodyLength > this.size) return 'cut short';
    if (!checkBody(this.header)) return 'frame';
    if (!this.#holds(this.frameBytes)) await this.load(this.frameBytes);
    return bodyIsWhole(this.window, this.at, this.header) ? 'frame' : 'bad body';
  }

  #holds(length: number): boolean {
    const at = this.offset - this.#windowAt;
    return at >= 0 && at + Math.min(length, this.size - this.offset) <= this.window.length;
  }

  /** Moves the window so that it begins at `offset` and holds `length` bytes, as far as there are. */
  async load(length: number): Promise<void> {
    const wanted = Math.min(Math.max(length, PIECE), this.size - this.offset);
    this.window = await this.file.read(this.offset, wanted);
    this.#windowAt = this.offset;
  }

  /** Looks through everything after the sector at `offset`; the reader's offset stays. */
  async examine(position: number): Promise<Remains> {
    const start = this.offset;
    const header = newFrameHeader();
    let end = start;
    let frameAt: number | null = null;
    let framePosition = 0;
    let provenDurable = 0;
    for (let at = start; at < this.size; at += PIECE) {
      const piece = await this.file.read(at, Math.min(PIECE, this.size - at));
      if (piece.equals(ZEROS.subarray(0, piece.length))) continue;
      for (let i = 0; i < piece.length; i += SECTOR) {
        const stop = Math.min(i + SECTOR, piece.length);
        if (isZero(piece, i, stop)) continue;
        end = at + stop;
        if (at + i === start || !readFrameHeader(piece, i, this.segment.salt, header)) continue;
        if (header.position < position) continue;
        if (frameAt === null) {
          frameAt = at + i;
          framePosition = header.position;
        }
        provenDurable = Math.max(provenDurable, header.durable);
      }
    }
    return { end, frameAt, framePosition, provenDurable };
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

const ZEROS = Buffer.alloc(PIECE);

function checkHeader(first: Buffer, path: string, start: number): SegmentHeader {
  const header = readSegmentHeader(first.subarray(0, SECTOR));
  if (header === 'foreign') {
    throw new StorageError(
      'FOREIGN_FILE',
      `${path} has a log segment's name but is not one. Move it away, or give the right directory.`,
      { file: path, offset: 0 },
    );
  }
  if (header === 'damaged') {
    throw new StorageError(
      'LOG_DAMAGED',
      `The header of the log segment ${path} is damaged (checksum). ${REPAIR_HINT}`,
      { file: path, offset: 0 },
    );
  }
  if (header.version > LOG_FORMAT) throw newerFormat(path, header.version);
  if (header.start !== start) {
    throw new StorageError(
      'FOREIGN_FILE',
      `${path} holds the log from position ${header.start}, not the one in its name. ` +
        'It has been renamed; give it back its name.',
      { file: path, offset: 0 },
    );
  }
  return header;
}

export const REPAIR_HINT =
  'Nothing was changed. `micro repair DIR` shows what is left and can salvage it.';

export function newerFormat(path: string, version: number): StorageError {
  return new StorageError(
    'NEWER_FORMAT',
    `${path} was written in format ${version} by a newer version; this one knows up to format ` +
      `${LOG_FORMAT}. Start the newer version on this directory.`,
    { file: path },
  );
}
