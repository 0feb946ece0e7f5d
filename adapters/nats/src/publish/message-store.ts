/**
 * Stores messages in the streams of their topics, now or later.
 *
 * Invariants: every publish has an id, so that one that is tried again is stored once. Publishes to a
 * topic whose stream is not known yet leave in the order of the calls. A delay counts from the moment
 * at which the server stores the message, on the server's clock.
 * Cost: one message per publish; one purge per tenth of `maxLength`.
 */
import { type Msg, type MsgHdrs, headers as makeHeaders } from '@nats-io/transport-node';
import {
  type BrokerEvents,
  type BrokerOptions,
  deadLetterMessage,
  type Events,
  isOutage,
  type PublishPlan,
  type RawMessage,
  type Receipt,
  RivuletError,
} from 'rivulet/adapter';
import { toRivulet } from '../errors.ts';
import type { Link } from '../link.ts';
import type { MessageCodec } from '../message-codec.ts';
import { scheduleSubject } from '../names.ts';
import { type Schedule, scheduleHeaders } from '../schedule.ts';
import type { StreamFacts, Streams } from '../streams.ts';
import type { Publisher } from './publisher.ts';

/** Bytes reserved for the library's headers: those of a dead letter, a delay and a trace. */
const RESERVED_HEADER_BYTES = 4 * 1024;
const SCHEDULE_HEADERS: ReadonlySet<string> = new Set(Object.values(scheduleHeaders));
/** The topic of messages that another program has put among the delayed ones. */
const FOREIGN_DEAD = 'rivulet.delayed.dead';

export interface MessageStoreSetup {
  readonly link: Link;
  readonly publisher: Publisher;
  readonly streams: Streams;
  readonly codec: MessageCodec;
  readonly options: BrokerOptions;
  readonly events: Events<BrokerEvents>;
  readonly schedule: () => Schedule;
}

export class MessageStore {
  readonly #setup: MessageStoreSetup;
  /** Messages added to each topic since it was trimmed. */
  readonly #untrimmed = new Map<string, number>();
  /** The last publish of each topic that waits until its stream is known. */
  readonly #opening = new Map<string, Promise<boolean>>();
  readonly #unique: string;
  #number = 0;

  constructor(setup: MessageStoreSetup) {
    this.#setup = setup;
    this.#unique = setup.options.scheduler.uniqueName();
  }

  /** Stores the messages of one publish, in order. */
  store(topic: string, messages: readonly RawMessage[], plan: PublishPlan): Promise<Receipt[]> {
    const isLater = plan.deliverAt !== null || plan.delayMs !== null;
    const facts = this.#setup.streams.known(topic);
    const before = this.#opening.get(topic);
    // If the stream is known the message leaves now, so that no later publish precedes it.
    if (facts !== null && before === undefined && !isLater) {
      return this.#storeIn(facts, topic, messages, plan);
    }
    return this.#storeWhenOpen(topic, messages, plan, isLater, before);
  }

  /**
   * Stores after the earlier publishes of the topic that wait for its stream. If one of those has to be tried
   * again, so has this one.
   */
  async #storeWhenOpen(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    isLater: boolean,
    before: Promise<boolean> | undefined,
  ): Promise<Receipt[]> {
    let opened: (mayFollow: boolean) => void = () => {};
    const opening = new Promise<boolean>((resolve) => {
      opened = resolve;
    });
    this.#opening.set(topic, opening);
    let mayFollow = true;
    let stored: Promise<Receipt[]>;
    try {
      const { streams, schedule } = this.#setup;
      const [facts] = await afterAll(
        [streams.topic(topic), isLater ? streams.schedule() : null],
        before,
        topic,
      );
      if (isLater) schedule().start();
      // The message has been sent when this call returns; the receipt follows.
      stored = this.#storeIn(facts, topic, messages, plan);
    } catch (error) {
      mayFollow = !isOutage(error);
      throw error;
    } finally {
      opened(mayFollow);
      if (this.#opening.get(topic) === opening) this.#opening.delete(topic);
    }
    return stored;
  }

  #storeIn(
    facts: StreamFacts,
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    if (plan.dedupId !== null) this.#checkWindow(facts, topic);
    const isLater = plan.deliverAt !== null || plan.delayMs !== null;
    const ids = plan.dedupId === null ? this.#idsOf(messages, plan) : [ownId(topic, plan.dedupId)];
    // All of them before the first is sent: a batch with a message that is too large stores nothing.
    const encoded = messages.map((message) => this.#encode(topic, message));
    const sent = encoded.map(({ payload, headers }, index) => {
      const id = ids[index] as string;
      return isLater
        ? this.#storeLater(facts, topic, payload, headers, id, plan)
        : this.#send(topic, payload, headers, id);
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

  /** Another program's stream remembers ids for as long as its own configuration says. */
  #checkWindow({ name, windowMs }: StreamFacts, topic: string): void {
    const { dedupWindowMs } = this.#setup.options;
    if (windowMs >= dedupWindowMs) return;
    const text = `a publish to ${topic} cannot have a dedupId: the stream ${name} remembers ids for ${windowMs} ms and dedupWindowMs is ${dedupWindowMs}; lower dedupWindowMs or raise the stream's duplicate_window`;
    throw new RivuletError('UNSUPPORTED', text);
  }

  #encode(topic: string, message: RawMessage): { payload: Uint8Array; headers: MsgHdrs } {
    const { payload, headers } = this.#setup.codec.encode(message, topic);
    this.#checkSize(topic, payload, headers);
    return { payload, headers };
  }

  /**
   * Stores one message in a topic, whose stream is made if it is missing. If the stream that was known is
   * gone, another client has deleted it: it is looked for, or made, again.
   */
  async add(topic: string, message: RawMessage, id: string): Promise<Receipt> {
    const { payload, headers } = this.#setup.codec.encode(message, topic);
    const { streams } = this.#setup;
    const wasKnown = streams.known(topic) !== null;
    await streams.topic(topic);
    try {
      return await this.#send(topic, payload, headers, ascii(id));
    } catch (error) {
      if (!wasKnown || !isOutage(error)) throw error;
    }
    await streams.topic(topic);
    return this.#send(topic, payload, headers, ascii(id));
  }

  /** Leaves room for more headers, so that the message also fits as a dead letter. */
  #checkSize(topic: string, payload: Uint8Array, headers: MsgHdrs): void {
    const most = this.#setup.link.maxPayload - RESERVED_HEADER_BYTES;
    let size = payload.length;
    for (const [name, values] of headers) {
      for (const value of values) size += name.length + value.length + 4;
    }
    if (size <= most) return;
    const text = `a message for ${topic} has ${size} bytes with its headers: at most ${most} are allowed`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }

  /** Stores a delayed message that is due, unchanged. */
  async addDue(topic: string, message: Msg, id: string): Promise<void> {
    const headers = makeHeaders();
    for (const [name, values] of message.headers ?? []) {
      if (SCHEDULE_HEADERS.has(name) || name.startsWith('Nats-')) continue;
      for (const value of values) headers.append(name, value);
    }
    await this.#setup.streams.topic(topic);
    await this.#send(topic, message.data, headers, id);
  }

  /** Stores a message among the delayed ones. */
  async #storeLater(
    { origin }: StreamFacts,
    topic: string,
    payload: Uint8Array,
    headers: MsgHdrs,
    id: string,
    { dedupId: own, delayMs, deliverAt }: PublishPlan,
  ): Promise<Receipt> {
    if (deliverAt === null) headers.append(scheduleHeaders.delay, String(delayMs));
    else headers.append(scheduleHeaders.dueAt, String(deliverAt));
    headers.append(scheduleHeaders.topic, encodeURIComponent(topic));
    if (own !== null) headers.append(scheduleHeaders.id, id);
    // A topic that was deleted and made again has another origin, and its ids are new.
    const place = own === null ? id : `${ascii(origin)}:${id}`;
    const { id: number, duplicate } = await this.#send(
      scheduleSubject(topic),
      payload,
      headers,
      place,
    );
    return { id: `scheduled-${number}`, duplicate };
  }

  /** Moves a message that another program has put among the delayed ones to a dead-letter topic. */
  async deadLetterForeign({ subject, data, headers }: Msg, reason: string): Promise<void> {
    const message = this.#setup.codec.decode(data, headers);
    const id = headers?.get('Nats-Msg-Id') || 'unknown';
    const origin = { topic: subject, id, message };
    const dead = deadLetterMessage(origin, null, 1, reason, this.#setup.options.scheduler.now());
    await this.add(FOREIGN_DEAD, dead, `foreign:${this.#unique}:${this.#number++}`);
    this.#setup.events.emit('deadLettered', { topic: subject, id, reason });
  }

  async #send(
    subject: string,
    payload: Uint8Array,
    headers: MsgHdrs,
    id: string,
  ): Promise<Receipt> {
    const { publisher, streams } = this.#setup;
    headers.set('Nats-Msg-Id', id);
    try {
      return await publisher.send(subject, payload, headers);
    } catch (error) {
      const known = toRivulet(error);
      // No stream has stored it: it is deleted, or elects its leader.
      if (known.code === 'NOT_CONNECTED' || known.code === 'GROUP_LOST') streams.forget();
      throw known;
    }
  }

  /** Trims after each tenth of `maxLength`, so a topic exceeds it by at most a tenth per publisher. */
  async #trim(topic: string, maxLength: number, added: number): Promise<void> {
    const { link, streams } = this.#setup;
    const untrimmed = (this.#untrimmed.get(topic) ?? 0) + added;
    this.#untrimmed.set(topic, untrimmed);
    if (untrimmed < maxLength / 10) return;
    this.#untrimmed.set(topic, 0);
    const { name: stream } = await streams.topic(topic);
    await link.try(() => link.jsm.streams.purge(stream, { filter: topic, keep: maxLength }));
  }

  /** The same ids at each try of a publish. */
  #idsOf(messages: readonly RawMessage[], plan: PublishPlan): readonly string[] {
    plan.ids ??= messages.map(() => `${this.#unique}-${(this.#number++).toString(36)}`);
    return plan.ids;
  }
}

/** Ids are sent in a header: everything except printable ASCII is escaped. */
function ascii(id: string): string {
  return id.replace(/[^!-$&-~]/gu, (letter) =>
    // A lone surrogate has no form in UTF-8.
    /[\ud800-\udfff]/u.test(letter)
      ? `%u${letter.charCodeAt(0).toString(16)}`
      : encodeURIComponent(letter),
  );
}

/** The id of a publish with a dedupId. It contains the topic: a stream may hold several. */
function ownId(topic: string, id: string): string {
  return ascii(`id:${topic} ${id}`);
}

/** What is needed, once the earlier publishes of the topic have left or failed. */
async function afterAll<T extends readonly unknown[]>(
  needed: T,
  before: Promise<boolean> | undefined,
  topic: string,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const all = Promise.all(needed);
  all.catch(() => {});
  if ((await before) === false) {
    const text = `an earlier publish to ${topic} waits for its stream`;
    throw new RivuletError('NOT_CONNECTED', text);
  }
  return all;
}

/** Waits for all of them, then rejects with the first failure. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}
