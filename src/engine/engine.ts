/**
 * The core: sixteen databases, blocked readers, publish/subscribe channels and the schedule, one
 * operation at a time, deterministic: time, chance and the log come in as arguments.
 *
 *   turn()  before a command or EXEC: the time stands still until the next
 *   settle() after it: blocked readers whose keys were signalled
 *   tick()  now and then: expired keys, entries whose time has come, overdue readers, tables half
 *           resized
 */

import { ConsumerGroup } from '../consumer-groups/group.ts';
import type { Epoch } from '../consumer-groups/page-store.ts';
import type { Journal } from '../storage/journal.ts';
import { isDamage } from '../stream/block-damage.ts';
import { defaultNodeLimits, type NodeLimits } from '../stream/node-limits.ts';
import { Stream } from '../stream/stream.ts';
import type { StreamId } from '../stream/stream-id.ts';
import type { Clock } from '../util/clock.ts';
import type { Random } from '../util/random.ts';
import { releaseScratch } from '../util/scratch.ts';
import type { Whole } from '../util/whole.ts';
import { BlockedReaders } from './blocked-readers.ts';
import { Channels } from './channels.ts';
import type { Checkpointer } from './checkpointer.ts';
import { DamagedStreams } from './damaged-streams.ts';
import { Database } from './database.ts';
import type { BurialListener } from './group-policy.ts';
import { forgetIdempotentIds } from './idempotency-expiry.ts';
import type { KeyEntry } from './key-entry.ts';
import { KeyspaceEvents, readEventClasses } from './keyspace-events.ts';
import { MemoryBudget } from './memory-budget.ts';
import { type Parts, partsRules } from './parts.ts';
import { RecordType } from './records.ts';
import { Responders } from './responders.ts';
import { expireEntries } from './retention.ts';
import { addDue } from './scheduled-entries.ts';
import { StreamAnnouncements } from './stream-announcements.ts';
import { StreamValue } from './stream-value.ts';
import { TurnClock } from './turn-clock.ts';

export interface EngineOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly journal: Journal;
  /** @default 16 */
  readonly databases?: number;
}

/** Time that one tick takes for expired keys, and when the next one comes where there are more, ms. */
const EXPIRY_MS = 5;
const EXPIRY_PAUSE_MS = 10;
/** Keys that are removed between two looks at the clock. */
const EXPIRED_AT_ONCE = 64;
/** Most buckets that one tick moves: about a millisecond's work. */
const BUCKETS_PER_TICK = 2000;
/** While the log takes no records, `nextDeadline` is at least so far away. */
const REFUSED_MS = 100;

export class Engine {
  readonly clock: Clock;
  readonly random: Random;
  readonly journal: Journal;
  readonly databases: Database[] = [];
  readonly blocked = new BlockedReaders();
  readonly channels = new Channels();
  /** SPUBLISH and SSUBSCRIBE: names of their own. */
  readonly shardChannels = new Channels();
  readonly announcements = new StreamAnnouncements(this.shardChannels);
  /** Tells what happens to keys; null = nobody wants to know, and while replaying. */
  events: KeyspaceEvents | null = null;
  /** Requests and replies under way. */
  readonly responders = new Responders<Parts>(partsRules);
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
  /** True while records are being replayed: mutators then journal nothing and wake nobody. */
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
  /**
   * For whoever reads streams by pattern: a stream took a name (made, renamed, moved, copied,
   * restored). Called in the middle of that change, so it may only take note.
   */
  streamAppeared: ((database: Database, entry: KeyEntry) => void) | null = null;
  /** Hears of entries that left their group for the dead letter; may only take note. */
  burials: BurialListener | null = null;
  /** For the caller of `tick`: there is something to do at this monotonic ms, earlier than was known. */
  onDue: ((at: number) => void) | null = null;
  /** Streams that cannot be read whole. */
  readonly damaged = new DamagedStreams();
  /** A duty of the tick has failed, or an entry was set aside; it may only be noted. */
  onTrouble: ((what: string, error: unknown) => void) | null = null;
  /** Which blocks of streams stay in memory. */
  readonly memory: MemoryBudget;
  /** For INFO and CONFIG RESETSTAT. */
  readonly statistics = {
    expiredKeys: 0,
    keyspaceHits: 0,
    keyspaceMisses: 0,
    troubles: 0,
    setAside: 0,
  };
  /** The last uid given out; the checkpoint keeps it. */
  lastUid = 0;
  /** The last number given to a scheduled entry; records and the checkpoint keep it. */
  lastScheduled = 0;
  private databaseToTick = 0;
  /** Where the log stood when memory was changed last; -1 = not since the last command. */
  private changedAt = -1;
  /** Monotonic ms at which expired keys that one tick had no time for are gone on with. */
  private expireAgainAt = Number.POSITIVE_INFINITY;
  private isStepUnrecorded = false;

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

  /** What an earlier process knew of the clock's steps. */
  resumeTime(stepped: number): void {
    this.time.resume(stepped);
    this.now = this.time.now;
    this.steady = this.time.steady;
    this.seconds = Math.floor(this.now / 1000);
  }

  /** After each command or EXEC: serves readers whose keys were signalled, as Redis's handleClientsBlockedOnKeys. */
  settle(): void {
    this.changedAt = -1;
    this.journal.boundary();
    this.blocked.settle();
    if (this.events !== null) this.events.publish();
    if (this.announcements.waiting) this.announcements.publish();
  }

  /** CONFIG SET notify-keyspace-events. */
  notifyOf(classes: string): void {
    const read = readEventClasses(classes);
    this.events = read === 0 ? null : new KeyspaceEvents(read, this.channels);
  }

  /** Expiry cycle, overdue deadlines, table resizing; called ten times a second and at nextDeadline(). */
  tick(): void {
    releaseScratch();
    this.turn();
    this.duty('expiring keys', () => this.expireKeys());
    this.duty('forgetting idempotent ids', () => forgetIdempotentIds(this));
    this.duty('adding scheduled entries', () => addDue(this));
    this.duty('retention', () => expireEntries(this));
    this.duty('ending requests', () => this.responders.expire(this.clock.monotonic()));
    this.duty('resizing tables', () => {
      for (const database of this.databases) database.keyspace.table.step(BUCKETS_PER_TICK);
    });
    this.duty('keeping to the memory budget', () => this.memory.tick());
    this.duty('serving blocked readers', () => this.settle());
    this.duty('ending waits', () => this.blocked.expire(this.time.monotonic));
    // What a reader that was tried again has written (dead letters) may be what others wait for.
    this.duty('serving blocked readers', () => this.settle());
  }

  /** A duty of the tick that throws does not keep the others from being done. */
  private duty(what: string, work: () => void): void {
    this.changedAt = -1;
    try {
      work();
    } catch (error) {
      this.trouble(what, error);
    }
  }

  /** Something that no command waits for has failed: counted, and reported to the shell. */
  trouble(what: string, error: unknown): void {
    this.statistics.troubles++;
    this.threw(error);
    this.onTrouble?.(what, error);
  }

  /** Monotonic ms at which tick() has something to do; Infinity when nothing waits. */
  nextDeadline(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { keyspace } of this.databases) {
      const aging = keyspace.aging.first()?.expireAt ?? Number.POSITIVE_INFINITY;
      next = Math.min(next, aging, keyspace.schedule.firstAt);
    }
    const date = Math.min(this.time.whenDate(next), this.expireAgainAt);
    const due = Math.min(this.blocked.nextDeadline(), date);
    // What is due and cannot be recorded now would make the shell call at once, again and again.
    return this.journal.refusal === null ? due : Math.max(due, this.time.monotonic + REFUSED_MS);
  }

  /** Something is due at this unix ms. */
  dueAt(at: number): void {
    if (this.onDue !== null && !this.replaying) this.onDue(this.time.whenDate(at));
  }

  /** Memory is about to be changed. Each mutator calls it, most of them through `touch`. */
  changing(): void {
    this.changedAt = this.journal.appended;
  }

  /**
   * A command or another operation threw what it should not. Where it had changed memory and not
   * recorded the change, memory is ahead of the log: later records would not fit what a replay
   * finds, so the log takes no more.
   */
  threw(error: unknown): void {
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
    a.exchange(b);
    if (!this.recording) return;
    const record = this.journal.begin(RecordType.SWAPDB);
    record.varint(a.index);
    record.varint(b.index);
    this.journal.end();
  }

  /**
   * Removes keys whose time has come, for EXPIRY_MS a call, each database's in turn first; where that
   * is not enough the next call comes after EXPIRY_PAUSE_MS, so expiry keeps up with what expires.
   * No client has to wait for it: a look-up removes an expired key itself.
   */
  private expireKeys(): void {
    if (this.journal.refusal !== null) return;
    const databases = this.databases;
    this.expireAgainAt = Number.POSITIVE_INFINITY;
    const end = this.clock.monotonic() + EXPIRY_MS;
    let removed = 0;
    for (let i = 0; i < databases.length; i++) {
      this.databaseToTick = (this.databaseToTick + 1) % databases.length;
      const database = databases[this.databaseToTick];
      for (;;) {
        const entry = database.keyspace.expiring.first();
        if (entry === undefined || !database.collect(entry)) break;
        if (++removed % EXPIRED_AT_ONCE !== 0 || this.clock.monotonic() < end) continue;
        // There may be more: they have the next turn, and commands theirs before.
        this.expireAgainAt = this.clock.monotonic() + EXPIRY_PAUSE_MS;
        return;
      }
    }
  }
}
