/**
 * The log's files: the list of segments, and the next one prepared ahead of need.
 *
 * A segment is made under another name, filled with zeros on disk and only then renamed into place:
 * its blocks are allocated before the first frame comes (a write-through then costs 0.2 ms where a
 * growing file costs 0.5), and what has not been written reads as zero, on which recovery relies.
 * Invariant: a name log-<position>.rlog exists only with a valid header; at most one spare waits.
 * The zeros are written in small pieces, in step with what the log writes: all at once they would
 * make commits wait (p99 of a commit under full load was 4.4 ms, and is 0.8).
 * Space is claimed before it is needed: `refusal` says so while the log could not record more.
 */
import type { Random } from '../../util/random.ts';
import { type Disk, type DiskFile, writeAll } from '../disk/disk.ts';
import { describe, isNoSpace, StorageError, systemCode } from '../storage-error.ts';
import { SECTOR, segmentHeader, segmentName } from './frame.ts';

/** A segment being written. */
export interface Segment {
  readonly file: DiskFile;
  readonly start: number;
  /** Bytes that may be written, header included. */
  readonly size: number;
  readonly salt: number;
  readonly entry: OldSegment;
}

/** A segment in the directory. */
export interface OldSegment {
  readonly name: string;
  /** Position of its first record. */
  readonly start: number;
  /** Bytes on disk. */
  bytes: number;
}

export interface SegmentAllocatorOptions {
  readonly disk: Disk;
  readonly directory: string;
  readonly random: Random;
  readonly firstBytes: number;
  readonly fullBytes: number;
  /** Kept free on the file system, for the checkpoint, which is what frees the log's space. */
  readonly reserveBytes: number;
}

interface Spare {
  readonly file: DiskFile;
  readonly path: string;
  readonly size: number;
}

/** Zeros written and synced at a time: a commit waits behind no more than that. */
const PIECE = 256 * 1024;
/** The same while the log waits for the segment. */
const URGENT_PIECE = 2 * 1024 * 1024;
/** The spare is filled in step with the segment in use, and ready when that is full to this share. */
const READY_AT = 0.75;
/** What is filled in any case from one tick to the next, ten times a second. */
const PER_TICK = 2 * PIECE;
const GROWTH = 4;
const RETRY_MS = 1000;
const FREE_SPACE_MS = 1000;
/** Effects may be larger than the commands that cause them, by no more than this unless they copy. */
const MARGIN = 64 * 1024;

/** A segment's header, and the mark of a clean end. */
const OVERHEAD = 2 * SECTOR;
export const NO_SPACE = 'No space left on device';

export const SPARE_NAME = /^spare-\d+\.tmp$/;

export class SegmentAllocator {
  readonly segments: OldSegment[] = [];
  readonly #options: SegmentAllocatorOptions;
  readonly #margin: number;
  #nextBytes: number;
  #serial = 0;
  #spare: Spare | null = null;
  #preparing: Promise<void> | null = null;
  #preparingBytes = 0;
  /** Size of the segment that `open` has taken and not yet returned; 0 = none. */
  #openingBytes = 0;
  #error: string | null = null;
  #triedAt = 0;
  #freeReadAt = 0;
  /** Bytes that the disk has free, less those that files being made will still take. */
  #free = Number.POSITIVE_INFINITY;
  #unfilled = 0;
  #closed = false;
  /** How much of the spare may be filled by now, in bytes, and the resolver of the wait for more. */
  #allowed = 0;
  #resume: (() => void) | null = null;
  /** Retired files being cut and closed. */
  readonly #retiring = new Set<Promise<void>>();

  constructor(options: SegmentAllocatorOptions) {
    this.#options = options;
    this.#nextBytes = sectors(Math.min(options.firstBytes, options.fullBytes));
    this.#margin = Math.min(MARGIN, options.firstBytes / 4);
  }

  adopt(segments: readonly OldSegment[]): void {
    this.segments.push(...segments);
  }

  /** Whether `bytes` and a margin fit into the current segment, with `room` bytes left in it. */
  fits(room: number, bytes: number): boolean {
    return bytes + this.#margin + 2 * SECTOR <= room;
  }

  /**
   * Why these frames, which are to be written one after the other, could not be, with `room` left in
   * the current segment. The last one is still growing: it gets the margin. Each frame that does not
   * fit where the one before it went needs the next segment: first the spare, then one that is still
   * to be made of what the disk has free.
   */
  refusal(room: number, frames: readonly number[]): string | null {
    let left = room;
    // A segment that is just being opened for the first of them is neither the spare nor free.
    let spare =
      this.#openingBytes || this.#spare?.size || (this.#preparing && this.#preparingBytes);
    let free = this.#free - this.#options.reserveBytes;
    for (const [i, frame] of frames.entries()) {
      const size = i === frames.length - 1 ? sectors(frame + this.#margin) : frame;
      if (size <= left) {
        left -= size;
      } else if (spare !== null && size + OVERHEAD <= spare) {
        left = spare - OVERHEAD - size;
        spare = null;
      } else {
        if (this.#error !== null) return this.#error;
        free -= size + OVERHEAD;
        if (free < 0) return NO_SPACE;
        left = 0;
      }
    }
    return null;
  }

  /** Why the log cannot get a segment now; null when it can. */
  get error(): string | null {
    return this.#error;
  }

  /** The log found no room, or the disk refused a write. `now` in monotonic milliseconds. */
  noteError(error: unknown, now: number): void {
    this.#error = describe(error);
    this.#triedAt = now;
  }

  /** `share` of the segment in use is taken: the next one is filled in step with it. */
  advance(share: number): void {
    if (this.#resume !== null) this.#allow((share / READY_AT) * this.#preparingBytes);
  }

  tick(now: number): void {
    if (this.#closed) return;
    if (this.#resume !== null) this.#allow(this.#allowed + PER_TICK);
    if (now - this.#freeReadAt >= FREE_SPACE_MS) {
      this.#freeReadAt = now;
      void this.#readFreeSpace();
    }
    if (this.#error !== null && now - this.#triedAt >= RETRY_MS) {
      this.#triedAt = now;
      if (this.#spare === null) this.#prepareSpare();
      else this.#error = null;
    }
  }

  /** The segment for position `start`, with room for a frame of `frameBytes`; the name is on disk. */
  async open(start: number, frameBytes: number): Promise<Segment> {
    const least = OVERHEAD + frameBytes;
    if (this.#preparing !== null) {
      this.#allow(Number.POSITIVE_INFINITY);
      await this.#preparing;
    }
    const { disk, directory, random } = this.#options;
    const fits = this.#spare !== null && this.#spare.size >= least;
    const spare = fits ? this.#spare! : await this.#makeOrUseReserve(least, frameBytes > 0);
    if (fits) this.#spare = null;
    this.#openingBytes = spare.size;
    const salt = random.uint32();
    const name = segmentName(start);
    try {
      await writeAll(spare.file, segmentHeader(start, salt), 0, true);
      await disk.rename(spare.path, `${directory}/${name}`);
      await disk.syncDirectory(directory);
    } catch (error) {
      this.#openingBytes = 0;
      await this.#discard(spare);
      throw error;
    }
    this.#openingBytes = 0;
    this.#error = null;
    // A segment too small for its very first frame is replaced by one of the same name.
    if (this.segments.at(-1)?.start === start) this.segments.pop();
    const entry = { name, start, bytes: spare.size };
    this.segments.push(entry);
    this.#nextBytes = Math.min(this.#nextBytes * GROWTH, sectors(this.#options.fullBytes));
    if (this.#spare === null) this.#prepareSpare();
    return { file: spare.file, start, size: spare.size, salt, entry };
  }

  /** Truncates a full segment to what it uses, in the background; its contents are synced. */
  retire(segment: Segment, used: number): void {
    const done = this.#cut(segment, used).finally(() => this.#retiring.delete(done));
    this.#retiring.add(done);
  }

  /** Removes segments, oldest first, of which the next one starts at or before `position`. */
  async removeBefore(position: number): Promise<number> {
    const { disk, directory } = this.#options;
    let removed = 0;
    while (this.segments.length > 1 && this.segments[1].start <= position) {
      const [oldest] = this.segments;
      try {
        await disk.remove(`${directory}/${oldest.name}`);
      } catch (error) {
        // A file that is gone is removed: an operator, or a call that ran beside this one, did it.
        if (systemCode(error) !== 'ENOENT') throw error;
      }
      if (this.segments[0] === oldest) this.segments.shift();
      removed++;
    }
    return removed;
  }

  async close(segment: Segment | null, used: number): Promise<void> {
    this.#closed = true;
    this.#allow(Number.POSITIVE_INFINITY);
    await this.#preparing;
    await Promise.all(this.#retiring);
    if (this.#spare !== null) await this.#discard(this.#spare);
    this.#spare = null;
    if (segment !== null) await this.#cut(segment, used);
  }

  // A cut that fails costs space, nothing else.
  async #cut(segment: Segment, used: number): Promise<void> {
    try {
      await segment.file.truncate(used);
      segment.entry.bytes = used;
    } catch {}
    await segment.file.close().catch(() => {});
  }

  #prepareSpare(): void {
    if (this.#preparing !== null || this.#closed) return;
    this.#preparingBytes = 0;
    this.#allowed = PER_TICK;
    this.#preparing = this.#make(OVERHEAD, true).then(
      (spare) => {
        this.#preparing = null;
        this.#spare = spare;
        this.#error = null;
      },
      (error: unknown) => {
        this.#preparing = null;
        this.#error = describe(error);
      },
    );
  }

  /**
   * A frame whose room was promised to commands may use the reserve, when another program has taken
   * that room meanwhile: until the frame is written no client receives a reply.
   */
  async #makeOrUseReserve(least: number, isPromised: boolean): Promise<Spare> {
    try {
      return await this.#make(least);
    } catch (error) {
      if (!isNoSpace(error) || !isPromised) throw error;
      return this.#make(least, false, 0);
    }
  }

  async #make(
    least: number,
    paced = false,
    reserveBytes = this.#options.reserveBytes,
  ): Promise<Spare> {
    const { disk, directory } = this.#options;
    await this.#readFreeSpace();
    const available = this.#free - reserveBytes;
    // A smaller segment is better than none: half of what is free, so that another one fits later.
    const usable = reserveBytes === 0 ? least : Math.max(least, OVERHEAD + 2 * this.#margin);
    const smallest = sectors(usable);
    const half = Math.floor(available / 2 / SECTOR) * SECTOR;
    const wanted = Math.max(smallest, this.#nextBytes);
    const size = wanted <= available ? wanted : Math.max(smallest, half);
    if (size > available) throw diskFull(directory);
    if (paced) this.#preparingBytes = size;
    this.#free -= size;
    this.#unfilled += size;
    const path = `${directory}/spare-${this.#serial++}.tmp`;
    let left = size;
    const filled = (bytes: number): void => {
      left -= bytes;
      this.#unfilled -= bytes;
    };
    try {
      const spare = { file: await disk.open(path), path, size };
      try {
        await this.#fill(spare.file, size, paced, filled);
      } catch (error) {
        await this.#discard(spare);
        throw error;
      }
      return spare;
    } finally {
      filled(left);
    }
  }

  async #fill(
    file: DiskFile,
    size: number,
    paced: boolean,
    filled: (bytes: number) => void,
  ): Promise<void> {
    const zeros = Buffer.alloc(Math.min(paced ? PIECE : URGENT_PIECE, size));
    for (let at = 0; at < size && !this.#closed; at += zeros.length) {
      if (paced && at >= this.#allowed) {
        await new Promise<void>((resolve) => {
          this.#resume = resolve;
        });
      }
      const length = Math.min(zeros.length, size - at);
      await writeAll(file, length === zeros.length ? zeros : zeros.subarray(0, length), at, true);
      filled(length);
    }
  }

  #allow(bytes: number): void {
    if (bytes <= this.#allowed) return;
    this.#allowed = bytes;
    const resume = this.#resume;
    this.#resume = null;
    resume?.();
  }

  /** Where the file system does not say, what was known holds; a write that finds no room says so. */
  async #readFreeSpace(): Promise<void> {
    const before = this.#unfilled;
    try {
      const free = await this.#options.disk.freeBytes(this.#options.directory);
      this.#free = free - Math.max(before, this.#unfilled);
    } catch {}
  }

  async #discard(spare: Spare): Promise<void> {
    await spare.file.close().catch(() => {});
    await this.#options.disk.remove(spare.path).catch(() => {});
  }
}

function sectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR) * SECTOR;
}

function diskFull(directory: string): StorageError {
  return new StorageError('DISK_FULL', NO_SPACE, { file: directory });
}
