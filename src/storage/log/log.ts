/**
 * The write-ahead log: writes gathered records as frames with group commit, rolls segments.
 *
 *   begin/end ──> gathering ──flush──> frame ──one write at a time──> segment file
 *                     │ batches of whole commands                │
 *                     └──── gathers meanwhile                    └─> durable rises, onDurable
 *
 * Invariants: at most one frame is being written; `durable` rises only over bytes that a completed
 * write-through or sync covers; a segment is on disk completely before the next one gets a frame;
 * after a failed write or sync nothing is ever acknowledged again (`onFatal`), because the kernel may
 * have dropped the pages and said so only once. The same holds once memory is ahead of the log (`fail`).
 * Between two turns of the event loop only whole commands are gathered, so a frame may be sealed by
 * `flush` and by the completion of the frame before it.
 * Cost: a flush is one crc32 pass and one fs call. No promise or closure per record; a bound callback
 * and one object per frame.
 */
import type { ByteWriter } from '../../util/byte-writer.ts';
import type { Random } from '../../util/random.ts';
import type { Clock } from '../../util/time/clock.ts';
import { type Disk, writeAll } from '../disk/disk.ts';
import { describe, isPassing, StorageError } from '../storage-error.ts';
import { FRAME_HEADER, frameSize, MAX_BODY, SECTOR, sealFrame } from './frame.ts';
import { type Batch, Gathering, newBuffer } from './gathering.ts';
import type { Journal } from './journal.ts';
import { LatencyHistogram } from './latency-histogram.ts';
import { NO_SPACE, type OldSegment, type Segment, SegmentAllocator } from './segment-allocator.ts';

/** Redis's `appendfsync`. */
export type SyncPolicy = 'always' | 'everysec' | 'no';

export interface LogOptions {
  readonly disk: Disk;
  /** Holds the segments. */
  readonly directory: string;
  readonly clock: Clock;
  /** Salts the segments' checksums; seed it from real entropy in production. */
  readonly random: Random;
  /** @default 'always' */
  readonly policy?: SyncPolicy;
  /** Bytes of a full-grown segment. @default 64 MiB */
  readonly segmentBytes?: number;
  /** Bytes of the first segment; each next one is four times as large. @default 1 MiB */
  readonly firstSegmentBytes?: number;
  /** Bytes of the file system left free, so that a checkpoint can still be made. @default 16 MiB */
  readonly reserveBytes?: number;
  /** Size to which the two buffers shrink again after a large frame. @default 4 MiB */
  readonly keepBufferBytes?: number;
  /** Bytes from which a frame gets no further command. @default 16 MiB */
  readonly splitBytes?: number;
}

/** A sync that takes longer is reported as lagging, as Redis's aof_delayed_fsync. */
const SYNC_LAG_MS = 2000;
const SYNC_INTERVAL_MS = 1000;
const RETRY_MS = 1000;
/** A frame of this size gets no further command. */
const SPLIT_BYTES = 16 * 1024 * 1024;
/** The most that one command, or one MULTI, may record: a frame and its buffer stay below 2 GiB. */
const LARGEST_UNIT = 1.5 * 1024 ** 3;
/** Larger commands get memory for their records before they change anything. */
const RESERVED_FROM = 64 * 1024;

export class Log implements Journal {
  readonly enabled = true;
  /** Everything before this position survives power loss. */
  durable = 0;
  /** Called when `durable` has risen. Set by the shell; it releases the replies that waited. */
  onDurable: (position: number) => void = () => {};
  /** Called when a frame was written that `durable` does not cover yet: `backlog` has become less. */
  onWritten: () => void = () => {};
  /** Called once, when the disk has failed: the process must stop, it can acknowledge nothing more. */
  onFatal: (error: StorageError) => void = () => {};

  /** Milliseconds per durable write or sync. */
  readonly syncTimes = new LatencyHistogram();
  /** Frames and bytes written since the start, padding included. */
  frames = 0;
  bytesWritten = 0;
  /** How often a sync under `everysec` took more than two seconds. */
  delayedSyncs = 0;

  readonly #clock: Clock;
  readonly #segments: SegmentAllocator;
  #policy: SyncPolicy;

  #started = false;
  #closed = false;
  #fatal: StorageError | null = null;
  #refusal: string | null = 'the log has not been started';

  readonly #gathering: Gathering;

  #segment: Segment | null = null;
  /** Where the next frame goes in the current segment. */
  #offset = 0;
  /** The position after the last frame that was sealed. */
  #sealed = 0;
  /** The position after the last frame whose write has completed. */
  #written = 0;

  /** The frame being written: null when none is. */
  #frame: Batch | null = null;
  #frameBytes = 0;
  #frameThrough = false;
  #frameStarted = 0;
  /** No room for the frame now; `tick` tries again. */
  #outOfSpace = false;
  #outOfSpaceAt = 0;

  #opening: Promise<void> | null = null;
  #syncing: Promise<void> | null = null;
  #syncStarted = 0;
  #syncReported = false;
  /** A caller waits until everything before this is durable, whatever the policy. */
  #wanted = 0;
  #rotateWanted = false;
  readonly #waiters: Waiter[] = []; // ascending

  constructor(options: LogOptions) {
    this.#clock = options.clock;
    this.#policy = options.policy ?? 'always';
    this.#gathering = new Gathering(
      options.splitBytes ?? SPLIT_BYTES,
      options.keepBufferBytes ?? 4 * 1024 * 1024,
    );
    this.#segments = new SegmentAllocator({
      disk: options.disk,
      directory: options.directory,
      random: options.random,
      firstBytes: options.firstSegmentBytes ?? 1024 * 1024,
      fullBytes: options.segmentBytes ?? 64 * 1024 * 1024,
      reserveBytes: options.reserveBytes ?? 16 * 1024 * 1024,
    });
  }

  /**
   * Starts a new segment at `position`, after recovery. `segments` are the older ones that are still
   * there. With a full disk, or without a file descriptor, it resolves all the same, and `refusal` says so until there is room.
   */
  async start(position: number, segments: readonly OldSegment[] = []): Promise<void> {
    this.#gathering.start(position);
    this.durable = this.#sealed = this.#written = this.#wanted = position;
    this.#segments.adopt(segments);
    this.#started = true;
    this.#refusal = null;
    try {
      await this.#openSegment(0);
    } catch (error) {
      if (!isPassing(error)) throw error;
      this.#outOfSpaceAt = this.#clock.monotonic();
      this.#segments.noteError(error, this.#outOfSpaceAt);
    }
  }

  // Journal.

  /** The position after the last record that was ended. */
  get appended(): number {
    return this.#gathering.appended;
  }

  get gate(): number {
    return this.#gathering.appended;
  }

  get safe(): number {
    return this.#policy === 'always' ? this.durable : this.#written;
  }

  get refusal(): string | null {
    return this.refusalFor(0);
  }

  /**
   * Why a command with that many bytes of arguments cannot be recorded now; null when it can. The
   * frame on its way, what is gathered, the command and a margin for effects that are larger than
   * their commands have to fit into space that is ours already, or that the disk is known to have.
   */
  refusalFor(bytes: number): string | null {
    if (this.#refusal !== null) return this.#refusal;
    if (this.#outOfSpace) return this.#segments.error ?? NO_SPACE;
    const gathering = this.#gathering;
    if (gathering.unitBytes + bytes > LARGEST_UNIT) {
      return `a command records at most ${LARGEST_UNIT} bytes at once`;
    }
    if (bytes > RESERVED_FROM) {
      try {
        gathering.reserve(bytes);
      } catch {
        return `there is no memory to record ${bytes} bytes`;
      }
    }
    const filling = gathering.fillingBytes + bytes;
    const frame = this.#frame === null ? 0 : frameSize(this.#frame.writer.length - FRAME_HEADER);
    const room = this.#room();
    if (this.#segments.fits(room, frame + gathering.fullBytes + filling)) return null;
    return this.#segments.refusal(room, [frame, ...gathering.fullSizes(), filling]);
  }

  get unfinished(): boolean {
    return this.#gathering.unfinished;
  }

  get unitBytes(): number {
    return this.#gathering.unitBytes;
  }

  begin(type: number): ByteWriter {
    const gathering = this.#gathering;
    if (gathering.unfinished) {
      this.fail('record a change', new Error('a record was not ended'));
      throw this.#fatal;
    }
    return gathering.begin(type);
  }

  end(): void {
    this.#gathering.end();
  }

  boundary(): void {
    this.#gathering.boundary();
    if (this.#gathering.fullBytes > 0) this.flush();
  }

  fail(what: string, cause: unknown): void {
    this.#fail(what, cause, 'Memory holds what the log does not.');
  }

  // The shell's side.

  /** Record bytes still in memory: pause reading sockets when it grows beyond a limit. */
  get backlog(): number {
    return this.appended - this.#written;
  }

  /** Writes what was gathered, at once or when the frame on its way is done. Ends a loop turn. */
  flush(): void {
    if (this.#frame === null && this.#fatal === null) this.#seal();
  }

  /** Ten times a second or so: syncs under `everysec`, tries again when the disk was full. */
  tick(): void {
    if (!this.#started || this.#fatal !== null) return;
    const now = this.#clock.monotonic();
    if (this.#syncing !== null) {
      if (now - this.#syncStarted > SYNC_LAG_MS && !this.#syncReported) {
        this.#syncReported = true;
        this.delayedSyncs++;
      }
    } else if (
      this.#policy === 'everysec' &&
      this.#written > this.durable &&
      now - this.#syncStarted >= SYNC_INTERVAL_MS
    ) {
      this.#sync();
    }
    this.#segments.tick(now);
    if (this.#outOfSpace && now - this.#outOfSpaceAt >= RETRY_MS) {
      this.#outOfSpace = false;
      this.#place();
    } else if (
      this.#segment === null &&
      this.#frame === null &&
      now - this.#outOfSpaceAt >= RETRY_MS
    ) {
      this.#outOfSpaceAt = now;
      this.#openSegment(0).catch((error: unknown) => {
        if (isPassing(error)) this.#segments.noteError(error, now);
        else this.#fail('open a log segment', error);
      });
    }
  }

  get policy(): SyncPolicy {
    return this.#policy;
  }

  /** CONFIG SET appendfsync. Towards `always`, what was written and not synced is synced now. */
  setPolicy(policy: SyncPolicy): void {
    this.#policy = policy;
    if (policy === 'always') this.#settle();
  }

  /** True while a sync has been running for more than two seconds. */
  get syncLagging(): boolean {
    return this.#syncing !== null && this.#clock.monotonic() - this.#syncStarted > SYNC_LAG_MS;
  }

  /** For how long the disk has not answered a write or a sync, ms; 0 = none is waited for. */
  get unansweredMs(): number {
    const now = this.#clock.monotonic();
    const frame = this.#frame === null || this.#outOfSpace ? 0 : now - this.#frameStarted;
    return Math.max(frame, this.#syncing === null ? 0 : now - this.#syncStarted);
  }

  /**
   * Resolves when everything appended so far is on disk, whatever the policy. Rejects when the disk
   * has failed, or has no room for it now.
   */
  drain(): Promise<void> {
    if (this.#fatal !== null) return Promise.reject(this.#fatal);
    if (this.durable >= this.appended) return Promise.resolve();
    if (this.#outOfSpace) return Promise.reject(this.#noRoom());
    this.#wanted = this.appended;
    const position = this.appended;
    const waiting = new Promise<void>((resolve, reject) => {
      this.#waiters.push({ position, resolve, reject });
    });
    this.flush();
    this.#settle();
    return waiting;
  }

  /** Makes the next frame start a new segment, so that `truncateBefore` can remove the present one. */
  rotate(): void {
    this.#rotateWanted = true;
  }

  /** Removes segments that end at or before `position`, which a checkpoint has made needless. */
  truncateBefore(position: number): Promise<number> {
    return this.#segments.removeBefore(position);
  }

  /** Segments from oldest to current, and the bytes they take. */
  get segments(): readonly OldSegment[] {
    return this.#segments.segments;
  }

  /** Bytes of log that a restart would have to read from `position` (the last checkpoint) on. */
  bytesSince(position: number): number {
    return this.appended - Math.min(position, this.appended);
  }

  /**
   * Makes everything durable, marks the end as clean and gives unused space back. The log takes no
   * more records. Rejects when the disk has failed or what was gathered found no room.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (this.#fatal !== null) throw this.#fatal;
      if (this.#started) {
        if (this.#outOfSpace) throw this.#noRoom();
        await this.drain();
        await this.#opening;
        if (this.#segment !== null) await this.#markEnd(this.#segment);
      }
    } finally {
      this.#refusal ??= 'the log is closed';
      await this.#segments.close(this.#segment, this.#offset);
      this.#segment = null;
    }
  }

  // One frame at a time.

  /** Bytes left for frames; the last sector is kept for the mark of a clean end. */
  #room(): number {
    return this.#segment === null ? 0 : this.#segment.size - this.#offset - SECTOR;
  }

  /** Takes the oldest batch as the next frame, where there is one. No frame is on its way. */
  #seal(): void {
    if (this.#gathering.unfinished) {
      this.fail('record a change', new Error('a record was not ended'));
      return;
    }
    const batch = this.#gathering.take();
    if (batch === null) return;
    if (batch.writer.length - FRAME_HEADER > MAX_BODY) {
      this.fail('record a change', new Error(`${batch.writer.length} bytes are no frame`));
      return;
    }
    this.#frame = batch;
    this.#frameStarted = this.#clock.monotonic();
    this.#sealed = batch.end;
    this.#place();
  }

  /** Finds room for the frame: in this segment or, after opening it, in the next one. */
  #place(): void {
    const frame = this.#frame!;
    const size = frameSize(frame.writer.length - FRAME_HEADER);
    const rotate = this.#rotateWanted && this.#offset > SECTOR;
    if (this.#segment !== null && !rotate && size <= this.#room()) {
      this.#write(this.#segment, frame);
      return;
    }
    this.#openSegment(size).then(
      () => this.#place(),
      (error: unknown) => this.#failed('open a log segment', error),
    );
  }

  #write(segment: Segment, { writer, records }: Batch): void {
    const through = this.#policy === 'always';
    this.#frameThrough = through;
    this.#frameStarted = this.#clock.monotonic();
    this.#frameBytes = sealFrame(
      writer,
      segment.salt,
      records,
      this.#written,
      this.durable,
      through,
    );
    segment.file.write(writer.buffer, 0, this.#frameBytes, this.#offset, through, this.#frameDone);
  }

  readonly #frameDone = (error: Error | null): void => {
    if (error !== null) {
      this.#failed('write to the log', error);
      return;
    }
    // Once it has failed, the log acknowledges nothing more.
    if (this.#fatal !== null) return;
    const frame = this.#frame!;
    // A frame written through covers only itself: what an earlier policy left unsynced has to be
    // synced before `durable` may pass over it.
    const covered = this.#frameThrough && this.durable === this.#written;
    this.frames++;
    this.bytesWritten += this.#frameBytes;
    this.#offset += this.#frameBytes;
    this.#segments.advance(this.#offset / this.#segment!.size);
    this.#written = this.#sealed;
    this.#frame = null;
    this.#gathering.giveBack(frame.writer);
    if (covered) {
      this.syncTimes.record(this.#clock.monotonic() - this.#frameStarted);
      this.durable = this.#written;
    }
    // The next frame first: the disk should not wait while replies are written.
    this.#seal();
    if (covered) this.#announce();
    else this.onWritten();
    this.#settle();
  };

  /** No room, or no file descriptor: try again on a later tick. Anything else: the end. */
  #failed(what: string, error: unknown): void {
    if (!isPassing(error)) {
      this.#fail(what, error);
      return;
    }
    this.#outOfSpace = true;
    this.#outOfSpaceAt = this.#clock.monotonic();
    this.#segments.noteError(error, this.#outOfSpaceAt);
    // A checkpoint or a shutdown must not wait for room that may never come.
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#noRoom());
  }

  #noRoom(): StorageError {
    const why = this.#segments.error ?? NO_SPACE;
    return new StorageError(
      'DISK_FULL',
      `The last writes could not be recorded: ${lowerFirst(why)}. They were not acknowledged.`,
    );
  }

  #fail(what: string, error: unknown, advice = 'Check the disk.'): void {
    if (this.#fatal !== null) return;
    const fatal = new StorageError(
      'DISK_FAILED',
      `Could not ${what}: ${describe(error)}. Nothing that was not acknowledged yet will be. ` +
        `${advice} Start again: everything acknowledged is recovered from the log.`,
      { cause: error },
    );
    this.#fatal = fatal;
    this.#refusal = describe(error);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(fatal);
    this.onFatal(fatal);
  }

  /** Opens the next segment with room for a frame of `size` bytes. */
  #openSegment(size: number): Promise<void> {
    this.#opening ??= this.#open(size).finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #open(size: number): Promise<void> {
    const old = this.#segment;
    const used = this.#offset;
    if (old !== null) {
      // Nothing may be lost before what a later segment holds: recovery takes that for damage.
      await this.#syncing;
      if (this.#written > this.durable) await this.#sync();
      if (this.#fatal !== null) throw this.#fatal;
    }
    this.#segment = await this.#segments.open(this.#written, size);
    this.#offset = SECTOR;
    this.#rotateWanted = false;
    if (old !== null) this.#segments.retire(old, used);
  }

  // Durability by sync: `everysec`, changes of policy, drain.

  /** Syncs where a caller waits for it: the policy has become `always`, or `drain` was called. */
  #settle(): void {
    if (this.#syncing !== null || this.#fatal !== null || this.#written <= this.durable) return;
    if (this.#policy === 'always' || this.#wanted > this.durable) this.#sync();
  }

  #sync(): Promise<void> {
    const target = this.#written;
    this.#syncStarted = this.#clock.monotonic();
    this.#syncReported = false;
    this.#syncing = this.#segment!.file.sync().then(
      () => {
        this.#syncing = null;
        this.syncTimes.record(this.#clock.monotonic() - this.#syncStarted);
        // After a failed write the log acknowledges nothing, synced or not.
        if (this.#fatal !== null) return;
        if (target > this.durable) {
          this.durable = target;
          this.#announce();
        }
        this.#settle();
      },
      (error: unknown) => {
        this.#syncing = null;
        this.#fail('sync the log', error);
      },
    );
    return this.#syncing;
  }

  #announce(): void {
    const waiters = this.#waiters;
    while (waiters.length > 0 && waiters[0].position <= this.durable) waiters.shift()!.resolve();
    this.onDurable(this.durable);
  }

  /** An empty frame that says: everything before me was on disk. */
  async #markEnd(segment: Segment): Promise<void> {
    const mark = newBuffer();
    const size = sealFrame(mark, segment.salt, 0, this.#written, this.durable, true);
    await writeAll(segment.file, mark.buffer.subarray(0, size), this.#offset, true);
    this.#offset += size;
  }
}

interface Waiter {
  readonly position: number;
  resolve(): void;
  reject(error: StorageError): void;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
