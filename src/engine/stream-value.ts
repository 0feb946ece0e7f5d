/**
 * A stream with its consumer groups: the value that a stream key holds.
 */
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import type { Idempotency } from '../stream/idempotency.ts';
import type { Stream } from '../stream/stream.ts';

export class StreamValue {
  readonly type = 'stream';
  readonly stream: Stream;
  /** By the group's name as latin1. Iterate in the byte order of names, as Redis's rax does. */
  readonly groups = new Map<string, ConsumerGroup>();
  /** Producers' idempotent ids and the window's bounds; null as long as only defaults apply. */
  idempotency: Idempotency | null = null;
  /** Whether the stream knows where the checkpoint keeps its blocks: from its first checkpoint on. */
  coldAttached = false;
  /** Its resident bytes when the memory budget counted them last. */
  countedBytes = 0;

  constructor(stream: Stream) {
    this.stream = stream;
  }
}
