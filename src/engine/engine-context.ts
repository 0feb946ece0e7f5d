/**
 * What databases and mutators need of the engine: time, chance, the log, and the listeners of a change.
 *
 * Everything here is below Database, so that databases and mutators do not import the engine that is
 * made of them.
 */
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import type { Epoch } from '../consumer-groups/pending/page-store.ts';
import type { Journal } from '../storage/log/journal.ts';
import type { NodeLimits } from '../stream/block/node-limits.ts';
import type { StreamId } from '../stream/stream-id.ts';
import type { Random } from '../util/random.ts';
import type { Clock } from '../util/time/clock.ts';
import type { Whole } from '../util/whole.ts';
import type { Checkpointer } from './checkpoint/checkpointer.ts';
import type { MemoryBudget } from './checkpoint/memory-budget.ts';
import type { BlockedReaders } from './keyspace/blocked-readers.ts';
import type { KeyEntry } from './keyspace/key-entry.ts';
import type { KeyspaceEvents } from './keyspace/keyspace-events.ts';
import type { DamagedStreams } from './streams/damaged-streams.ts';
import type { DeadLetterListener } from './streams/dead-letter-listener.ts';
import type { StreamAnnouncements } from './streams/stream-announcements.ts';
import type { StreamValue } from './streams/stream-value.ts';
import type { TurnClock } from './turn-clock.ts';

/** Counted since the start, for INFO and CONFIG RESETSTAT. */
export interface EngineStatistics {
  expiredKeys: number;
  keyspaceHits: number;
  keyspaceMisses: number;
  /** Entries added to streams, delivered to consumers, and settled by groups. */
  added: number;
  delivered: number;
  settled: number;
  /** Failures of duties that no command waits for. */
  troubles: number;
  /** Scheduled entries that cannot be added. */
  setAside: number;
}

export interface EngineContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly journal: Journal;

  // ---- Time
  /** What time it is: read by `turn`, constant within one command or EXEC. */
  readonly time: TurnClock;
  /** Unix ms of the turn: `time.now`. */
  readonly now: number;
  /** Unix ms of the turn as if the clock had never been set: `time.steady`. */
  readonly steady: number;
  /** `now` in whole seconds, as KeyEntry.accessed holds them. */
  readonly seconds: number;

  // ---- What a mutator asks before and after a change
  /** True while records are being replayed: mutators then record nothing and notify no reader. */
  readonly replaying: boolean;
  /** False while replaying and with `appendonly no`: mutators then write no record. */
  readonly recording: boolean;
  /** Changes since the start, counted as Redis counts them (INFO rdb_changes_since_last_save). */
  changes: number;
  /** The last number given to a scheduled entry; records and the checkpoint keep it. */
  lastScheduled: number;
  /** Absent with `appendonly no`. */
  readonly checkpointer: Checkpointer | undefined;
  /** The checkpointer's clock: raised by one when a checkpoint starts; what was dirty is then frozen. */
  readonly epoch: Epoch;
  /** Which blocks of streams stay in memory. */
  readonly memory: MemoryBudget;
  /** stream-node-max-entries and -bytes: held by every stream, changed in place by CONFIG SET. */
  readonly nodeLimits: NodeLimits;
  /** stream-idmp-duration (seconds) and -maxsize: what a stream's idempotent producers begin with. */
  readonly idempotencyWindow: { duration: number; maxsize: number };
  readonly statistics: EngineStatistics;

  // ---- What a change is reported to
  readonly blocked: BlockedReaders;
  /** Publishes what happens to keys; null = notifications are off, and while replaying. */
  readonly events: KeyspaceEvents | null;
  readonly announcements: StreamAnnouncements;
  /** Streams that cannot be read whole. */
  readonly damaged: DamagedStreams;
  /**
   * For callers that read streams by pattern: a stream took a name (made, renamed, moved, copied,
   * restored) in the database of this number. Called in the middle of that change, so it may only
   * take note.
   */
  readonly onStreamAdded: ((database: number, entry: KeyEntry) => void) | null;
  readonly deadLetters: DeadLetterListener | null;

  /** Memory is about to be changed. Each mutator calls it, most of them through Database.touch. */
  changing(): number;
  /** Something is due at this monotonic ms. */
  dueAt(at: number): void;
  /** Something that no command waits for has failed: counted, and reported to the caller of `tick`. */
  reportFailure(what: string, error: unknown): void;
  /** A number never given out before: names keyspaces and keys in the checkpoint. */
  nextUid(): number;
  /** A stream without entries, in no database yet. */
  newStream(): StreamValue;
  /** A group that is in no stream yet, whose pending pages the checkpointer can follow. */
  newGroup(name: Buffer, lastId: StreamId, entriesRead: Whole): ConsumerGroup;
}
