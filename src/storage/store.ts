/**
 * A data directory, opened: lock, format, checkpoint, recovery and log as one object.
 *
 *   DIR/FORMAT               "rivulet data, format 1"
 *   DIR/log-<position>.rlog  segments of the log
 *   DIR/checkpoint/          LMDB's files
 *   DIR/lock-<pid>-<token>   the process that uses the directory
 *   DIR/damaged-<time>/      what `micro repair` has put aside
 *
 * Use: `const store = await openStore(...)`; give `store.log` to the engine as its journal; load
 * metadata from `store.checkpoint`; `await store.recover(visit)`; from then on the log takes records.
 * Invariant: after `recover` the records visited, on top of the checkpoint, are exactly what was
 * acknowledged before (and possibly whole frames that were written and not acknowledged yet).
 */
import { dirname } from 'node:path';
import type { Random } from '../util/random.ts';
import type { Clock } from '../util/time/clock.ts';
import type { Checkpoint } from './checkpoint.ts';
import { type Disk, writeAll } from './disk/disk.ts';
import { Log, type SyncPolicy } from './log/log.ts';
import { type RecordVisitor, type RecoveryReport, recoverLog } from './log/recovery.ts';
import { SPARE_NAME } from './log/segment-allocator.ts';
import { newerFormat } from './log/segment-reader.ts';
import { isNoSpace, StorageError, storageFailure, systemCode } from './storage-error.ts';

export interface StoreOptions {
  readonly disk: Disk;
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Opens the checkpoint in that directory (which exists): LmdbCheckpoint.open, or one in memory. */
  readonly openCheckpoint: (directory: string) => Promise<Checkpoint>;
  /** Takes the directory's lock: lockDirectory; left out in simulation. */
  readonly lock?: (directory: string) => Promise<Lock>;
  /** @default 'always' */
  readonly policy?: SyncPolicy;
  /** The following as in LogOptions. */
  readonly segmentBytes?: number;
  readonly firstSegmentBytes?: number;
  readonly reserveBytes?: number;
}

export interface Lock {
  release(): Promise<void>;
}

export const FORMAT_FILE = 'FORMAT';
export const CHECKPOINT_DIRECTORY = 'checkpoint';
const FORMAT = 1;

/** Locks and opens the directory, creating it where there is none. Rejects with StorageError. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { disk, directory } = options;
  let lock: Lock | null = null;
  let checkpoint: Checkpoint | null = null;
  try {
    if (options.lock === undefined) await disk.makeDirectory(directory);
    else lock = await options.lock(directory);
    await checkFormat(disk, directory);
    for (const name of await disk.list(directory)) {
      if (SPARE_NAME.test(name)) await disk.remove(`${directory}/${name}`);
    }
    const place = `${directory}/${CHECKPOINT_DIRECTORY}`;
    await disk.makeDirectory(place);
    checkpoint = await options.openCheckpoint(place);
    // The names of LMDB's files, of its directory, of the data directory, and of those it is made in.
    await disk.syncDirectory(place);
    await disk.syncDirectory(directory);
    for (const above of directoriesAbove(directory)) {
      await disk.syncDirectory(above).catch(ignoreRefusal);
    }
    return new Store(options, lock, checkpoint);
  } catch (error) {
    await checkpoint?.close().catch(() => {});
    await lock?.release();
    throw storageFailure(`open the data directory ${directory}`, directory, error);
  }
}

export class Store {
  readonly directory: string;
  readonly checkpoint: Checkpoint;
  /** Takes records once `recover` has resolved. */
  readonly log: Log;
  readonly #options: StoreOptions;
  readonly #lock: Lock | null;
  #recovered = false;

  /** @internal Use openStore. */
  constructor(options: StoreOptions, lock: Lock | null, checkpoint: Checkpoint) {
    this.directory = options.directory;
    this.checkpoint = checkpoint;
    this.log = new Log(options);
    this.#options = options;
    this.#lock = lock;
  }

  /**
   * Reads the log from the checkpoint's position on, in order, then starts the log after its end.
   * Rejects with StorageError when acknowledged data is damaged or missing; whatever `visit` throws
   * rejects it too.
   */
  async recover(
    visit: RecordVisitor,
    onProgress?: (read: number, total: number) => void,
  ): Promise<RecoveryReport> {
    if (this.#recovered) throw new Error('a store is recovered once');
    this.#recovered = true;
    const { disk, directory } = this.#options;
    const from = this.checkpoint.position;
    try {
      const report = await recoverLog({ disk, directory, from, visit, onProgress });
      await this.log.start(report.position, report.segments);
      return report;
    } catch (error) {
      throw storageFailure(
        `read the log in ${directory} and begin a new segment`,
        directory,
        error,
      );
    }
  }

  /**
   * After a checkpoint has been committed: gives back the log that it has made needless, and returns
   * how many segments that were.
   */
  trim(): Promise<number> {
    return this.log.truncateBefore(this.checkpoint.position);
  }

  /** Makes everything durable, closes log and checkpoint, gives up the directory. */
  async close(): Promise<void> {
    try {
      await this.log.close();
    } finally {
      try {
        await this.checkpoint.close();
      } finally {
        await this.#lock?.release();
      }
    }
  }
}

/** Every directory that the path names above `directory`, the nearest first. */
function directoriesAbove(directory: string): string[] {
  const above: string[] = [];
  for (let path = dirname(directory); path !== above.at(-1); path = dirname(path)) above.push(path);
  return above;
}

/** A directory above ours may be one that this user cannot open. */
function ignoreRefusal(error: unknown): void {
  if (!['EACCES', 'EPERM', 'EINVAL', 'EROFS'].includes(systemCode(error))) throw error;
}

/** Makes the file FORMAT where there is none. Rejects with NEWER_FORMAT or FOREIGN_FILE. */
export async function checkFormat(disk: Disk, directory: string): Promise<void> {
  const path = `${directory}/${FORMAT_FILE}`;
  const there = (await disk.list(directory)).includes(FORMAT_FILE);
  const file = await disk.open(path);
  try {
    const size = await file.size();
    const text = there ? (await file.read(0, Math.min(size, 100))).toString('latin1') : '';
    // Zeros: its length was on disk before its bytes when the power went.
    if (/[^\s\0]/.test(text)) {
      const version = /^rivulet data, format (\d+)\s*$/.exec(text)?.[1];
      if (version === undefined || Number(version) === 0) {
        const isOurs = resembles(text) && (await holdsData(disk, directory));
        throw isOurs ? damagedFormat(path, text) : foreign(path);
      }
      if (Number(version) > FORMAT) throw newerFormat(path, Number(version));
      return;
    }
    // New, or a crash came before the text was on disk.
    await writeAll(file, Buffer.from(`rivulet data, format ${FORMAT}\n`), 0, true);
    await disk.syncDirectory(directory);
  } catch (error) {
    if (!isNoSpace(error)) throw error;
    throw new StorageError(
      'DISK_FULL',
      `Cannot start a data directory in ${directory}: no space left on device.`,
      { file: path, cause: error },
    );
  } finally {
    await file.close();
  }
}

/** Whether at least half of the text is where our own has it. */
function resembles(text: string): boolean {
  const own = `rivulet data, format ${FORMAT}`;
  const same = [...own].filter((letter, i) => text[i] === letter).length;
  return same * 2 >= own.length;
}

/** Whether the directory holds a log or a checkpoint of ours. */
async function holdsData(disk: Disk, directory: string): Promise<boolean> {
  const names = await disk.list(directory);
  return names.some((name) => name === CHECKPOINT_DIRECTORY || /^log-.*\.rlog$/.test(name));
}

function damagedFormat(path: string, text: string): StorageError {
  return new StorageError(
    'FORMAT_DAMAGED',
    `${path} is damaged: it says ${JSON.stringify(text.trim().slice(0, 60))} and not ` +
      `"rivulet data, format ${FORMAT}". The log and the checkpoint beside it have checksums of ` +
      'their own: remove FORMAT and start again, and the server writes it and checks them.',
    { file: path },
  );
}

function foreign(path: string): StorageError {
  return new StorageError(
    'FOREIGN_FILE',
    `${path} is not a Rivulet data directory's. Choose another directory.`,
    { file: path },
  );
}
