/**
 * A data directory, opened: lock, format, checkpoint, recovery and log as one object.
 *
 *   DIR/FORMAT               "rivulet data, format 1"
 *   DIR/log-<position>.rlog  segments of the log
 *   DIR/checkpoint/          LMDB's files
 *   DIR/lock-<pid>-<token>   who lives here now
 *   DIR/damaged-<time>/      what `micro repair` has put aside
 *
 * Use: `const store = await openStore(...)`; give `store.log` to the engine as its journal; load
 * metadata from `store.checkpoint`; `await store.recover(visit)`; from then on the log takes records.
 * Invariant: after `recover` the records visited, on top of the checkpoint, are exactly what was
 * acknowledged before (and possibly whole frames that were written and not acknowledged yet).
 */
import type { ByteReader } from '../util/byte-writer.ts';
import type { Clock } from '../util/clock.ts';
import type { Random } from '../util/random.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { Disk } from './disk.ts';
import type { Log, SyncPolicy } from './log.ts';
import type { RecoveryReport } from './recovery.ts';

export interface StoreOptions {
  readonly disk: Disk;
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Opens the checkpoint in that directory (which exists): LmdbCheckpoint.open, or one in memory. */
  readonly openCheckpoint: (directory: string) => Promise<Checkpoint>;
  /** Takes the directory's lock: lockDirectory; left out in simulation. */
  readonly lock?: (directory: string) => Promise<{ release(): Promise<void> }>;
  readonly policy?: SyncPolicy;
  readonly segmentBytes?: number;
  readonly firstSegmentBytes?: number;
  readonly reserveBytes?: number;
}

/** One record: its type, its body (valid during the call), and the log position after it. */
export type RecordVisitor = (type: number, body: ByteReader, position: number) => void;

export interface Store {
  readonly directory: string;
  readonly checkpoint: Checkpoint;
  /** Takes records once `recover` has resolved. */
  readonly log: Log;
  /**
   * Reads the log from the checkpoint's position on, in order, then starts the log after its end.
   * Rejects with StorageError when acknowledged data is damaged or missing; whatever `visit` throws
   * rejects it too.
   */
  recover(visit: RecordVisitor): Promise<RecoveryReport>;
  /** After a checkpoint has been committed: gives back the log that it has made needless. */
  trim(): Promise<number>;
  /** Makes everything durable, closes log and checkpoint, gives up the directory. */
  close(): Promise<void>;
}

export declare function openStore(options: StoreOptions): Promise<Store>;
