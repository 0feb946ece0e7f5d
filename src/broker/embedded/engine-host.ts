/**
 * Runs the engine inside this process, for the embedded brokers that share one memory or one directory.
 *
 * As the server does, it runs each change in a turn, then serves blocked readers, and writes the log.
 * "Nothing is seen before it is safe": the results of a turn (receipts, deliveries, settlements) wait
 * in one queue until the log holds everything that they could have observed.
 * Invariants: one timer at most, set for the engine's next deadline; a process without a subscriber
 * and without a scheduled message can end.
 * Cost: a turn costs what the engine's work costs; with a directory, turns of one tick share a write.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { Engine } from '../../engine/engine.ts';
import type { Database } from '../../engine/keyspace/database.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import type { DurableEngine } from '../../engine/open-durable-engine.ts';
import { RivuletError } from '../../errors.ts';
import { type Journal, NullJournal } from '../../storage/log/journal.ts';
import type { StreamId } from '../../stream/stream-id.ts';
import { Random } from '../../util/random.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { LocalRequests } from '../requests/local-requests.ts';
import { EngineWarnings } from './engine-warnings.ts';
import type { HandOverMarks } from './hand-over-marks.ts';

/** A subscription of this process that reads a group of a topic. */
export interface GroupMember {
  readonly topic: string;
  readonly group: string;
  readonly consumer: string;
  /** Nothing more can be handled there. */
  readonly isStuck: boolean;
  /** It leads the group from now on, or no longer. */
  onLead(leads: boolean): void;
  /** The broker has taken away all its deliveries of the topic. */
  revokeAll(reason: string): void;
  /** An entry was trimmed before the group had settled it. */
  onTrimmed(id: string): void;
  /** The engine took an entry without attempts left from the group. `moved`: to the dead letter. */
  onAttemptsUsed(id: string, reason: string, moved: boolean): void;
}

interface Waiting {
  readonly position: number;
  readonly done: (error: RivuletError | null) => void;
}

const HOUSEKEEPING_MS = 200;
/** How long the records of `changeLater` wait for others, ms. */
const LATER_MS = 50;
/** The system clock may be set, so a date can come before its timer: the longest timer, ms. */
const LONGEST_TIMER_MS = 60_000;

export class EngineHost {
  readonly engine: Engine;
  readonly scheduler: Scheduler;
  readonly requests: LocalRequests;
  /** Null in memory, or where the directory has no file for them. */
  readonly marks: HandOverMarks | null;
  /** Failures that no caller awaits. */
  readonly warnings: EngineWarnings;
  /** Notified of every new topic, within the turn that creates it. */
  readonly topicListeners = new Set<(topic: string) => void>();
  readonly #durable: DurableEngine | null;
  readonly #journal: Journal;
  /** By group and topic, in the order in which they joined; the first one leads an ordered group. */
  readonly #members = new Map<string, GroupMember[]>();
  /** Groups in which the consumers of earlier processes were cleaned up. */
  readonly #cleanedUp = new Set<string>();
  readonly #appeared: KeyEntry[] = [];
  readonly #watchers = new Map<string, Set<() => void>>();
  readonly #waiting: Waiting[] = [];
  #depth = 0;
  #flushesLater = false;
  #releasing = false;
  #flushing = false;
  #cancelFlushLater: (() => void) | null = null;
  #failure: RivuletError | null = null;
  #cancelTimer: (() => void) | null = null;
  #armedFor = Number.POSITIVE_INFINITY;
  #housekeptAt = Number.NEGATIVE_INFINITY;
  #cancelHousekeeping: (() => void) | null = null;
  #closed = false;

  /** On a data directory, or in memory alone. */
  constructor(
    scheduler: Scheduler,
    durable: DurableEngine | null = null,
    marks: HandOverMarks | null = null,
  ) {
    this.scheduler = scheduler;
    this.#durable = durable;
    this.marks = marks;
    this.engine = durable?.engine ?? inMemory(scheduler);
    this.#journal = this.engine.journal;
    this.requests = new LocalRequests(scheduler);
    this.warnings = new EngineWarnings(scheduler, this.engine, durable);
    if (durable === null) return;
    durable.log.onDurable = () => this.#release();
    durable.log.onFatal = (error) => this.#fail(error);
  }

  /** Before the first turn. */
  async start(): Promise<void> {
    const { engine } = this;
    engine.onStreamAdded = (database, entry) => {
      if (database === this.database.index) this.#appeared.push(entry);
    };
    engine.deadLetters = {
      onDeadLetter: (entry, group, id, reason, moved) =>
        this.#report(entry, group, id, (member, name) =>
          member.onAttemptsUsed(name, reason, moved),
        ),
      onTrimmed: (entry, group, id) =>
        this.#report(entry, group, id, (member, name) => member.onTrimmed(name)),
    };
    engine.turn();
    this.#arm();
  }

  get database(): Database {
    return this.engine.databases[0] as Database;
  }

  /** Whether messages outlive this process. */
  get isDurable(): boolean {
    return this.#durable !== null;
  }

  /** Why writes are refused now; null when they are accepted. */
  get refusal(): RivuletError | null {
    if (this.#failure !== null) return this.#failure;
    const { refusal } = this.#journal;
    return refusal === null ? null : new RivuletError('WRITES_REFUSED', refusal);
  }

  /** One turn: `work` and its effects, at one point of time. Throws what `work` throws. */
  run<T>(work: (engine: Engine) => T): T {
    if (this.#closed) throw new RivuletError('CLOSED', 'the broker is disconnected');
    const { engine } = this;
    if (this.#depth > 0) return work(engine);
    this.#depth++;
    try {
      engine.turn();
      return work(engine);
    } catch (error) {
      // A RivuletError is thrown before any change that is not recorded; other errors may not be.
      if (!(error instanceof RivuletError)) engine.onUnexpectedError(error);
      throw error;
    } finally {
      this.#announce();
      engine.serveBlocked();
      this.#announce();
      this.#depth--;
      this.#ended();
    }
  }

  /** A turn that changes something: refused while the log accepts no records. */
  change<T>(work: (engine: Engine) => T): T {
    const { refusal } = this;
    if (refusal !== null) {
      // The refusal ends when housekeeping has checked the disk again.
      this.#housekeep();
      throw refusal;
    }
    return this.run(work);
  }

  /** As `change`, for what outlives this process by other means: its records go with those of others. */
  changeLater<T>(work: (engine: Engine) => T): T {
    this.#flushesLater = true;
    try {
      return this.change(work);
    } finally {
      this.#flushesLater = false;
    }
  }

  /** Calls back, never within a turn, when everything done so far is durable, or cannot become so. */
  whenDurable(done: (error: RivuletError | null) => void): void {
    this.#waiting.push({ position: this.#journal.gate, done });
    if (this.#waiting.length === 1) queueMicrotask(() => this.#release());
  }

  /** Calls back after each commit to a journal, until the returned function is called. */
  watchKey(key: string, listener: () => void): () => void {
    const listeners = this.#watchers.get(key) ?? new Set();
    this.#watchers.set(key, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#watchers.get(key) === listeners) this.#watchers.delete(key);
    };
  }

  notifyWatchers(key: string): void {
    for (const listener of [...(this.#watchers.get(key) ?? [])]) listener();
  }

  durable(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.whenDurable((error) => (error === null ? resolve() : reject(error)));
    });
  }

  // ---- Members of groups

  /** Adds a member; the first one of its group and topic leads. */
  join(member: GroupMember): void {
    const key = keyOf(member);
    const members = this.#members.get(key);
    if (members === undefined) this.#members.set(key, [member]);
    else members.push(member);
    if (members === undefined) member.onLead(true);
  }

  leave(member: GroupMember): void {
    const key = keyOf(member);
    const members = this.#members.get(key) ?? [];
    const at = members.indexOf(member);
    if (at < 0) return;
    members.splice(at, 1);
    if (members.length === 0) this.#members.delete(key);
    else if (at === 0) members[0]?.onLead(true);
  }

  /** The next member that is not stuck leads, and those before it go behind the others. False where all are. */
  yieldLead(member: GroupMember): boolean {
    const members = this.#members.get(keyOf(member)) ?? [];
    if (members[0] !== member) return false;
    // One that is stuck would yield in its turn, and so on without an end.
    const next = members.findIndex((each) => each !== member && !each.isStuck);
    if (next < 0) return false;
    members.push(...members.splice(0, next));
    member.onLead(false);
    members[0]?.onLead(true);
    return true;
  }

  members(topic: string, group: string): readonly GroupMember[] {
    return this.#members.get(keyOf({ topic, group })) ?? [];
  }

  membersOfTopic(topic: string): GroupMember[] {
    return [...this.#members.values()].flat().filter((member) => member.topic === topic);
  }

  /** Whether a group has to be cleaned up: true for the first call of each group. */
  cleansUp(topic: string, group: string): boolean {
    if (this.#durable === null) return false;
    const key = keyOf({ topic, group });
    if (this.#cleanedUp.has(key)) return false;
    this.#cleanedUp.add(key);
    return true;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#cancelHousekeeping?.();
    this.#cancelHousekeeping = null;
    this.#cancelFlushLater?.();
    this.#cancelFlushLater = null;
    this.requests.close();
    try {
      await this.#durable?.close();
    } finally {
      this.marks?.close();
      this.#release();
    }
  }

  #ended(): void {
    this.#arm();
    const durable = this.#durable;
    if (durable === null) return;
    // What was delivered in this turn waits for the log.
    if (this.#flushesLater && this.#waiting.length === 0) {
      this.#cancelFlushLater ??= this.scheduler.after(LATER_MS, () => {
        this.#cancelFlushLater = null;
        durable.flush();
      });
    } else if (!this.#flushing) {
      this.#flushing = true;
      // The records of one tick go to disk together.
      queueMicrotask(() => {
        this.#flushing = false;
        durable.flush();
      });
    }
    this.#housekeep();
  }

  /**
   * Runs after turns, and by a timer while records wait for the disk or are refused: the next try must
   * not depend on another publish. The timer keeps the process alive only where a caller waits for
   * records.
   */
  #housekeep(): void {
    const durable = this.#durable;
    if (durable === null || this.#closed || this.#failure !== null) return;
    const now = this.scheduler.monotonic();
    if (now - this.#housekeptAt >= HOUSEKEEPING_MS) {
      this.#housekeptAt = now;
      durable.housekeep();
      this.engine.memory.tick();
    }
    if (this.#cancelHousekeeping !== null || !durable.unsettled) return;
    const keepsAlive = this.#waiting.length > 0;
    const run = (): void => {
      this.#cancelHousekeeping = null;
      this.#housekeep();
    };
    this.#cancelHousekeeping = this.scheduler.after(HOUSEKEEPING_MS, run, keepsAlive);
  }

  #announce(): void {
    for (let entry = this.#appeared.shift(); entry !== undefined; entry = this.#appeared.shift()) {
      if (entry.removed) continue;
      const topic = entry.key.toString();
      for (const listener of [...this.topicListeners]) listener(topic);
    }
  }

  #release(): void {
    if (this.#releasing) return;
    this.#releasing = true;
    const { safe } = this.#journal;
    let count = 0;
    // Callbacks may run more turns, whose results are appended.
    for (; count < this.#waiting.length; count++) {
      const { position, done } = this.#waiting[count] as Waiting;
      if (position > safe && this.#failure === null && !this.#closed) break;
      done(position > safe ? (this.#failure ?? CLOSED) : null);
    }
    this.#waiting.splice(0, count);
    this.#releasing = false;
  }

  #fail(cause: Error): void {
    this.#failure = new RivuletError('WRITES_REFUSED', `the disk has failed: ${cause.message}`, {
      cause,
    });
    this.#release();
  }

  /** Reports an entry that left its group to one member of the group, when that is durable. */
  #report(
    entry: KeyEntry,
    group: ConsumerGroup,
    id: StreamId,
    tell: (member: GroupMember, id: string) => void,
  ): void {
    const [member] = this.members(entry.key.toString(), group.name.toString());
    if (member === undefined) return;
    const name = id.toString();
    this.whenDurable(() => tell(member, name));
  }

  #arm(): void {
    const next = this.engine.nextDeadline();
    if (next === Number.POSITIVE_INFINITY) {
      this.#cancelTimer?.();
      this.#cancelTimer = null;
      this.#armedFor = next;
      return;
    }
    if (next >= this.#armedFor || this.#closed) return;
    this.#cancelTimer?.();
    this.#armedFor = next;
    const wait = Math.min(Math.max(0, next - this.scheduler.monotonic()), LONGEST_TIMER_MS);
    this.#cancelTimer = this.scheduler.after(wait, () => {
      this.#cancelTimer = null;
      this.#armedFor = Number.POSITIVE_INFINITY;
      if (!this.#closed) this.run((engine) => engine.tick());
    });
  }
}

const CLOSED = new RivuletError('CLOSED', 'the broker was disconnected before it was stored');

function inMemory(scheduler: Scheduler): Engine {
  const seed = Math.floor(scheduler.fraction() * 0x1_0000_0000);
  const journal = new NullJournal();
  return new Engine({ clock: scheduler, random: new Random(seed), journal, databases: 16 });
}

function keyOf({ topic, group }: Pick<GroupMember, 'topic' | 'group'>): string {
  // Neither contains a space.
  return `${topic} ${group}`;
}
