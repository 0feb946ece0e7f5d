/**
 * One subscription on our own server: a dispatcher, fed by one reader over all its topics.
 *
 * Without a group it creates a group that is deleted when it closes, so that retries, dead letters and
 * outages work the same. A subscription with wildcards is notified of new topics and also lists all
 * topics at intervals; it reads new topics from their first message.
 */
import type { ReplyMap } from '../../client/reply.ts';
import type { RivuletError } from '../../errors.ts';
import type { BrokerEvents } from '../broker.ts';
import type { SubscriptionHandle } from '../broker-base.ts';
import type { DeliveryHandler } from '../dispatch/delivery-handler.ts';
import { Dispatcher } from '../dispatch/dispatcher.ts';
import type { Events } from '../events.ts';
import type { BrokerOptions, ResolvedSubscribeOptions } from '../options/options.ts';
import { compilePattern, isPattern } from '../topics/topics.ts';
import type { Tracing } from '../trace.ts';
import type { RemoteClient } from './remote-client.ts';
import { RemoteReader } from './remote-reader.ts';
import { RemoteSettlements } from './remote-settlements.ts';
import type { RemoteStreamWatch } from './remote-stream-watch.ts';
import { RemoteTopic, toId } from './remote-topic.ts';

/** Groups of subscribers without a group: deleted with their subscriber, or when idle for IDLE_GROUP_MS. */
const OWN_GROUP = 'rivulet-only-';
const IDLE_GROUP_MS = 60 * 60 * 1000;
/** A hand-over this long after the one before it is counted at once, ms. */
const COUNT_AFTER_QUIET_MS = 0.2;
/** How often a subscription with wildcards lists all topics without notifications, and with them. */
const DISCOVER_EVERY_MS = 1000;
const DISCOVER_NOTIFIED_EVERY_MS = 30_000;

export interface SubscriptionSetup {
  readonly pattern: string;
  readonly consume: DeliveryHandler;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly client: RemoteClient;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  /** Makes the names of the consumers of one process unique. */
  readonly number: number;
  /** Lists all topics. */
  readonly topics: () => Promise<readonly string[]>;
  /** Notifies of new topics. */
  readonly watch: () => RemoteStreamWatch;
}

export class RemoteSubscription implements SubscriptionHandle {
  readonly #setup: SubscriptionSetup;
  readonly #group: string;
  readonly #dispatcher: Dispatcher;
  readonly #reader: RemoteReader;
  readonly #isMeant: (topic: string) => boolean;
  #cancelDiscovery: () => void = () => {};
  #cancelListening: () => void = () => {};
  #discovering: Promise<void> | null = null;
  /** Topics that were notified and not added yet; null = list all. */
  #announced: Set<string> | null = new Set();
  /** Topics in which this subscription may have created a group: a subscribe can fail between them. */
  readonly #made = new Set<string>();
  #closed = false;

  private constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { options, broker, events, tracing, client } = setup;
    this.#isMeant = compilePattern(setup.pattern);
    this.#group = options.group ?? `${OWN_GROUP}${broker.scheduler.uniqueName()}`;
    // Unique, because a process that was killed may have had the same client name.
    const consumer = `${broker.clientName}/${setup.number}-${broker.scheduler.uniqueName()}`;
    this.#dispatcher = new Dispatcher({
      options,
      consume: setup.consume,
      settler: new RemoteSettlements(client, this.#group, consumer, options),
      scheduler: broker.scheduler,
      events,
      tracing,
      countAfterQuietMs: COUNT_AFTER_QUIET_MS,
      onFree: () => this.#reader.free(),
    });
    this.#reader = new RemoteReader({
      client,
      consumer,
      dispatcher: this.#dispatcher,
      broker,
      events,
      exclusive: options.ordered !== 'none' && options.group !== null,
      wildcards: isPattern(setup.pattern),
    });
  }

  static async open(setup: SubscriptionSetup): Promise<RemoteSubscription> {
    const subscription = new RemoteSubscription(setup);
    const { pattern, options } = setup;
    const from = toId(options.from);
    try {
      if (isPattern(pattern)) {
        // Watch first, then list, so that no new topic is missed.
        await subscription.#listen();
        await subscription.#addAll(await setup.topics(), from);
        subscription.#discoverLater();
      } else {
        await subscription.#add([pattern], from);
      }
    } catch (error) {
      await subscription.close(0);
      throw error;
    }
    subscription.#reader.start();
    return subscription;
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelDiscovery();
    this.#cancelListening();
    await this.#discovering;
    const draining = this.#dispatcher.close(timeoutMs);
    await this.#reader.stop();
    await draining;
    if (this.#setup.options.group === null) await this.#destroyOwnGroup();
    else await this.#reader.leave();
  }

  async #add(names: readonly string[], from: string): Promise<void> {
    const { client, options } = this.#setup;
    const added = names.map((name) => new RemoteTopic(name, this.#group, options));
    await Promise.all(
      added.map(async (each) => {
        this.#made.add(each.topic);
        await each.ensure(client, from);
        await this.#removeIdle(each.topic);
      }),
    );
    this.#reader.add(added);
  }

  /** Adds the topics that match the pattern and are not read yet. */
  async #addAll(names: Iterable<string>, from: string): Promise<void> {
    const known = new Set(this.#reader.topics.map(({ topic }) => topic));
    const found: string[] = [];
    for (const name of names) if (!known.has(name) && this.#matches(name)) found.push(name);
    if (found.length > 0 && !this.#closed) await this.#add(found, from);
  }

  #matches(topic: string): boolean {
    // Patterns match dead-letter topics only where they end in `.dead` themselves.
    if (topic.endsWith('.dead') && !this.#setup.pattern.endsWith('.dead')) return false;
    return this.#isMeant(topic);
  }

  async #listen(): Promise<void> {
    this.#cancelListening = await this.#setup.watch().listen((topic) => {
      if (topic === null) this.#announced = null;
      else if (this.#matches(topic)) this.#announced?.add(topic);
      else return;
      this.#discover();
    });
  }

  /** Adds what was notified, one run at a time: each run changes which topics are known. */
  #discover(): void {
    this.#discovering ??= this.#addAnnounced().finally(() => {
      this.#discovering = null;
    });
  }

  async #addAnnounced(): Promise<void> {
    while (!this.#closed && (this.#announced === null || this.#announced.size > 0)) {
      const told = this.#announced;
      this.#announced = new Set();
      try {
        await this.#addAll(told ?? (await this.#setup.topics()), '0');
      } catch (error) {
        // The next run lists all topics.
        this.#announced = null;
        this.#warn(error);
        return;
      }
    }
  }

  #discoverLater(): void {
    const { scheduler } = this.#setup.broker;
    const isTold = this.#setup.watch().live && this.#announced !== null;
    const wait = isTold ? DISCOVER_NOTIFIED_EVERY_MS : DISCOVER_EVERY_MS;
    this.#cancelDiscovery = scheduler.after(wait, async () => {
      this.#announced = null;
      this.#discover();
      await this.#discovering;
      if (!this.#closed) this.#discoverLater();
    });
  }

  /** Deletes what ended processes left: idle consumers without pending messages, idle groups of OWN_GROUP. */
  async #removeIdle(topic: string): Promise<void> {
    const { client } = this.#setup;
    try {
      const groups = (await client.call('XINFO', 'GROUPS', topic)) as ReplyMap[];
      for (const facts of groups) {
        const name = String(facts.get('name'));
        const isOwn = name === this.#group;
        if (!isOwn && !name.startsWith(OWN_GROUP)) continue;
        const consumers = (await client.call('XINFO', 'CONSUMERS', topic, name)) as ReplyMap[];
        const silent = consumers.filter((each) => Number(each.get('idle')) >= IDLE_GROUP_MS);
        if (isOwn) {
          for (const each of silent) {
            if (Number(each.get('pending')) > 0) continue;
            await client.call('XGROUP', 'DELCONSUMER', topic, name, each.get('name') as Buffer);
          }
        } else if (silent.length > 0 && silent.length === consumers.length) {
          await client.call('XGROUP', 'DESTROY', topic, name);
        }
      }
    } catch (error) {
      this.#warn(error);
    }
  }

  async #destroyOwnGroup(): Promise<void> {
    const { client } = this.#setup;
    const commands = [...this.#made].map(
      (topic) => ['XGROUP', 'DESTROY', topic, this.#group] as const,
    );
    try {
      // Deleted topics have no groups: their replies are ignored.
      await client.pipeline(commands);
    } catch (error) {
      this.#warn(error);
    }
  }

  #warn(error: unknown): void {
    this.#setup.events.emit('warning', { error: error as RivuletError });
  }
}
