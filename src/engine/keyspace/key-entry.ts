/**
 * One key of a database: its name, its value, when it expires, and what others need to know of it.
 *
 * Invariant: every field is written by `src/engine` only; commands read. All fields are set in the
 * constructor, so every entry has one shape.
 */

import type { StreamValue } from '../streams/stream-value.ts';
import type { KeyspaceId } from './keyspace-id.ts';

export type Value = StringValue | StreamValue;

/** Invariant: `bytes` is changed in place only by string-value.ts, and only while there is `room`. */
export interface StringValue {
  readonly type: 'string';
  bytes: Buffer;
  /** After a change of a part of a large string: `bytes` are the beginning of this, which is this value's alone. */
  room?: Buffer | undefined;
}

export class KeyEntry {
  /** Changed by RENAME only. */
  key: Buffer;
  hash: number;
  /** Next in the key table's chain. */
  next: KeyEntry | undefined = undefined;
  value: Value;
  /** Unix milliseconds, 0 = never. */
  expireAt = 0;
  /** Its place in the expiry heap; -1 = not in it. */
  heapIndex = -1;
  /** Where it is, and, once removed, was last. */
  space: KeyspaceId;
  /** Names the key in the checkpoint; 0 = not there yet. A deleted and re-created key gets a new one. */
  uid = 0;
  /** The checkpoint epoch in which it was last marked dirty (checkpointer.ts). */
  dirtyEpoch = -1;
  /** How many sessions WATCH it; kept here so that an unwatched write costs one compare. */
  watchers = 0;
  /** How many blocked readers wait for it; the same for wake-ups. */
  readers = 0;
  /** Unix seconds of the last access, for OBJECT IDLETIME. */
  accessed = 0;
  /** The log's position behind which the record of its last change begins; -1 = not changed since the start. */
  changedAt = -1;
  /** No longer in any database. */
  removed = false;

  constructor(key: Buffer, hash: number, value: Value, space: KeyspaceId) {
    this.key = key;
    this.hash = hash;
    this.value = value;
    this.space = space;
  }
}
