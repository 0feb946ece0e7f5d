/**
 * The Broker contract on NATS: JetStream for topics, core NATS for requests.
 *
 * A topic is a subject in its own stream, and a group is a durable pull consumer. README has the
 * whole mapping. Every publish has an id, so one that is tried again after an outage is stored once.
 */
import type { MsgRequest, StoredMsg } from '@nats-io/jetstream';
import {
  BrokerBase,
  type BrokerOptions,
  type CallForm,
  type Capabilities,
  checkGroup,
  checkTopic,
  type DeliveryHandler,
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
} from 'rivulet/adapter';
import { readAddress } from './address.ts';
import { ServerClock } from './clock.ts';
import { numberOf } from './errors.ts';
import { Link } from './link.ts';
import { goMicroCodec, type MessageCodec, plainCodec } from './message-codec.ts';
import { consumerOf, refuseReserved, SCHEDULE_STREAM, scheduleSubject, streamOf } from './names.ts';
import { MessageStore } from './publish/message-store.ts';
import { Publisher } from './publish/publisher.ts';
import { NatsRequests } from './requests.ts';
import { Schedule } from './schedule.ts';
import { StoredMessages } from './stored-messages.ts';
import { Streams } from './streams.ts';
import { Attempts } from './subscription/attempts.ts';
import { startAt } from './subscription/group-topic.ts';
import { Subscription } from './subscription/subscription.ts';
import { TopicDirectory } from './topic-directory.ts';

/** Headers count towards the server's limit on a payload. */
const HEADER_BYTES = 16 * 1024;
const NO_MESSAGE = 10_037;
const NO_STREAM = 10_059;
const NO_CONSUMER = 10_014;
/** A replay deletes and makes the consumer this often, against subscribers that restore it meanwhile. */
const MAX_REPLAY_TRIES = 10;

interface Modules {
  readonly link: Link;
  readonly publisher: Publisher;
  readonly store: MessageStore;
  readonly topics: TopicDirectory;
  readonly streams: Streams;
  readonly attempts: Attempts;
  readonly schedule: Schedule;
  readonly requests: NatsRequests;
  readonly stored: StoredMessages;
}

export class NatsBroker extends BrokerBase {
  readonly name = 'nats';
  readonly #codec: MessageCodec;
  readonly #subscriptions = new Set<Subscription>();
  #modules: Modules | null = null;
  #subscribed = 0;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    this.#codec = this.options.goMicro ? goMicroCodec : plainCodec;
    for (const address of addresses) readAddress(address);
  }

  get address(): string {
    const [address] = this.options.addresses;
    return address === undefined ? 'nats://' : readAddress(address).shown;
  }

  get capabilities(): Readonly<Capabilities> {
    const modules = this.#modules;
    const most = (modules?.link.maxPayload ?? 1024 * 1024) - HEADER_BYTES;
    return {
      // Replicas have written it without a sync.
      durability: modules !== null && modules.streams.replicas > 1 ? 'quorum' : 'os',
      delayedNack: 'native',
      delayedPublish: 'emulated',
      deadLetter: 'at-least-once',
      dedup: { windowMs: this.options.dedupWindowMs, maxIds: Number.MAX_SAFE_INTEGER },
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'client',
      wildcards: true,
      requestReply: true,
      pendingList: 'own',
      attempts: 'deliveries',
      trimmedPending: 'own',
      // What is tried again later than the stream remembers ids is stored again.
      retriedPublish:
        this.options.dedupWindowMs >= this.options.publishTimeoutMs ? 'once' : 'at-least-once',
      extend: true,
      persistent: true,
      // go-micro writes bodies in base64.
      maxBodyBytes: this.options.goMicro ? Math.floor((most * 3) / 4) : most,
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
    const { link } = this.#all;
    const { consumer, minIdleMs = 0, limit = 100, after = '0' } = query;
    const own = [...this.#subscriptions].filter((each) => each.isOf(topic, group));
    if (own.length === 0) {
      await link
        .try(() => link.jsm.consumers.info(streamOf(topic), consumerOf(group)))
        .catch((error) => {
          throw error.code === 'GROUP_LOST' ? noGroup(topic, group, error) : error;
        });
    }
    return own
      .flatMap((each) => each.pending(topic))
      .filter((entry) => consumer === undefined || entry.consumer === consumer)
      .filter((entry) => entry.idleMs >= minIdleMs && Number(entry.id) > Number(after))
      .sort((a, b) => Number(a.id) - Number(b.id))
      .slice(0, limit);
  }

  protected async doReplay(topic: string, group: string, from: Position): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const { link, streams, attempts } = this.#all;
    const own = [...this.#subscriptions].filter((each) => each.isOf(topic, group));
    const move = link.try(async () => {
      const { name: stream } = await streams.topic(topic);
      const { consumers } = link.jsm;
      const { config } = await consumers.info(stream, consumerOf(group)).catch((error) => {
        throw numberOf(error) === NO_CONSUMER ? noGroup(topic, group, error) : error;
      });
      for (const each of own) each.beginReplay(topic);
      const { opt_start_seq: _, opt_start_time: __, ...kept } = config;
      for (let attempt = 1; ; attempt++) {
        // If the server refuses this, the group stays as it is. And nothing comes between the deletion of
        // the group and the new one: meanwhile another subscriber would make it.
        await attempts.forget(topic, group);
        await consumers.delete(stream, consumerOf(group)).catch((error) => {
          if (numberOf(error) !== NO_CONSUMER) throw error;
        });
        try {
          await consumers.add(stream, { ...kept, ...startAt(from) });
          return;
        } catch (error) {
          // Another subscriber found it missing meanwhile and has restored its old position.
          const isThere = /can not be updated|already exists/.test((error as Error).message);
          if (!isThere || attempt === MAX_REPLAY_TRIES) throw error;
        }
      }
    });
    await move.finally(() => {
      for (const each of own) each.endReplay(topic);
    });
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    checkTopic(topic);
    const { link, streams, store } = this.#all;
    const { from = `${topic}.dead`, limit = Number.POSITIVE_INFINITY } = options;
    let done = 0;
    await link.try(async () => {
      const { name: stream } = await streams.topic(from);
      const { state, created } = await link.jsm.streams.info(stream);
      for (let seq = 1; done < limit; seq++) {
        const letter = await this.#nextMessage(stream, from, seq);
        if (letter === null || letter.seq > state.last_seq) return;
        seq = letter.seq;
        const dead = this.#codec.decode(letter.data, letter.header);
        const { topic: origin, message } = redrivenMessage(dead);
        if ((origin ?? topic) !== topic) continue;
        // If this fails half way, the next redrive stores the letter again under the same id.
        await store.add(topic, message, `redrive:${stream}:${created}:${seq}`);
        if (await this.#delete(stream, from, seq)) done++;
      }
    });
    return done;
  }

  /** False where another client has deleted it meanwhile: it has redriven the letter, too. */
  async #delete(stream: string, subject: string, seq: number): Promise<boolean> {
    try {
      return await this.#all.link.jsm.streams.deleteMessage(stream, seq, false);
    } catch (error) {
      const next = await this.#nextMessage(stream, subject, seq);
      if (next?.seq === seq) throw error;
      return false;
    }
  }

  /** The first message of a subject from a sequence on; null if there is none, or no stream. */
  async #nextMessage(stream: string, subject: string, seq: number): Promise<StoredMsg | null> {
    const query = { seq, next_by_subj: subject } as MsgRequest;
    try {
      return await this.#all.link.jsm.streams.getMessage(stream, query);
    } catch (error) {
      const number = numberOf(error);
      if (number === NO_MESSAGE || number === NO_STREAM) return null;
      throw error;
    }
  }

  protected async *doTopics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    yield* this.#all.topics.all();
  }

  protected async doDeleteTopic(topic: string): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    const { link, streams } = this.#all;
    try {
      await link.try(() => this.#removeTopic(topic));
    } finally {
      streams.forget();
      for (const each of this.#subscriptions) each.check(topic);
    }
  }

  async #removeTopic(topic: string): Promise<void> {
    const { jsm } = this.#all.link;
    // Delayed messages first: one that falls due later would make the topic again.
    await this.#removeDelayed(scheduleSubject(topic));
    const isDeleted = await jsm.streams.delete(streamOf(topic)).catch(unless(NO_STREAM));
    if (isDeleted) return;
    const stream = await jsm.streams.find(topic).catch(() => null);
    if (stream === null) return;
    // Another program's stream holds it: that stream keeps its other subjects and consumers.
    await jsm.streams.purge(stream, { filter: topic });
    for await (const { name, config } of jsm.consumers.list(stream)) {
      const isGroup = config.filter_subject === topic && config.description !== undefined;
      if (!isGroup || name !== consumerOf(config.description as string)) continue;
      await jsm.consumers.delete(stream, name).catch(unless(NO_CONSUMER));
    }
  }

  /** Deletes one at a time: after a purge of one subject NATS 2.9 no longer delivers the others. */
  async #removeDelayed(subject: string): Promise<void> {
    const { streams } = this.#all.link.jsm;
    for (let seq = 1; ; seq++) {
      const next = await this.#nextMessage(SCHEDULE_STREAM, subject, seq);
      if (next === null) return;
      seq = next.seq;
      await streams.deleteMessage(SCHEDULE_STREAM, seq, false).catch(() => {});
    }
  }

  protected override checkTopicName(topic: string): void {
    checkTopic(topic);
    refuseReserved(topic);
  }

  /** An id is a message's sequence in its stream. */
  protected override checkId(id: string): void {
    if (/^\d+$/.test(id) && Number.isSafeInteger(Number(id))) return;
    throw new RivuletError('INVALID_ARGUMENT', `${JSON.stringify(id)} is no id of a message`);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const { scheduler } = this.options;
    const link = new Link(this.options, this.events);
    const publisher = new Publisher(link, scheduler);
    const streams = new Streams(link, this.options);
    const clock = new ServerClock(link, streams, scheduler);
    const topics = new TopicDirectory(link, this.events);
    const store: MessageStore = new MessageStore({
      link,
      publisher,
      streams,
      codec: this.#codec,
      options: this.options,
      events: this.events,
      schedule: () => schedule,
    });
    const schedule: Schedule = new Schedule({
      link,
      streams,
      scheduler,
      clock,
      events: this.events,
      store: (topic, message, id) => store.addDue(topic, message, id),
      deadLetter: (message, reason) => store.deadLetterForeign(message, reason),
    });
    const requests = new NatsRequests(link, this.options, this.events);
    const attempts = new Attempts(link, streams, scheduler);
    const stored = new StoredMessages(link, this.#codec, store);
    this.#modules = {
      link,
      publisher,
      store,
      topics,
      streams,
      attempts,
      schedule,
      requests,
      stored,
    };
    link.onReady(() => {
      streams.forget();
      clock.invalidate();
    });
    await link.open(signal);
    schedule.start();
  }

  protected async shut(): Promise<void> {
    const modules = this.#modules;
    this.#modules = null;
    if (modules === null) return;
    modules.requests.close();
    await modules.schedule.stop();
    modules.publisher.close();
    modules.attempts.close();
    await modules.link.close();
  }

  protected override store(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    return this.#all.store.store(topic, messages, plan);
  }

  protected async startSubscription(
    pattern: string,
    consume: DeliveryHandler,
    options: ResolvedSubscribeOptions,
  ): Promise<SubscriptionHandle> {
    const { link, streams, attempts, topics, store } = this.#all;
    const subscription = await this.#whenReached(`subscribe to ${pattern}`, async () => {
      const each = new Subscription({
        pattern,
        consume,
        options,
        broker: this.options,
        link,
        streams,
        attempts,
        codec: this.#codec,
        events: this.events,
        tracing: this.tracing,
        consumerName: `${this.options.clientName}/${this.#subscribed++}`,
        topics: () => topics.matching(pattern),
        store: (topic, message, id) => store.add(topic, message, id),
      });
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
    const { requests } = this.#all;
    const address = requests.newAddress();
    const responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler: this.options.scheduler,
      tracing: this.tracing,
      send: (inbox, frame) => requests.reply(inbox, frame),
      address: () => address,
    });
    const leave = await this.#whenReached(`respond on ${topic}`, () =>
      requests.respond(topic, address, responses),
    );
    return {
      get inFlight() {
        return responses.inFlight;
      },
      async close(timeoutMs) {
        await leave();
        await responses.close(timeoutMs);
        requests.forget(address);
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
    if (this.#modules === null) throw new RivuletError('CLOSED', 'the nats broker is disconnected');
    return this.#modules;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.withRetry(what, this.options.publishTimeoutMs, null, work);
  }
}

/** For `catch`: an error with this number is no failure. */
function unless(number: number): (error: unknown) => false {
  return (error) => {
    if (numberOf(error) === number) return false;
    throw error;
  };
}

function noGroup(topic: string, group: string, cause: unknown): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`, { cause });
}
