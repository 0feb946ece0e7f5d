/** Copy-on-write checkpoints, in slices. */
import type { KeyEntry } from './key-entry.ts';
import type { Keyspace } from './keyspace.ts';

export interface Checkpointer {
  touch(entry: KeyEntry): void;
  remove(entry: KeyEntry): void;
  bury(keyspace: Keyspace): void;
}
