/** Copy-on-write checkpoints, in slices. */
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import type { KeyEntry } from './key-entry.ts';
import type { Keyspace } from './keyspace.ts';

export interface Checkpointer {
  touch(entry: KeyEntry): void;
  /** Before a change of a group of the entry's stream; before it is destroyed, too. */
  touchGroup(entry: KeyEntry, group: ConsumerGroup): void;
  /** The group was taken from its stream. */
  removeGroup(entry: KeyEntry, group: ConsumerGroup): void;
  remove(entry: KeyEntry): void;
  bury(keyspace: Keyspace): void;
}
