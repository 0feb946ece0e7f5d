/**
 * What every broker does the same, so that an implementation is thin.
 *
 * Holds: options, life cycle, checks (topic, body, options against capabilities), waiting through an
 * outage, the subscribers and the events. An implementation fills in the abstract members, which are
 * called only while connected and with checked arguments.
 * Invariants: nothing is refused silently; after `disconnect` no timer, subscriber or connection is
 * left.
 */
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
import type { Message } from './message.ts';
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
import { Patience, throwIfAborted } from './patience.ts';
import { onlyReply } from './requests.ts';
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
}

/** A subscription or responder of an implementation. */
export interface Attachment {
  readonly inFlight: number;
  /** Stops taking, lets handlers finish (at most `timeoutMs`), frees everything. */
  close(timeoutMs: number): Promise<void>;
}

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
  readonly #subscribers = new Set<Attached>();
  readonly #patience: Patience;
  /** Publishes under way. */
  #publishing = 0;
  #whenPublished = () => {};

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    this.#options = resolveBrokerOptions({ ...options, addresses });
    this.timeouts = new Timeouts(this.#options.scheduler);
    this.#patience = new Patience(
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
    return this.#disconnecting;
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
      this.mustBeConnected();
      this.checkTopicName(topic);
      plan = this.#plan(messages, options);
      if (messages.length === 0) return Promise.resolve(told([]));
      traced = messages.map((message) => {
        this.#checkMessage(topic, message);
        const headers = this.tracing.inject(message.headers);
        return headers === message.headers ? message : { ...message, headers };
      });
    } catch (error) {
      return Promise.reject(error);
    }
    this.#publishing++;
    return this.#patience.wait({
      what: `publish to ${topic}`,
      timeoutMs: this.#options.publishTimeoutMs,
      signal: options.signal ?? null,
      once: () => this.store(topic, traced, plan),
      told,
      ended: this.#published,
    });
  }

  readonly #published = (): void => {
    if (--this.#publishing === 0) this.#whenPublished();
  };

  subscribe(topic: string, handler: Handler, options?: SubscribeOptions): Promise<Subscriber> {
    return this.#subscribe(topic, { each: handler }, options);
  }

  subscribeBatch(
    topic: string,
    handler: BatchHandler,
    options?: SubscribeOptions,
  ): Promise<Subscriber> {
    const batch = options?.batch ?? { size: 100, waitMs: 10 };
    return this.#subscribe(topic, { batch: handler }, { ...options, batch });
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
    const { group = topic, concurrency = 100, signal = null } = options;
    checkGroup(group);
    if (!(concurrency >= 1)) {
      throw new RivuletError('INVALID_ARGUMENT', 'concurrency must be at least 1');
    }
    throwIfAborted(signal);
    const attachment = await this.attachResponder(topic, handler, group, concurrency);
    return this.#adopt(topic, { group, concurrency }, attachment, signal);
  }

  abstract pending(topic: string, group: string, query?: PendingQuery): Promise<PendingEntry[]>;
  abstract replay(topic: string, group: string, from: Position): Promise<void>;
  abstract redrive(topic: string, options?: RedriveOptions): Promise<number>;
  abstract topics(): AsyncIterable<TopicInfo>;
  abstract deleteTopic(topic: string): Promise<void>;

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
    return this.#patience.wait({ what, timeoutMs, signal, once, told: itself });
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
    // A connect under way ends first, however it ends.
    await this.#connecting?.catch(() => {});
    await Promise.all([...this.#subscribers].map((subscriber) => subscriber.unsubscribe()));
    if (this.#publishing > 0) {
      await new Promise<void>((resolve) => {
        this.#whenPublished = resolve;
      });
    }
    this.#state = 'closed';
    await this.shut();
  }

  async #subscribe(
    topic: string,
    consume: Consume,
    options: SubscribeOptions = {},
  ): Promise<Subscriber> {
    this.mustBeConnected();
    checkPattern(topic);
    if (isPattern(topic)) this.#require('wildcards', 'a topic with wildcards');
    else this.checkTopicName(topic);
    const resolved = resolveSubscribeOptions(options);
    if (resolved.ordered === 'by-key') this.#require('orderPerKey', 'ordered: "by-key"');
    if (resolved.ordered === 'strictly') this.#require('strictOrder', 'ordered: "strictly"');
    if (typeof resolved.from === 'object') {
      if ('id' in resolved.from) this.#require('replayById', 'from: { id }');
      else this.#require('replayByTime', 'from: { time }');
    }
    throwIfAborted(resolved.signal);
    const attachment = await this.attach(topic, consume, resolved);
    return this.#adopt(topic, options, attachment, resolved.signal);
  }

  async #adopt(
    topic: string,
    options: SubscribeOptions,
    attachment: Attachment,
    signal: AbortSignal | null,
  ): Promise<Subscriber> {
    const close = () => attachment.close(this.options.drainTimeoutMs);
    const subscriber = new Attached(topic, options, attachment, close, () =>
      this.#subscribers.delete(subscriber),
    );
    this.#subscribers.add(subscriber);
    if (signal?.aborted || this.#disconnecting !== null) {
      await subscriber.unsubscribe();
      throwIfAborted(signal);
      this.mustBeConnected();
    }
    subscriber.watch(signal);
    return subscriber;
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
  protected prepareRequest(topic: string, message: Message, options?: RequestOptions): Message {
    this.mustBeConnected();
    this.checkTopicName(topic);
    this.#require('requestReply', 'request and reply');
    this.#checkMessage(topic, message);
    throwIfAborted(options?.signal ?? null);
    const headers = this.tracing.inject(message.headers);
    return headers === message.headers ? message : { ...message, headers };
  }

  #plan(messages: readonly Message[], options: PublishOptions): PublishPlan {
    const { id, delayMs, deliverAt, maxLength } = options;
    if (id !== undefined) {
      this.#require('dedup', 'publishing with an id');
      if (messages.length > 1) {
        throw new RivuletError('INVALID_ARGUMENT', 'an id belongs to one message, not to a batch');
      }
      if (id === '') throw new RivuletError('INVALID_ARGUMENT', 'the id is empty');
    }
    if (delayMs !== undefined && deliverAt !== undefined) {
      throw new RivuletError('INVALID_ARGUMENT', 'delayMs and deliverAt exclude each other');
    }
    if (delayMs !== undefined && !(delayMs >= 0)) {
      throw new RivuletError('INVALID_ARGUMENT', 'delayMs may not be negative');
    }
    if (deliverAt !== undefined && Number.isNaN(deliverAt.getTime())) {
      throw new RivuletError('INVALID_ARGUMENT', 'deliverAt is no valid date');
    }
    if (maxLength !== undefined && !(maxLength >= 0)) {
      throw new RivuletError('INVALID_ARGUMENT', 'maxLength may not be negative');
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

  #checkMessage(topic: string, message: Message): void {
    if (!(message.body instanceof Uint8Array)) {
      throw new RivuletError('INVALID_ARGUMENT', `the body of a message is bytes (Uint8Array)`);
    }
    const { length } = message.body;
    const own = this.#options.maxBodyBytes;
    const limit = length <= SMALL_BYTES ? own : Math.min(own, this.capabilities.maxBodyBytes);
    if (length > limit) {
      const text = `a body of ${length} bytes for ${topic}: at most ${limit} are allowed`;
      throw new RivuletError('BODY_TOO_LARGE', text);
    }
    for (const name in message.headers) {
      if (typeof message.headers[name] === 'string') continue;
      throw new RivuletError('INVALID_ARGUMENT', `header ${name} is not a string`);
    }
  }

  #require(capability: keyof Capabilities, what: string): void {
    const value = this.capabilities[capability];
    if (value === false || value === 'none' || value === null) {
      throw new RivuletError('UNSUPPORTED', `the ${this.name} broker cannot do ${what}`);
    }
  }
}

class Attached implements Subscriber {
  readonly topic: string;
  readonly options: Readonly<SubscribeOptions>;
  readonly #attachment: Attachment;
  readonly #close: () => Promise<void>;
  readonly #gone: () => void;
  #unsubscribing: Promise<void> | null = null;
  #unwatch = () => {};

  constructor(
    topic: string,
    options: SubscribeOptions,
    attachment: Attachment,
    close: () => Promise<void>,
    gone: () => void,
  ) {
    this.topic = topic;
    this.options = options;
    this.#attachment = attachment;
    this.#close = close;
    this.#gone = gone;
  }

  get inFlight(): number {
    return this.#attachment.inFlight;
  }

  watch(signal: AbortSignal | null): void {
    if (signal === null) return;
    const stop = () => void this.unsubscribe();
    signal.addEventListener('abort', stop, { once: true });
    this.#unwatch = () => signal.removeEventListener('abort', stop);
  }

  unsubscribe(): Promise<void> {
    this.#unwatch();
    this.#unsubscribing ??= this.#close().finally(this.#gone);
    return this.#unsubscribing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }
}

const firstOf = (receipts: readonly Receipt[]) => receipts[0] as Receipt;
const allOf = (receipts: Receipt[]) => receipts;
const itself = <T>(value: T) => value;
/** Every broker takes bodies of this size: what its limit is need not be asked for each message. */
const SMALL_BYTES = 1024;
