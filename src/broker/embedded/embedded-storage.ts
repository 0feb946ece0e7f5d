/**
 * A data directory under an embedded broker: the same as `micro server`'s, by the same code.
 *
 * The directory is locked for one process; brokers of this process that name the same directory
 * share it. Every publish is on disk before it is acknowledged.
 */
import { type DurableEngine, openDurableEngine } from '../../engine/open-durable-engine.ts';
import { RivuletError } from '../../errors.ts';
import { lockDirectory } from '../../storage/disk/directory-lock.ts';
import { realDisk } from '../../storage/disk/real-disk.ts';
import { LmdbCheckpoint } from '../../storage/lmdb/lmdb-checkpoint.ts';
import { StorageError } from '../../storage/storage-error.ts';
import { Random } from '../../util/random.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

/** Rejects with CONNECTION_FAILED, or STORAGE_DAMAGED where data cannot be read. */
export async function openStorage(directory: string, scheduler: Scheduler): Promise<DurableEngine> {
  try {
    return await openDurableEngine({
      disk: realDisk,
      directory,
      clock: scheduler,
      random: new Random(Math.floor(scheduler.fraction() * 0x1_0000_0000)),
      openCheckpoint: (place) => LmdbCheckpoint.open(place),
      lock: lockDirectory,
      pause: () => new Promise((resolve) => scheduler.after(0, resolve)),
      policy: 'always',
    });
  } catch (error) {
    throw translated(directory, error);
  }
}

const DAMAGE: ReadonlySet<string> = new Set([
  'LOG_DAMAGED',
  'LOG_MISSING',
  'NEWER_FORMAT',
  'FOREIGN_FILE',
  'FORMAT_DAMAGED',
  'CHECKPOINT_DAMAGED',
]);

function translated(directory: string, cause: unknown): RivuletError {
  const { code = '', message } = cause as StorageError;
  // Any other error comes from a record that cannot be applied.
  const damaged = DAMAGE.has(code) || !(cause instanceof StorageError);
  return new RivuletError(
    damaged ? 'STORAGE_DAMAGED' : 'CONNECTION_FAILED',
    `cannot open the data directory ${directory}: ${message}`,
    { cause },
  );
}
