/**
 * `micro repair DIR [--apply] [--keep-after] [--drop-checkpoint] [--json]`: says what is wrong with a
 * data directory, and salvages what can be. Nothing is deleted: what is replaced is put aside.
 *
 * Exit code 0 when the directory is sound, or was made so; 1 when it is damaged or cannot be read; 3 when it is
 * no data directory.
 */
import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describeName } from '../../engine/checkpoint/describe-checkpoint-key.ts';
import { type DryReplay, replayDry } from '../../engine/log/dry-replay.ts';
import { lockDirectory } from '../../storage/disk/directory-lock.ts';
import { realDisk } from '../../storage/disk/real-disk.ts';
import { EmptyCheckpoint } from '../../storage/empty-checkpoint.ts';
import { LmdbCheckpoint } from '../../storage/lmdb/lmdb-checkpoint.ts';
import {
  describeInspection,
  type Inspection,
  inspect,
  type SalvageReport,
  salvage,
} from '../../storage/repair.ts';
import { CHECKPOINT_DIRECTORY, checkFormat, FORMAT_FILE } from '../../storage/store.ts';
import { systemClock } from '../../util/time/clock.ts';
import { notFound, usage } from '../exit-code.ts';

const FLAGS = ['--apply', '--keep-after', '--drop-checkpoint', '--json'];

export async function repairCommand(args: readonly string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) {
    console.log(HELP);
    return;
  }
  const unknown = args.find((arg) => arg.startsWith('-') && !FLAGS.includes(arg));
  const [directory, ...more] = args.filter((arg) => !arg.startsWith('-'));
  if (unknown !== undefined) {
    throw usage(`unknown flag '${unknown}'; micro repair --help lists the flags`);
  }
  if (directory === undefined || more.length > 0) throw usage('usage: micro repair DIR [--apply]');
  if (!existsSync(join(directory, FORMAT_FILE))) {
    throw notFound(`${directory} is not a data directory: it has no file ${FORMAT_FILE}`);
  }
  await repair(resolve(directory), new Set(args));
}

/** What is found, and with --apply done; as --json prints it. */
interface Report {
  readonly directory: string;
  readonly checkpoint: CheckpointReport;
  readonly log: Inspection;
  /** Whether a server could start from it; null where damage was found before that was tried. */
  readonly replay: DryReplay | null;
  /** Nothing that was acknowledged is damaged, and a server can start. */
  readonly sound: boolean;
  /** null without --apply. */
  readonly salvage: SalvageReport | null;
}

interface CheckpointReport {
  readonly position: number;
  readonly values: number;
  /** The damaged values: their keys in hexadecimal, and what they are. */
  readonly damaged: readonly { readonly key: string; readonly what: string }[];
}

async function repair(directory: string, flags: ReadonlySet<string>): Promise<void> {
  const lock = await lockDirectory(directory);
  try {
    await checkFormat(realDisk, directory);
    const dropCheckpoint = flags.has('--drop-checkpoint');
    const checkpoint = dropCheckpoint ? NO_CHECKPOINT : await inspectCheckpoint(directory);
    const options = { disk: realDisk, directory, from: checkpoint.position };
    const log = await inspect(options);
    const whole = checkpoint.damaged.length === 0 && log.faults.every((fault) => fault.harmless);
    const replay = whole ? await tryToStart(directory, dropCheckpoint) : null;
    const sound = replay !== null && replay.error === null;
    const found: Report = { directory, checkpoint, log, replay, sound, salvage: null };
    if (!flags.has('--json')) console.log(describe(found));
    let report = found;
    if (flags.has('--apply')) {
      const stamp = new Date().toISOString().replace(/[:.]/g, '-');
      const keepAfter = flags.has('--keep-after');
      const done = await salvage({ ...options, keepAfter, stamp, dropCheckpoint });
      const after = await tryToStart(directory, false);
      report = { ...found, replay: after, salvage: done };
      if (after.error !== null && !flags.has('--json')) console.log(describeReplay(after));
      if (!flags.has('--json')) console.log(describeSalvage(done));
    }
    if (flags.has('--json')) console.log(JSON.stringify(report, omitPlaces, 2));
    const stillDamaged = report.salvage === null ? !sound : checkpoint.damaged.length > 0;
    if (stillDamaged || (report.replay !== null && report.replay.error !== null))
      process.exitCode = 1;
  } finally {
    await lock.release();
  }
}

const NO_CHECKPOINT: CheckpointReport = { position: 0, values: 0, damaged: [] };

/** Replays the directory as a start would, and changes nothing in it. */
async function tryToStart(directory: string, withoutCheckpoint: boolean): Promise<DryReplay> {
  const place = join(directory, CHECKPOINT_DIRECTORY);
  const isThere = !withoutCheckpoint && existsSync(join(place, 'data.mdb'));
  try {
    const checkpoint = isThere ? await LmdbCheckpoint.open(place) : new EmptyCheckpoint();
    try {
      return await replayDry(realDisk, directory, checkpoint, systemClock);
    } finally {
      await checkpoint.close();
    }
  } catch (error) {
    return { keys: 0, records: 0, error: (error as Error).message };
  }
}

/** Rejects, with a hint, where the checkpoint cannot be opened or its tree cannot be walked. */
async function inspectCheckpoint(directory: string): Promise<CheckpointReport> {
  const place = join(directory, CHECKPOINT_DIRECTORY);
  const file = join(place, 'data.mdb');
  if (!existsSync(file) || statSync(file).size === 0) return NO_CHECKPOINT;
  try {
    const checkpoint = await LmdbCheckpoint.open(place);
    try {
      const { values, damaged } = checkpoint.verify();
      return {
        position: checkpoint.position,
        values,
        damaged: damaged.map((key) => ({ key: key.toString('hex'), what: describeName(key) })),
      };
    } finally {
      await checkpoint.close();
    }
  } catch (error) {
    throw new Error(`${(error as Error).message} ${DROP_HINT}`, { cause: error });
  }
}

const DROP_HINT =
  'If the log reaches back to its start, --apply --drop-checkpoint rebuilds from it.';
const SHOWN = 20;

function describeReplay({ keys, records, error }: DryReplay): string {
  if (error === null) {
    return `A server can start from it: ${keys} keys of the checkpoint, ${records} records replayed.`;
  }
  return (
    `  DAMAGE: no server can start from it: ${error}\n` +
    'What is stored passes its checksums and does not fit together. Restore a backup, and report it.'
  );
}

function describe({ checkpoint, log, replay }: Report): string {
  const { damaged, values } = checkpoint;
  const lines = damaged.slice(0, SHOWN).map(({ what }) => `  DAMAGE: ${what} fails its checksum`);
  if (damaged.length > SHOWN) lines.push(`  and ${damaged.length - SHOWN} more`);
  const verdict =
    damaged.length === 0
      ? `The checkpoint is sound: ${values} values.`
      : `The checkpoint is damaged in ${damaged.length} of ${values} values:\n${lines.join('\n')}\n` +
        `Restore it from a backup together with the log. ${DROP_HINT}`;
  const tried = replay === null ? '' : `\n${describeReplay(replay)}`;
  return `${describeInspection(log)}\n${verdict}${tried}`;
}

function describeSalvage(report: SalvageReport): string {
  if (report.aside === null) return 'Nothing had to be changed.';
  const { keptFrames, droppedFrames, position, aside } = report;
  return (
    `Kept ${keptFrames} frames, dropped ${droppedFrames}; the log now ends at position ` +
    `${position}. What was replaced is in ${aside}.`
  );
}

/** The position of every frame is too much to print. */
function omitPlaces(key: string, value: unknown): unknown {
  return key === 'places' ? undefined : value;
}

const HELP = `Usage: micro repair DIR [--apply] [--keep-after] [--drop-checkpoint] [--json]

Reads the log and the checkpoint of a data directory, replays them as a start would, and says what is
damaged. No server may use the directory meanwhile. The exit code is 0 when nothing is damaged, or no longer.

  --apply            make a consistent log of what is before the damage; what is replaced is put
                     aside into DIR/damaged-<time>, nothing is deleted
  --keep-after       keep the whole frames after the damage too
  --drop-checkpoint  set a damaged checkpoint aside and rebuild from the whole log
  --json             print what was found and done as JSON`;
