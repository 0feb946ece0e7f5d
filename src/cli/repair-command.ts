/**
 * `micro repair DIR [--apply] [--keep-after] [--drop-checkpoint]`: says what is wrong with a data
 * directory, and salvages what can be. Nothing is deleted: what is replaced is put aside.
 *
 * Exit code 0 when the directory is sound, or was made so; 1 when it is damaged or cannot be read.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { lockDirectory } from '../storage/directory-lock.ts';
import { LmdbCheckpoint } from '../storage/lmdb-checkpoint.ts';
import { realDisk } from '../storage/real-disk.ts';
import { describeInspection, inspect, salvage } from '../storage/repair.ts';
import { CHECKPOINT_DIRECTORY, FORMAT_FILE } from '../storage/store.ts';
import { fail } from './fail.ts';

const FLAGS = ['--apply', '--keep-after', '--drop-checkpoint'];

export async function repairCommand(args: readonly string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) {
    console.log(HELP);
    return;
  }
  const unknown = args.find((arg) => arg.startsWith('-') && !FLAGS.includes(arg));
  const [directory, ...more] = args.filter((arg) => !arg.startsWith('-'));
  if (unknown !== undefined) fail(`unknown flag '${unknown}'; micro repair --help lists the flags`);
  else if (directory === undefined || more.length > 0) fail('usage: micro repair DIR [--apply]');
  else if (!existsSync(join(directory, FORMAT_FILE))) {
    fail(`${directory} is not a data directory: it has no file ${FORMAT_FILE}`);
  } else await repair(resolve(directory), new Set(args));
}

async function repair(directory: string, flags: ReadonlySet<string>): Promise<void> {
  const lock = await lockDirectory(directory);
  try {
    const dropCheckpoint = flags.has('--drop-checkpoint');
    const from = dropCheckpoint ? 0 : await checkpointPosition(directory);
    const options = { disk: realDisk, directory, from };
    const inspection = await inspect(options);
    console.log(describeInspection(inspection));
    const damaged = inspection.faults.some(({ harmless }) => !harmless);
    if (!flags.has('--apply')) {
      if (damaged) process.exitCode = 1;
      return;
    }
    const stamp = new Date().toISOString().replace(/[:.]/g, '-');
    const keepAfter = flags.has('--keep-after');
    const report = await salvage({ ...options, keepAfter, stamp, dropCheckpoint });
    console.log(
      report.aside === null
        ? 'Nothing had to be changed.'
        : `Kept ${report.keptFrames} frames, dropped ${report.droppedFrames}; the log now ends at position ` +
            `${report.position}. What was replaced is in ${report.aside}.`,
    );
  } finally {
    await lock.release();
  }
}

/** Rejects, with a hint, where the checkpoint itself is damaged. */
async function checkpointPosition(directory: string): Promise<number> {
  const place = join(directory, CHECKPOINT_DIRECTORY);
  if (!existsSync(place)) return 0;
  try {
    const checkpoint = await LmdbCheckpoint.open(place);
    const { position } = checkpoint;
    await checkpoint.close();
    return position;
  } catch (error) {
    const { message } = error as Error;
    throw new Error(
      `${message} If the log reaches back to its start, --drop-checkpoint rebuilds from it.`,
    );
  }
}

const HELP = `Usage: micro repair DIR [--apply] [--keep-after] [--drop-checkpoint]

Reads the log and the checkpoint of a data directory and says what is damaged. No server may use the
directory meanwhile.

  --apply            make a consistent log of what stands before the damage; what is replaced is put
                     aside into DIR/damaged-<time>, nothing is deleted
  --keep-after       keep the whole frames after the damage too
  --drop-checkpoint  set a damaged checkpoint aside and rebuild from the whole log`;
