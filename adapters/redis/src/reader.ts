/**
 * The reading side of one subscription: one connection of its own that blocks for new messages.
 *
 * In turn it (1) takes again what it had been given before its connection broke, (2) where the server
 * does not do so by itself, looks for messages that are due or that nobody works on, (3) waits for
 * new ones, never longer than `BLOCK_MS`. Whatever fails, it reports, waits a little longer each time
 * and begins anew with a new connection; so it cannot look alive and not be.
 * Invariants: what it asks for, and what it takes over meanwhile, together never exceed the room that
 * the subscription has. In an ordered group a topic is read by the member that leads it; a leader that
 * falls silent loses its lead, and the next one begins with everything that is pending. A topic that
 * the server refuses to read (a key of another type, say) rests and keeps no other from being read.
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
} from 'rivulet';
import { type Connection, type Connector, isGroupLost } from './connection.ts';
import type { Dialect, Taken } from './dialect.ts';
import type { EntryForm } from './entry.ts';
import { type GroupTopic, timeOf } from './group-topic.ts';
import type { Room } from './room.ts';
import type { Delivered } from './settlements.ts';

/** Well below the time after which proxies and firewalls forget a silent connection. */
const BLOCK_MS = 1000;
const LOOK_EVERY_MS = 1000;
const GATHER_MS = 1;
/** How long a leader may be silent. It shows itself at each turn, so at least once in BLOCK_MS. */
const LEAD_MS = 5000;
/** How often one who waits for the lead asks for it. */
const ASK_FOR_LEAD_MS = 250;
/** How long a topic rests that the server refuses to read. */
const REFUSED_MS = 5000;
/** An id that no entry reaches: a read from there brings nothing, or the error. */
const BEYOND = '18446744073709551615-18446744073709551615';

export interface ReaderSetup {
  readonly connector: Connector;
  readonly commands: Connection;
  readonly dialect: Dialect;
  readonly consumer: string;
  readonly dispatcher: Dispatcher<Delivered>;
  readonly form: EntryForm;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
  /** One consumer of the group at a time. */
  readonly exclusive: boolean;
  readonly room: Room;
  /** How many topics share the room. */
  readonly sharers: () => number;
  /** A topic is there no more. Where this is missing, it is made again. */
  readonly onDeleted?: (topic: GroupTopic) => void;
}

/**
 * The last three where the server says them: how long it was pending, how often it was handed over
 * before, flags.
 */
type Entry = [id: Buffer, fields: Buffer[], idleMs?: number, before?: number, flags?: number];
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

  /** Has nothing to read any more: ends by itself. */
  retire(): void {
    this.#closed = true;
    this.#cancelLook?.();
    this.#stop.abort();
    this.free();
    this.#connection?.close();
  }

  /** Stops taking. What is under way arrives at the dispatcher, which gives it back. */
  async stop(): Promise<void> {
    this.#closed = true;
    this.#cancelLook?.();
    this.#stop.abort();
    this.free();
    // A blocked read ends with its connection; what it was just being given is released by the
    // last look of `leave`.
    this.#connection?.close();
    await this.#running;
    await this.#looking;
  }

  /** After the dispatcher has drained: gives up the lead and the consumer's own name. */
  async leave(): Promise<void> {
    const { commands, consumer, dialect } = this.#setup;
    for (const each of this.topics) {
      try {
        if (each.leading) await dialect.yieldLead(each, consumer);
        await this.#giveBackStrays(each);
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
        // The broker cannot be reached, or the group is gone: its pending ones fall to others.
        if (!isGroupLost(error)) this.#warn(error);
      }
    }
  }

  /** What the last read was given while its connection closed has been seen by nobody. */
  async #giveBackStrays(each: GroupTopic): Promise<void> {
    const { commands, consumer, dialect, dispatcher } = this.#setup;
    const strays = (await commands.call(
      'XPENDING',
      each.stream,
      each.group,
      '-',
      '+',
      1000,
      consumer,
    )) as [Buffer, Buffer, number, number][];
    for (const [name, , , attempt] of strays) {
      const id = name.toString();
      // One whose handler still runs after the drain is left to its deadline.
      if (dispatcher.idsInHandlers(each.topic).includes(id)) continue;
      await dialect.release({ at: each, consumer, raw: { id, attempt } });
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
    await this.#look(() => room.left);
    if (room.left === 0) {
      await this.#untilFree();
      return;
    }
    if (room.left < dispatcher.options.maxInFlight >> 3) {
      // Nearly full: a moment later more is free, and one read serves it all.
      await this.#rest(GATHER_MS);
      if (room.left === 0) return;
    }
    if (topics.some((each) => each.recoverAfter !== null)) return;
    try {
      await this.#read(connection, topics);
    } catch (error) {
      if (this.#closed || isOutage(error)) throw error;
      // Of many streams one error is told; which of them it is about has to be found out.
      if (!(await this.#letRefusedRest(connection, topics, error))) throw error;
    }
  }

  /** Those that this member may read now. */
  #readable(): GroupTopic[] {
    const now = this.#now();
    const { exclusive } = this.#setup;
    return this.topics.filter((each) => each.restsUntil <= now && (!exclusive || each.leading));
  }

  async #read(connection: Connection, topics: readonly GroupTopic[]): Promise<void> {
    const { dialect, dispatcher, room, sharers, consumer } = this.#setup;
    // Half of what may be in flight, so that the next read goes out while this one is acknowledged.
    const most = Math.min(room.left, Math.ceil(dispatcher.options.maxInFlight / 2));
    const count = Math.floor(most / sharers());
    if (count === 0 && !dialect.boundsAll) return this.#sweep(connection, topics, most);
    const asked = dialect.boundsAll ? most : count * topics.length;
    room.reserve(asked);
    try {
      this.#armLook();
      const reply = await connection.call(
        'XREADGROUP',
        'GROUP',
        (topics[0] as GroupTopic).group,
        consumer,
        ...dialect.readOptions(Math.max(1, count), most, dispatcher.options, dispatcher.idle),
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

  /** More topics than room: reads what there is within the room, and waits for what comes without taking it. */
  async #sweep(connection: Connection, topics: readonly GroupTopic[], most: number): Promise<void> {
    const { dialect, room, consumer } = this.#setup;
    room.reserve(most);
    let isFull: boolean;
    try {
      const { found, upTo } = await dialect.sweep(topics, consumer, most, connection);
      topics.forEach((each, index) => {
        this.#receive([[Buffer.from(each.stream), [...(found[index] ?? [])] as Entry[]]]);
        each.upTo = upTo[index] || each.upTo;
      });
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

  /** True when the error was about some of the topics: those rest. */
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

  /** Until the next look: the read may have asked for all the room that a look would need. */
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
      for (const [id, fields, idleMs = 0, before = 0, flags = COUNTED] of entries) {
        const isSuspect = (flags & UNSETTLED) !== 0;
        // New entries have never been idle.
        if (before === 0 && idleMs === 0 && !isSuspect) each.lastId = id.toString('latin1');
        else this.#loseOverdue(each, id);
        this.#push(each, id, before + 1, fields, isSuspect, (flags & COUNTED) !== 0);
      }
    }
  }

  #push(
    each: GroupTopic,
    name: Buffer,
    attempt: number,
    fields: Buffer[],
    suspect = false,
    counted = true,
  ): void {
    this.#setup.dispatcher.push({
      topic: each.topic,
      id: name.toString('latin1'),
      name,
      attempt,
      suspect,
      counted,
      message: this.#setup.form.read(fields),
      publishedAt: timeOf(name),
    });
  }

  #loseOverdue(each: GroupTopic, id: Buffer): void {
    this.#setup.dispatcher.lose(each.topic, id.toString('latin1'), 'its deadline has passed');
  }

  /** Looks for what is due or abandoned, one look at a time. */
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
    // What is given back while it looks sets an earlier time.
    each.nextLook = Number.POSITIVE_INFINITY;
    try {
      const { ackWaitMs } = dispatcher.options;
      const look = dialect.take(each, consumer, ackWaitMs, count);
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

  /** While something is taken over, the room for it is not offered to a read. */
  async #within<T>(count: number, work: Promise<T>): Promise<T> {
    const { room } = this.#setup;
    room.reserve(count);
    try {
      return await work;
    } finally {
      // Its messages are pushed in this same turn of the loop.
      queueMicrotask(() => room.release(count));
    }
  }

  #accept(each: GroupTopic, taken: readonly Taken[], gone: readonly Buffer[]): void {
    const { dispatcher } = this.#setup;
    for (const [id, attempts, fields, suspect, counted] of taken) {
      this.#loseOverdue(each, id);
      this.#push(each, id, Number(attempts), fields, suspect === 1, counted);
    }
    for (const id of gone) {
      dispatcher.lose(each.topic, id.toString(), 'it was trimmed away');
      const text = `message ${id} of ${each.topic} was trimmed away before group ${each.group} had settled it`;
      this.#warn(new RivuletError('NOT_FOUND', text));
    }
  }

  /** Looks again when something falls due, also while the read is blocked. */
  #armLook(): void {
    this.#cancelLook?.();
    this.#cancelLook = null;
    if (this.#closed || this.topics.length === 0) return;
    const next = this.#nextLook();
    if (next === Number.POSITIVE_INFINITY) return;
    this.#cancelLook = this.#setup.broker.scheduler.after(Math.max(0, next - this.#now()), () => {
      this.#cancelLook = null;
      const room = () => this.#setup.room.left;
      // Without room beside what the read may bring, the read's end makes the next look.
      if (room() === 0) return;
      this.#look(room).then(
        () => this.#armLook(),
        (error) => {
          if (!isGroupLost(error)) this.#warn(error);
        },
      );
    });
  }

  /** Asks for the lead of each topic: a member reads those that it leads. */
  async #lead(connection: Connection): Promise<void> {
    const { consumer, dialect, dispatcher } = this.#setup;
    if (dispatcher.stuck) {
      await dispatcher.countHandOvers();
      // Handlers that do not return must not keep the group from its other members.
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
    for (const id of dispatcher.heldIds(each.topic)) dispatcher.lose(each.topic, id, reason);
  }

  async #restoreGroups(): Promise<void> {
    const { commands, dialect, dispatcher, events, onDeleted } = this.#setup;
    for (const each of [...this.topics]) {
      try {
        const done = await each.restore(commands, onDeleted === undefined);
        if (done === 'there') continue;
        this.#loseAll(each, 'its group was lost');
        if (done === 'no topic') onDeleted?.(each);
        else await dialect.adopt(each, dispatcher.options);
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
    // Woken by the dispatcher; in between, the lead is kept and nothing is overlooked.
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
