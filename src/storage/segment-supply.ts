/**
 * The log's files: which segments there are, and the next one prepared ahead of need.
 *
 * A segment is made under another name, filled with zeros on disk and only then renamed into place:
 * its blocks are allocated before the first frame comes (a write-through then costs 0.2 ms where a
 * growing file costs 0.5), and what has not been written reads as zero, on which recovery relies.
 * Invariant: a name log-<position>.rlog exists only with a valid header; at most one spare waits.
 * The zeros are written in small pieces, in step with what the log writes: all at once they would
 * make commits wait (p99 of a commit under full load was 4.4 ms, and is 0.8).
 * Space is claimed before it is needed: `refusal` says so while the log could not record more.
 */
import type { Random } from '../util/random.ts';
import { type Disk, type DiskFile, writeAll } from './disk.ts';
import { SECTOR, segmentHeader, segmentName } from './frame.ts';
import { describe, StorageError } from './storage-error.ts';

/** A segment being written. */
export interface Segment {
  readonly file: DiskFile;
  readonly start: number;
  /** Bytes that may be written, header included. */
  readonly size: number;
  readonly salt: number;
  readonly entry: OldSegment;
}

/** A segment as it stands in the directory. */
export interface OldSegment {
  readonly name: string;
  /** Position of its first record. */
  readonly start: number;
  /** Bytes on disk. */
  bytes: number;
}

export interface SegmentSupplyOptions {
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
/** The same while somebody waits for the segment. */
const URGENT_PIECE = 2 * 1024 * 1024;
/** The spare is filled in step with the segment in use, and ready when that is full to this share. */
const READY_AT = 0.75;
/** What is filled in any case from one tick to the next, ten times a second. */
const PER_TICK = 2 * PIECE;
const GROWTH = 4;
const RETRY_MS = 1000;
const LOOK_MS = 1000;
/** Effects may be larger than the commands that cause them, by no more than this unless they copy. */
const MARGIN = 64 * 1024;

/** A segment's header, and the mark of a clean end. */
const OVERHEAD = 2 * SECTOR;
const NO_SPACE = 'No space left on device';

export const SPARE_NAME = /^spare-\d+\.tmp$/;

export class SegmentSupply {
  readonly segments: OldSegment[] = [];
  readonly #options: SegmentSupplyOptions;
  readonly #margin: number;
  #nextBytes: number;
  #serial = 0;
  #spare: Spare | null = null;
  #preparing: Promise<void> | null = null;
  #preparingBytes = 0;
  #trouble: string | null = null;
  #triedAt = 0;
  #lookedAt = 0;
  #free = Number.POSITIVE_INFINITY;
  #closed = false;
  /** How much of the spare may be filled by now, in bytes, and who waits for that to rise. */
  #allowed = 0;
  #resume: (() => void) | null = null;
  /** Retired files being cut and closed. */
  readonly #retiring = new Set<Promise<void>>();

  constructor(options: SegmentSupplyOptions) {
    this.#options = options;
    this.#nextBytes = sectors(Math.min(options.firstBytes, options.fullBytes));
    this.#margin = Math.min(MARGIN, options.firstBytes / 4);
  }

  adopt(segments: readonly OldSegment[]): void {
    this.segments.push(...segments);
  }

  /** Why `bytes` gathered bytes could not be written, with `room` left in the current segment. */
  refusal(room: number, bytes: number): string | null {
    const needed = bytes + this.#margin;
    if (needed <= room) return null;
    const size = needed + OVERHEAD;
    if (this.#spare !== null && size <= this.#spare.size) return null;
    if (this.#preparing !== null && size <= this.#preparingBytes) return null;
    if (this.#trouble !== null) return this.#trouble;
    return size + this.#options.reserveBytes <= this.#free ? null : NO_SPACE;
  }

  /** What hinders, while something does. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** The log found no room, or the disk would not give it. `now` in monotonic milliseconds. */
  noteTrouble(error: unknown, now: number): void {
    this.#trouble = describe(error);
    this.#triedAt = now;
  }

  /** The segment in use has so much of its size taken: the next one is filled in step with it. */
  advance(share: number): void {
    if (this.#resume !== null) this.#allow((share / READY_AT) * this.#preparingBytes);
  }

  tick(now: number): void {
    if (this.#closed) return;
    if (this.#resume !== null) this.#allow(this.#allowed + PER_TICK);
    if (now - this.#lookedAt >= LOOK_MS) {
      this.#lookedAt = now;
      this.#look().catch(() => {});
    }
    if (this.#trouble !== null && now - this.#triedAt >= RETRY_MS) {
      this.#triedAt = now;
      if (this.#spare === null) this.#prepareSpare();
      else this.#trouble = null;
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
    const spare = fits ? this.#spare! : await this.#make(least);
    if (fits) this.#spare = null;
    const salt = random.uint32();
    const name = segmentName(start);
    try {
      await writeAll(spare.file, segmentHeader(start, salt), 0, true);
      await disk.rename(spare.path, `${directory}/${name}`);
      await disk.syncDirectory(directory);
    } catch (error) {
      await this.#discard(spare);
      throw error;
    }
    this.#trouble = null;
    // A segment too small for its very first frame is replaced by one of the same name.
    if (this.segments.at(-1)?.start === start) this.segments.pop();
    const entry = { name, start, bytes: spare.size };
    this.segments.push(entry);
    this.#nextBytes = Math.min(this.#nextBytes * GROWTH, sectors(this.#options.fullBytes));
    if (this.#spare === null) this.#prepareSpare();
    return { file: spare.file, start, size: spare.size, salt, entry };
  }

  /** Gives back what a full segment did not use, in the background; its contents are synced. */
  retire(segment: Segment, used: number): void {
    const done = this.#cut(segment, used).finally(() => this.#retiring.delete(done));
    this.#retiring.add(done);
  }

  /** Removes segments, oldest first, of which the next one starts at or before `position`. */
  async removeBefore(position: number): Promise<number> {
    const { disk, directory } = this.#options;
    let removed = 0;
    while (this.segments.length > 1 && this.segments[1].start <= position) {
      const [oldest] = this.segments.splice(0, 1);
      try {
        await disk.remove(`${directory}/${oldest.name}`);
      } catch (error) {
        this.segments.unshift(oldest);
        throw error;
      }
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
    this.#preparingBytes = this.#nextBytes;
    this.#allowed = PER_TICK;
    this.#preparing = this.#make(OVERHEAD, true).then(
      (spare) => {
        this.#preparing = null;
        this.#spare = spare;
        this.#trouble = null;
      },
      (error: unknown) => {
        this.#preparing = null;
        this.#trouble = describe(error);
      },
    );
  }

  async #make(least: number, paced = false): Promise<Spare> {
    const { disk, directory, reserveBytes } = this.#options;
    await this.#look();
    const available = this.#free - reserveBytes;
    // Rather a smaller segment than none: half of what there is, so that another one follows.
    const smallest = sectors(Math.max(least, OVERHEAD + 2 * this.#margin));
    const half = Math.floor(available / 2 / SECTOR) * SECTOR;
    const wanted = Math.max(smallest, this.#nextBytes);
    const size = wanted <= available ? wanted : Math.max(smallest, half);
    if (size > available) throw diskFull(directory);
    this.#preparingBytes = size;
    const path = `${directory}/spare-${this.#serial++}.tmp`;
    const spare = { file: await disk.open(path), path, size };
    try {
      await this.#fill(spare.file, size, paced);
    } catch (error) {
      await this.#discard(spare);
      throw error;
    }
    return spare;
  }

  async #fill(file: DiskFile, size: number, paced: boolean): Promise<void> {
    const zeros = Buffer.alloc(Math.min(paced ? PIECE : URGENT_PIECE, size));
    for (let at = 0; at < size && !this.#closed; at += zeros.length) {
      if (paced && at >= this.#allowed) {
        await new Promise<void>((resolve) => {
          this.#resume = resolve;
        });
      }
      const length = Math.min(zeros.length, size - at);
      await writeAll(file, length === zeros.length ? zeros : zeros.subarray(0, length), at, true);
    }
  }

  #allow(bytes: number): void {
    if (bytes <= this.#allowed) return;
    this.#allowed = bytes;
    const resume = this.#resume;
    this.#resume = null;
    resume?.();
  }

  async #look(): Promise<void> {
    this.#free = await this.#options.disk.freeBytes(this.#options.directory);
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
