/**
 * One key of a database: its name, its value, when it expires, and what the checkpoint knows of it.
 */
import type { StreamValue } from './stream-value.ts';

export type Value = StringValue | StreamValue;

export interface StringValue {
  readonly type: 'string';
  bytes: Buffer;
}

export class KeyEntry {
  readonly key: Buffer;
  readonly hash: number;
  value: Value;
  /** Unix milliseconds, 0 = never. */
  expireAt = 0;
  /** Next in the key table's chain. */
  next: KeyEntry | null = null;
  /** Names the key in the checkpoint; 0 = not there yet. A deleted and re-created key gets a new one. */
  uid = 0;
  /** The checkpoint epoch in which it was last marked dirty (checkpointer.ts). */
  dirtyEpoch = -1;
  /** How many sessions WATCH it; kept here so that an unwatched write costs one compare. */
  watchers = 0;

  constructor(key: Buffer, hash: number, value: Value) {
    this.key = key;
    this.hash = hash;
    this.value = value;
  }
}
