/**
 * The Broker contract on NATS: JetStream for what is kept, core NATS for requests.
 *
 * A topic is a subject in a stream of its own, a group a durable pull consumer; README has the whole
 * mapping. Every publish carries an id, so one that is tried again after an outage is stored once.
 */
import { type Msg, type MsgHdrs, headers as makeHeaders } from '@nats-io/transport-node';
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
import { numberOf, toRivulet } from './failures.ts';
import { type Form, goMicroForm, plainForm } from './form.ts';
import { start } from './group-topic.ts';
import { Link } from './link.ts';
import {
  consumerOf,
  refuseReserved,
  SCHEDULE_SUBJECT,
  streamOf,
  TOPIC_STREAM,
  topicOf,
} from './names.ts';
import { Publisher } from './publisher.ts';
import { NatsRequests } from './requests.ts';
import { Schedule, scheduleHeaders } from './schedule.ts';
import { Streams } from './streams.ts';
import { Subscription } from './subscription.ts';

/** Headers count towards the server's limit on a payload. */
const HEADER_BYTES = 16 * 1024;
const NO_MESSAGE = 10_037;
const NO_STREAM = 10_059;
const NO_CONSUMER = 10_014;
/** Subscribers that see a group go make it anew; so often it is moved against them. */
const MOST_MOVES = 10;
/** Streams that `topics()` looks at at once. */
const SIDE_BY_SIDE = 16;

interface Parts {
  readonly link: Link;
  readonly publisher: Publisher;
  readonly streams: Streams;
  readonly schedule: Schedule;
  readonly requests: NatsRequests;
}

export class NatsBroker extends BrokerBase {
  readonly name = 'nats';
  readonly #form: Form;
  readonly #subscriptions = new Set<Subscription>();
  /** Topics whose stream's name is too long to tell them. */
  readonly #longNamed = new Map<string, string>();
  readonly #untrimmed = new Map<string, number>();
  #parts: Parts | null = null;
  #subscribed = 0;
  #number = 0;
  #unique = '';

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    this.#form = this.options.goMicro ? goMicroForm : plainForm;
    for (const address of addresses) checkAddress(address);
  }

  get address(): string {
    return withoutPassword(this.options.addresses[0] ?? 'nats://');
  }

  get capabilities(): Readonly<Capabilities> {
    const parts = this.#parts;
    const most = (parts?.link.maxPayload ?? 1024 * 1024) - HEADER_BYTES;
    return {
      // Replicas have written it, none has synced it.
      durability: parts !== null && parts.streams.replicas > 1 ? 'quorum' : 'os',
      delayedNack: 'native',
      delayedPublish: 'emulated',
      deadLetter: 'at-least-once',
      dedup: { windowMs: this.options.idWindowMs, maxIds: Number.MAX_SAFE_INTEGER },
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'client',
      wildcards: true,
      requestReply: true,
      pendingList: 'own',
      extend: true,
      persistent: true,
      // go-micro's form is base64 in JSON.
      maxBodyBytes: this.options.goMicro ? Math.floor((most * 3) / 4) : most,
    };
  }

  async pending(topic: string, group: string, query: PendingQuery = {}): Promise<PendingEntry[]> {
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

  async replay(topic: string, group: string, from: Position): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const { link, streams } = this.#all;
    const own = [...this.#subscriptions].filter((each) => each.isOf(topic, group));
    const move = link.try(async () => {
      const stream = await streams.topic(topic);
      const { consumers } = link.jsm;
      const { config } = await consumers.info(stream, consumerOf(group)).catch((error) => {
        throw numberOf(error) === NO_CONSUMER ? noGroup(topic, group, error) : error;
      });
      for (const each of own) each.drop(topic);
      const { opt_start_seq: _, opt_start_time: __, ...kept } = config;
      for (let attempt = 1; ; attempt++) {
        await consumers.delete(stream, consumerOf(group)).catch((error) => {
          if (numberOf(error) !== NO_CONSUMER) throw error;
        });
        try {
          await consumers.add(stream, { ...kept, ...start(from) });
          return;
        } catch (error) {
          // A subscriber elsewhere found it missing in between, and has made it anew where it stood.
          const isThere = /can not be updated|already exists/.test((error as Error).message);
          if (!isThere || attempt === MOST_MOVES) throw error;
        }
      }
    });
    await move.finally(() => {
      for (const each of own) each.resume(topic);
    });
  }

  async redrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    checkTopic(topic);
    const { link, streams } = this.#all;
    const { from = `${topic}.dead`, limit = Number.POSITIVE_INFINITY } = options;
    let done = 0;
    await link.try(async () => {
      const stream = await streams.topic(from);
      const { state, created } = await link.jsm.streams.info(stream);
      for (let seq = state.first_seq; seq <= state.last_seq && done < limit; seq++) {
        const letter = await link.jsm.streams.getMessage(stream, { seq }).catch((error) => {
          if (numberOf(error) === NO_MESSAGE) return null;
          throw error;
        });
        if (letter === null || letter.subject !== from) continue;
        const dead = this.#form.read(letter.data, letter.header);
        const { topic: origin, message } = redrivenMessage(dead);
        if ((origin ?? topic) !== topic) continue;
        // The same letter sent back twice, after a crash in between, is stored once.
        await this.#storeOne(topic, message, `redrive:${stream}:${created}:${seq}`);
        await link.jsm.streams.deleteMessage(stream, seq, false);
        done++;
      }
    });
    return done;
  }

  async *topics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    const streams = await this.#topicStreams();
    for (let at = 0; at < streams.length; at += SIDE_BY_SIDE) {
      const some = streams.slice(at, at + SIDE_BY_SIDE).map((stream) => this.#look(stream));
      for (const each of await Promise.all(some)) if (each !== null) yield each;
    }
  }

  async deleteTopic(topic: string): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    const { link, streams } = this.#all;
    try {
      await link.jsm.streams.delete(streamOf(topic));
    } catch (error) {
      if (numberOf(error) !== NO_STREAM) throw toRivulet(error);
    }
    streams.forget();
  }

  protected override checkTopicName(topic: string): void {
    checkTopic(topic);
    refuseReserved(topic);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const { scheduler } = this.options;
    const link = new Link(this.options, this.events);
    const publisher = new Publisher(link, scheduler);
    const streams = new Streams(link, this.options);
    const schedule = new Schedule(link, streams, scheduler, this.events, (topic, message, id) =>
      this.#storeDue(topic, message, id),
    );
    const requests = new NatsRequests(link, this.options);
    this.#parts = { link, publisher, streams, schedule, requests };
    this.#unique = scheduler.uniqueName();
    link.onReady(() => streams.forget());
    await link.open(signal);
    schedule.start();
  }

  protected async shut(): Promise<void> {
    const parts = this.#parts;
    this.#parts = null;
    if (parts === null) return;
    parts.requests.close();
    await parts.schedule.stop();
    parts.publisher.close();
    await parts.link.close();
  }

  protected store(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const plain = plan.maxLength === null && plan.deliverAt === null && plan.delayMs === null;
    return plain && messages.length === 1 && this.#all.streams.has(topic)
      ? this.#storeAtOnce(topic, messages, plan)
      : this.#storeAll(topic, messages, plan);
  }

  /** Most publishes: with as few promises as there can be. */
  async #storeAtOnce(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const id = plan.id === null ? (this.#idsOf(messages, plan)[0] as string) : `id:${plan.id}`;
    const { payload, headers } = this.#form.write(messages[0] as Message);
    return [await this.#send(topic, payload, headers, id)];
  }

  async #storeAll(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const { scheduler } = this.options;
    const dueAt = plan.deliverAt ?? (plan.delayMs === null ? null : scheduler.now() + plan.delayMs);
    const ids = plan.id === null ? this.#idsOf(messages, plan) : [`id:${plan.id}`];
    await this.#all.streams.topic(topic);
    const receipts = await Promise.all(
      messages.map((message, index) => {
        const id = ids[index] as string;
        return dueAt === null
          ? this.#storeOne(topic, message, id)
          : this.#storeLater(topic, message, id, dueAt, plan.id !== null);
      }),
    );
    if (plan.maxLength !== null) await this.#trim(topic, plan.maxLength, messages.length);
    return receipts;
  }

  protected async attach(
    pattern: string,
    consume: Consume,
    options: ResolvedSubscribeOptions,
  ): Promise<Attachment> {
    const { link, streams } = this.#all;
    const subscription = await this.#whenReached(`subscribe to ${pattern}`, async () => {
      const each = new Subscription({
        pattern,
        consume,
        options,
        broker: this.options,
        link,
        streams,
        form: this.#form,
        events: this.events,
        tracing: this.tracing,
        consumerName: `${this.options.clientName}/${this.#subscribed++}`,
        topics: () => this.#topicsLike(pattern),
        store: async (topic, message, id) => {
          await this.#storeOne(topic, message, id);
        },
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

  protected async attachResponder(
    topic: string,
    handler: Responder,
    group: string,
    concurrency: number,
  ): Promise<Attachment> {
    const { requests } = this.#all;
    const responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler: this.options.scheduler,
      tracing: this.tracing,
      send: (inbox, frame) => requests.reply(inbox, frame),
    });
    const leave = await this.#whenReached(`respond on ${topic}`, () =>
      requests.respond(topic, group, responses),
    );
    return {
      get inFlight() {
        return responses.inFlight;
      },
      async close(timeoutMs) {
        await leave();
        await responses.close(timeoutMs);
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
    if (this.#parts === null) throw new RivuletError('CLOSED', 'the nats broker is disconnected');
    return this.#parts;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.patiently(what, this.options.publishTimeoutMs, null, work);
  }

  async #storeOne(topic: string, message: Message, id: string): Promise<Receipt> {
    const { payload, headers } = this.#form.write(message);
    await this.#all.streams.topic(topic);
    return this.#send(topic, payload, headers, id);
  }

  /** A message that has waited: as it was written then. */
  async #storeDue(topic: string, message: Msg, id: string): Promise<void> {
    const headers = makeHeaders();
    const ours = new Set<string>(Object.values(scheduleHeaders));
    for (const [name, values] of message.headers ?? []) {
      if (ours.has(name) || name.startsWith('Nats-')) continue;
      for (const value of values) headers.append(name, value);
    }
    await this.#all.streams.topic(topic);
    await this.#send(topic, message.data, headers, id);
  }

  async #storeLater(
    topic: string,
    message: Message,
    id: string,
    dueAt: number,
    own: boolean,
  ): Promise<Receipt> {
    const { schedule, streams } = this.#all;
    const { payload, headers } = this.#form.write(message);
    headers.append(scheduleHeaders.dueAt, String(dueAt));
    headers.append(scheduleHeaders.topic, topic);
    if (own) headers.append(scheduleHeaders.id, ascii(id));
    await streams.schedule();
    schedule.start();
    const { id: place, duplicate } = await this.#send(
      SCHEDULE_SUBJECT,
      payload,
      headers,
      own ? `${topic} ${id}` : id,
    );
    return { id: `scheduled-${place}`, duplicate };
  }

  async #send(
    subject: string,
    payload: Uint8Array,
    headers: MsgHdrs,
    id: string,
  ): Promise<Receipt> {
    const { publisher, streams } = this.#all;
    headers.set('Nats-Msg-Id', ascii(id));
    try {
      return await publisher.send(subject, payload, headers);
    } catch (error) {
      const known = toRivulet(error);
      // Nobody took it: its stream is gone, or is choosing its leader.
      if (known.code === 'NOT_CONNECTED' || known.code === 'GROUP_LOST') streams.forget();
      throw known;
    }
  }

  /** Trims once in a while: a topic grows to at most a tenth over its length. */
  async #trim(topic: string, maxLength: number, added: number): Promise<void> {
    const { link, streams } = this.#all;
    const untrimmed = (this.#untrimmed.get(topic) ?? 0) + added;
    this.#untrimmed.set(topic, untrimmed);
    if (untrimmed < maxLength / 10) return;
    this.#untrimmed.set(topic, 0);
    const stream = await streams.topic(topic);
    await link.try(() => link.jsm.streams.purge(stream, { filter: topic, keep: maxLength }));
  }

  /** Null when it is gone, or when its node does not answer; that is told. */
  async #look(stream: string): Promise<TopicInfo | null> {
    const { jsm } = this.#all.link;
    try {
      const { config, state } = await jsm.streams.info(stream);
      const groups: TopicInfo['groups'][number][] = [];
      for await (const info of jsm.consumers.list(stream)) {
        const { description: name = info.name } = info.config;
        groups.push({ name, pending: info.num_ack_pending, lag: info.num_pending });
      }
      return { topic: config.subjects[0] as string, length: state.messages, groups };
    } catch (error) {
      if (numberOf(error) === NO_STREAM) return null;
      const { code, message } = toRivulet(error);
      const text = `topics() leaves out the stream ${stream}: ${message}`;
      this.events.emit('warning', { error: new RivuletError(code, text, { cause: error }) });
      return null;
    }
  }

  async #topicsLike(pattern: string): Promise<string[]> {
    const streams = await this.#topicStreams(pattern);
    return this.#all.link.try(() =>
      Promise.all(streams.map(async (each) => topicOf(each) ?? (await this.#subjectOf(each)))),
    );
  }

  /**
   * The streams of topics, by their names alone: a list with the state of each makes a cluster ask all
   * its nodes, which takes seconds when one does not answer.
   */
  #topicStreams(pattern?: string): Promise<string[]> {
    const { link } = this.#all;
    return link.try(async () => {
      const found: string[] = [];
      for await (const name of link.jsm.streams.names(pattern)) {
        if (name.startsWith(TOPIC_STREAM)) found.push(name);
      }
      return found;
    });
  }

  async #subjectOf(stream: string): Promise<string> {
    let topic = this.#longNamed.get(stream);
    if (topic === undefined) {
      const { config } = await this.#all.link.jsm.streams.info(stream);
      topic = config.subjects[0] as string;
      this.#longNamed.set(stream, topic);
    }
    return topic;
  }

  /** The same ones each time the publish is tried. */
  #idsOf(messages: readonly Message[], plan: PublishPlan): readonly string[] {
    plan.ids ??= messages.map(() => `${this.#unique}-${(this.#number++).toString(36)}`);
    return plan.ids;
  }
}

/** Ids travel in a header, so anything but printable ASCII is escaped. */
function ascii(id: string): string {
  return id.replace(/[^!-$&-~]/gu, (letter) => encodeURIComponent(letter));
}

function noGroup(topic: string, group: string, cause: unknown): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`, { cause });
}

function checkAddress(address: string): void {
  let url: URL;
  try {
    url = new URL(address);
  } catch (cause) {
    throw new RivuletError('INVALID_ARGUMENT', `${withoutPassword(address)} is no URL`, { cause });
  }
  if (url.protocol === 'nats:' || url.protocol === 'tls:') return;
  const text = `${withoutPassword(address)}: the nats broker has addresses like nats://host:4222`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}
