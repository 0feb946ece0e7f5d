/**
 * The core: sixteen databases, blocked readers, publish/subscribe channels and the schedule, one
 * operation at a time, deterministic: time, chance and the log come in as arguments.
 *
 *   turn()  before a command or EXEC: the time is constant until the next
 *   serveBlocked() after it: blocked readers whose keys were signalled
 *   tick()  now and then: expired keys, entries whose time has come, overdue readers, tables half
 *           resized
 */

import { ConsumerGroup } from '../consumer-groups/group.ts';
import type { Epoch } from '../consumer-groups/pending/page-store.ts';
import type { Journal } from '../storage/log/journal.ts';
import { isDamage } from '../stream/block/block-damage.ts';
import { defaultNodeLimits, type NodeLimits } from '../stream/block/node-limits.ts';
import { Stream } from '../stream/stream.ts';
import type { StreamId } from '../stream/stream-id.ts';
import type { Random } from '../util/random.ts';
import { releaseScratch } from '../util/scratch.ts';
import type { Clock } from '../util/time/clock.ts';
import type { Whole } from '../util/whole.ts';
import { Checkpointer, type CheckpointerOptions } from './checkpoint/checkpointer.ts';
import { MemoryBudget } from './checkpoint/memory-budget.ts';
import type { EngineStatistics } from './engine-context.ts';
import { BlockedReaders } from './keyspace/blocked-readers.ts';
import { Channels } from './keyspace/channels.ts';
import { Database } from './keyspace/database.ts';
import type { KeyEntry } from './keyspace/key-entry.ts';
import { KeyspaceEvents, readEventClasses } from './keyspace/keyspace-events.ts';
import { RecordType } from './log/records.ts';
import { type Payload, payloadRules } from './requests/payload.ts';
import { RequestRouter } from './requests/request-router.ts';
import { DamagedStreams } from './streams/damaged-streams.ts';
import type { DeadLetterListener } from './streams/dead-letter-listener.ts';
import { StreamAnnouncements } from './streams/stream-announcements.ts';
import { StreamValue } from './streams/stream-value.ts';
import { Tick, type TickHost } from './tick.ts';
import { TurnClock } from './turn-clock.ts';

export interface EngineOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly journal: Journal;
  /** @default 16 */
  readonly databases?: number;
}

export class Engine implements TickHost {
  readonly clock: Clock;
  readonly random: Random;
  readonly journal: Journal;
  readonly databases: Database[] = [];
  readonly blocked = new BlockedReaders();
  readonly channels = new Channels();
  /** SPUBLISH and SSUBSCRIBE: separate names. */
  readonly shardChannels = new Channels();
  readonly announcements = new StreamAnnouncements(this.shardChannels);
  /** Publishes what happens to keys; null = notifications are off, and while replaying. */
  events: KeyspaceEvents | null = null;
  /** Requests in flight, and the peers that answer them. */
  readonly requests = new RequestRouter<Payload>(payloadRules);
  /** What time it is: read by `turn`, constant within one command or EXEC. */
  readonly time: TurnClock;
  /** Unix ms of the turn: `time.now`. */
  now: number;
  /** Unix ms of the turn as if the clock had never been set: `time.steady`. */
  steady: number;
  /** The same in whole seconds, as KeyEntry.accessed holds them. */
  seconds: number;
  /** Changes since the start, counted as Redis counts them (INFO rdb_changes_since_last_save). */
  changes = 0;
  /** Those of them that a checkpoint holds. */
  savedChanges = 0;
  /** True while records are being replayed: mutators then record nothing and signal no reader. */
  replaying = false;
  /** False while replaying and with `appendonly no`: mutators then write no record. */
  recording: boolean;
  /** Absent with `appendonly no`. */
  checkpointer: Checkpointer | undefined;
  /** The checkpointer's clock: raised by one when a checkpoint starts; what was dirty is then frozen. */
  readonly epoch: Epoch = { current: 0 };
  /** stream-node-max-entries and -bytes: held by every stream, changed in place by CONFIG SET. */
  readonly nodeLimits: NodeLimits = { ...defaultNodeLimits };
  /** stream-idmp-duration (seconds) and -maxsize: what a stream's idempotent producers begin with. */
  readonly idempotencyWindow = { duration: 100, maxsize: 100 };
  onStreamAdded: ((database: number, entry: KeyEntry) => void) | null = null;
  deadLetters: DeadLetterListener | null = null;
  /** For the caller of `tick`: there is something to do at this monotonic ms, earlier than was known. */
  onDue: ((at: number) => void) | null = null;
  /** Streams that cannot be read whole. */
  readonly damaged = new DamagedStreams();
  /** A duty of the tick has failed, or an entry was set aside; it may only be noted. */
  onFailure: ((what: string, error: unknown) => void) | null = null;
  /** Which blocks of streams stay in memory. */
  readonly memory: MemoryBudget;
  /** For INFO and CONFIG RESETSTAT. */
  readonly statistics: EngineStatistics = {
    expiredKeys: 0,
    keyspaceHits: 0,
    keyspaceMisses: 0,
    troubles: 0,
    setAside: 0,
    /** Entries appended, delivered to a consumer, and taken out of a pending list. */
    added: 0,
    delivered: 0,
    settled: 0,
  };
  /** The last uid given out; the checkpoint keeps it. */
  lastUid = 0;
  /** The last number given to a scheduled entry; records and the checkpoint keep it. */
  lastScheduled = 0;
  readonly #tick: Tick;
  /** Where the log stood when memory was changed last; -1 = not since the last command. */
  private changedAt = -1;
  private isStepUnrecorded = false;
  /** The latest steady ms in what is being restored and replayed. */
  private latestSteady = Number.NEGATIVE_INFINITY;

  constructor(options: EngineOptions) {
    this.clock = options.clock;
    this.random = options.random;
    this.journal = options.journal;
    this.recording = options.journal.enabled;
    this.time = new TurnClock(options.clock);
    this.now = this.time.now;
    this.steady = this.time.steady;
    this.seconds = Math.floor(this.now / 1000);
    this.memory = new MemoryBudget(this);
    for (let i = 0; i < (options.databases ?? 16); i++) this.databases.push(new Database(this, i));
    this.#tick = new Tick(this);
  }

  /** Before each command (or EXEC): reads the clock. */
  turn(): void {
    const { time } = this;
    if (time.read()) this.isStepUnrecorded = true;
    this.now = time.now;
    this.steady = time.steady;
    this.seconds = Math.floor(this.now / 1000);
    if (this.isStepUnrecorded) this.recordStep();
  }

  /** From here on changes go to this checkpoint, too. */
  attachCheckpoint(options: CheckpointerOptions): Checkpointer {
    this.checkpointer = new Checkpointer(this, options);
    return this.checkpointer;
  }

  /** What an earlier process knew of the clock's steps. */
  resumeTime(stepped: number): void {
    this.time.resume(stepped);
    this.now = this.time.now;
    this.steady = this.time.steady;
    this.seconds = Math.floor(this.now / 1000);
  }

  /** Restored or replayed: an earlier process did something at this steady ms. */
  noteSteady(steady: number): void {
    if (steady > this.latestSteady) this.latestSteady = steady;
  }

  /** After the replay: durations continue from where they were, even if the clock was set back since. */
  resumeDurations(): void {
    if (this.time.isNotBefore(this.latestSteady)) this.isStepUnrecorded = true;
    this.turn();
  }

  /** After each command or EXEC: serves readers whose keys were signalled, as Redis's handleClientsBlockedOnKeys. */
  serveBlocked(): void {
    this.changedAt = -1;
    this.journal.boundary();
    this.blocked.serve();
    if (this.events !== null) this.events.publish();
    if (this.announcements.waiting) this.announcements.publish();
  }

  /** CONFIG SET notify-keyspace-events. */
  setKeyspaceEvents(classes: string): void {
    const read = readEventClasses(classes);
    this.events = read === 0 ? null : new KeyspaceEvents(read, this.channels);
  }

  /** What is due (tick.ts); called ten times a second and at nextDeadline(). */
  tick(): void {
    releaseScratch();
    this.turn();
    this.#tick.run();
  }

  /** Monotonic ms at which tick() has something to do; Infinity when nothing waits. */
  nextDeadline(): number {
    return this.#tick.nextDeadline();
  }

  beginDuty(): void {
    this.changedAt = -1;
  }

  reportFailure(what: string, error: unknown): void {
    this.statistics.troubles++;
    this.onUnexpectedError(error);
    this.onFailure?.(what, error);
  }

  /** Something is due at this monotonic ms. */
  dueAt(at: number): void {
    if (this.onDue !== null && !this.replaying) this.onDue(at);
  }

  /**
   * Memory is about to be changed. Each mutator calls it, most of them through `touch`. Returns the
   * position before the record of the change.
   */
  changing(): number {
    this.changedAt = this.journal.appended;
    return this.changedAt;
  }

  /**
   * A command or another operation threw what it should not. Where it had changed memory and not
   * recorded the change, memory is ahead of the log: later records would not fit what a replay
   * finds, so the log takes no more.
   */
  onUnexpectedError(error: unknown): void {
    const { journal } = this;
    // A damaged block is met before the stream that has it is changed.
    if (!this.recording || (isDamage(error) && !journal.unfinished)) return;
    if (journal.unfinished || this.changedAt === journal.appended) {
      journal.fail('record a change', error);
    }
  }

  /** A number never given out before: names keyspaces and keys in the checkpoint. */
  nextUid(): number {
    return ++this.lastUid;
  }

  /** A stream without entries, in no database yet. */
  newStream(): StreamValue {
    return new StreamValue(new Stream(this.nodeLimits));
  }

  /** A group that is in no stream yet, whose pending pages the checkpointer can follow. */
  newGroup(name: Buffer, lastId: StreamId, entriesRead: Whole): ConsumerGroup {
    return new ConsumerGroup(name, lastId, entriesRead, this.epoch);
  }

  setReplaying(replaying: boolean): void {
    this.replaying = replaying;
    this.recording = this.journal.enabled && !replaying;
  }

  /** Delivery times mean the same after a restart only when the steps of the clock are known. */
  private recordStep(): void {
    if (this.journal.refusal !== null) return;
    this.isStepUnrecorded = false;
    if (!this.recording) return;
    this.journal.begin(RecordType.CLOCK).f64(this.time.stepped);
    this.journal.end();
  }

  // ---- Mutators over all databases

  flushAll(): void {
    for (const database of this.databases) {
      this.changes += database.keyspace.table.size;
      database.clear();
    }
    if (!this.recording) return;
    this.journal.begin(RecordType.FLUSHALL).varint(0);
    this.journal.end();
  }

  swap(a: Database, b: Database): void {
    if (a === b) return;
    this.changes++;
    a.swapWith(b);
    if (!this.recording) return;
    const record = this.journal.begin(RecordType.SWAPDB);
    record.varint(a.index);
    record.varint(b.index);
    this.journal.end();
  }
}
