/**
 * What every broker does the same, so that an implementation is thin.
 *
 * Holds: options, life cycle, checks (topic, body, options against capabilities), waiting through an
 * outage, the subscribers and the events. An implementation fills in the abstract members, which are
 * called only while connected and with checked arguments.
 * Invariants: nothing is refused silently; after `disconnect` no timer, subscriber or connection is
 * left.
 */

import { shown } from '../client/option-table.ts';
import { RivuletError } from '../errors.ts';
import type {
  BatchHandler,
  Broker,
  BrokerEvents,
  Handler,
  PendingEntry,
  PendingQuery,
  Position,
  Receipt,
  RedriveOptions,
  Responder,
  Subscriber,
  TopicInfo,
} from './broker.ts';
import type { Capabilities } from './capabilities.ts';
import type { Consume } from './dispatcher.ts';
import { Events } from './events.ts';
import { isInHandler, runInHandler } from './handler-context.ts';
import type { Message } from './message.ts';
import { ownMessage } from './message-check.ts';
import {
  checkPendingQuery,
  checkPosition,
  checkPublishOptions,
  checkRedriveOptions,
  checkRequestOptions,
  checkRespondOptions,
} from './option-rows.ts';
import {
  type BrokerOptions,
  type PublishOptions,
  type RequestOptions,
  type ResolvedSubscribeOptions,
  type RespondOptions,
  resolveBrokerOptions,
  resolveSubscribeOptions,
  type SubscribeOptions,
} from './options.ts';
import { OutageRetry, throwIfAborted } from './outage-retry.ts';
import { onlyReply } from './requests.ts';
import { type Attachment, SubscriberHandle } from './subscriber-handle.ts';
import { Timeouts } from './timeouts.ts';
import { checkGroup, checkPattern, checkTopic, isPattern } from './topics.ts';
import { loadTracing, passingOn, type Tracing } from './trace.ts';

/** Publish options in one form. */
export interface PublishPlan {
  readonly id: string | null;
  /** Milliseconds from now by the broker's clock; or a point of time; or neither. */
  readonly delayMs: number | null;
  readonly deliverAt: number | null;
  readonly maxLength: number | null;
  /** An implementation's own, kept over the attempts of one publish. */
  mark?: number | undefined;
  /** Likewise: the ids it has given the messages. */
  ids?: readonly string[] | undefined;
  /** Likewise: called once, when the publish has ended, however it did. */
  ended?: (() => void) | undefined;
}

export type { Attachment };

export abstract class BrokerBase implements Broker {
  abstract readonly name: string;
  abstract readonly address: string;
  abstract readonly capabilities: Readonly<Capabilities>;
  protected readonly events = new Events<BrokerEvents>();
  protected tracing: Tracing = passingOn();
  protected readonly timeouts: Timeouts;
  #options: BrokerOptions;
  #state: 'new' | 'connected' | 'closed' = 'new';
  #connecting: Promise<void> | null = null;
  #disconnecting: Promise<void> | null = null;
  readonly #subscribers = new Set<SubscriberHandle>();
  readonly #retry: OutageRetry;
  /** Publishes under way. */
  #publishing = 0;
  #whenPublished = () => {};
  /** `disconnect` has waited for all handlers. */
  #drained = false;
  /** What handlers of this broker run for. */
  readonly #owners = new WeakSet<object>();

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    this.#options = resolveBrokerOptions({ ...options, addresses });
    this.timeouts = new Timeouts(this.#options.scheduler);
    this.#retry = new OutageRetry(
      this.timeouts,
      () => this.#options,
      (error) => (this.#state === 'closed' ? this.#closedError(error) : null),
    );
  }

  get options(): Readonly<BrokerOptions> {
    return this.#options;
  }

  init(options: Partial<BrokerOptions>): void {
    if (this.#state !== 'new') {
      throw new RivuletError('INVALID_ARGUMENT', 'options change before connect, not after');
    }
    this.#options = resolveBrokerOptions(options, this.#options);
  }

  connect(): Promise<void> {
    if (this.#disconnecting !== null) return Promise.reject(this.#closedError());
    this.#connecting ??= this.#connect();
    return this.#connecting;
  }

  disconnect(): Promise<void> {
    this.#disconnecting ??= this.#disconnect();
    if (!isInHandler((owner) => this.#owners.has(owner))) return this.#disconnecting;
    // A handler cannot wait for itself: the rest follows when it has returned.
    this.#disconnecting.catch(() => {});
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }

  on<K extends keyof BrokerEvents>(
    event: K,
    listener: (detail: BrokerEvents[K]) => void,
  ): () => void {
    return this.events.on(event, listener);
  }

  // Neither of these is an async function: each would cost every publish promises of its own.
  publish(topic: string, message: Message, options?: PublishOptions): Promise<Receipt> {
    return this.#publish(topic, [message], options, firstOf);
  }

  publishBatch(
    topic: string,
    messages: readonly Message[],
    options?: PublishOptions,
  ): Promise<Receipt[]> {
    return this.#publish(topic, messages, options, allOf);
  }

  #publish<T>(
    topic: string,
    messages: readonly Message[],
    options: PublishOptions = {},
    told: (receipts: Receipt[]) => T,
  ): Promise<T> {
    let traced: readonly Message[];
    let plan: PublishPlan;
    try {
      this.#mustBeOpen();
      this.checkTopicName(topic);
      plan = this.#plan(messages, options);
      if (messages.length === 0) return Promise.resolve(told([]));
      traced = messages.map((message) => this.#own(topic, message, this.keepsBodies));
    } catch (error) {
      return Promise.reject(error);
    }
    this.#publishing++;
    return this.#retry.wait({
      what: `publish to ${topic}`,
      queue: topic,
      timeoutMs: this.#options.publishTimeoutMs,
      signal: options.signal ?? null,
      once: () => this.store(topic, traced, plan),
      told,
      ended: () => {
        plan.ended?.();
        this.#published();
      },
    });
  }

  #published(): void {
    if (--this.#publishing === 0) this.#whenPublished();
  }

  subscribe(topic: string, handler: Handler, options?: SubscribeOptions): Promise<Subscriber> {
    const owner = {};
    const each: Handler = (delivery) => runInHandler(owner, () => handler(delivery));
    return this.#subscribe(topic, handler, { each }, options, owner);
  }

  subscribeBatch(
    topic: string,
    handler: BatchHandler,
    options?: SubscribeOptions,
  ): Promise<Subscriber> {
    const owner = {};
    const batch: BatchHandler = (deliveries) => runInHandler(owner, () => handler(deliveries));
    // What is no object is refused with the others.
    const withBatch =
      typeof options === 'object' && options !== null
        ? { ...options, batch: { ...DEFAULT_BATCH, ...options.batch } }
        : (options ?? { batch: DEFAULT_BATCH });
    return this.#subscribe(topic, handler, { batch }, withBatch, owner);
  }

  async request(topic: string, message: Message, options?: RequestOptions): Promise<Message> {
    return onlyReply(this.#ask(topic, message, false, options), topic);
  }

  requestMany(topic: string, message: Message, options?: RequestOptions): AsyncIterable<Message> {
    return this.#ask(topic, message, true, options);
  }

  async respond(
    topic: string,
    handler: Responder,
    options: RespondOptions = {},
  ): Promise<Subscriber> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    this.#require('requestReply', 'request and reply');
    checkHandler(handler);
    checkRespondOptions(options);
    const { group = topic, concurrency = 100, signal = null } = options;
    checkGroup(group);
    throwIfAborted(signal);
    const owner = {};
    const responder: Responder = (request, context) =>
      runInHandler(owner, () => handler(request, context));
    const attachment = await this.attachResponder(topic, responder, group, concurrency);
    return this.#adopt(topic, { group, concurrency }, attachment, signal, owner);
  }

  async pending(topic: string, group: string, query: PendingQuery = {}): Promise<PendingEntry[]> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    checkGroup(group);
    checkPendingQuery(query);
    this.#require('pendingList', 'pending');
    if (query.after !== undefined) this.checkId(query.after);
    return this.doPending(topic, group, query);
  }

  async replay(topic: string, group: string, from: Position): Promise<void> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    checkGroup(group);
    this.#checkPosition(from, 'replay');
    return this.doReplay(topic, group, from);
  }

  async redrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    checkRedriveOptions(options);
    return this.doRedrive(topic, options);
  }

  async *topics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    yield* this.doTopics();
  }

  async deleteTopic(topic: string): Promise<void> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    return this.doDeleteTopic(topic);
  }

  // Of these an implementation is called with checked arguments, while connected.
  protected abstract doPending(
    topic: string,
    group: string,
    query: PendingQuery,
  ): Promise<PendingEntry[]>;
  protected abstract doReplay(topic: string, group: string, from: Position): Promise<void>;
  protected abstract doRedrive(topic: string, options: RedriveOptions): Promise<number>;
  protected abstract doTopics(): AsyncIterable<TopicInfo>;
  protected abstract doDeleteTopic(topic: string): Promise<void>;

  /** Connects; the signal aborts after `connectTimeoutMs`. */
  protected abstract open(signal: AbortSignal): Promise<void>;
  /** Closes whatever `open` opened; also after it failed half way. */
  protected abstract shut(): Promise<void>;
  /** Stores messages, in order. A retryable error means: not reached, try again. */
  protected abstract store(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]>;
  protected abstract attach(
    topic: string,
    consume: Consume,
    options: ResolvedSubscribeOptions,
  ): Promise<Attachment>;
  protected abstract attachResponder(
    topic: string,
    handler: Responder,
    group: string,
    concurrency: number,
  ): Promise<Attachment>;
  /** Replies in order, ending with the responder; `many` is false when one is wanted. */
  protected abstract ask(
    topic: string,
    message: Message,
    many: boolean,
    options: RequestOptions,
  ): AsyncIterable<Message>;

  /** Names beyond the general rules that this broker cannot take. */
  protected checkTopicName(topic: string): void {
    checkTopic(topic);
  }

  /** Whether `store` may look at a body after it has returned. Then every body is copied before. */
  protected readonly keepsBodies: boolean = true;

  /** Throws INVALID_ARGUMENT where the text cannot be an id of this broker. */
  protected checkId(_id: string): void {}

  /** While handlers are waited for they may still publish and request. */
  #mustBeOpen(): void {
    if (this.#state === 'connected' && this.#drained === false) return;
    this.mustBeConnected();
  }

  protected mustBeConnected(): void {
    if (this.#state === 'connected' && this.#disconnecting === null) return;
    if (this.#state === 'new' && this.#disconnecting === null) {
      throw new RivuletError('NOT_CONNECTED', `connect the ${this.name} broker first`);
    }
    throw this.#closedError();
  }

  #closedError(cause?: unknown): RivuletError {
    return new RivuletError('CLOSED', `the ${this.name} broker is disconnected`, { cause });
  }

  /** Does something that may need to wait for the broker to come back. */
  protected patiently<T>(
    what: string,
    timeoutMs: number,
    signal: AbortSignal | null,
    once: () => Promise<T>,
  ): Promise<T> {
    return this.#retry.wait({ what, queue: null, timeoutMs, signal, once, told: itself });
  }

  async #connect(): Promise<void> {
    const { connectTimeoutMs } = this.options;
    const controller = new AbortController();
    const stop = this.timeouts.add(connectTimeoutMs, () =>
      controller.abort(
        new RivuletError(
          'CONNECTION_FAILED',
          `no connection to ${this.address} within ${connectTimeoutMs} ms`,
        ),
      ),
    );
    try {
      this.tracing = await loadTracing();
      await this.open(controller.signal);
      this.#state = 'connected';
    } catch (error) {
      // Another attempt may follow.
      this.#connecting = null;
      await this.shut();
      throw controller.signal.aborted && !(error instanceof RivuletError)
        ? new RivuletError('CONNECTION_FAILED', controller.signal.reason.message, { cause: error })
        : error;
    } finally {
      stop();
    }
  }

  async #disconnect(): Promise<void> {
    const { drainTimeoutMs, scheduler } = this.#options;
    // A connect under way ends first, however it ends.
    await this.#connecting?.catch(() => {});
    const end = scheduler.monotonic() + drainTimeoutMs;
    await Promise.all([...this.#subscribers].map((subscriber) => subscriber.close()));
    this.#drained = true;
    if (this.#publishing > 0) await this.#flushed(Math.max(0, end - scheduler.monotonic()));
    this.#state = 'closed';
    this.#retry.failAll(this.#closedError());
    await this.shut();
  }

  /** Until no publish is under way, or the time is up. */
  #flushed(timeoutMs: number): Promise<void> {
    return new Promise<void>((resolve) => {
      const cancel = this.#options.scheduler.after(timeoutMs, resolve);
      this.#whenPublished = () => {
        cancel();
        resolve();
      };
    });
  }

  async #subscribe(
    topic: string,
    handler: unknown,
    consume: Consume,
    options: SubscribeOptions | undefined,
    owner: object,
  ): Promise<Subscriber> {
    this.mustBeConnected();
    checkHandler(handler);
    const resolved = resolveSubscribeOptions(options);
    checkPattern(topic);
    if (isPattern(topic)) this.#require('wildcards', 'a topic with wildcards');
    else this.checkTopicName(topic);
    if (resolved.ordered === 'by-key') this.#require('orderPerKey', 'ordered: "by-key"');
    if (resolved.ordered === 'strictly') this.#require('strictOrder', 'ordered: "strictly"');
    this.#checkPosition(resolved.from, 'from');
    throwIfAborted(resolved.signal);
    const attachment = await this.attach(topic, consume, resolved);
    return this.#adopt(topic, options ?? {}, attachment, resolved.signal, owner);
  }

  #checkPosition(position: Position, name: string): void {
    checkPosition(position, name);
    if (typeof position !== 'object') return;
    if ('id' in position) {
      this.#require('replayById', `${name}: { id }`);
      this.checkId(position.id);
    } else this.#require('replayByTime', `${name}: { time }`);
  }

  async #adopt(
    topic: string,
    options: SubscribeOptions,
    attachment: Attachment,
    signal: AbortSignal | null,
    owner: object,
  ): Promise<Subscriber> {
    this.#owners.add(owner);
    const subscriber = new SubscriberHandle({
      topic,
      options,
      attachment,
      owner,
      close: () => this.#closeWithin(attachment),
      gone: (handle) => this.#subscribers.delete(handle),
    });
    this.#subscribers.add(subscriber);
    if (signal?.aborted || this.#disconnecting !== null) {
      await subscriber.close();
      throwIfAborted(signal);
      this.mustBeConnected();
    }
    subscriber.watch(signal);
    return subscriber;
  }

  /** A server that does not answer must not keep a close longer than this. */
  async #closeWithin(attachment: Attachment): Promise<void> {
    const { drainTimeoutMs, scheduler } = this.#options;
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = scheduler.after(drainTimeoutMs + LEAVE_MS, resolve);
    });
    const closing = attachment.close(drainTimeoutMs);
    closing.catch(() => {});
    try {
      await Promise.race([closing, late]);
    } finally {
      cancel();
    }
  }

  async *#ask(
    topic: string,
    message: Message,
    many: boolean,
    options: RequestOptions = {},
  ): AsyncIterable<Message> {
    yield* this.ask(topic, this.prepareRequest(topic, message, options), many, options);
  }

  /** Checks a request, and gives the message as it is to be sent. */
  protected prepareRequest(topic: string, message: Message, options: RequestOptions = {}): Message {
    this.#mustBeOpen();
    this.checkTopicName(topic);
    this.#require('requestReply', 'request and reply');
    checkRequestOptions(options);
    throwIfAborted(options.signal ?? null);
    return this.#own(topic, message, true);
  }

  #plan(messages: readonly Message[], options: PublishOptions): PublishPlan {
    checkPublishOptions(options);
    if (!Array.isArray(messages)) {
      throw new RivuletError('INVALID_ARGUMENT', 'a batch is an array of messages');
    }
    const { id, delayMs, deliverAt, maxLength } = options;
    if (id !== undefined) {
      this.#require('dedup', 'publishing with an id');
      if (messages.length > 1) {
        throw new RivuletError('INVALID_ARGUMENT', 'an id belongs to one message, not to a batch');
      }
    }
    const delayed = deliverAt !== undefined || (delayMs ?? 0) > 0;
    if (delayed) this.#require('delayedPublish', 'delayed publishing');
    return {
      id: id ?? null,
      delayMs: delayMs !== undefined && delayMs > 0 ? delayMs : null,
      deliverAt: deliverAt?.getTime() ?? null,
      maxLength: maxLength ?? null,
      mark: undefined,
      ids: undefined,
    };
  }

  /** The message as it is now, with the trace that the caller is part of. */
  #own(topic: string, given: Message, copyBody: boolean): Message {
    const message = ownMessage(given, copyBody);
    const { length } = message.body;
    const own = this.#options.maxBodyBytes;
    const limit = length <= SMALL_BYTES ? own : Math.min(own, this.capabilities.maxBodyBytes);
    if (length > limit) {
      const text = `a body of ${length} bytes for ${topic}: at most ${limit} are allowed`;
      throw new RivuletError('BODY_TOO_LARGE', text);
    }
    const headers = this.tracing.inject(message.headers);
    return headers === message.headers ? message : { ...message, headers };
  }

  #require(capability: keyof Capabilities, what: string): void {
    const value = this.capabilities[capability];
    if (value === false || value === 'none' || value === null) {
      throw new RivuletError('UNSUPPORTED', `the ${this.name} broker cannot do ${what}`);
    }
  }
}

function checkHandler(handler: unknown): void {
  if (typeof handler === 'function') return;
  throw new RivuletError('INVALID_ARGUMENT', `the handler is a function, not ${shown(handler)}`);
}

const DEFAULT_BATCH = { size: 100, waitMs: 10 };
/** What a subscription has to say to its server when it leaves may take this long, ms. */
const LEAVE_MS = 2000;

const firstOf = (receipts: readonly Receipt[]) => receipts[0] as Receipt;
const allOf = (receipts: Receipt[]) => receipts;
const itself = <T>(value: T) => value;
/** Every broker takes bodies of this size: what its limit is need not be asked for each message. */
const SMALL_BYTES = 1024;
