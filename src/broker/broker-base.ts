/**
 * What every broker does the same, so that an implementation is thin.
 *
 * Holds: options, life cycle, checks (topic, body, options against capabilities), waiting through an
 * outage, the subscribers and the events. An implementation fills in the abstract members, which are
 * called only while connected and with checked arguments.
 * Invariants: nothing is refused silently; after `disconnect` no timer, subscriber or connection is
 * left.
 */

import { notSent, RivuletError } from '../errors.ts';
import { Timeouts } from '../util/time/timeouts.ts';
import type {
  BatchHandler,
  Broker,
  BrokerCall,
  BrokerEvents,
  Delivery,
  Handler,
  IterableSubscriber,
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
import { CapabilityChecks } from './capability-checks.ts';
import type { DeliveryHandler } from './dispatch/delivery-handler.ts';
import { type PublishWatch, watchPublish } from './dispatch/publish-observers.ts';
import { Events } from './events.ts';
import type { JournalStore, JournalTask } from './journal.ts';
import type { Message, RawMessage } from './message/message.ts';
import type { MessageLog } from './message/message-log.ts';
import { OutgoingMessages } from './message/outgoing-messages.ts';
import { Received, type ReceivedMessage } from './message/received-message.ts';
import {
  checkBrokerOptions,
  checkPendingQuery,
  checkRedriveOptions,
  checkRequestOptions,
  checkRespondOptions,
  checkStreamOptions,
} from './options/option-rows.ts';
import {
  type AnySubscribeOptions,
  type BatchSubscribeOptions,
  type BrokerOptions,
  type PublishOptions,
  type RequestOptions,
  type ResolvedSubscribeOptions,
  type RespondOptions,
  resolveBrokerOptions,
  resolveSubscribeOptions,
  type StreamOptions,
  type SubscribeOptions,
} from './options/options.ts';
import { OutageRetry, throwIfAborted } from './publish/outage-retry.ts';
import { PublishCall, type PublishHost } from './publish/publish-call.ts';
import { type PublishPlan, planPublish } from './publish/publish-plan.ts';
import { OwnCall } from './requests/own-call.ts';
import { ownReplies } from './requests/own-replies.ts';
import { type CallForm, onlyReply } from './requests/requests.ts';
import type { RawResponder } from './requests/responses.ts';
import type { RawCall } from './requests/stream-call.ts';
import { calledHandler, checkHandler, isOptions } from './subscribers/called-handler.ts';
import { LoopFeed, LoopSubscriber } from './subscribers/delivery-loop.ts';
import { HandlerContext } from './subscribers/handler-context.ts';
import {
  type MakeSubscriber,
  type NewSubscriber,
  OpenSubscribers,
} from './subscribers/open-subscribers.ts';
import type { SubscriptionHandle } from './subscribers/own-subscriber.ts';
import { type BoundTopic, type TopicDefinition, type TopicOptions, topic } from './topics/topic.ts';
import { checkGroup, checkPattern, checkTopic, isPattern } from './topics/topics.ts';
import { loadTracing, passthroughTracing, type Tracing } from './trace.ts';

export type { PublishPlan, SubscriptionHandle };

export abstract class BrokerBase implements Broker {
  abstract readonly name: string;
  abstract readonly address: string;
  abstract readonly capabilities: Readonly<Capabilities>;
  /** Overridden where `capabilities.journal` says so. */
  get journal(): JournalStore | undefined {
    return undefined;
  }
  /** Overridden where messages can be read by their places. */
  get log(): MessageLog | undefined {
    return undefined;
  }
  protected readonly events = new Events<BrokerEvents>();
  protected tracing: Tracing = passthroughTracing();
  protected readonly timeouts: Timeouts;
  #options: BrokerOptions;
  #state: 'new' | 'connected' | 'closed' = 'new';
  #connecting: Promise<void> | null = null;
  #disconnecting: Promise<void> | null = null;
  readonly #subscribers = new OpenSubscribers(() => this.#options);
  readonly #retry: OutageRetry;
  readonly #can = new CapabilityChecks(this, (id) => this.checkId(id));
  readonly #outgoing = new OutgoingMessages(this, () => this.tracing);
  readonly #host: PublishHost = {
    store: (topic, messages, plan, stored, failed) =>
      this.storeThen(topic, messages, plan, stored, failed),
    published: () => {
      if (--this.#publishing === 0) this.#whenPublished();
    },
  };
  /** Publishes that have not ended. */
  #publishing = 0;
  #whenPublished = () => {};
  /** `disconnect` has waited for all handlers. */
  #drained = false;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    checkBrokerOptions(options);
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

  init(options: Partial<BrokerOptions> = {}): void {
    if (this.#state !== 'new') {
      throw new RivuletError(
        'INVALID_ARGUMENT',
        'init changes options only before connect: open another broker',
      );
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
    if (!this.#subscribers.isInHandler) return this.#disconnecting;
    // A handler that awaited this would wait for itself: the close goes on when it has returned.
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

  // Neither is an async function: that would add a promise to every publish.
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
    resultOf: (receipts: Receipt[]) => T,
  ): Promise<T> {
    let traced: readonly RawMessage[];
    let plan: PublishPlan;
    let watch: PublishWatch | null;
    try {
      this.#mustBeOpen();
      this.checkTopicName(topic);
      plan = planPublish(messages, options, this.#can.do);
      if (messages.length === 0) return Promise.resolve(resultOf([]));
      watch = watchPublish(this, topic);
      const trace = watch?.trace ?? null;
      traced = messages.map((each) => this.#outgoing.own(topic, each, this.keepsBodies, trace));
    } catch (error) {
      return Promise.reject(error);
    }
    this.#publishing++;
    const { publishTimeoutMs: timeoutMs } = this.#options;
    const signal = options.signal ?? null;
    const setup = { topic, messages: traced, plan, watch, timeoutMs, signal, resultOf };
    const stored = this.#retry.wait(new PublishCall(this.#host, setup));
    if (watch !== null) stored.catch((error) => watch.failed(error));
    return stored;
  }

  subscribe(topic: string, handler: Handler, options?: SubscribeOptions): Promise<Subscriber>;
  subscribe(
    topic: string,
    handler: BatchHandler,
    options: BatchSubscribeOptions,
  ): Promise<Subscriber>;
  subscribe(topic: string, options?: SubscribeOptions): Promise<IterableSubscriber<Delivery>>;
  subscribe(
    topic: string,
    options: BatchSubscribeOptions,
  ): Promise<IterableSubscriber<readonly Delivery[]>>;
  async subscribe(topic: string, first?: unknown, second?: unknown): Promise<Subscriber> {
    this.mustBeConnected();
    if (second === undefined && (first === undefined || isOptions(first))) {
      return this.#loop(topic, first as AnySubscribeOptions | undefined);
    }
    checkHandler(first);
    const owner = {};
    const consume = calledHandler(first, isOptions(second) && second.batch !== undefined, owner);
    const options = second as AnySubscribeOptions | undefined;
    return this.#subscribe(topic, consume, options, owner);
  }

  /** Without a handler: for a loop. */
  #loop(topic: string, options: AnySubscribeOptions | undefined): Promise<Subscriber> {
    const feed = new LoopFeed<Delivery | readonly Delivery[]>(options?.ack === 'manual');
    const offer = (item: Delivery | readonly Delivery[]) => feed.offer(item);
    const consume: DeliveryHandler =
      options?.batch === undefined ? { each: offer, demand: feed } : { batch: offer, demand: feed };
    return this.#subscribe(topic, consume, options, feed, (setup) => {
      return new LoopSubscriber(setup, feed);
    });
  }

  async request(
    topic: string,
    message: Message,
    options: RequestOptions = {},
  ): Promise<ReceivedMessage> {
    const sent = this.#prepareRequest(topic, message, options, checkRequestOptions);
    return new Received(await this.askOne(topic, sent, options), { topic });
  }

  /**
   * @internal As `request` for a message that rpc has made: its headers are checked and carry their trace,
   * nothing else writes into its body, and its options are whole. Rejects, and never throws.
   */
  requestOwned(topic: string, message: RawMessage, options: RequestOptions): Promise<RawMessage> {
    try {
      this.#mustBeOpen();
      this.checkTopicName(topic);
      this.#can.do('requestReply', 'request and reply');
      throwIfAborted(options.signal ?? null);
      this.#outgoing.checkSize(topic, message.body);
    } catch (error) {
      return Promise.reject(notSent(error));
    }
    return this.askOne(topic, message, options);
  }

  async *requestMany(
    topic: string,
    message: Message,
    options: RequestOptions = {},
  ): AsyncIterable<ReceivedMessage> {
    const sent = this.#prepareRequest(topic, message, options, checkRequestOptions);
    const origin = { topic };
    for await (const reply of this.begin(topic, sent, options, 'many').messages) {
      yield new Received(reply, origin);
    }
  }

  call(topic: string, message: Message, options: StreamOptions = {}): BrokerCall {
    const sent = this.#prepareRequest(topic, message, options, checkStreamOptions);
    const call = this.begin(topic, sent, options, 'stream');
    return new OwnCall(topic, call, (each) => this.#outgoing.own(topic, each, true));
  }

  async respond(
    topic: string,
    handler: Responder,
    options: RespondOptions = {},
  ): Promise<Subscriber> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    this.#can.do('requestReply', 'request and reply');
    checkHandler(handler);
    checkRespondOptions(options);
    const { group = topic, concurrency = 100, signal = null } = options;
    checkGroup(group);
    throwIfAborted(signal);
    const owner = {};
    const context = new HandlerContext(owner);
    const responder = ownReplies(topic, handler, (work, call) =>
      context.run(work, call, undefined),
    );
    const subscription = await this.startResponder(topic, responder, group, concurrency);
    return this.#adopt({ topic, options: { group, concurrency }, subscription, owner }, signal);
  }

  // biome-ignore lint/suspicious/noExplicitAny: without a type, values are as JSON.parse gives them
  topic<Input = any, Output = Input, Reply = any, ReplyOutput = Reply>(
    definition: string | TopicDefinition<Input, Output, Reply, ReplyOutput>,
    options?: TopicOptions<Input, Output, Reply, ReplyOutput>,
  ): BoundTopic<Input, Output, Reply, ReplyOutput> {
    const isDefinition = typeof definition === 'object' && definition !== null;
    if (!isDefinition) return topic(definition, options).on(this);
    return topic(definition.name, options ?? definition.options).on(this);
  }

  async pending(topic: string, group: string, query: PendingQuery = {}): Promise<PendingEntry[]> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    checkGroup(group);
    checkPendingQuery(query);
    this.#can.do('pendingList', 'pending');
    if (query.after !== undefined) this.checkId(query.after);
    return this.doPending(topic, group, query);
  }

  async replay(topic: string, group: string, from: Position): Promise<void> {
    this.mustBeConnected();
    this.checkTopicName(topic);
    checkGroup(group);
    this.#can.readFrom(from, 'replay');
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

  // BrokerBase calls these with checked arguments and only while connected.
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
  /** Closes what `open` opened, also where `open` has failed. */
  protected abstract shut(): Promise<void>;
  /**
   * Stores messages, in order. After an error of an outage (outage-retry.ts) it is called again. A broker
   * overrides this or `storeThen`.
   */
  protected store(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    return new Promise((resolve, reject) => {
      this.storeThen(topic, messages, plan, resolve, reject);
    });
  }

  /** As `store`, for a broker that needs no promise for it: calls `stored` or `failed` once, or throws. */
  protected storeThen(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    stored: (receipts: Receipt[]) => void,
    failed: (error: unknown) => void,
  ): void {
    this.store(topic, messages, plan).then(stored, failed);
  }

  protected abstract startSubscription(
    topic: string,
    consume: DeliveryHandler,
    options: ResolvedSubscribeOptions,
  ): Promise<SubscriptionHandle>;
  protected abstract startResponder(
    topic: string,
    handler: RawResponder,
    group: string,
    concurrency: number,
  ): Promise<SubscriptionHandle>;
  /** Starts a request or call. The call that it returns reports every failure. */
  protected abstract begin(
    topic: string,
    message: RawMessage,
    options: StreamOptions,
    form: CallForm,
  ): RawCall;

  /** Resolves to the only reply of a request. */
  protected askOne(
    topic: string,
    message: RawMessage,
    options: RequestOptions,
  ): Promise<RawMessage> {
    return onlyReply(this.begin(topic, message, options, 'one').messages, topic);
  }

  /** Throws TOPIC_ILLEGAL; overridden where a broker refuses names that others take. */
  protected checkTopicName(topic: string): void {
    checkTopic(topic);
  }

  /** True where `store` reads bodies after it has returned: then BrokerBase copies each body first. */
  protected readonly keepsBodies: boolean = true;

  /** Throws INVALID_ARGUMENT where the text cannot be an id of this broker. */
  protected checkId(_id: string): void {}

  /** While `disconnect` waits for handlers, they may still publish and request. */
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

  /** Runs `once`, and again after each outage, until it succeeds or `timeoutMs` is over. */
  protected withRetry<T>(
    what: string,
    timeoutMs: number,
    signal: AbortSignal | null,
    once: () => Promise<T>,
  ): Promise<T> {
    return this.#retry.wait<T, T>({
      what,
      queue: null,
      timeoutMs,
      signal,
      attempt: (done, failed) => void once().then(done, failed),
      resultOf: itself,
    });
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
      // The caller may try again.
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
    // Wait for a connect that has begun, whether it succeeds or fails.
    await this.#connecting?.catch(() => {});
    const end = scheduler.monotonic() + drainTimeoutMs;
    await this.#subscribers.closeAll();
    this.#drained = true;
    if (this.#publishing > 0) await this.#flushed(Math.max(0, end - scheduler.monotonic()));
    this.#state = 'closed';
    this.#retry.failAll(this.#closedError());
    await this.shut();
  }

  /** Resolves when every publish has ended, or after `timeoutMs`. */
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
    consume: DeliveryHandler,
    options: AnySubscribeOptions | undefined,
    owner: object,
    make?: MakeSubscriber,
  ): Promise<Subscriber> {
    const resolved = resolveSubscribeOptions(options);
    checkPattern(topic);
    if (isPattern(topic)) this.#can.do('wildcards', 'a topic with wildcards');
    else this.checkTopicName(topic);
    this.#can.keepOrder(resolved.ordered);
    this.#can.readFrom(resolved.from, 'from');
    throwIfAborted(resolved.signal);
    const subscription = await this.startSubscription(topic, consume, resolved);
    const added = { topic, options: options ?? {}, subscription, owner };
    return this.#adopt(make === undefined ? added : { ...added, make }, resolved.signal);
  }

  /** For `journal.consume`: a queue by its key, which need not be the name of a topic. */
  protected async consumeKey(
    key: string,
    handler: (task: JournalTask) => unknown,
    options: SubscribeOptions,
  ): Promise<Subscriber> {
    this.mustBeConnected();
    const resolved = resolveSubscribeOptions(options);
    const owner = {};
    const consume = calledHandler(handler as (item: unknown) => unknown, false, owner);
    const subscription = await this.startSubscription(key, consume, resolved);
    return this.#adopt({ topic: key, options, subscription, owner }, resolved.signal);
  }

  /** Closes it again where the broker disconnects, or the signal aborts, meanwhile. */
  async #adopt(added: NewSubscriber, signal: AbortSignal | null): Promise<Subscriber> {
    const subscriber = this.#subscribers.add(added);
    if (signal?.aborted || this.#disconnecting !== null) {
      await subscriber.close();
      throwIfAborted(signal);
      this.mustBeConnected();
    }
    subscriber.watch(signal);
    return subscriber;
  }

  /** Checks a request and returns the message to send. */
  #prepareRequest(
    topic: string,
    message: Message,
    options: StreamOptions,
    checkTheOptions: (options: unknown) => void,
  ): RawMessage {
    try {
      this.#mustBeOpen();
      this.checkTopicName(topic);
      this.#can.do('requestReply', 'request and reply');
      checkTheOptions(options);
      throwIfAborted(options.signal ?? null);
      return this.#outgoing.own(topic, message, true);
    } catch (error) {
      throw notSent(error);
    }
  }
}

const firstOf = (receipts: readonly Receipt[]) => receipts[0] as Receipt;
const allOf = (receipts: Receipt[]) => receipts;
const itself = <T>(value: T) => value;
