/**
 * Starts from a data directory without starting: restores its checkpoint and replays its log into an
 * engine that is then thrown away. What a server could not start from is found so, damaged or not.
 *
 * Invariant: nothing in the directory is changed; the disk that recovery sees takes no writes.
 * Cost: what the start costs, in time and in memory.
 */
import type { Checkpoint } from '../../storage/checkpoint.ts';
import type { Disk, DiskFile } from '../../storage/disk/disk.ts';
import { NullJournal } from '../../storage/log/journal.ts';
import { recoverLog } from '../../storage/log/recovery.ts';
import { Random } from '../../util/random.ts';
import type { Clock } from '../../util/time/clock.ts';
import { restoreCheckpoint } from '../checkpoint/restore.ts';
import { Engine } from '../engine.ts';
import { streamReplayHandlers } from '../streams/stream-replay.ts';
import { Replay } from './replay.ts';

export interface DryReplay {
  /** Keys of the checkpoint, and records of the log that were applied. */
  readonly keys: number;
  readonly records: number;
  /** Why a server cannot start from the directory; null when it can. */
  readonly error: string | null;
}

/** As many as a server can be configured to have: records name them by number. */
const MOST_DATABASES = 1024;

export async function replayDry(
  disk: Disk,
  directory: string,
  checkpoint: Checkpoint,
  clock: Clock,
): Promise<DryReplay> {
  const engine = new Engine({
    clock,
    random: new Random(1),
    journal: new NullJournal(),
    databases: MOST_DATABASES,
  });
  const pause = (): Promise<void> => Promise.resolve();
  const checkpointer = engine.attachCheckpoint({ checkpoint, drainLog: pause, pause });
  const replay = new Replay(engine, streamReplayHandlers);
  let keys = 0;
  let at = checkpoint.position;
  try {
    keys = restoreCheckpoint(engine, checkpointer);
    await recoverLog({
      disk: readOnly(disk),
      directory,
      from: checkpoint.position,
      visit(type, body, position) {
        replay.apply(type, body.raw(body.end - body.at));
        at = position;
      },
    });
    return { keys, records: replay.count, error: null };
  } catch (error) {
    const { message } = error as Error;
    return { keys, records: replay.count, error: `at log position ${at}: ${message}` };
  }
}

/** Reads as the disk does; what recovery would cut off stays. */
function readOnly(disk: Disk): Disk {
  const refuse = (): Promise<never> => Promise.reject(new Error('this disk is only read'));
  return {
    list: (directory) => disk.list(directory),
    freeBytes: (directory) => disk.freeBytes(directory),
    open: async (path) => new ReadOnlyFile(await disk.open(path)),
    makeDirectory: refuse,
    rename: refuse,
    link: refuse,
    remove: refuse,
    syncDirectory: async () => {},
  };
}

class ReadOnlyFile implements DiskFile {
  readonly #file: DiskFile;

  constructor(file: DiskFile) {
    this.#file = file;
  }

  size(): Promise<number> {
    return this.#file.size();
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#file.read(offset, length);
  }

  write(
    _source: Buffer,
    _from: number,
    _length: number,
    _offset: number,
    _durable: boolean,
    done: (error: Error | null) => void,
  ): void {
    done(new Error('this file is only read'));
  }

  async truncate(): Promise<void> {}

  async sync(): Promise<void> {}

  close(): Promise<void> {
    return this.#file.close();
  }
}
