/**
 * A data directory under an embedded broker: the same as `micro server`'s, by the same code.
 *
 * The directory is locked for one process; brokers of this process that name the same directory
 * share it. Every publish is on disk before it is acknowledged.
 */

import { Checkpointer } from '../engine/checkpointer.ts';
import type { Engine } from '../engine/engine.ts';
import { Replay } from '../engine/replay.ts';
import { restoreCheckpoint } from '../engine/restore.ts';
import { streamReplayHandlers } from '../engine/stream-replay.ts';
import { RivuletError } from '../errors.ts';
import { lockDirectory } from '../storage/directory-lock.ts';
import { LmdbCheckpoint } from '../storage/lmdb-checkpoint.ts';
import { realDisk } from '../storage/real-disk.ts';
import { StorageError } from '../storage/storage-error.ts';
import { openStore, type Store } from '../storage/store.ts';
import { Random } from '../util/random.ts';
import type { EmbeddedStorage } from './embedded-engine.ts';
import type { Scheduler } from './scheduler.ts';

/** Rejects with CONNECTION_FAILED, or STORAGE_DAMAGED where data cannot be read. */
export async function openStorage(
  directory: string,
  scheduler: Scheduler,
): Promise<EmbeddedStorage> {
  try {
    const store = await openStore({
      disk: realDisk,
      directory,
      clock: scheduler,
      random: new Random(Math.floor(scheduler.fraction() * 0x1_0000_0000)),
      openCheckpoint: (place) => LmdbCheckpoint.open(place),
      lock: lockDirectory,
      policy: 'always',
    });
    return new DirectoryStorage(store, scheduler);
  } catch (error) {
    throw translated(directory, error);
  }
}

class DirectoryStorage implements EmbeddedStorage {
  onDurable = () => {};
  onFailure: (error: Error) => void = () => {};
  readonly #store: Store;
  readonly #scheduler: Scheduler;
  #checkpointer: Checkpointer | null = null;
  #engine: Engine | null = null;
  #closed = false;

  constructor(store: Store, scheduler: Scheduler) {
    this.#store = store;
    this.#scheduler = scheduler;
    store.log.onDurable = () => this.onDurable();
    store.log.onFatal = (error) => this.onFailure(error);
  }

  get journal() {
    return this.#store.log;
  }

  async recover(engine: Engine): Promise<void> {
    const store = this.#store;
    this.#engine = engine;
    this.#checkpointer = new Checkpointer(engine, {
      checkpoint: store.checkpoint,
      drainLog: () => store.log.drain(),
      pause: () => new Promise((resolve) => this.#scheduler.after(0, resolve)),
    });
    try {
      restoreCheckpoint(engine, this.#checkpointer);
      const replay = new Replay(engine, streamReplayHandlers);
      await store.recover((type, body) => replay.apply(type, body.raw(body.end - body.at)));
    } catch (error) {
      await store.close().catch(() => {});
      throw translated(store.directory, error);
    }
  }

  flush(): void {
    this.#store.log.flush();
  }

  housekeep(): void {
    if (this.#closed) return;
    this.#store.log.tick();
    this.#engine?.memory.tick();
    if (this.#checkpointer?.due) this.#checkpoint();
  }

  async close(): Promise<void> {
    this.#closed = true;
    // One that is under way uses the checkpoint's files.
    if (this.#checkpointer?.running) await this.#checkpointer.write().catch(() => {});
    await this.#store.close();
  }

  /** One that fails leaves the log as it is; the next one tries again. */
  #checkpoint(): void {
    this.#checkpointer
      ?.write()
      .then(() => this.#store.trim())
      .catch(() => {});
  }
}

const DAMAGE: ReadonlySet<string> = new Set([
  'LOG_DAMAGED',
  'LOG_MISSING',
  'NEWER_FORMAT',
  'FOREIGN_FILE',
  'CHECKPOINT_DAMAGED',
]);

function translated(directory: string, cause: unknown): RivuletError {
  const { code = '', message } = cause as StorageError;
  // Whatever else fails while records are read is a record that does not fit.
  const damaged = DAMAGE.has(code) || !(cause instanceof StorageError);
  return new RivuletError(
    damaged ? 'STORAGE_DAMAGED' : 'CONNECTION_FAILED',
    `cannot open the data directory ${directory}: ${message}`,
    { cause },
  );
}
