/**
 * The checkpoint in memory, for simulation and tests.
 *
 * What a commit has left lives in a MemoryCheckpointStore, which outlives the process being
 * simulated; the transaction lives in the MemoryCheckpoint and dies with it. A commit becomes the
 * store's contents at one moment, chosen by `defer`, so a crash finds the old state or the new one.
 * Invariant: a committed map is never changed again; readers hold on to it.
 * Cost: a commit copies the array of keys, O(n); fine for simulation, meant for nothing else.
 */

import type { Checkpoint, CheckpointEntry, ScanVisitor } from '../../src/storage/checkpoint.ts';
import {
  applyChanges,
  CHECKSUM_BYTES,
  ChangeWriter,
} from '../../src/storage/checkpoint-changes.ts';
import { StorageError } from '../../src/storage/storage-error.ts';

/** What is "on disk". */
export class MemoryCheckpointStore {
  position = 0;
  entries: readonly CheckpointEntry[] = [];
}

export interface MemoryCheckpointOptions {
  /** Runs a commit, later: when the simulated disk gets to it. @default at once */
  readonly defer?: (commit: () => void) => void;
}

export class MemoryCheckpoint implements Checkpoint {
  readonly #store: MemoryCheckpointStore;
  readonly #defer: (commit: () => void) => void;
  #changes: ChangeWriter | null = null;
  #failNext: Error | null = null;

  constructor(store: MemoryCheckpointStore, options: MemoryCheckpointOptions = {}) {
    this.#store = store;
    this.#defer = options.defer ?? ((commit) => commit());
  }

  /** The next commit fails with this error and changes nothing. */
  failNext(error: Error): void {
    this.#failNext = error;
  }

  get position(): number {
    return this.#store.position;
  }

  get sizeBytes(): number {
    return this.#store.entries.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
  }

  readonly saturated = false;

  drained(): Promise<void> {
    return Promise.resolve();
  }

  begin(): void {
    if (this.#changes !== null) throw new Error('a checkpoint transaction is open already');
    this.#changes = new ChangeWriter(4096);
  }

  put(key: Uint8Array, value: Uint8Array, rest?: Uint8Array): void {
    if (key[0] === 0 || key.length === 0 || key.length > 1000) throw new RangeError('not a key');
    this.#open().put(key, value, rest);
  }

  remove(key: Uint8Array): void {
    this.#open().remove(key);
  }

  removeRange(from: Uint8Array, to: Uint8Array): void {
    this.#open().removeRange(from, to);
  }

  commit(position: number): Promise<void> {
    const slice = this.#open().take();
    this.#changes = null;
    const failure = this.#failNext;
    this.#failNext = null;
    return new Promise((resolve, reject) => {
      this.#defer(() => {
        if (failure !== null) {
          reject(new StorageError('CHECKPOINT_FAILED', failure.message, { cause: failure }));
          return;
        }
        this.#store.entries = changed(this.#store.entries, slice);
        this.#store.position = position;
        resolve();
      });
    });
  }

  abort(): void {
    this.#changes = null;
  }

  #open(): ChangeWriter {
    if (this.#changes === null) throw new Error('no checkpoint transaction is open');
    return this.#changes;
  }

  get(key: Uint8Array): Buffer | undefined {
    const entry = this.#store.entries[lowerBound(this.#store.entries, key)];
    return entry?.key.equals(key) ? Buffer.from(entry.value) : undefined;
  }

  seekForward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined {
    const entry = this.#store.entries[lowerBound(this.#store.entries, key)];
    return entry !== undefined && entry.key.compare(limit) < 0 ? copied(entry) : undefined;
  }

  seekBackward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined {
    const { entries } = this.#store;
    let i = lowerBound(entries, key);
    if (i === entries.length || !entries[i].key.equals(key)) i--;
    const entry = entries[i];
    return entry !== undefined && entry.key.compare(limit) >= 0 ? copied(entry) : undefined;
  }

  *entries(from: Uint8Array, to: Uint8Array): Iterable<CheckpointEntry> {
    const { entries } = this.#store;
    for (let i = lowerBound(entries, from); i < entries.length; i++) {
      if (entries[i].key.compare(to) >= 0) return;
      yield copied(entries[i]);
    }
  }

  keys(from: Uint8Array, to: Uint8Array, visit: (key: Buffer) => void): void {
    const { entries } = this.#store;
    for (let i = lowerBound(entries, from); i < entries.length; i++) {
      if (entries[i].key.compare(to) >= 0) return;
      visit(Buffer.from(entries[i].key));
    }
  }

  scan(from: Uint8Array, to: Uint8Array, visit: ScanVisitor): void {
    for (const { key, value } of this.entries(from, to)) visit(key, value, 0, value.length);
  }

  async close(): Promise<void> {
    this.#changes = null;
  }
}

function copied(entry: CheckpointEntry): CheckpointEntry {
  return { key: Buffer.from(entry.key), value: Buffer.from(entry.value) };
}

/** Index of the first entry whose key is not below `key`. */
function lowerBound(entries: readonly CheckpointEntry[], key: Uint8Array): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries[middle].key.compare(key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function changed(entries: readonly CheckpointEntry[], slice: Buffer): CheckpointEntry[] {
  const map = new Map(entries.map((entry) => [entry.key.toString('latin1'), entry]));
  applyChanges(slice, {
    put(key, slot) {
      const value = Buffer.from(slot.subarray(0, slot.length - CHECKSUM_BYTES));
      map.set(key.toString('latin1'), { key: Buffer.from(key), value });
    },
    remove(key) {
      map.delete(key.toString('latin1'));
    },
    removeRange(from, to) {
      for (const [name, { key }] of map) {
        if (key.compare(from) >= 0 && key.compare(to) < 0) map.delete(name);
      }
    },
  });
  return [...map.values()].sort((a, b) => a.key.compare(b.key));
}
