/**
 * `appendonly yes`: the data directory opened, recovered into an engine, and kept.
 *
 *   lock -> checkpoint restored -> log replayed -> log open for records
 *
 * Afterwards: `tick` starts a checkpoint when the log has grown enough. A disk that has failed ends
 * the process: nothing more could be acknowledged, and everything acknowledged is recovered from the
 * log by the next start.
 */
import { randomInt } from 'node:crypto';
import { resolve } from 'node:path';
import { Checkpointer } from '../engine/checkpointer.ts';
import { Engine } from '../engine/engine.ts';
import { Replay } from '../engine/replay.ts';
import { restoreCheckpoint } from '../engine/restore.ts';
import { streamReplayHandlers } from '../engine/stream-replay.ts';
import { lockDirectory } from '../storage/directory-lock.ts';
import { LATENCY_BOUNDS_MS } from '../storage/latency-histogram.ts';
import { LmdbCheckpoint } from '../storage/lmdb-checkpoint.ts';
import type { SyncPolicy } from '../storage/log.ts';
import { realDisk } from '../storage/real-disk.ts';
import type { RecoveryReport } from '../storage/recovery.ts';
import { openStore, type Store } from '../storage/store.ts';
import { systemClock } from '../util/clock.ts';
import { Random } from '../util/random.ts';
import type { Config } from './config.ts';
import type { Logger } from './logger.ts';
import type { Persistence, PersistenceStatus } from './persistence.ts';
import type { OpenData } from './rivulet-server.ts';
import type { ServerState } from './server-state.ts';

/** Rejects with StorageError, whose message is for an operator. */
export async function openDirectory(
  config: Config,
  log: Logger,
  onFatal: (error: Error) => void,
): Promise<OpenData> {
  const store = await openStore({
    disk: realDisk,
    directory: resolve(config.get('dir')),
    clock: systemClock,
    random: new Random(randomInt(2 ** 32)),
    openCheckpoint: (directory) => LmdbCheckpoint.open(directory),
    lock: lockDirectory,
    policy: config.get('appendfsync') as SyncPolicy,
    segmentBytes: config.number('log-segment-size'),
  });
  try {
    const engine = new Engine({
      clock: systemClock,
      random: new Random(randomInt(2 ** 32)),
      journal: store.log,
      databases: config.number('databases'),
    });
    const checkpointer = new Checkpointer(engine, {
      checkpoint: store.checkpoint,
      drainLog: () => store.log.drain(),
      pause: () => new Promise((done) => setImmediate(done)),
      logBytes: config.number('checkpoint-log-size'),
    });
    await recover(engine, checkpointer, store, log);
    store.log.onFatal = onFatal;
    return new DirectoryData(engine, checkpointer, store, config, log);
  } catch (error) {
    await store.close().catch(() => {});
    throw error;
  }
}

async function recover(
  engine: Engine,
  checkpointer: Checkpointer,
  store: Store,
  log: Logger,
): Promise<void> {
  const started = systemClock.monotonic();
  const keys = restoreCheckpoint(engine, checkpointer);
  const replay = new Replay(engine, streamReplayHandlers);
  const report = await store.recover((type, body) =>
    replay.apply(type, body.raw(body.end - body.at)),
  );
  report.warnings.forEach((warning) => {
    log.write('warning', warning);
  });
  if (keys > 0 || report.records > 0) {
    log.write('notice', 'recovered', {
      keys,
      ...counts(report),
      ms: Math.round(systemClock.monotonic() - started),
    });
  }
}

function counts({ records, bytes, clean, cut }: RecoveryReport): Record<string, unknown> {
  return { records, bytes, clean, ...(cut === null ? {} : { cut }) };
}

class DirectoryData implements OpenData, Persistence {
  readonly enabled = true;
  readonly engine: Engine;
  readonly persistence: Persistence = this;
  readonly #checkpointer: Checkpointer;
  readonly #store: Store;
  readonly #log: Logger;
  readonly #config: Config;
  #lastAt = systemClock.now();
  #lastMs = -1;

  constructor(
    engine: Engine,
    checkpointer: Checkpointer,
    store: Store,
    config: Config,
    log: Logger,
  ) {
    this.engine = engine;
    this.#checkpointer = checkpointer;
    this.#store = store;
    this.#config = config;
    this.#log = log;
  }

  attach(state: ServerState): void {
    const { log } = this.#store;
    log.onDurable = () => state.durable();
    log.onWritten = () => state.durable();
    this.#config.watch('appendfsync', (policy) => {
      log.setPolicy(policy as SyncPolicy);
      state.durable();
    });
    this.#config.watch('checkpoint-log-size', () => {
      this.#checkpointer.logBytes = this.#config.number('checkpoint-log-size');
    });
  }

  get backlog(): number {
    return this.#store.log.backlog;
  }

  flush(): void {
    this.#store.log.flush();
  }

  sync(): Promise<void> {
    return this.#store.log.drain();
  }

  /** Resolves when the checkpoint is committed and the log before it given back. */
  async checkpoint(): Promise<void> {
    const started = systemClock.monotonic();
    await this.#checkpointer.write();
    this.#lastAt = systemClock.now();
    this.#lastMs = systemClock.monotonic() - started;
    await this.#store.trim();
    this.#log.write('verbose', 'checkpoint written', { ms: Math.round(this.#lastMs) });
  }

  readonly tick = (): void => {
    this.#store.log.tick();
    if (!this.#checkpointer.due) return;
    this.checkpoint().catch((error: Error) => {
      this.#log.write('warning', `checkpoint failed: ${error.message}`);
    });
  };

  get status(): PersistenceStatus {
    const { log } = this.#store;
    const checkpointer = this.#checkpointer;
    const { syncTimes } = log;
    return {
      checkpointing: checkpointer.running,
      lastCheckpointAt: this.#lastAt,
      lastCheckpointMs: this.#lastMs,
      lastCheckpointFailed: checkpointer.failure !== null,
      checkpoints: checkpointer.completed,
      logBytes: checkpointer.logLength,
      frames: log.frames,
      delayedSyncs: log.delayedSyncs,
      syncs: {
        bounds: LATENCY_BOUNDS_MS.map((ms) => ms / 1000),
        counts: syncTimes.buckets,
        sum: syncTimes.sum / 1000,
        count: syncTimes.count,
      },
    };
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
