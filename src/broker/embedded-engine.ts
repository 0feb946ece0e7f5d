/**
 * The engine inside this process: what the embedded brokers of one memory or one directory share.
 *
 * Plays the server's part: gives every change a turn, lets blocked readers have theirs, writes the log
 * and keeps to "nothing is seen before it is safe": whatever a turn brought forth (receipts,
 * deliveries, settlements) waits in one queue until the log holds all that it could have observed.
 * Invariants: one timer at most, set for the engine's next deadline; nothing here keeps a process
 * alive that has no subscriber and no scheduled message.
 * Cost: a turn costs what the engine's work costs; with a directory, turns of one tick share a write.
 */
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import type { Database } from '../engine/database.ts';
import { Engine } from '../engine/engine.ts';
import type { KeyEntry } from '../engine/key-entry.ts';
import type { DurableEngine } from '../engine/open-durable-engine.ts';
import { RivuletError } from '../errors.ts';
import { type Journal, NullJournal } from '../storage/journal.ts';
import type { StreamId } from '../stream/stream-id.ts';
import { Random } from '../util/random.ts';
import { LocalRequests } from './local-requests.ts';
import type { Scheduler } from './scheduler.ts';

/** One who consumes a group of a topic in this process. */
export interface GroupMember {
  readonly topic: string;
  readonly group: string;
  readonly consumer: string;
  /** It is its turn to lead the group, or no longer. */
  lead(leads: boolean): void;
  /** Everything that it holds of the topic is no longer its. */
  loseAll(reason: string): void;
  /** An entry was trimmed away before the group had settled it. */
  trimmed(id: string): void;
  /** An entry has left the group without a handler. */
  buried(id: string, reason: string, moved: boolean): void;
}

interface Waiting {
  readonly position: number;
  readonly done: (error: RivuletError | null) => void;
}

const HOUSEKEEPING_MS = 200;
/** The clock may be set, and dates come sooner than their timer: they are looked at this often, ms. */
const LONGEST_TIMER_MS = 60_000;

export class EmbeddedEngine {
  readonly engine: Engine;
  readonly scheduler: Scheduler;
  readonly requests: LocalRequests;
  /** Hears of every topic that takes a name, within the turn. */
  readonly topicListeners = new Set<(topic: string) => void>();
  readonly #durable: DurableEngine | null;
  readonly #journal: Journal;
  /** By group and topic, in the order they came; the first one leads where the group is ordered. */
  readonly #members = new Map<string, GroupMember[]>();
  /** Groups whose members of former lives have been dealt with. */
  readonly #tidied = new Set<string>();
  readonly #appeared: KeyEntry[] = [];
  readonly #waiting: Waiting[] = [];
  #depth = 0;
  #releasing = false;
  #flushing = false;
  #failure: RivuletError | null = null;
  #cancelTimer: (() => void) | null = null;
  #armedFor = Number.POSITIVE_INFINITY;
  #housekeptAt = Number.NEGATIVE_INFINITY;
  #cancelHousekeeping: (() => void) | null = null;
  #closed = false;

  /** On a data directory, or in memory alone. */
  constructor(scheduler: Scheduler, durable: DurableEngine | null = null) {
    this.scheduler = scheduler;
    this.#durable = durable;
    this.engine = durable?.engine ?? inMemory(scheduler);
    this.#journal = this.engine.journal;
    this.requests = new LocalRequests(scheduler);
    if (durable === null) return;
    durable.log.onDurable = () => this.#release();
    durable.log.onFatal = (error) => this.#fail(error);
  }

  /** Before the first turn. */
  async start(): Promise<void> {
    const { engine } = this;
    engine.streamAppeared = (database, entry) => {
      if (database === this.database) this.#appeared.push(entry);
    };
    engine.burials = {
      buried: (entry, group, id, reason, moved) =>
        this.#tell(entry, group, id, (member, name) => member.buried(name, reason, moved)),
      trimmed: (entry, group, id) =>
        this.#tell(entry, group, id, (member, name) => member.trimmed(name)),
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

  /** Why no change can be made now; null when one can. */
  get refusal(): RivuletError | null {
    if (this.#failure !== null) return this.#failure;
    const { refusal } = this.#journal;
    return refusal === null ? null : new RivuletError('WRITES_REFUSED', refusal);
  }

  /** One turn: `work` and its consequences, at one point of time. Throws what `work` throws. */
  run<T>(work: (engine: Engine) => T): T {
    if (this.#closed) throw new RivuletError('CLOSED', 'the broker is disconnected');
    const { engine } = this;
    if (this.#depth > 0) return work(engine);
    this.#depth++;
    try {
      engine.turn();
      return work(engine);
    } catch (error) {
      // What is thrown on purpose has changed nothing that is not recorded.
      if (!(error instanceof RivuletError)) engine.threw(error);
      throw error;
    } finally {
      this.#announce();
      engine.settle();
      this.#announce();
      this.#depth--;
      this.#ended();
    }
  }

  /** A turn that changes something: refused while the disk takes no records. */
  change<T>(work: (engine: Engine) => T): T {
    const { refusal } = this;
    if (refusal !== null) {
      // The refusal ends only when the log looks at the disk again.
      this.#keepHouse();
      throw refusal;
    }
    return this.run(work);
  }

  /** Calls back, never within a turn, once everything done so far is as durable as it is to be. */
  whenSafe(done: (error: RivuletError | null) => void): void {
    this.#waiting.push({ position: this.#journal.gate, done });
    if (this.#waiting.length === 1) queueMicrotask(() => this.#release());
  }

  safe(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.whenSafe((error) => (error === null ? resolve() : reject(error)));
    });
  }

  // ---- Members of groups

  /** Enters a member; the first one of its group and topic is told to lead. */
  join(member: GroupMember): void {
    const key = keyOf(member);
    const members = this.#members.get(key);
    if (members === undefined) this.#members.set(key, [member]);
    else members.push(member);
    if (members === undefined) member.lead(true);
  }

  leave(member: GroupMember): void {
    const key = keyOf(member);
    const members = this.#members.get(key) ?? [];
    const at = members.indexOf(member);
    if (at < 0) return;
    members.splice(at, 1);
    if (members.length === 0) this.#members.delete(key);
    else if (at === 0) members[0]?.lead(true);
  }

  /** The leader lets the next one lead; it may come to lead again. False when there is no other. */
  yieldLead(member: GroupMember): boolean {
    const members = this.#members.get(keyOf(member)) ?? [];
    if (members.length < 2 || members[0] !== member) return false;
    members.shift();
    members.push(member);
    member.lead(false);
    members[0]?.lead(true);
    return true;
  }

  members(topic: string, group: string): readonly GroupMember[] {
    return this.#members.get(keyOf({ topic, group })) ?? [];
  }

  membersOfTopic(topic: string): GroupMember[] {
    return [...this.#members.values()].flat().filter((member) => member.topic === topic);
  }

  /** True the first time that it is asked about a group. */
  tidies(topic: string, group: string): boolean {
    if (this.#durable === null) return false;
    const key = keyOf({ topic, group });
    if (this.#tidied.has(key)) return false;
    this.#tidied.add(key);
    return true;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#cancelHousekeeping?.();
    this.#cancelHousekeeping = null;
    this.requests.close();
    await this.#durable?.close();
    this.#release();
  }

  #ended(): void {
    this.#arm();
    const durable = this.#durable;
    if (durable === null) return;
    if (!this.#flushing) {
      this.#flushing = true;
      // What is done in this tick goes to disk together.
      queueMicrotask(() => {
        this.#flushing = false;
        durable.flush();
      });
    }
    this.#keepHouse();
  }

  /**
   * Comes with the turns, and by a timer while records wait for the disk or the disk takes none: then
   * a second try must not depend on a caller that publishes. The timer keeps the process alive only
   * for records that a caller waits for.
   */
  #keepHouse(): void {
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
      this.#keepHouse();
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
    // What is told may make more turns, whose consequences line up behind.
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

  /** Reports an entry that left its group to one member of the group, once that is durable. */
  #tell(
    entry: KeyEntry,
    group: ConsumerGroup,
    id: StreamId,
    tell: (member: GroupMember, id: string) => void,
  ): void {
    const [member] = this.members(entry.key.toString(), group.name.toString());
    if (member === undefined) return;
    const name = id.toString();
    this.whenSafe(() => tell(member, name));
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
  // Neither may hold a space.
  return `${topic} ${group}`;
}
