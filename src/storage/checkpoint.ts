/**
 * The checkpoint: an ordered map of bytes, changed by one transaction at a time.
 *
 * lmdb-checkpoint.ts stores it in LMDB; a worker thread writes, so the loop never waits. The simulation
 * has one in memory.
 * Invariant: after a crash it holds exactly what the last committed transaction left, together with
 * the log position up to which the transaction holds everything. Keys sort as bytes, are at most 1000 bytes long and
 * begin with a byte other than 0 (the checkpoint's own keys begin with it).
 * A damaged value is never returned: reading it throws a StorageError CHECKPOINT_DAMAGED.
 */
export interface Checkpoint {
  /** The log position up to which the map holds every effect; 0 in a new directory. */
  readonly position: number;

  /** Starts the next transaction. Changes are gathered and may be sent off in slices. */
  begin(): void;
  /**
   * True while the writer is behind: the caller stops putting more until `drained` resolves. Read
   * between slices, so memory stays bounded.
   */
  readonly saturated: boolean;
  /** Resolves when the writer has caught up (or the transaction has failed: `commit` then says so). */
  drained(): Promise<void>;
  /** The value is `value` followed by `rest`; both may change afterwards. */
  put(key: Uint8Array, value: Uint8Array, rest?: Uint8Array): void;
  remove(key: Uint8Array): void;
  /** Removes every key k with from <= k < to. */
  removeRange(from: Uint8Array, to: Uint8Array): void;
  /**
   * Makes the transaction's changes durable, all or none, together with the log position. The
   * caller makes the log durable up to there first. Rejects with StorageError
   * CHECKPOINT_FAILED (disk or map full, I/O error): then nothing changed and a later one may succeed.
   */
  commit(position: number): Promise<void>;
  /** Forgets the transaction begun. */
  abort(): void;

  // Reading, synchronously, what the last commit left. Returned buffers are copies or immutable.
  get(key: Uint8Array): Buffer | undefined;
  /** The first entry at or after `key` and before `limit`. */
  seekForward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined;
  /** The last entry at or before `key` and at or after `limit`. */
  seekBackward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined;
  /** Every entry with from <= key < to, in order. */
  entries(from: Uint8Array, to: Uint8Array): Iterable<CheckpointEntry>;
  /** The keys alone of what `entries` gives. A key is valid during the call. */
  keys(from: Uint8Array, to: Uint8Array, visit: (key: Buffer) => void): void;
  /** As `entries`, for very many: no object per entry. */
  scan(from: Uint8Array, to: Uint8Array, visit: ScanVisitor): void;
  /** Bytes that the checkpoint takes on disk, for INFO and metrics. */
  readonly sizeBytes: number;
  close(): Promise<void>;
}

export interface CheckpointEntry {
  readonly key: Buffer;
  readonly value: Buffer;
}

/**
 * One entry: its key, valid during the call, and its value, from `at` to `end` in a buffer that holds
 * others, too. The buffer's bytes never change, so it may be kept, and is then kept whole.
 */
export type ScanVisitor = (key: Buffer, buffer: Buffer, at: number, end: number) => void;
