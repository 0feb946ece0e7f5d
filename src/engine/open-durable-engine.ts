/**
 * A data directory and the engine on it: opened, restored, replayed, kept and closed. The server, the
 * embedded broker, the simulation and `micro repair` all do it by this code.
 *
 *   lock -> checkpoint opened -> engine configured -> checkpoint restored -> log replayed -> log open
 *
 * Invariants: the configuration is in force before the first key is restored, because settings such
 * as node limits and windows decide what a replayed change does; the checkpoint's files are not
 * closed while a checkpoint is being written.
 * Cost: a few microseconds a key, and the replay of the log since the last checkpoint.
 */
import type { Checkpoint } from '../storage/checkpoint.ts';
import type { Disk } from '../storage/disk/disk.ts';
import type { Log, SyncPolicy } from '../storage/log/log.ts';
import type { RecoveryReport } from '../storage/log/recovery.ts';
import { type Lock, openStore, type Store } from '../storage/store.ts';
import { Random } from '../util/random.ts';
import type { Clock } from '../util/time/clock.ts';
import type { Checkpointer } from './checkpoint/checkpointer.ts';
import { restoreCheckpoint } from './checkpoint/restore.ts';
import { Engine } from './engine.ts';
import { Replay } from './log/replay.ts';
import { streamReplayHandlers } from './streams/stream-replay.ts';

export interface DurableEngineOptions {
  readonly disk: Disk;
  readonly directory: string;
  readonly clock: Clock;
  /** Salts the log; the engine gets a generator seeded from it where `engineRandom` is left out. */
  readonly random: Random;
  readonly engineRandom?: Random;
  /** Opens the checkpoint in that directory (which exists): LmdbCheckpoint.open, or one in memory. */
  readonly openCheckpoint: (directory: string) => Promise<Checkpoint>;
  /** Takes the directory's lock: lockDirectory; left out in simulation. */
  readonly lock?: (directory: string) => Promise<Lock>;
  /** Resolves after other work has had its turn on the loop: setImmediate in the server. */
  readonly pause: () => Promise<void>;
  /** @default 16 */
  readonly databases?: number;
  /** Puts the settings in force; called before anything is restored. */
  readonly configure?: (engine: Engine) => void;
  /** Bytes of log read so far, and bytes there are to read; called while the log is replayed. */
  readonly onProgress?: (read: number, total: number) => void;
  /** Bytes of log after which a checkpoint is due. @default 64 MiB */
  readonly checkpointLogBytes?: number;
  /** @default 'always' */
  readonly policy?: SyncPolicy;
  /** The following as in LogOptions. */
  readonly segmentBytes?: number;
  readonly firstSegmentBytes?: number;
  readonly reserveBytes?: number;
}

/**
 * Rejects with StorageError where the directory is locked, damaged or of a newer format, with
 * CheckpointError or DamagedRecord where what is stored does not fit together. The directory is
 * given up again then.
 */
export async function openDurableEngine(options: DurableEngineOptions): Promise<DurableEngine> {
  const store = await openStore(options);
  try {
    const engine = new Engine({
      clock: options.clock,
      random: options.engineRandom ?? new Random(options.random.uint32()),
      journal: store.log,
      databases: options.databases ?? 16,
    });
    options.configure?.(engine);
    const checkpointer = engine.attachCheckpoint({
      checkpoint: store.checkpoint,
      drainLog: () => store.log.drain(),
      pause: options.pause,
      logBytes: options.checkpointLogBytes,
    });
    const keys = restoreCheckpoint(engine, checkpointer);
    const replay = new Replay(engine, streamReplayHandlers);
    const recovery = await store.recover(
      (type, body) => replay.apply(type, body.raw(body.end - body.at)),
      options.onProgress,
    );
    engine.changes = 0;
    engine.resumeDurations();
    return new DurableEngine(engine, checkpointer, store, keys, recovery);
  } catch (error) {
    await store.close().catch(() => {});
    throw error;
  }
}

export class DurableEngine {
  readonly engine: Engine;
  readonly checkpointer: Checkpointer;
  readonly log: Log;
  /** Keys of the checkpoint. */
  readonly restoredKeys: number;
  readonly recovery: RecoveryReport;
  /** A checkpoint that was due could not be written; the next one tries again. */
  onCheckpointFailed: (error: Error) => void = () => {};
  /** Segments that a checkpoint made needless could not be removed; the next one tries again. */
  onLogKept: (error: Error) => void = () => {};
  /** A checkpoint was written; how long that took, ms. */
  onCheckpoint: (ms: number) => void = () => {};
  readonly #store: Store;
  #closed = false;

  /** @internal Use openDurableEngine. */
  constructor(
    engine: Engine,
    checkpointer: Checkpointer,
    store: Store,
    restoredKeys: number,
    recovery: RecoveryReport,
  ) {
    this.engine = engine;
    this.checkpointer = checkpointer;
    this.log = store.log;
    this.#store = store;
    this.restoredKeys = restoredKeys;
    this.recovery = recovery;
  }

  get directory(): string {
    return this.#store.directory;
  }

  /** Writes what was gathered. */
  flush(): void {
    this.log.flush();
  }

  /** Whether `housekeep` has to come again though no command runs: records wait, or are refused. */
  get unsettled(): boolean {
    const { log } = this;
    return log.appended > log.durable || log.refusal !== null;
  }

  /** Ten times a second or so: the log's syncs and second tries, and a checkpoint when one is due. */
  housekeep(): void {
    if (this.#closed) return;
    this.log.tick();
    if (this.checkpointer.due) this.checkpoint().catch(this.onCheckpointFailed);
  }

  /**
   * Resolves when the checkpoint is committed and the log before it given back. What cannot be given back
   * takes room and nothing else, so it fails no checkpoint.
   */
  async checkpoint(): Promise<void> {
    const { clock } = this.engine;
    const started = clock.monotonic();
    const { engine, checkpointer } = this;
    const changes = checkpointer.running ? 0 : engine.changes;
    await checkpointer.write();
    engine.savedChanges = Math.max(engine.savedChanges, changes);
    this.onCheckpoint(clock.monotonic() - started);
    await this.trimLog().catch(this.onLogKept);
  }

  /** Gives back the log that the last checkpoint has made needless. */
  trimLog(): Promise<number> {
    return this.#store.trim();
  }

  /** Makes everything durable and gives up the directory. A checkpoint that is running ends first. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.checkpointer.running) await this.checkpointer.write().catch(() => {});
    await this.#store.close();
  }
}
