/**
 * Whether a server could start from a data directory: what `micro repair` asks, as one answer.
 *
 * Invariant: nothing in the directory is changed.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { replayDry } from '../../engine/log/dry-replay.ts';
import { realDisk } from '../../storage/disk/real-disk.ts';
import { EmptyCheckpoint } from '../../storage/empty-checkpoint.ts';
import { LmdbCheckpoint } from '../../storage/lmdb/lmdb-checkpoint.ts';
import { inspect } from '../../storage/repair.ts';
import { CHECKPOINT_DIRECTORY, checkFormat } from '../../storage/store.ts';
import { systemClock } from '../../util/time/clock.ts';

export async function examineDirectory(
  directory: string,
): Promise<{ sound: boolean; reason: string }> {
  try {
    await checkFormat(realDisk, directory);
    const place = join(directory, CHECKPOINT_DIRECTORY);
    const checkpoint = existsSync(join(place, 'data.mdb'))
      ? await LmdbCheckpoint.open(place)
      : new EmptyCheckpoint();
    try {
      if (checkpoint instanceof LmdbCheckpoint) {
        const { damaged } = checkpoint.verify();
        if (damaged.length > 0) {
          return { sound: false, reason: `${damaged.length} values of the checkpoint are damaged` };
        }
      }
      const from = checkpoint.position;
      const { faults } = await inspect({ disk: realDisk, directory, from });
      const fault = faults.find(({ harmless }) => !harmless);
      if (fault !== undefined) return { sound: false, reason: JSON.stringify(fault) };
      const { error } = await replayDry(realDisk, directory, checkpoint, systemClock);
      return { sound: error === null, reason: error ?? '' };
    } finally {
      await checkpoint.close();
    }
  } catch (error) {
    return { sound: false, reason: (error as Error).message };
  }
}
