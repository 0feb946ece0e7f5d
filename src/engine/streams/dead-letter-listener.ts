/**
 * What a caller may learn of entries that leave their group without being delivered (group-policy.ts).
 * A listener is called in the middle of the change, so it may only take note.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { StreamId } from '../../stream/stream-id.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';

export interface DeadLetterListener {
  /** `moved` is false for an entry that was dropped because its group has no dead letter. */
  onDeadLetter(
    entry: KeyEntry,
    group: ConsumerGroup,
    id: StreamId,
    reason: string,
    moved: boolean,
  ): void;
  /** The entry was deleted or trimmed from its stream while the group had not acknowledged it. */
  onTrimmed?(entry: KeyEntry, group: ConsumerGroup, id: StreamId): void;
}
