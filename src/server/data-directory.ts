/**
 * `appendonly yes`: opens the durable engine (engine/open-durable-engine.ts) with the server's configuration,
 * applies changes of settings to it, and reports its state to INFO and metrics.
 *
 * A failed disk ends the process: no further write could be acknowledged, and the next start recovers
 * every acknowledged write from the log.
 */
import { randomInt } from 'node:crypto';
import { resolve } from 'node:path';
import { type DurableEngine, openDurableEngine } from '../engine/open-durable-engine.ts';
import { lockDirectory } from '../storage/disk/directory-lock.ts';
import { realDisk } from '../storage/disk/real-disk.ts';
import { LmdbCheckpoint } from '../storage/lmdb/lmdb-checkpoint.ts';
import { LATENCY_BOUNDS_MS } from '../storage/log/latency-histogram.ts';
import type { SyncPolicy } from '../storage/log/log.ts';
import type { RecoveryReport } from '../storage/log/recovery.ts';
import { Random } from '../util/random.ts';
import { systemClock } from '../util/time/clock.ts';
import type { Config } from './config/config.ts';
import { applyEngineSettings } from './config/engine-settings.ts';
import type { Logger } from './observability/logger.ts';
import {
  DISK_STALL_MS,
  type OpenData,
  type Persistence,
  type PersistenceStatus,
} from './persistence.ts';

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
  readonly #log: Logger;
  #stalledSince = 0;

  constructor(durable: DurableEngine, config: Config, log: Logger) {
    this.engine = durable.engine;
    this.#durable = durable;
    this.#config = config;
    this.#log = log;
    durable.onCheckpoint = (ms) => {
      this.#lastAt = systemClock.now();
      this.#lastMs = ms;
      log.write('verbose', 'checkpoint written', { ms: Math.round(ms) });
    };
    this.engine.damaged.listen(({ key, message }) => {
      log.write('warning', `stream ${JSON.stringify(String(key))}: ${message}`);
    });
    durable.onLogKept = ({ message }) => {
      log.write('warning', `log segments before the checkpoint could not be removed: ${message}`);
    };
    durable.onCheckpointFailed = (error) => {
      log.write('warning', `checkpoint failed: ${error.message}`);
    };
  }

  attach(onDurable: () => void): void {
    const { log, checkpointer } = this.#durable;
    log.onDurable = onDurable;
    log.onWritten = onDurable;
    this.#config.watch('appendfsync', (policy) => {
      log.setPolicy(policy as SyncPolicy);
      onDurable();
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

  readonly tick = (): void => {
    this.#durable.housekeep();
    this.#noteStall();
  };

  #noteStall(): void {
    const ms = this.#durable.log.unansweredMs;
    if (ms > DISK_STALL_MS && this.#stalledSince === 0) {
      this.#stalledSince = systemClock.now() - Math.round(ms);
      const since = new Date(this.#stalledSince).toISOString();
      this.#log.write(
        'warning',
        `the disk has not answered since ${since}: replies that show unwritten changes wait for it`,
      );
    } else if (ms <= DISK_STALL_MS && this.#stalledSince !== 0) {
      const seconds = Math.round((systemClock.now() - this.#stalledSince) / 1000);
      this.#stalledSince = 0;
      this.#log.write('warning', `the disk answers again, after ${seconds} s`);
    }
  }

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
      stalledSince: this.#stalledSince,
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
