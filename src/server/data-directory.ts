/**
 * `appendonly yes`: the durable engine (engine/open-durable-engine.ts) as the server uses it: opened
 * with the server's configuration, its settings followed, its state shown in INFO and metrics.
 *
 * A disk that has failed ends the process: nothing more could be acknowledged, and everything
 * acknowledged is recovered from the log by the next start.
 */
import { randomInt } from 'node:crypto';
import { resolve } from 'node:path';
import { type DurableEngine, openDurableEngine } from '../engine/open-durable-engine.ts';
import { lockDirectory } from '../storage/directory-lock.ts';
import { LATENCY_BOUNDS_MS } from '../storage/latency-histogram.ts';
import { LmdbCheckpoint } from '../storage/lmdb-checkpoint.ts';
import type { SyncPolicy } from '../storage/log.ts';
import { realDisk } from '../storage/real-disk.ts';
import type { RecoveryReport } from '../storage/recovery.ts';
import { systemClock } from '../util/clock.ts';
import { Random } from '../util/random.ts';
import type { Config } from './config.ts';
import { applyEngineSettings } from './engine-settings.ts';
import type { Logger } from './logger.ts';
import type { Persistence, PersistenceStatus } from './persistence.ts';
import type { OpenData } from './rivulet-server.ts';
import type { ServerState } from './server-state.ts';

/** Rejects with an error whose message is for an operator. */
export async function openDirectory(
  config: Config,
  log: Logger,
  onFatal: (error: Error) => void,
  onProgress: (read: number, total: number) => void,
): Promise<OpenData> {
  const started = systemClock.monotonic();
  const durable = await openDurableEngine({
    disk: realDisk,
    directory: resolve(config.path('dir')),
    clock: systemClock,
    random: new Random(randomInt(2 ** 32)),
    openCheckpoint: (directory) => LmdbCheckpoint.open(directory),
    lock: lockDirectory,
    pause: () => new Promise((done) => setImmediate(done)),
    databases: config.number('databases'),
    configure: (engine) => applyEngineSettings(engine, config),
    onProgress,
    checkpointLogBytes: config.number('checkpoint-log-size'),
    policy: config.get('appendfsync') as SyncPolicy,
    segmentBytes: config.number('log-segment-size'),
  });
  durable.log.onFatal = onFatal;
  const { recovery, restoredKeys: keys } = durable;
  for (const warning of recovery.warnings) log.write('warning', warning);
  if (keys > 0 || recovery.records > 0) {
    const ms = Math.round(systemClock.monotonic() - started);
    log.write('notice', 'recovered', { keys, ...counts(recovery), ms });
  }
  return new DirectoryData(durable, config, log);
}

function counts({ records, bytes, clean, cut }: RecoveryReport): Record<string, unknown> {
  return { records, bytes, clean, ...(cut === null ? {} : { cut }) };
}

class DirectoryData implements OpenData, Persistence {
  readonly enabled = true;
  readonly engine;
  readonly persistence: Persistence = this;
  readonly #durable: DurableEngine;
  readonly #config: Config;
  #lastAt = systemClock.now();
  #lastMs = -1;

  constructor(durable: DurableEngine, config: Config, log: Logger) {
    this.engine = durable.engine;
    this.#durable = durable;
    this.#config = config;
    durable.onCheckpoint = (ms) => {
      this.#lastAt = systemClock.now();
      this.#lastMs = ms;
      log.write('verbose', 'checkpoint written', { ms: Math.round(ms) });
    };
    this.engine.damaged.listen(({ key, message }) => {
      log.write('warning', `stream ${JSON.stringify(String(key))}: ${message}`);
    });
    durable.onCheckpointFailed = (error) => {
      log.write('warning', `checkpoint failed: ${error.message}`);
    };
  }

  attach(state: ServerState): void {
    const { log, checkpointer } = this.#durable;
    log.onDurable = () => state.durable();
    log.onWritten = () => state.durable();
    this.#config.watch('appendfsync', (policy) => {
      log.setPolicy(policy as SyncPolicy);
      state.durable();
    });
    this.#config.watch('checkpoint-log-size', () => {
      checkpointer.logBytes = this.#config.number('checkpoint-log-size');
    });
  }

  get backlog(): number {
    return this.#durable.log.backlog;
  }

  flush(): void {
    this.#durable.flush();
  }

  sync(): Promise<void> {
    return this.#durable.log.drain();
  }

  checkpoint(): Promise<void> {
    return this.#durable.checkpoint();
  }

  readonly tick = (): void => this.#durable.housekeep();

  get status(): PersistenceStatus {
    const { log, checkpointer } = this.#durable;
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
    return this.#durable.close();
  }
}
