/**
 * The reading side of one subscription: one connection of its own that blocks for new messages.
 *
 * In turn it (1) takes again what it had been given before its connection broke, (2) where the server
 * does not do so by itself, looks for messages that are due or that nobody works on, (3) waits for new ones, never longer than
 * `BLOCK_MS`. Whatever fails, it reports, waits a little longer each time and begins anew with a new
 * connection; so it cannot look alive and not be.
 * Invariant: what it asks for, and what it takes over meanwhile, together never exceed what the
 * dispatcher has room for. In an ordered group only the leader reads; a leader that falls silent
 * loses its lead, and the next one begins with everything that is pending.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Dispatcher,
  type Events,
  pause,
  RivuletError,
} from 'rivulet';
import { type Connection, type Connector, isGroupLost } from './connection.ts';
import type { Dialect, Taken } from './dialect.ts';
import type { EntryForm } from './entry.ts';
import { type GroupTopic, timeOf } from './group-topic.ts';
import type { Delivered } from './settlements.ts';

/** Well below the time after which proxies and firewalls forget a silent connection. */
const BLOCK_MS = 1000;
const LOOK_EVERY_MS = 1000;
const GATHER_MS = 1;
/** How long a leader may be silent. It shows itself at each turn, so at least once in BLOCK_MS. */
const LEAD_MS = 5000;
/** How often one who waits for the lead asks for it. */
const ASK_FOR_LEAD_MS = 250;

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
  /** How many topics share the dispatcher. */
  readonly sharers: () => number;
}

/** The last two where the server says them: how long it was pending, how often delivered before. */
type Entry = [id: Buffer, fields: Buffer[], idleMs?: number, before?: number];

export class Reader {
  readonly topics: GroupTopic[] = [];
  readonly #setup: ReaderSetup;
  readonly #stop = new AbortController();
  #connection: Connection | null = null;
  #running: Promise<void> | null = null;
  /** What the blocked read may still bring. */
  #asked = 0;
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
    const { dialect, dispatcher, exclusive, sharers } = this.#setup;
    if (exclusive && !(await this.#lead(connection))) return this.#rest(ASK_FOR_LEAD_MS);
    await this.#look(() => dispatcher.free);
    let room = dispatcher.free;
    if (room === 0) {
      await this.#untilFree();
      return;
    }
    if (room < dispatcher.options.maxInFlight >> 3) {
      // Nearly full: a moment later more is free, and one read serves it all.
      await this.#rest(GATHER_MS);
      room = dispatcher.free;
      if (room === 0) return;
    }
    if (this.topics.some((each) => each.recoverAfter !== null)) return;
    // Half of what may be in flight, so that the next read goes out while this one is acknowledged.
    room = Math.min(room, Math.ceil(dispatcher.options.maxInFlight / 2));
    const count = Math.max(1, Math.floor(room / sharers()));
    this.#asked = count * this.topics.length;
    try {
      this.#armLook();
      const reply = await connection.call(
        'XREADGROUP',
        'GROUP',
        this.topics[0].group,
        this.#setup.consumer,
        ...dialect.readOptions(count, room, dispatcher.options.ackWaitMs),
        'BLOCK',
        this.#blockMs(),
        'STREAMS',
        ...this.topics.map((each) => each.stream),
        ...this.topics.map(() => '>'),
      );
      this.#receive(reply as [Buffer, Entry[]][] | null);
    } finally {
      this.#asked = 0;
    }
  }

  /** Until the next look: the read may have asked for all the room that a look would need. */
  #blockMs(): number {
    const next = Math.min(...this.topics.map((each) => each.nextLook));
    return Math.max(1, Math.min(BLOCK_MS, Math.ceil(next - this.#now())));
  }

  #receive(reply: [Buffer, Entry[]][] | null): void {
    for (const [key, entries] of reply ?? []) {
      const stream = key.toString();
      const each = this.topics.find((candidate) => candidate.stream === stream);
      if (each === undefined) continue;
      for (const [id, fields, , before = 0] of entries) {
        if (before > 0) this.#loseOverdue(each, id);
        this.#push(each, id, before + 1, fields);
      }
      const [last] = entries.findLast(([, , , before = 0]) => before === 0) ?? [];
      if (last !== undefined) each.lastId = last.toString('latin1');
    }
  }

  #push(each: GroupTopic, name: Buffer, attempt: number, fields: Buffer[]): void {
    this.#setup.dispatcher.push({
      topic: each.topic,
      id: name.toString('latin1'),
      name,
      attempt,
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
    for (const each of this.topics) {
      if (this.#closed) return;
      if (each.recoverAfter !== null && room() > 0) await this.#recover(each, room());
      if (each.recoverAfter === null && this.#now() >= each.nextLook && room() > 0) {
        await this.#take(each, room());
      }
    }
  }

  async #take(each: GroupTopic, count: number): Promise<void> {
    const { dialect, consumer, dispatcher } = this.#setup;
    // What is given back while it looks sets an earlier time.
    each.nextLook = Number.POSITIVE_INFINITY;
    try {
      const { ackWaitMs } = dispatcher.options;
      const { waitMs, taken, gone } = await dialect.take(each, consumer, ackWaitMs, count);
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
    const { after, taken, gone } = await dialect.recover(each, consumer, exclusive, count, held);
    each.recoverAfter = after;
    this.#accept(each, taken, gone);
  }

  #accept(each: GroupTopic, taken: readonly Taken[], gone: readonly Buffer[]): void {
    const { dispatcher } = this.#setup;
    for (const [id, attempts, fields] of taken) {
      this.#loseOverdue(each, id);
      this.#push(each, id, Number(attempts), fields);
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
    const next = Math.min(...this.topics.map((each) => each.nextLook));
    if (next === Number.POSITIVE_INFINITY) return;
    this.#cancelLook = this.#setup.broker.scheduler.after(Math.max(0, next - this.#now()), () => {
      this.#cancelLook = null;
      if (this.#setup.exclusive && !this.topics.every((each) => each.leading)) return;
      const room = () => Math.max(0, this.#setup.dispatcher.free - this.#asked);
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

  async #lead(connection: Connection): Promise<boolean> {
    const { consumer, dialect, dispatcher } = this.#setup;
    if (dispatcher.stuck) {
      // Handlers that do not return must not keep the group from its other members.
      for (const each of this.topics) {
        if (each.leading) await dialect.yieldLead(each, consumer);
        each.leading = false;
      }
      return false;
    }
    let all = true;
    for (const each of this.topics) {
      const leads = await dialect.lead(each, consumer, LEAD_MS, connection);
      if (leads && !each.leading) each.recoverAfter = '';
      if (!leads && each.leading) dispatcher.loseAll('another consumer leads the ordered group');
      each.leading = leads;
      all &&= leads;
    }
    return all;
  }

  async #restoreGroups(): Promise<void> {
    const { commands, dialect, dispatcher, events } = this.#setup;
    for (const each of this.topics) {
      try {
        if (!(await each.restore(commands))) continue;
        await dialect.adopt(each, dispatcher.options);
        each.recoverAfter = '';
        each.nextLook = 0;
        for (const id of dispatcher.heldIds(each.topic)) {
          dispatcher.lose(each.topic, id, 'its group was lost');
        }
        events.emit('groupLost', { topic: each.topic, group: each.group });
      } catch (error) {
        this.#warn(error);
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
