/**
 * The Broker contract on RabbitMQ.
 *
 * A topic is a routing key of one topic exchange, and a stream that is its log. A group is a quorum queue
 * bound to the topic. README has the whole mapping and lists what RabbitMQ cannot do.
 */
import type { Options } from 'amqplib';
import {
  BrokerBase,
  type BrokerOptions,
  type CallForm,
  type Capabilities,
  checkGroup,
  checkTopic,
  type DeliveryHandler,
  isOutage,
  type MessageLog,
  type PendingEntry,
  type PendingQuery,
  type Position,
  type PublishPlan,
  type RawCall,
  type RawMessage,
  type RawResponder,
  type Receipt,
  type RedriveOptions,
  type ResolvedSubscribeOptions,
  Responses,
  RivuletError,
  redrivenMessage,
  type StreamOptions,
  type SubscriptionHandle,
  type TopicInfo,
  withoutPassword,
} from 'rivulet/adapter';
import { Delays } from './delays.ts';
import { isMissing } from './errors.ts';
import { History } from './history.ts';
import { connectionOf, Link } from './link.ts';
import { decode, encode } from './message-codec.ts';
import { boundedTopic, queueOf, redriveQueueOf, topicExchangeOf } from './names.ts';
import { FramePublisher } from './publishing/frame-publisher.ts';
import { Publisher } from './publishing/publisher.ts';
import { Registry } from './registry.ts';
import { AmqpRequests } from './requests.ts';
import { ResponderLink } from './responder-link.ts';
import { StoredMessages } from './stored-messages.ts';
import { HandOverLog } from './subscription/hand-over-log.ts';
import { Subscription } from './subscription/subscription.ts';
import { Topology } from './topology.ts';

/** RabbitMQ's default `max_message_size`: 128 MiB, and 16 MiB from 4.0 on. */
const MOST_BYTES = { before4: 128 * 1024 * 1024, from4: 16 * 1024 * 1024 };
/** Topics that `topics()` asks about at the same time. */
const TOPICS_AT_ONCE = 16;

interface Modules {
  readonly link: Link;
  readonly publisher: Publisher;
  readonly frames: FramePublisher;
  readonly registry: Registry;
  readonly handOvers: HandOverLog;
  readonly topology: Topology;
  readonly history: History;
  readonly delays: Delays;
  readonly requests: AmqpRequests;
  readonly stored: StoredMessages;
}

export class RabbitMqBroker extends BrokerBase {
  readonly name = 'rabbitmq';
  readonly #subscriptions = new Set<Subscription>();
  /** The `maxLength` of each topic that this process has recorded. */
  readonly #keeps = new Map<string, number>();
  /** The last publish of each topic that waits for its log, until it is sent: true; false = not sent. */
  readonly #preparing = new Map<string, Promise<boolean>>();
  #modules: Modules | null = null;
  #number = 0;
  #unique = '';
  #subscribed = 0;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    for (const address of addresses) connectionOf(address);
  }

  get address(): string {
    return withoutPassword(this.options.addresses[0] ?? 'amqp://');
  }

  get capabilities(): Readonly<Capabilities> {
    const from4 = (this.#modules?.link.version[0] ?? 3) >= 4;
    return {
      // A quorum stores the log without fsync, and the queues of groups with it.
      durability: 'quorum',
      delayedNack: 'native',
      delayedPublish: 'native',
      deadLetter: 'at-least-once',
      dedup: null,
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'native',
      wildcards: true,
      requestReply: true,
      pendingList: 'own',
      attempts: 'hand-overs',
      trimmedPending: 'kept',
      retriedPublish: 'at-least-once',
      extend: true,
      persistent: true,
      maxBodyBytes: from4 ? MOST_BYTES.from4 : MOST_BYTES.before4,
    };
  }

  override get log(): MessageLog | undefined {
    return this.#modules?.stored;
  }

  protected async doPending(
    topic: string,
    group: string,
    query: PendingQuery = {},
  ): Promise<PendingEntry[]> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const { registry } = this.#all;
    const { consumer, minIdleMs = 0, limit = 100, after = '' } = query;
    const own = [...this.#subscriptions].filter((each) => each.group === group);
    if (own.length === 0) {
      const find = () => registry.group(topic, group);
      const facts = await this.#whenReached(`list what is pending of ${topic}`, find);
      if (facts === null) throw noGroup(topic, group);
    }
    return own
      .flatMap((each) => each.pending(topic))
      .filter((entry) => consumer === undefined || entry.consumer === consumer)
      .filter((entry) => entry.idleMs >= minIdleMs && entry.id > after)
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .slice(0, limit);
  }

  protected async doReplay(topic: string, group: string, from: Position): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const { topology, history } = this.#all;
    const leave = async () => {
      const own = [...this.#subscriptions].flatMap((each) => each.consumersOf(topic, group));
      await Promise.all(own.map((each) => each.abandon()));
    };
    const remade = await this.#whenReached(`replay ${topic}`, () =>
      topology.remake(topic, group, history.fillFrom(from), leave),
    );
    if (!remade) throw noGroup(topic, group);
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    checkTopic(topic);
    const { topology, link, publisher } = this.#all;
    const { from = boundedTopic(`${topic}.dead`), limit = Number.POSITIVE_INFINITY } = options;
    await topology.deadTopic(from);
    await topology.topic(topic);
    // Letters of other topics stay unacknowledged: RabbitMQ returns them when the channel closes.
    const queue = redriveQueueOf(from);
    // Letters that come back meanwhile, because their handler fails again, are for the next redrive.
    let left = (await topology.depth(queue)) ?? 0;
    const open = await link.channel();
    let done = 0;
    try {
      for (; done < limit && left > 0; left--) {
        const letter = await open.channel.get(queue);
        if (letter === false) break;
        const { message: dead } = decode(letter);
        const { topic: origin, message } = redrivenMessage(dead);
        if ((origin ?? topic) !== topic) continue;
        const properties = encode(topology.addressed(topic, message), this.#newId());
        const send = () => publisher.send(topology.exchange, topic, message.body, properties);
        if (!(await send())) {
          // Another client has deleted the topic.
          topology.doubt(topic);
          await topology.topic(topic);
          if (!(await send())) this.#logIsGone(topic);
        }
        open.channel.ack(letter);
        done++;
      }
    } finally {
      await open.close();
    }
    return done;
  }

  protected async *doTopics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    const { registry } = this.#all;
    const all = [...(await registry.topics())].filter(([, facts]) => facts.exists);
    for (let at = 0; at < all.length; at += TOPICS_AT_ONCE) {
      const some = all.slice(at, at + TOPICS_AT_ONCE);
      yield* await Promise.all(
        some.map(([topic, facts]) => this.#describe(topic, [...facts.groups.keys()])),
      );
    }
  }

  protected async doDeleteTopic(topic: string): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    const { registry, topology, publisher } = this.#all;
    await this.#whenReached(`delete ${topic}`, async () => {
      const facts = await registry.facts(topic);
      await topology.deleteTopic(topic, [...(facts?.groups.keys() ?? [])]);
    });
    publisher.leave(topic);
    this.#keeps.delete(topic);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const { scheduler, goMicro } = this.options;
    const link = new Link(this.options, this.events);
    const topicExchange = topicExchangeOf(goMicro);
    const onMissing = () => topology.forget();
    const publisher = new Publisher({ link, scheduler, topicExchange, onMissing });
    const registry = new Registry(link, publisher, scheduler);
    const handOvers = new HandOverLog({ link, publisher, scheduler });
    const topology = new Topology(link, registry, handOvers, scheduler, goMicro);
    const history = new History(link, publisher, registry, topology, scheduler);
    const delays = new Delays({ link, publisher, topology, scheduler, events: this.events });
    const frames = new FramePublisher(link, scheduler, onMissing);
    const requests = new AmqpRequests(link, topology, frames, this.options);
    const stored = new StoredMessages(link, history, topology, scheduler);
    this.#modules = {
      link,
      publisher,
      frames,
      registry,
      handOvers,
      topology,
      history,
      delays,
      requests,
      stored,
    };
    this.#unique = scheduler.uniqueName();
    registry.onDeleted((topic) => publisher.leave(topic));
    for (const each of [registry, handOvers, delays]) topology.onForget(() => each.forget());
    link.onReady(() => topology.forget());
    await link.open(signal);
    await topology.base();
    delays.start();
  }

  protected async shut(): Promise<void> {
    const modules = this.#modules;
    this.#modules = null;
    if (modules === null) return;
    await modules.requests.close();
    await modules.delays.stop();
    await modules.handOvers.close();
    await modules.registry.close();
    await modules.frames.close();
    await modules.publisher.close();
    await modules.link.close();
  }

  protected override store(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const plain = plan.maxLength === null && plan.deliverAt === null && plan.delayMs === null;
    const before = this.#preparing.get(topic);
    return plain && messages.length === 1 && before === undefined && this.#all.topology.has(topic)
      ? this.#storeOne(topic, messages, plan)
      : this.#storeAll(topic, messages, plan, before);
  }

  /** Most publishes, with few promises. */
  async #storeOne(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const { topology, publisher } = this.#all;
    const [message] = messages as readonly [RawMessage];
    const [id] = this.#idsOf(messages, plan) as readonly [string];
    const properties = encode(topology.addressed(topic, message), id);
    if (!(await publisher.send(topology.exchange, topic, message.body, properties))) {
      this.#logIsGone(topic);
    }
    return [{ id, duplicate: false }];
  }

  async #storeAll(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    before: Promise<boolean> | undefined,
  ): Promise<Receipt[]> {
    const { delays, publisher, topology } = this.#all;
    const ids = this.#idsOf(messages, plan);
    // Throws before the first await if a message cannot be sent at all.
    const written = messages.map((message, index) =>
      encode(topology.addressed(topic, message), ids[index] as string),
    );
    const [prepared, sent] = this.#prepare(topic, plan, before);
    await prepared;
    const dueAt =
      plan.deliverAt ??
      (plan.delayMs === null ? null : this.options.scheduler.now() + plan.delayMs);
    const storing = messages.map(async (message, index) => {
      const properties = written[index] as Options.Publish;
      if (dueAt === null) {
        return publisher.send(topology.exchange, topic, message.body, properties);
      }
      await delays.publishAt(topic, dueAt, message.body, properties);
      return true;
    });
    sent();
    const stored = await Promise.all(storing);
    if (stored.includes(false)) this.#logIsGone(topic);
    return ids.map((id) => ({ id, duplicate: false }));
  }

  /**
   * Makes sure that the topic has its log, after earlier publishes of the topic have been sent. Later ones
   * wait until the returned function is called; where this one has to be tried again, they have to, too.
   */
  #prepare(
    topic: string,
    { maxLength }: PublishPlan,
    before: Promise<boolean> | undefined,
  ): [prepared: Promise<void>, sent: () => void] {
    let end: (isSent: boolean) => void = () => {};
    const preparing = new Promise<boolean>((resolve) => {
      end = (isSent) => {
        if (this.#preparing.get(topic) === preparing) this.#preparing.delete(topic);
        resolve(isSent);
      };
    });
    this.#preparing.set(topic, preparing);
    const prepare = async () => {
      try {
        if ((await before) === false) {
          const text = `an earlier publish to ${topic} has to be tried again first`;
          throw new RivuletError('NOT_CONNECTED', text);
        }
        await this.#all.topology.topic(topic);
        if (maxLength !== null) await this.#keep(topic, maxLength);
      } catch (error) {
        end(!isOutage(error));
        throw error;
      }
    };
    return [prepare(), () => end(true)];
  }

  #logIsGone(topic: string): never {
    this.#all.topology.doubt(topic);
    throw new RivuletError('NOT_CONNECTED', `the log of ${topic} no longer exists`);
  }

  protected async startSubscription(
    pattern: string,
    consume: DeliveryHandler,
    options: ResolvedSubscribeOptions,
  ): Promise<SubscriptionHandle> {
    const setup = {
      ...this.#all,
      pattern,
      consume,
      options,
      broker: this.options,
      events: this.events,
      tracing: this.tracing,
      consumer: `${this.options.clientName}/${this.#subscribed++}`,
    };
    const subscription = await this.#whenReached(`subscribe to ${pattern}`, async () => {
      const each = new Subscription(setup);
      await each.start();
      return each;
    });
    this.#subscriptions.add(subscription);
    return {
      get inFlight() {
        return subscription.inFlight;
      },
      close: async (timeoutMs) => {
        await subscription.close(timeoutMs);
        this.#subscriptions.delete(subscription);
      },
    };
  }

  protected async startResponder(
    topic: string,
    handler: RawResponder,
    _group: string,
    concurrency: number,
  ): Promise<SubscriptionHandle> {
    const { link, topology, frames } = this.#all;
    const setup = { topic, concurrency, link, topology, frames };
    const responder = new ResponderLink({ ...setup, broker: this.options, events: this.events });
    const responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler: this.options.scheduler,
      tracing: this.tracing,
      send: (inbox, frame) => responder.send(inbox, frame),
      address: () => responder.address,
    });
    await this.#whenReached(`respond on ${topic}`, () => responder.start(responses));
    return {
      get inFlight() {
        return responses.inFlight;
      },
      async close(timeoutMs) {
        await responder.stopTaking();
        await responses.close(timeoutMs);
        await responder.close();
      },
    };
  }

  protected begin(
    topic: string,
    message: RawMessage,
    options: StreamOptions,
    form: CallForm,
  ): RawCall {
    return this.#all.requests.begin(topic, message, options, form);
  }

  get #all(): Modules {
    if (this.#modules === null)
      throw new RivuletError('CLOSED', 'the rabbitmq broker is disconnected');
    return this.#modules;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    const { link, topology } = this.#all;
    return this.withRetry(what, this.options.publishTimeoutMs, null, async () => {
      try {
        return await link.try(work);
      } catch (error) {
        if (isMissing(error)) topology.forget();
        throw error;
      }
    });
  }

  async #describe(topic: string, groups: readonly string[]): Promise<TopicInfo> {
    const { topology, history } = this.#all;
    const found: TopicInfo['groups'][number][] = [];
    for (const name of groups) {
      const waiting = await topology.depth(queueOf(topic, name));
      if (waiting === null) continue;
      // AMQP reports what is ready. Of what is unacknowledged, only this process's part is known.
      const own = [...this.#subscriptions].filter((each) => each.group === name);
      const pending = own.flatMap((each) => each.pending(topic)).length;
      found.push({ name, pending, lag: waiting });
    }
    return { topic, length: await history.length(topic), groups: found };
  }

  async #keep(topic: string, maxLength: number): Promise<void> {
    if (this.#keeps.get(topic) === maxLength) return;
    await this.#all.registry.add({ topic, keep: maxLength });
    this.#keeps.set(topic, maxLength);
  }

  /** The same ids at each try of a publish. */
  #idsOf(messages: readonly RawMessage[], plan: PublishPlan): readonly string[] {
    plan.ids ??= messages.map(() => this.#newId());
    return plan.ids;
  }

  /** Time, number and publisher. The ids of one publisher ascend. */
  #newId(): string {
    const number = (this.#number++).toString(36).padStart(7, '0');
    return `${this.options.scheduler.now()}-${number}-${this.#unique}`;
  }
}

function noGroup(topic: string, group: string): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`);
}
