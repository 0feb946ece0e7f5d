/**
 * The Broker contract on RabbitMQ.
 *
 * A topic is a routing key of one topic exchange and a stream that keeps its log; a group is a quorum
 * queue bound to the topic. README has the whole mapping and says what RabbitMQ cannot do.
 */
import {
  type Attachment,
  BrokerBase,
  type BrokerOptions,
  type Capabilities,
  type Consume,
  checkGroup,
  checkTopic,
  type Message,
  type PendingEntry,
  type PendingQuery,
  type Position,
  type PublishPlan,
  type Receipt,
  type RedriveOptions,
  type RequestOptions,
  type ResolvedSubscribeOptions,
  type Responder,
  Responses,
  RivuletError,
  redrivenMessage,
  type TopicInfo,
  withoutPassword,
} from 'rivulet';
import { Delays } from './delays.ts';
import { read, write } from './form.ts';
import { History } from './history.ts';
import { Link } from './link.ts';
import { queueOf, redriveQueueOf } from './names.ts';
import { Publisher } from './publisher.ts';
import { Registry } from './registry.ts';
import { AmqpRequests, ResponderLink } from './requests.ts';
import { Subscription } from './subscription.ts';
import { Topology } from './topology.ts';

/** RabbitMQ's default `max_message_size`: 128 MiB, and 16 MiB from 4.0 on. */
const MOST_BYTES = { before4: 128 * 1024 * 1024, from4: 16 * 1024 * 1024 };
/** Topics that `topics()` looks at side by side. */
const SIDE_BY_SIDE = 16;

interface Parts {
  readonly link: Link;
  readonly publisher: Publisher;
  readonly registry: Registry;
  readonly topology: Topology;
  readonly history: History;
  readonly delays: Delays;
  readonly requests: AmqpRequests;
}

export class RabbitMqBroker extends BrokerBase {
  readonly name = 'rabbitmq';
  readonly #subscriptions = new Set<Subscription>();
  /** Ids of messages whose publish is tried again: a second copy has the same id. */
  /** The lengths that the registry knows of. */
  readonly #keeps = new Map<string, number>();
  #parts: Parts | null = null;
  #number = 0;
  #unique = '';
  #subscribed = 0;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    for (const address of addresses) checkAddress(address);
  }

  get address(): string {
    return withoutPassword(this.options.addresses[0] ?? 'amqp://');
  }

  get capabilities(): Readonly<Capabilities> {
    const from4 = (this.#parts?.link.version[0] ?? 3) >= 4;
    return {
      // The log of a topic is stored by a quorum and not fsynced; the queues of groups are.
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
      extend: true,
      persistent: true,
      maxBodyBytes: from4 ? MOST_BYTES.from4 : MOST_BYTES.before4,
    };
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
    if (own.length === 0 && (await registry.group(topic, group)) === null) {
      throw noGroup(topic, group);
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
      const own = [...this.#subscriptions].filter((each) => each.isOf(topic, group));
      await Promise.all(own.map((each) => each.abandon()));
    };
    const remade = await topology.remake(topic, group, history.fillFrom(from), leave);
    if (!remade) throw noGroup(topic, group);
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    checkTopic(topic);
    const { topology, link, publisher } = this.#all;
    const { from = `${topic}.dead`, limit = Number.POSITIVE_INFINITY } = options;
    await topology.deadTopic(from);
    await topology.topic(topic);
    // What belongs to other topics stays unacknowledged and returns when the channel closes.
    const open = await link.channel();
    let done = 0;
    try {
      while (done < limit) {
        const letter = await open.channel.get(redriveQueueOf(from));
        if (letter === false) break;
        const { id, message: dead } = read(letter);
        const { topic: origin, message } = redrivenMessage(dead);
        if ((origin ?? topic) !== topic) continue;
        const stored = await publisher.send(
          topology.exchange,
          topic,
          message.body,
          write(message, this.#newId() || id),
        );
        if (!stored) throw new RivuletError('NOT_CONNECTED', `the log of ${topic} went away`);
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
    for (let at = 0; at < all.length; at += SIDE_BY_SIDE) {
      const some = all.slice(at, at + SIDE_BY_SIDE);
      yield* await Promise.all(
        some.map(([topic, facts]) => this.#look(topic, [...facts.groups.keys()])),
      );
    }
  }

  protected async doDeleteTopic(topic: string): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    const { registry, topology } = this.#all;
    const facts = await registry.facts(topic);
    await topology.deleteTopic(topic, [...(facts?.groups.keys() ?? [])]);
    this.#keeps.delete(topic);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const { scheduler, goMicro } = this.options;
    const link = new Link(this.options, this.events);
    const publisher = new Publisher(link, scheduler, () => {
      topology.forget();
      delays.forget();
    });
    const registry = new Registry(link, publisher, scheduler);
    const topology = new Topology(link, registry, scheduler, goMicro);
    const history = new History(link, publisher, registry, topology, scheduler);
    const delays = new Delays(link, publisher, topology, scheduler, this.events);
    const requests = new AmqpRequests(link, topology, this.options);
    this.#parts = { link, publisher, registry, topology, history, delays, requests };
    this.#unique = scheduler.uniqueName();
    link.onReady(() => {
      topology.forget();
      registry.forget();
      delays.forget();
    });
    await link.open(signal);
    await topology.base();
    delays.start();
  }

  protected async shut(): Promise<void> {
    const parts = this.#parts;
    this.#parts = null;
    if (parts === null) return;
    await parts.requests.close();
    await parts.delays.stop();
    await parts.registry.close();
    await parts.publisher.close();
    await parts.link.close();
  }

  protected store(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const plain = plan.maxLength === null && plan.deliverAt === null && plan.delayMs === null;
    return plain && messages.length === 1 && this.#all.topology.has(topic)
      ? this.#storeOne(topic, messages, plan)
      : this.#storeAll(topic, messages, plan);
  }

  /** Most publishes: with as few promises as there can be. */
  async #storeOne(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const { topology, publisher } = this.#all;
    const [message] = messages as readonly [Message];
    const [id] = this.#idsOf(messages, plan) as readonly [string];
    const properties = write(message, id);
    if (!(await publisher.send(topology.exchange, topic, message.body, properties))) {
      this.#logIsGone(topic);
    }
    return [{ id, duplicate: false }];
  }

  async #storeAll(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const { topology, delays, publisher } = this.#all;
    await topology.topic(topic);
    if (plan.maxLength !== null) await this.#keep(topic, plan.maxLength);
    const ids = this.#idsOf(messages, plan);
    const dueAt =
      plan.deliverAt ??
      (plan.delayMs === null ? null : this.options.scheduler.now() + plan.delayMs);
    const stored = await Promise.all(
      messages.map(async (message, index) => {
        const properties = write(message, ids[index] as string);
        if (dueAt === null) {
          return publisher.send(topology.exchange, topic, message.body, properties);
        }
        await delays.toExchange(topology.exchange, topic, dueAt, message.body, properties);
        return true;
      }),
    );
    if (stored.includes(false)) this.#logIsGone(topic);
    return ids.map((id) => ({ id, duplicate: false }));
  }

  #logIsGone(topic: string): never {
    this.#all.topology.forget();
    throw new RivuletError('NOT_CONNECTED', `the log of ${topic} is not there any more`);
  }

  protected async attach(
    pattern: string,
    consume: Consume,
    options: ResolvedSubscribeOptions,
  ): Promise<Attachment> {
    const parts = this.#all;
    const setup = {
      ...parts,
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

  protected async attachResponder(
    topic: string,
    handler: Responder,
    group: string,
    concurrency: number,
  ): Promise<Attachment> {
    const { link, topology, publisher } = this.#all;
    const setup = { topic, group, concurrency, link, topology, publisher };
    const responder = new ResponderLink({ ...setup, broker: this.options, events: this.events });
    const responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler: this.options.scheduler,
      tracing: this.tracing,
      send: (inbox, frame) => responder.send(inbox, frame),
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

  protected ask(
    topic: string,
    message: Message,
    _many: boolean,
    options: RequestOptions,
  ): AsyncIterable<Message> {
    return this.#all.requests.ask(topic, message, options);
  }

  get #all(): Parts {
    if (this.#parts === null)
      throw new RivuletError('CLOSED', 'the rabbitmq broker is disconnected');
    return this.#parts;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.patiently(what, this.options.publishTimeoutMs, null, work);
  }

  async #look(topic: string, groups: readonly string[]): Promise<TopicInfo> {
    const { topology, history } = this.#all;
    const found: TopicInfo['groups'][number][] = [];
    for (const name of groups) {
      const waiting = await topology.depth(queueOf(topic, name));
      if (waiting === null) continue;
      // AMQP tells what waits; of what is unacknowledged, only our own part is known.
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

  /** The same ones each time the publish is tried. */
  #idsOf(messages: readonly Message[], plan: PublishPlan): readonly string[] {
    plan.ids ??= messages.map(() => this.#newId());
    return plan.ids;
  }

  /** Time, number and publisher: those of one publisher ascend. */
  #newId(): string {
    const number = (this.#number++).toString(36).padStart(7, '0');
    return `${this.options.scheduler.now()}-${number}-${this.#unique}`;
  }
}

function noGroup(topic: string, group: string): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`);
}

function checkAddress(address: string): void {
  let url: URL;
  try {
    url = new URL(address);
  } catch (cause) {
    const text = `${withoutPassword(address)} is no URL`;
    throw new RivuletError('INVALID_ARGUMENT', text, { cause });
  }
  if (url.protocol === 'amqp:' || url.protocol === 'amqps:') return;
  const text = `${withoutPassword(address)}: the rabbitmq broker has addresses like amqp://host:5672/vhost`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}
