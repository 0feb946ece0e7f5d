/**
 * One subscription on our own server: a dispatcher, fed by one reader over all its topics.
 *
 * Without a group it makes one of its own that ends with it, so that retries, dead letters and
 * outages mean the same. A subscription with wildcards is told of topics as they are made and looks
 * for them now and then besides; it begins those with their first message.
 */
import type { ReplyMap } from '../client/reply.ts';
import type { RivuletError } from '../errors.ts';
import type { BrokerEvents } from './broker.ts';
import type { Attachment } from './broker-base.ts';
import { type Consume, Dispatcher } from './dispatcher.ts';
import type { Events } from './events.ts';
import type { BrokerOptions, ResolvedSubscribeOptions } from './options.ts';
import type { RemoteLink } from './remote-link.ts';
import { RemoteReader } from './remote-reader.ts';
import { RemoteSettlements } from './remote-settlements.ts';
import type { RemoteStreamWatch } from './remote-stream-watch.ts';
import { RemoteTopic, toId } from './remote-topic.ts';
import { compilePattern, isPattern } from './topics.ts';
import type { Tracing } from './trace.ts';

/** Groups of subscribers without one: gone with their subscriber, or some time after its death. */
const OWN_GROUP = 'rivulet-only-';
const FORGOTTEN_MS = 60 * 60 * 1000;
/** How often a subscription with wildcards looks for itself while the server does not tell it, and while it does. */
const DISCOVER_EVERY_MS = 1000;
const DISCOVER_TOLD_EVERY_MS = 30_000;

export interface SubscriptionSetup {
  readonly pattern: string;
  readonly consume: Consume;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly link: RemoteLink;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  /** Tells consumers of one process apart. */
  readonly number: number;
  /** The topics that there are. */
  readonly topics: () => Promise<readonly string[]>;
  /** Tells of new ones. */
  readonly watch: () => RemoteStreamWatch;
}

export class RemoteSubscription implements Attachment {
  readonly #setup: SubscriptionSetup;
  readonly #group: string;
  readonly #dispatcher: Dispatcher;
  readonly #reader: RemoteReader;
  readonly #isMeant: (topic: string) => boolean;
  #cancelDiscovery: () => void = () => {};
  #cancelListening: () => void = () => {};
  #discovering: Promise<void> | null = null;
  /** Topics that the server has told of and that were not seen to yet; null = there may be any. */
  #told: Set<string> | null = new Set();
  /** Topics that may have a group of this subscription's: a subscribe can fail midway. */
  readonly #made = new Set<string>();
  #closed = false;

  private constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { options, broker, events, tracing, link } = setup;
    this.#isMeant = compilePattern(setup.pattern);
    this.#group = options.group ?? `${OWN_GROUP}${broker.scheduler.uniqueName()}`;
    // A process that was killed may have had the same name; its messages are not this one's.
    const consumer = `${broker.clientName}/${setup.number}-${broker.scheduler.uniqueName()}`;
    this.#dispatcher = new Dispatcher({
      options,
      consume: setup.consume,
      settler: new RemoteSettlements(link, this.#group, consumer, options),
      scheduler: broker.scheduler,
      events,
      tracing,
      onFree: () => this.#reader.free(),
    });
    this.#reader = new RemoteReader({
      link,
      consumer,
      dispatcher: this.#dispatcher,
      broker,
      events,
      exclusive: options.ordered !== 'no' && options.group !== null,
      wildcards: isPattern(setup.pattern),
    });
  }

  static async open(setup: SubscriptionSetup): Promise<RemoteSubscription> {
    const subscription = new RemoteSubscription(setup);
    const { pattern, options } = setup;
    const from = toId(options.from);
    try {
      if (isPattern(pattern)) {
        // First the word on what comes later, then the look at what is there: nothing falls between.
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
    const { link, options } = this.#setup;
    const added = names.map((name) => new RemoteTopic(name, this.#group, options));
    await Promise.all(
      added.map(async (each) => {
        this.#made.add(each.topic);
        await each.ensure(link, from);
        await this.#tidy(each.topic);
      }),
    );
    this.#reader.add(added);
  }

  /** Adds those of the topics that the pattern means and that are not there yet. */
  async #addAll(names: Iterable<string>, from: string): Promise<void> {
    const known = new Set(this.#reader.topics.map(({ topic }) => topic));
    const found: string[] = [];
    for (const name of names) if (!known.has(name) && this.#matches(name)) found.push(name);
    if (found.length > 0 && !this.#closed) await this.#add(found, from);
  }

  #matches(topic: string): boolean {
    // A pattern over everything does not mean the dead letters of everything.
    if (topic.endsWith('.dead') && !this.#setup.pattern.endsWith('.dead')) return false;
    return this.#isMeant(topic);
  }

  async #listen(): Promise<void> {
    this.#cancelListening = await this.#setup.watch().listen((topic) => {
      if (topic === null) this.#told = null;
      else if (this.#matches(topic)) this.#told?.add(topic);
      else return;
      this.#discover();
    });
  }

  /** Sees to what was told; one after the other, since each look changes what is known. */
  #discover(): void {
    this.#discovering ??= this.#seeToTold().finally(() => {
      this.#discovering = null;
    });
  }

  async #seeToTold(): Promise<void> {
    while (!this.#closed && (this.#told === null || this.#told.size > 0)) {
      const told = this.#told;
      this.#told = new Set();
      try {
        await this.#addAll(told ?? (await this.#setup.topics()), '0');
      } catch (error) {
        // The next look, soon, is at everything.
        this.#told = null;
        this.#warn(error);
        return;
      }
    }
  }

  #discoverLater(): void {
    const { scheduler } = this.#setup.broker;
    const isTold = this.#setup.watch().live && this.#told !== null;
    const wait = isTold ? DISCOVER_TOLD_EVERY_MS : DISCOVER_EVERY_MS;
    this.#cancelDiscovery = scheduler.after(wait, async () => {
      this.#told = null;
      this.#discover();
      await this.#discovering;
      if (!this.#closed) this.#discoverLater();
    });
  }

  /** What the dead have left: consumers without pending messages, groups of lone subscribers. */
  async #tidy(topic: string): Promise<void> {
    const { link } = this.#setup;
    try {
      const groups = (await link.call('XINFO', 'GROUPS', topic)) as ReplyMap[];
      for (const facts of groups) {
        const name = String(facts.get('name'));
        const isOwn = name === this.#group;
        if (!isOwn && !name.startsWith(OWN_GROUP)) continue;
        const consumers = (await link.call('XINFO', 'CONSUMERS', topic, name)) as ReplyMap[];
        const silent = consumers.filter((each) => Number(each.get('idle')) >= FORGOTTEN_MS);
        if (isOwn) {
          for (const each of silent) {
            if (Number(each.get('pending')) > 0) continue;
            await link.call('XGROUP', 'DELCONSUMER', topic, name, each.get('name') as Buffer);
          }
        } else if (silent.length > 0 && silent.length === consumers.length) {
          await link.call('XGROUP', 'DESTROY', topic, name);
        }
      }
    } catch (error) {
      this.#warn(error);
    }
  }

  async #destroyOwnGroup(): Promise<void> {
    const { link } = this.#setup;
    const commands = [...this.#made].map(
      (topic) => ['XGROUP', 'DESTROY', topic, this.#group] as const,
    );
    try {
      // A topic that is gone has taken its groups with it.
      await link.pipeline(commands);
    } catch (error) {
      this.#warn(error);
    }
  }

  #warn(error: unknown): void {
    this.#setup.events.emit('warning', { error: error as RivuletError });
  }
}
