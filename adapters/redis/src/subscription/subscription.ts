/**
 * One subscription: a dispatcher, fed by one reader, or in a cluster by one reader per topic.
 *
 * Without a group it makes one that ends with it, so that retries, dead letters and
 * outages mean the same. A subscription with wildcards looks every second for topics that are new,
 * and begins those with their first message.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  checkTopic,
  compilePattern,
  type DeliveryHandler,
  Dispatcher,
  type Events,
  isOutage,
  isPattern,
  type ResolvedSubscribeOptions,
  RivuletError,
  type SubscriptionHandle,
  type Tracing,
} from 'rivulet/adapter';
import type { Connection, Connector } from '../connection.ts';
import type { Dialect } from '../dialect/dialect.ts';
import type { Keys } from '../keys.ts';
import type { MessageCodec } from '../message-codec.ts';
import { GroupTopic, toId } from './group-topic.ts';
import { Reader } from './reader.ts';
import { Room } from './room.ts';
import { type Delivered, Settlements } from './settlements.ts';

/**
 * Groups of subscribers without one: gone with their subscriber, or some time after its death. No
 * group that an application names has a brace.
 */
const OWN_GROUP = '{each}:';
const REFUSED_TOPIC_MS = 30_000;
const MOST_REFUSED = 1000;
const FORGOTTEN_MS = 3_600_000;
const DISCOVER_EVERY_MS = 1000;
/** Hand-overs that are further apart are counted one by one, ms. */
const COUNT_AFTER_QUIET_MS = 0.2;

export interface SubscriptionSetup {
  readonly pattern: string;
  readonly consume: DeliveryHandler;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly connector: Connector;
  readonly commands: Connection;
  readonly dialect: Dialect;
  readonly keys: Keys;
  readonly codec: MessageCodec;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  /** Tells consumers of one process apart. */
  readonly number: number;
  /** The topics that there are. */
  readonly topics: () => Promise<readonly string[]>;
}

export class Subscription implements SubscriptionHandle {
  readonly #setup: SubscriptionSetup;
  readonly #group: string;
  readonly #consumer: string;
  readonly #dispatcher: Dispatcher<Delivered>;
  readonly #room: Room;
  #readers: Reader[] = [];
  readonly #known = new Set<string>();
  /** Topics of a pattern that could not be read, and when they are tried again. */
  readonly #refused = new Map<string, number>();
  /** The reader that is notified first of room. */
  #turn = 0;
  #cancelDiscovery: () => void = () => {};
  #discovering: Promise<void> | null = null;
  #closed = false;

  private constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { options, broker, events, tracing, commands, dialect, keys } = setup;
    this.#group = options.group ?? `${OWN_GROUP}${broker.scheduler.uniqueName()}`;
    // How many messages handlers may have at once; lua-scripts.ts uses it when this consumer dies.
    const handlers = options.concurrency * options.batch.size;
    // Unique, because a process that was killed may have had the same client name.
    const name = `${broker.clientName}/${setup.number}-${broker.scheduler.uniqueName()}`;
    this.#consumer = `${name}*${handlers}`;
    const settlements = new Settlements({
      group: this.#group,
      consumer: this.#consumer,
      options,
      keys,
      commands,
      dialect,
      onDue: (topic, delayMs) => {
        for (const reader of this.#readers) reader.expect(topic, delayMs);
      },
    });
    this.#dispatcher = new Dispatcher({
      options,
      consume: setup.consume,
      settler: settlements,
      scheduler: broker.scheduler,
      events,
      tracing,
      // Redis counts reads once they are ahead of handlers: what it has not counted is counted here.
      ...(dialect.scansForDue ? { countEveryMs: 0 } : { countAfterQuietMs: COUNT_AFTER_QUIET_MS }),
      onFree: () => this.#free(),
    });
    this.#room = new Room(this.#dispatcher, () => this.#free());
  }

  #free(): void {
    const readers = this.#readers;
    const first = this.#turn++ % Math.max(1, readers.length);
    for (let i = 0; i < readers.length; i++) readers[(first + i) % readers.length].free();
  }

  static async open(setup: SubscriptionSetup): Promise<Subscription> {
    const subscription = new Subscription(setup);
    const { pattern, options } = setup;
    const from = toId(options.from);
    try {
      if (isPattern(pattern)) {
        await subscription.#discover(from);
        subscription.#discoverLater();
      } else {
        await subscription.#add([pattern], from);
      }
    } catch (error) {
      await subscription.close(0);
      throw error;
    }
    return subscription;
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelDiscovery();
    await this.#discovering?.catch(() => {});
    const draining = this.#dispatcher.close(timeoutMs);
    await Promise.all(this.#readers.map((reader) => reader.stop()));
    await draining;
    await Promise.all(this.#readers.map((reader) => reader.leave()));
    if (this.#setup.options.group === null) await this.#destroyOwnGroup();
  }

  async #add(topics: readonly string[], from: string): Promise<void> {
    const { commands, connector, broker, options, events } = this.#setup;
    const added: GroupTopic[] = [];
    for (const topic of topics) {
      try {
        const each = await this.#join(topic, from);
        if (each !== null) added.push(each);
      } catch (error) {
        const { code, message } = error as RivuletError;
        if (!this.#isPattern || isOutage(error)) throw error;
        // A topic that cannot be read does not prevent the discovery of others.
        if (this.#refused.size >= MOST_REFUSED) this.#refused.clear();
        this.#refused.set(topic, broker.scheduler.monotonic() + REFUSED_TOPIC_MS);
        const text = `topic ${topic} is left out of ${this.#setup.pattern} and is tried again: ${message}`;
        events.emit('warning', { error: new RivuletError(code, text, { cause: error }) });
      }
    }
    const make = () => {
      const reader: Reader = new Reader({
        connector,
        commands,
        dialect: this.#setup.dialect,
        consumer: this.#consumer,
        dispatcher: this.#dispatcher,
        codec: this.#setup.codec,
        broker,
        events,
        exclusive: options.ordered !== 'none' && options.group !== null,
        room: this.#room,
        sharers: () => Math.max(1, this.#known.size),
        ...(this.#isPattern
          ? { onDeleted: (each: GroupTopic) => this.#leaveOut(each, reader) }
          : {}),
      });
      this.#readers.push(reader);
      return reader;
    };
    // In a cluster the keys of one command must share a slot; elsewhere one connection reads all.
    if (connector.cluster) {
      for (const each of added) {
        const reader = make();
        reader.topics.push(each);
        reader.start();
      }
    } else {
      const started = this.#readers[0];
      const reader = started ?? make();
      reader.topics.push(...added);
      if (started === undefined) reader.start();
    }
  }

  get #isPattern(): boolean {
    return isPattern(this.#setup.pattern);
  }

  /** null if a topic of the pattern was deleted: only a subscription by name makes a topic. */
  async #join(topic: string, from: string): Promise<GroupTopic | null> {
    const { keys, commands, dialect, options } = this.#setup;
    const each = new GroupTopic(keys, topic, this.#group);
    if ((await each.ensure(commands, from, !this.#isPattern)) === 'no topic') return null;
    await dialect.applyPolicy(each, options);
    this.#known.add(topic);
    await this.#removeLeftovers(each);
    return each;
  }

  /** A topic of the pattern was deleted. A new one of its name is discovered again. */
  #leaveOut(each: GroupTopic, reader: Reader): void {
    reader.topics = reader.topics.filter((other) => other !== each);
    this.#known.delete(each.topic);
    if (!this.#setup.connector.cluster) return;
    this.#readers = this.#readers.filter((other) => other !== reader);
    reader.retire();
  }

  async #discover(from: string): Promise<void> {
    const matches = compilePattern(this.#setup.pattern);
    const now = this.#setup.broker.scheduler.monotonic();
    const found = (await this.#setup.topics()).filter((topic) => {
      if (!matches(topic) || this.#known.has(topic)) return false;
      if (now < (this.#refused.get(topic) ?? 0)) return false;
      // A pattern that matches dead letters as well receives them only if it ends in `.dead`.
      return !topic.endsWith('.dead') || this.#setup.pattern.endsWith('.dead');
    });
    await this.#add(found, from);
  }

  #discoverLater(): void {
    const { scheduler } = this.#setup.broker;
    this.#cancelDiscovery = scheduler.after(DISCOVER_EVERY_MS, () => {
      this.#discovering = this.#discover('0')
        .catch((error) => this.#setup.events.emit('warning', { error }))
        .finally(() => {
          if (!this.#closed) this.#discoverLater();
        });
    });
  }

  /** Removes what dead clients left: idle consumers, and groups of subscribers without a group. */
  async #removeLeftovers(each: GroupTopic): Promise<void> {
    const { stream, group } = each;
    const { commands, dialect, events } = this.#setup;
    try {
      await dialect.removeIdleConsumers(each, FORGOTTEN_MS);
      const groups = (await commands.call('XINFO', 'GROUPS', stream)) as unknown[][];
      for (const facts of groups) {
        const name = String(facts[1]);
        if (
          name.startsWith(OWN_GROUP) &&
          name !== group &&
          (await this.#isForgotten(stream, name))
        ) {
          await commands.call('XGROUP', 'DESTROY', stream, name);
        }
      }
    } catch (error) {
      events.emit('warning', { error: error as RivuletError });
    }
  }

  async #isForgotten(stream: string, group: string): Promise<boolean> {
    const { commands } = this.#setup;
    const consumers = (await commands.call('XINFO', 'CONSUMERS', stream, group)) as unknown[][];
    // A group that was just made has no consumer yet.
    if (consumers.length === 0) return false;
    return consumers.every((facts) => {
      const idle = Number(facts[facts.findIndex((fact) => String(fact) === 'idle') + 1]);
      return this.#setup.dialect.unowned.has(String(facts[1])) || idle > FORGOTTEN_MS;
    });
  }

  async #destroyOwnGroup(): Promise<void> {
    const { commands, keys } = this.#setup;
    for (const topic of this.#known) {
      try {
        await commands.call('XGROUP', 'DESTROY', keys.stream(topic), this.#group);
        await commands.call('DEL', keys.deadlines(topic, this.#group));
      } catch (error) {
        if (!/requires the key|no such key/i.test((error as Error).message)) {
          this.#setup.events.emit('warning', { error: error as RivuletError });
        }
      }
    }
  }
}

/** Refuses a dead letter that could not be written together with its acknowledgement. */
export function checkDeadLetter(
  keys: Keys,
  pattern: string,
  deadLetter: string | false | null,
  cluster: boolean,
): void {
  if (typeof deadLetter !== 'string') return;
  checkTopic(deadLetter);
  if (!cluster || keys.sameSlot(pattern, deadLetter)) return;
  throw new RivuletError(
    'UNSUPPORTED',
    `in Redis Cluster the dead letters of ${pattern} can only be ${pattern}.dead: another name may be on another node, where the move would not be atomic`,
  );
}
