/**
 * What the server asks of the data directory: flush, checkpoint, and how they are doing.
 */
import type { Engine } from '../engine/engine.ts';

/** Engine and log of a running server. */
export interface OpenData {
  readonly engine: Engine;
  readonly persistence: Persistence;
  /** To be called ten times a second. */
  readonly tick: () => void;
  /** `onDurable` is called when the log is durable further than before, or its backlog is smaller. */
  attach(onDurable: () => void): void;
  close(): Promise<void>;
}

export interface Persistence {
  /** False with `appendonly no`. */
  readonly enabled: boolean;
  /** Bytes of records still in memory: neither written nor handed to the operating system. */
  readonly backlog: number;
  /** Seals and writes the records gathered so far. */
  flush(): void;
  /** Resolves once everything appended before the call is on disk, whatever the sync policy. */
  sync(): Promise<void>;
  /** Writes a checkpoint; joins the one that is running. */
  checkpoint(): Promise<void>;
  readonly status: PersistenceStatus;
}

/** A disk that has not answered for this long is reported; replies that show nothing of it go on. */
export const DISK_STALL_MS = 1000;

export interface PersistenceStatus {
  readonly checkpointing: boolean;
  /** Unix ms of the last completed checkpoint, or of the start. */
  readonly lastCheckpointAt: number;
  readonly lastCheckpointMs: number;
  readonly lastCheckpointFailed: boolean;
  readonly checkpoints: number;
  /** Records' bytes since the last checkpoint. */
  readonly logBytes: number;
  readonly frames: number;
  readonly delayedSyncs: number;
  /** Unix ms since when the disk has not answered a write or a sync; 0 = it answers (DISK_STALL_MS). */
  readonly stalledSince: number;
  /** Cumulative histogram of durable writes: upper bounds in seconds and counts. */
  readonly syncs: SyncHistogram;
}

export interface SyncHistogram {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** `appendonly no`. */
export class NoPersistence implements Persistence {
  readonly enabled = false;
  readonly backlog = 0;
  readonly status: PersistenceStatus;

  constructor(startedAt: number) {
    this.status = {
      checkpointing: false,
      lastCheckpointAt: startedAt,
      lastCheckpointMs: -1,
      lastCheckpointFailed: false,
      checkpoints: 0,
      logBytes: 0,
      frames: 0,
      delayedSyncs: 0,
      stalledSince: 0,
      syncs: { bounds: [], counts: [], sum: 0, count: 0 },
    };
  }

  flush(): void {}

  async sync(): Promise<void> {}

  async checkpoint(): Promise<void> {}
}
