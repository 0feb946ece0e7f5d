/**
 * The Broker contract on NATS: JetStream for what is kept, core NATS for requests.
 *
 * A topic is a subject in a stream of its own, a group a durable pull consumer; README has the whole
 * mapping. Every publish carries an id, so one that is tried again after an outage is stored once.
 */
import type { MsgRequest } from '@nats-io/jetstream';
import { type Msg, type MsgHdrs, headers as makeHeaders } from '@nats-io/transport-node';
import {
  type Attachment,
  BrokerBase,
  type BrokerOptions,
  type Capabilities,
  type Consume,
  checkGroup,
  checkTopic,
  deadLetterMessage,
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
} from 'rivulet';
import { readAddress } from './address.ts';
import { Attempts } from './attempts.ts';
import { ServerClock } from './clock.ts';
import { numberOf, toRivulet } from './failures.ts';
import { type Form, goMicroForm, plainForm } from './form.ts';
import { start } from './group-topic.ts';
import { Link } from './link.ts';
import {
  consumerOf,
  refuseReserved,
  SCHEDULE_STREAM,
  scheduleSubject,
  streamOf,
  TOPIC_STREAM,
  topicOf,
} from './names.ts';
import { Publisher } from './publisher.ts';
import { NatsRequests } from './requests.ts';
import { Schedule, scheduleHeaders } from './schedule.ts';
import { type StreamFacts, Streams } from './streams.ts';
import { Subscription } from './subscription.ts';

/** Headers count towards the server's limit on a payload. */
const HEADER_BYTES = 16 * 1024;
/** Of these, what is kept for headers of ours: those of a dead letter, of a delay, of a trace. */
const OUR_HEADER_BYTES = 4 * 1024;
const SCHEDULE_HEADERS: ReadonlySet<string> = new Set(Object.values(scheduleHeaders));
/** Where what other programs have put among the delayed messages goes. */
const FOREIGN_DEAD = 'rivulet.delayed.dead';
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
  readonly attempts: Attempts;
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
  /** The last publish of each topic that waits for its stream to be known. */
  readonly #opening = new Map<string, Promise<void>>();
  #parts: Parts | null = null;
  #subscribed = 0;
  #number = 0;
  #unique = '';

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    this.#form = this.options.goMicro ? goMicroForm : plainForm;
    for (const address of addresses) readAddress(address);
  }

  get address(): string {
    const [address] = this.options.addresses;
    return address === undefined ? 'nats://' : readAddress(address).shown;
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
    const { link, streams } = this.#all;
    const own = [...this.#subscriptions].filter((each) => each.isOf(topic, group));
    const move = link.try(async () => {
      const { name: stream } = await streams.topic(topic);
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

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    checkTopic(topic);
    const { link, streams } = this.#all;
    const { from = `${topic}.dead`, limit = Number.POSITIVE_INFINITY } = options;
    let done = 0;
    await link.try(async () => {
      const { name: stream } = await streams.topic(from);
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
        await this.#storeThere(topic, message, `redrive:${stream}:${created}:${seq}`);
        await link.jsm.streams.deleteMessage(stream, seq, false);
        done++;
      }
    });
    return done;
  }

  protected async *doTopics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    const streams = await this.#topicStreams();
    for (let at = 0; at < streams.length; at += SIDE_BY_SIDE) {
      const some = streams.slice(at, at + SIDE_BY_SIDE).map((stream) => this.#look(stream));
      for (const each of await Promise.all(some)) if (each !== null) yield each;
    }
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
    // First what waits: due meanwhile, it would bring the topic back.
    await this.#removeDelayed(scheduleSubject(topic));
    const isOurs = await jsm.streams.delete(streamOf(topic)).catch(unless(NO_STREAM));
    if (isOurs) return;
    const stream = await jsm.streams.find(topic).catch(() => null);
    if (stream === null) return;
    // It is in a stream of the user's, which keeps its other subjects and consumers.
    await jsm.streams.purge(stream, { filter: topic });
    for await (const { name, config } of jsm.consumers.list(stream)) {
      const isGroup = config.filter_subject === topic && config.description !== undefined;
      if (!isGroup || name !== consumerOf(config.description as string)) continue;
      await jsm.consumers.delete(stream, name).catch(unless(NO_CONSUMER));
    }
  }

  /** One by one: NATS 2.9, told to purge a subject, forgets to deliver the messages of others. */
  async #removeDelayed(subject: string): Promise<void> {
    const { streams } = this.#all.link.jsm;
    for (let seq = 1; ; seq++) {
      const next = await streams
        .getMessage(SCHEDULE_STREAM, { seq, next_by_subj: subject } as MsgRequest)
        .catch((error) => {
          if (numberOf(error) === NO_MESSAGE || numberOf(error) === NO_STREAM) return null;
          throw error;
        });
      if (next === null) return;
      seq = next.seq;
      await streams.deleteMessage(SCHEDULE_STREAM, seq, false).catch(() => {});
    }
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
    const clock = new ServerClock(link, streams, scheduler);
    const schedule = new Schedule({
      link,
      streams,
      scheduler,
      clock,
      events: this.events,
      store: (topic, message, id) => this.#storeDue(topic, message, id),
      bury: (message, reason) => this.#buryDue(message, reason),
    });
    const requests = new NatsRequests(link, this.options, this.events);
    const attempts = new Attempts(link, streams);
    this.#parts = { link, publisher, streams, attempts, schedule, requests };
    this.#unique = scheduler.uniqueName();
    link.onReady(() => {
      streams.forget();
      clock.doubt();
    });
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
    const isLater = plan.deliverAt !== null || plan.delayMs !== null;
    const facts = this.#all.streams.known(topic);
    const before = this.#opening.get(topic);
    // What is known needs no waiting, and then nothing that was published later can pass.
    if (facts !== null && before === undefined && !isLater) {
      return this.#storeIn(facts, topic, messages, plan);
    }
    return this.#storeWhenOpen(topic, messages, plan, isLater, before);
  }

  /** After those of the same topic that wait for its stream: their order is that of the calls. */
  async #storeWhenOpen(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
    isLater: boolean,
    before: Promise<void> | undefined,
  ): Promise<Receipt[]> {
    let opened = () => {};
    const opening = new Promise<void>((resolve) => {
      opened = resolve;
    });
    this.#opening.set(topic, opening);
    try {
      const { streams, schedule } = this.#all;
      const [facts] = await Promise.all([
        streams.topic(topic),
        isLater ? streams.schedule() : null,
        before,
      ]);
      if (isLater) schedule.start();
      // The message has left when this returns; its receipt comes later.
      return await this.#storeIn(facts, topic, messages, plan);
    } finally {
      opened();
      if (this.#opening.get(topic) === opening) this.#opening.delete(topic);
    }
  }

  #storeIn(
    facts: StreamFacts,
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    if (plan.id !== null) this.#checkWindow(facts, topic);
    const isLater = plan.deliverAt !== null || plan.delayMs !== null;
    const ids = plan.id === null ? this.#idsOf(messages, plan) : [ownId(topic, plan.id)];
    const sent = messages.map((message, index) => {
      const id = ids[index] as string;
      return isLater
        ? this.#storeLater(facts, topic, message, id, plan)
        : this.#storeOne(topic, message, id);
    });
    return this.#receipts(sent, topic, plan);
  }

  async #receipts(
    sent: readonly Promise<Receipt>[],
    topic: string,
    { maxLength }: PublishPlan,
  ): Promise<Receipt[]> {
    const receipts = sent.length === 1 ? [await (sent[0] as Promise<Receipt>)] : await all(sent);
    if (maxLength !== null) await this.#trim(topic, maxLength, sent.length);
    return receipts;
  }

  /** Ids in a stream of the user's are remembered for as long as that stream says. */
  #checkWindow({ name, windowMs }: StreamFacts, topic: string): void {
    const { idWindowMs } = this.options;
    if (windowMs >= idWindowMs) return;
    const text = `a publish to ${topic} cannot have an id: the stream ${name} remembers ids for ${windowMs} ms and idWindowMs is ${idWindowMs}; lower idWindowMs or raise duplicate_window of the stream`;
    throw new RivuletError('UNSUPPORTED', text);
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
        attempts: this.#all.attempts,
        form: this.#form,
        events: this.events,
        tracing: this.tracing,
        consumerName: `${this.options.clientName}/${this.#subscribed++}`,
        topics: () => this.#topicsLike(pattern),
        store: async (topic, message, id) => {
          await this.#storeThere(topic, message, id);
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

  #storeOne(topic: string, message: Message, id: string): Promise<Receipt> {
    const { payload, headers } = this.#form.write(message);
    this.#checkSize(topic, payload, headers);
    return this.#send(topic, payload, headers, id);
  }

  /** Where it goes may have to be made first. */
  async #storeThere(topic: string, message: Message, id: string): Promise<Receipt> {
    const { payload, headers } = this.#form.write(message);
    await this.#all.streams.topic(topic);
    return this.#send(topic, payload, headers, ascii(id));
  }

  /** What fits with room to spare fits as a dead letter too, which has more headers. */
  #checkSize(topic: string, payload: Uint8Array, headers: MsgHdrs): void {
    const most = this.#all.link.maxPayload - OUR_HEADER_BYTES;
    let size = payload.length;
    for (const [name, values] of headers) {
      for (const value of values) size += name.length + value.length + 4;
    }
    if (size <= most) return;
    const text = `a message for ${topic} has ${size} bytes with its headers: at most ${most} are allowed`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }

  /** A message that has waited: as it was written then. */
  async #storeDue(topic: string, message: Msg, id: string): Promise<void> {
    const headers = makeHeaders();
    for (const [name, values] of message.headers ?? []) {
      if (SCHEDULE_HEADERS.has(name) || name.startsWith('Nats-')) continue;
      for (const value of values) headers.append(name, value);
    }
    await this.#all.streams.topic(topic);
    await this.#send(topic, message.data, headers, id);
  }

  /** A delay counts from the moment at which the server stores the message, by the server's clock. */
  async #storeLater(
    { origin }: StreamFacts,
    topic: string,
    message: Message,
    id: string,
    { id: own, delayMs, deliverAt }: PublishPlan,
  ): Promise<Receipt> {
    const { payload, headers } = this.#form.write(message);
    this.#checkSize(topic, payload, headers);
    if (deliverAt === null) headers.append(scheduleHeaders.delay, String(delayMs));
    else headers.append(scheduleHeaders.dueAt, String(deliverAt));
    headers.append(scheduleHeaders.topic, encodeURIComponent(topic));
    if (own !== null) headers.append(scheduleHeaders.id, id);
    // A topic that was deleted and made again has another origin: its ids are new ones too.
    const place = own === null ? id : `${ascii(origin)}:${id}`;
    const { id: number, duplicate } = await this.#send(
      scheduleSubject(topic),
      payload,
      headers,
      place,
    );
    return { id: `scheduled-${number}`, duplicate };
  }

  /** What another program has put among the delayed messages, with the reason why it is none. */
  async #buryDue({ subject, data, headers }: Msg, reason: string): Promise<void> {
    const message = this.#form.read(data, headers);
    const id = headers?.get('Nats-Msg-Id') || 'unknown';
    const origin = { topic: subject, id, message };
    const dead = deadLetterMessage(origin, null, 1, reason, this.options.scheduler.now());
    await this.#storeThere(FOREIGN_DEAD, dead, `foreign:${this.#unique}:${this.#number++}`);
    this.events.emit('deadLettered', { topic: subject, id, reason });
  }

  async #send(
    subject: string,
    payload: Uint8Array,
    headers: MsgHdrs,
    id: string,
  ): Promise<Receipt> {
    const { publisher, streams } = this.#all;
    headers.set('Nats-Msg-Id', id);
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
    const { name: stream } = await streams.topic(topic);
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
    const topics = await Promise.all(streams.map((each) => topicOf(each) ?? this.#subjectOf(each)));
    return topics.filter((topic) => topic !== null);
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

  /** Null when it is gone or holds no subject of its own, or when its node does not answer. */
  async #subjectOf(stream: string): Promise<string | null> {
    const known = this.#longNamed.get(stream);
    if (known !== undefined) return known;
    try {
      const { config } = await this.#all.link.jsm.streams.info(stream);
      const [topic] = config.subjects ?? [];
      if (topic === undefined || streamOf(topic) !== stream) return null;
      this.#longNamed.set(stream, topic);
      return topic;
    } catch (error) {
      if (numberOf(error) !== NO_STREAM) this.events.emit('warning', { error: toRivulet(error) });
      return null;
    }
  }

  /** The same ones each time the publish is tried. */
  #idsOf(messages: readonly Message[], plan: PublishPlan): readonly string[] {
    plan.ids ??= messages.map(() => `${this.#unique}-${(this.#number++).toString(36)}`);
    return plan.ids;
  }
}

/** Ids travel in a header, so anything but printable ASCII is escaped. */
function ascii(id: string): string {
  return id.replace(/[^!-$&-~]/gu, (letter) =>
    // Half of a pair has no form in UTF-8.
    /[\ud800-\udfff]/u.test(letter)
      ? `%u${letter.charCodeAt(0).toString(16)}`
      : encodeURIComponent(letter),
  );
}

/** One that was published with an id of its own: a stream may hold several topics. */
function ownId(topic: string, id: string): string {
  return ascii(`id:${topic} ${id}`);
}

/** All have ended when this fails, and it fails with the first's failure. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

/** For `catch`: an error with this number means that there was nothing to do. */
function unless(number: number): (error: unknown) => false {
  return (error) => {
    if (numberOf(error) === number) return false;
    throw error;
  };
}

function noGroup(topic: string, group: string, cause: unknown): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`, { cause });
}
