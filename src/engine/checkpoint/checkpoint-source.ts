/**
 * What a checkpoint reads of the engine: the clock, the log's position, and the facts about the whole.
 */
import type { Epoch } from '../../consumer-groups/pending/page-store.ts';
import type { Journal } from '../../storage/log/journal.ts';
import type { Clock } from '../../util/time/clock.ts';
import type { Keyspace } from '../keyspace/keyspace.ts';

export interface CheckpointSource {
  readonly clock: Clock;
  readonly journal: Journal;
  /** Raised by one when a checkpoint starts. */
  readonly epoch: Epoch;
  readonly databases: readonly { readonly keyspace: Keyspace; readonly size: number }[];
  readonly lastUid: number;
  readonly lastScheduled: number;
  readonly steady: number;
  readonly time: { readonly stepped: number };
  nextUid(): number;
}
