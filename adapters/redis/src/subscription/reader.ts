/**
 * Reads messages for one subscription, on a connection that blocks for new ones.
 *
 * In each turn it (1) claims again what it had received before its connection was lost, (2) on Redis scans
 * for messages that are due or whose consumer died, (3) blocks for new messages for at most `BLOCK_MS`.
 * After an error it reports it, waits longer each time, and continues on a new connection.
 * Until the dispatcher fetches ahead, the server counts no read: each hand-over is counted when it
 * happens, so a message that ends the process costs no other an attempt.
 * Invariants: what it has asked for and what it claims are together at most the subscription's room. In
 * an ordered group the leader of a topic reads it. A leader that does not renew its lead loses it, and
 * the next one begins with everything that is pending. A topic that the server refuses to read (a key of
 * another type, for example) is skipped for 5 s, and the others are read.
 * Cost: one connection; one command a second while nothing arrives, and one scan a second on Redis.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Dispatcher,
  type Events,
  isOutage,
  pause,
  RivuletError,
  trimmed,
} from 'rivulet/adapter';
import { type Connection, type Connector, isGroupLost } from '../connection.ts';
import type { Dialect, Taken } from '../dialect/dialect.ts';
import type { MessageCodec } from '../message-codec.ts';
import { type GroupTopic, timeOf } from './group-topic.ts';
import type { Room } from './room.ts';
import type { Delivered } from './settlements.ts';

/** Well below the time after which proxies and firewalls drop a silent connection. */
const BLOCK_MS = 1000;
const LOOK_EVERY_MS = 1000;
const GATHER_MS = 1;
const STRAYS_AT_ONCE = 1000;
/** A lead expires after this. The leader renews it in each turn, so at least every BLOCK_MS. */
const LEAD_MS = 5000;
/** How often a member asks for the lead. */
const ASK_FOR_LEAD_MS = 250;
/** How long a topic is skipped after the server has refused to read it. */
const REFUSED_MS = 5000;
/** The largest id: a read after it returns nothing, or the error. */
const BEYOND = '18446744073709551615-18446744073709551615';

export interface ReaderSetup {
  readonly connector: Connector;
  readonly commands: Connection;
  readonly dialect: Dialect;
  readonly consumer: string;
  readonly dispatcher: Dispatcher<Delivered>;
  readonly codec: MessageCodec;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
  /** One consumer of the group at a time. */
  readonly exclusive: boolean;
  readonly room: Room;
  /** How many topics share the room. */
  readonly sharers: () => number;
  /** Called when a topic was deleted. Without this the topic is made again. */
  readonly onDeleted?: (topic: GroupTopic) => void;
}

/**
 * Rivulet's server adds the last three: how long it was pending, its attempts before, flags. Without
 * fields: it was pending and is no longer in the stream.
 */
type Entry = [
  id: Buffer,
  fields: Buffer[] | null,
  idleMs?: number,
  before?: number,
  flags?: number,
];
/** The server has counted this delivery as a hand-over. */
const COUNTED = 1;
/** Its last consumer neither settled it nor gave it back. */
const UNSETTLED = 2;

export class Reader {
  topics: GroupTopic[] = [];
  readonly #setup: ReaderSetup;
  readonly #stop = new AbortController();
  #connection: Connection | null = null;
  #running: Promise<void> | null = null;
  #looking: Promise<void> | null = null;
  #cancelLook: (() => void) | null = null;
  #whenFree: (() => void) | null = null;
  #closed = false;

  constructor(setup: ReaderSetup) {
    this.#setup = setup;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** The dispatcher has room again. */
  free(): void {
    this.#whenFree?.();
    this.#whenFree = null;
  }

  /** A message of the topic comes again after `delayMs`. */
  expect(topic: string, delayMs: number): void {
    const at = this.#now() + delayMs;
    for (const each of this.topics) {
      if (each.topic === topic && at < each.nextLook) each.nextLook = at;
    }
    this.#armLook();
  }

  /** Ends: it has no topic to read any more. */
  retire(): void {
    this.#closed = true;
    this.#cancelLook?.();
    this.#stop.abort();
    this.free();
    this.#connection?.close();
  }

  /** Reads no more. The dispatcher gives back what still arrives. */
  async stop(): Promise<void> {
    this.#closed = true;
    this.#cancelLook?.();
    this.#stop.abort();
    this.free();
    // A blocked read ends with its connection; `leave` releases what it had just brought.
    this.#connection?.close();
    await this.#running;
    await this.#looking;
  }

  /** Releases the lead and deletes the consumer; called after the dispatcher has drained. */
  async leave(): Promise<void> {
    const { commands, consumer, dialect } = this.#setup;
    for (const each of this.topics) {
      try {
        if (each.leading) await dialect.yieldLead(each, consumer);
        await this.#releaseStrays(each);
        const [own] = (await commands.call(
          'XPENDING',
          each.stream,
          each.group,
          '-',
          '+',
          1,
          consumer,
        )) as unknown[];
        if (own !== undefined) continue;
        await commands.call('XGROUP', 'DELCONSUMER', each.stream, each.group, consumer);
      } catch (error) {
        // If the server cannot be reached, other consumers claim the pending messages later.
        if (!isGroupLost(error)) this.#warn(error);
      }
    }
  }

  /** Releases what the last read brought after its connection was closed: no handler has it. */
  async #releaseStrays(each: GroupTopic): Promise<void> {
    const { commands, consumer, dialect, dispatcher } = this.#setup;
    const inHandlers = new Set(dispatcher.idsInHandlers(each.topic));
    for (let after = '-'; ; ) {
      const range = [each.stream, each.group, after, '+', STRAYS_AT_ONCE, consumer] as const;
      const strays = (await commands.call('XPENDING', ...range)) as [
        Buffer,
        Buffer,
        number,
        number,
      ][];
      for (const [name, , , attempt] of strays) {
        const id = name.toString();
        after = `(${id}`;
        // A handler that is still running after the drain keeps its message until the deadline.
        if (inHandlers.has(id)) continue;
        await dialect.release({ at: each, consumer, raw: { id, attempt } });
      }
      if (strays.length < STRAYS_AT_ONCE) return;
    }
  }

  async #run(): Promise<void> {
    const { broker, connector } = this.#setup;
    for (let failures = 0; !this.#closed; ) {
      try {
        this.#connection = connector.make('read', BLOCK_MS);
        await this.#connection.connect();
        if (this.#closed) break;
        for (const each of this.topics) each.recoverAfter ??= '';
        while (!this.#closed) {
          await this.#turn(this.#connection);
          failures = 0;
        }
      } catch (error) {
        if (this.#closed) break;
        if (isGroupLost(error)) {
          await this.#restoreGroups();
          continue;
        }
        this.#warn(error);
        failures++;
      } finally {
        this.#connection?.close();
      }
      await this.#rest(backoffMs(broker.reconnect, failures, broker.scheduler.fraction()));
    }
    this.#connection?.close();
  }

  async #turn(connection: Connection): Promise<void> {
    if (this.topics.length === 0) return this.#rest(LOOK_EVERY_MS);
    const { dispatcher, exclusive, room } = this.#setup;
    if (exclusive) await this.#lead(connection);
    const topics = this.#readable();
    if (topics.length === 0) return this.#rest(ASK_FOR_LEAD_MS);
    await this.#look(() => this.#claimable);
    if (room.left === 0) {
      await this.#untilFree();
      return;
    }
    if (dispatcher.fetchesAhead && room.left < dispatcher.options.maxInFlight >> 3) {
      // Nearly full: a moment later there is more room, and one read is enough for it.
      await this.#rest(GATHER_MS);
      if (room.left === 0) return;
    }
    if (topics.some((each) => each.recoverAfter !== null)) return;
    try {
      await this.#read(connection, topics);
    } catch (error) {
      if (this.#closed || isOutage(error)) throw error;
      // A read of many streams fails with one error; which stream it is about has to be found out.
      if (!(await this.#letRefusedRest(connection, topics, error))) throw error;
    }
  }

  /** Whether the server counts what this reads as handed over. */
  get #countsReads(): boolean {
    return this.#setup.dispatcher.fetchesAhead;
  }

  /** How many messages it may claim: what it claims is counted, and may end the process. */
  get #claimable(): number {
    const { left } = this.#setup.room;
    return this.#countsReads ? left : Math.min(left, 1);
  }

  /** The topics that this member may read now. */
  #readable(): GroupTopic[] {
    const now = this.#now();
    const { exclusive } = this.#setup;
    return this.topics.filter((each) => each.restsUntil <= now && (!exclusive || each.leading));
  }

  async #read(connection: Connection, topics: readonly GroupTopic[]): Promise<void> {
    const { dialect, dispatcher, room, sharers, consumer } = this.#setup;
    // Half of `maxInFlight`, so that the next read is sent while these messages are acknowledged.
    const most = Math.min(room.left, Math.ceil(dispatcher.options.maxInFlight / 2));
    const count = Math.floor(most / sharers());
    const counted = this.#countsReads;
    if (!dialect.hasTotalBound && (count === 0 || !counted)) {
      return this.#sweep(connection, topics, most, counted);
    }
    const asked = dialect.hasTotalBound ? most : count * topics.length;
    room.reserve(asked);
    try {
      this.#armLook();
      const reply = await connection.call(
        'XREADGROUP',
        'GROUP',
        (topics[0] as GroupTopic).group,
        consumer,
        ...dialect.readOptions(Math.max(1, count), most, dispatcher.options),
        'BLOCK',
        this.#blockMs(),
        'STREAMS',
        ...topics.map((each) => each.stream),
        ...topics.map(() => '>'),
      );
      this.#receive(reply as [Buffer, Entry[]][] | null);
    } finally {
      room.release(asked);
    }
  }

  /** Reads what there is within the room, then waits without claiming. */
  async #sweep(
    connection: Connection,
    topics: readonly GroupTopic[],
    most: number,
    counted: boolean,
  ): Promise<void> {
    const { dialect, room, consumer } = this.#setup;
    room.reserve(most);
    let isFull: boolean;
    try {
      const sweep = await dialect.sweep(topics, consumer, most, connection, counted);
      const { found, upTo, refusal } = sweep;
      topics.forEach((each, index) => {
        const entries = (found[index] ?? []).map(
          ([id, fields]): Entry => [id, fields, 0, 0, counted ? COUNTED : 0],
        );
        this.#receive([[Buffer.from(each.stream), entries]]);
        each.upTo = upTo[index] || each.upTo;
      });
      if (refusal !== null) throw refusal;
      isFull = found.reduce((sum, entries) => sum + entries.length, 0) === most;
    } finally {
      room.release(most);
    }
    if (isFull) return;
    this.#armLook();
    await connection.call(
      'XREAD',
      'COUNT',
      1,
      'BLOCK',
      this.#blockMs(),
      'STREAMS',
      ...topics.map((each) => each.stream),
      ...topics.map((each) => each.upTo),
    );
  }

  /** Skips the topics that the error is about. Resolves to true if there are any. */
  async #letRefusedRest(
    connection: Connection,
    topics: readonly GroupTopic[],
    error: unknown,
  ): Promise<boolean> {
    let found = false;
    for (const each of topics) {
      const fault =
        topics.length === 1 && error instanceof RivuletError
          ? error
          : await this.#faultOf(connection, each);
      if (fault === null) continue;
      found = true;
      each.restsUntil = this.#now() + REFUSED_MS;
      const text = `topic ${each.topic} cannot be read by group ${each.group}, which is tried again: ${fault.message}`;
      this.#warn(new RivuletError(fault.code, text, { cause: fault }));
    }
    return found;
  }

  async #faultOf(connection: Connection, each: GroupTopic): Promise<RivuletError | null> {
    const { consumer } = this.#setup;
    const probe = ['GROUP', each.group, consumer, 'COUNT', 1, 'STREAMS', each.stream, BEYOND];
    try {
      await connection.call('XREADGROUP', ...probe);
      return null;
    } catch (error) {
      if (isOutage(error)) throw error;
      return error as RivuletError;
    }
  }

  /** At most until the next scan, which may need the room that this read has asked for. */
  #blockMs(): number {
    const next = this.#nextLook();
    return Math.max(1, Math.min(BLOCK_MS, Math.ceil(next - this.#now())));
  }

  #nextLook(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const each of this.#readable()) next = Math.min(next, each.nextLook);
    return next;
  }

  #receive(reply: [Buffer, Entry[]][] | null): void {
    for (const [key, entries] of reply ?? []) {
      const stream = key.toString();
      const each = this.topics.find((candidate) => candidate.stream === stream);
      if (each === undefined) continue;
      for (const [name, fields, idleMs = 0, before = 0, flags = COUNTED] of entries) {
        const id = name.toString('latin1');
        if (fields === null) {
          this.#reportTrimmed(each, id);
          continue;
        }
        const isSuspect = (flags & UNSETTLED) !== 0;
        // New entries have never been idle.
        if (before === 0 && idleMs === 0 && !isSuspect) each.lastId = id;
        else this.#loseOverdue(each, id);
        this.#push(each, name, id, before + 1, fields, isSuspect, (flags & COUNTED) !== 0);
      }
    }
  }

  #push(
    each: GroupTopic,
    name: Buffer,
    id: string,
    attempt: number,
    fields: Buffer[],
    suspect = false,
    counted = true,
  ): void {
    this.#setup.dispatcher.push({
      topic: each.topic,
      id,
      name,
      attempt,
      suspect,
      counted,
      message: this.#setup.codec.decode(fields),
      publishedAt: timeOf(name),
    });
  }

  #loseOverdue(each: GroupTopic, id: string): void {
    this.#setup.dispatcher.revoke(each.topic, id, 'its deadline has passed');
  }

  /** Scans for messages that are due or whose consumer died, one scan at a time. */
  async #look(room: () => number): Promise<void> {
    while (this.#looking !== null) await this.#looking;
    this.#looking = this.#lookNow(room);
    try {
      await this.#looking;
    } finally {
      this.#looking = null;
    }
  }

  async #lookNow(room: () => number): Promise<void> {
    for (const each of this.#readable()) {
      if (this.#closed) return;
      try {
        if (each.recoverAfter !== null && room() > 0) await this.#recover(each, room());
        if (each.recoverAfter === null && this.#now() >= each.nextLook && room() > 0) {
          await this.#take(each, room());
        }
      } catch (error) {
        if (isOutage(error)) throw error;
        const { code, message } = error as RivuletError;
        each.restsUntil = this.#now() + REFUSED_MS;
        const text = `topic ${each.topic} cannot be looked at for group ${each.group}, which is tried again: ${message}`;
        this.#warn(new RivuletError(code, text, { cause: error }));
      }
    }
  }

  async #take(each: GroupTopic, count: number): Promise<void> {
    const { dialect, consumer, dispatcher } = this.#setup;
    // A message that is given back during the scan sets an earlier time.
    each.nextLook = Number.POSITIVE_INFINITY;
    try {
      const { ackWaitMs } = dispatcher.options;
      const look = dialect.claimDue(each, consumer, ackWaitMs, count);
      const { waitMs, taken, gone } = await this.#within(count, look);
      this.#accept(each, taken, gone);
      each.nextLook = Math.min(each.nextLook, this.#now() + waitMs);
    } catch (error) {
      each.nextLook = this.#now() + LOOK_EVERY_MS;
      throw error;
    }
  }

  async #recover(each: GroupTopic, count: number): Promise<void> {
    const { dialect, dispatcher, consumer, exclusive } = this.#setup;
    const held = dispatcher.heldIds(each.topic);
    const { after, taken, gone } = await this.#within(
      count,
      dialect.recover(each, consumer, exclusive, count, held),
    );
    each.recoverAfter = after;
    this.#accept(each, taken, gone);
  }

  /** Reserves room while messages are claimed. */
  async #within<T>(count: number, work: Promise<T>): Promise<T> {
    const { room } = this.#setup;
    room.reserve(count);
    try {
      return await work;
    } finally {
      // Its messages are pushed in this turn of the event loop.
      queueMicrotask(() => room.release(count));
    }
  }

  #accept(each: GroupTopic, taken: readonly Taken[], gone: readonly Buffer[]): void {
    for (const [name, attempts, fields, suspect, counted] of taken) {
      const id = name.toString('latin1');
      this.#loseOverdue(each, id);
      this.#push(each, name, id, Number(attempts), fields, suspect === 1, counted);
    }
    for (const id of gone) this.#reportTrimmed(each, id.toString('latin1'));
  }

  #reportTrimmed({ topic, group }: GroupTopic, id: string): void {
    this.#setup.dispatcher.revoke(topic, id, 'it was trimmed or deleted');
    this.#warn(trimmed(topic, id, group));
  }

  /** Scans again when a message falls due, also while the read blocks. */
  #armLook(): void {
    this.#cancelLook?.();
    this.#cancelLook = null;
    if (this.#closed || this.topics.length === 0) return;
    const next = this.#nextLook();
    if (next === Number.POSITIVE_INFINITY) return;
    this.#cancelLook = this.#setup.broker.scheduler.after(Math.max(0, next - this.#now()), () => {
      this.#cancelLook = null;
      const room = () => this.#claimable;
      // If the read has reserved all the room, the next scan follows its end.
      if (room() === 0) return;
      this.#look(room).then(
        () => this.#armLook(),
        (error) => {
          if (!isGroupLost(error)) this.#warn(error);
        },
      );
    });
  }

  /** Asks for the lead of each topic: a member reads the topics that it leads. */
  async #lead(connection: Connection): Promise<void> {
    const { consumer, dialect, dispatcher } = this.#setup;
    if (dispatcher.stuck) {
      await dispatcher.countHandOvers();
      // Its handlers do not return, so another member has to lead.
      for (const each of this.topics) {
        if (each.leading) await dialect.yieldLead(each, consumer);
        each.leading = false;
      }
      return;
    }
    for (const each of [...this.topics]) {
      if (each.restsUntil > this.#now()) continue;
      const leads = await dialect.lead(each, consumer, LEAD_MS, connection);
      if (leads && !each.leading) each.recoverAfter = '';
      if (!leads && each.leading) this.#loseAll(each, 'another consumer leads the ordered group');
      each.leading = leads;
    }
  }

  #loseAll(each: GroupTopic, reason: string): void {
    const { dispatcher } = this.#setup;
    for (const id of dispatcher.heldIds(each.topic)) dispatcher.revoke(each.topic, id, reason);
  }

  async #restoreGroups(): Promise<void> {
    const { commands, dialect, dispatcher, events, onDeleted } = this.#setup;
    for (const each of [...this.topics]) {
      try {
        const done = await each.restore(commands, onDeleted === undefined);
        if (done === 'there') continue;
        this.#loseAll(each, 'its group was lost');
        if (done === 'no topic') onDeleted?.(each);
        else await dialect.applyPolicy(each, dispatcher.options);
        each.recoverAfter = '';
        each.nextLook = 0;
        events.emit('groupLost', { topic: each.topic, group: each.group });
      } catch (error) {
        this.#warn(error);
        if (!isOutage(error)) each.restsUntil = this.#now() + REFUSED_MS;
        await this.#rest(ASK_FOR_LEAD_MS);
      }
    }
  }

  #untilFree(): Promise<void> {
    // The dispatcher ends the wait; a timer ends it as well, so that the lead is renewed.
    return new Promise((resolve) => {
      const cancel = this.#setup.broker.scheduler.after(BLOCK_MS, () => this.free());
      this.#whenFree = () => {
        cancel();
        resolve();
      };
      if (this.#closed) this.free();
    });
  }

  async #rest(ms: number): Promise<void> {
    if (this.#closed) return;
    await pause(this.#setup.broker.scheduler, ms, this.#stop.signal).catch(() => {});
  }

  #warn(error: unknown): void {
    const reported =
      error instanceof RivuletError
        ? error
        : new RivuletError('INTERNAL', 'the redis reader failed', { cause: error });
    this.#setup.events.emit('warning', { error: reported });
  }

  #now(): number {
    return this.#setup.broker.scheduler.monotonic();
  }
}
