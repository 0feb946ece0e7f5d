/**
 * The Broker: what a service publishes to and subscribes from, whatever stands behind it.
 *
 * Contract only. Names are go-micro's where it has one (in brackets); what its users asked for stands
 * beside. Every implementation (memory, file, rivulet, redis, rabbitmq, nats, http) means the same by
 * it or says in `capabilities` that it cannot, and then refuses the option at the call with
 * UNSUPPORTED, never silently. src/conformance decides who conforms.
 */

import type { Capabilities } from './capabilities.ts';
import type { Message } from './message.ts';
import type {
  BrokerOptions,
  PublishOptions,
  RequestOptions,
  RespondOptions,
  SubscribeOptions,
} from './options.ts';

export interface Broker extends AsyncDisposable {
  /** [String()] The implementation: `memory`, `file`, `rivulet`, `redis`, `rabbitmq`, `nats`, `http`. */
  readonly name: string;
  /** [Address()] Where it is connected, without credentials. */
  readonly address: string;
  /** [Options()] */
  readonly options: Readonly<BrokerOptions>;
  readonly capabilities: Readonly<Capabilities>;

  /** [Init()] Changes options before `connect`. */
  init(options: Partial<BrokerOptions>): void;
  /** [Connect()] Idempotent. Rejects with CONNECTION_FAILED or AUTHENTICATION_FAILED. */
  connect(): Promise<void>;
  /**
   * [Disconnect()] Stops deliveries, waits for running handlers (at most `options.drainTimeoutMs`),
   * flushes publishes, closes every connection and timer. Idempotent.
   */
  disconnect(): Promise<void>;

  /**
   * [Publish()] Resolves once the broker has the message as durably as `capabilities.durability`
   * says. While the broker cannot be reached it waits, at most `options.publishTimeoutMs` and with at
   * most `options.maxPendingPublishes` waiting, then rejects: NOT_CONNECTED or LIMIT_EXCEEDED.
   */
  publish(topic: string, message: Message, options?: PublishOptions): Promise<Receipt>;
  /** Many messages in one exchange, in order; one receipt each. All or an error naming the first failed. */
  publishBatch(
    topic: string,
    messages: readonly Message[],
    options?: PublishOptions,
  ): Promise<Receipt[]>;
  /**
   * [Subscribe()] `topic` may hold wildcards where `capabilities.wildcards`: `*` is one word, `>` the
   * rest (at least one word); words are separated by dots. Resolves once deliveries can flow.
   */
  subscribe(topic: string, handler: Handler, options?: SubscribeOptions): Promise<Subscriber>;
  /** As subscribe, handing over up to `batch.size` deliveries at once. */
  subscribeBatch(
    topic: string,
    handler: BatchHandler,
    options?: SubscribeOptions,
  ): Promise<Subscriber>;

  /**
   * One request, one reply; nothing durable. Rejects with NO_RESPONDERS at once when nobody answers
   * on the topic, RESPONDER_LOST when the responder dies, RESPONDER_FAILED when its handler threw,
   * TIMEOUT, ABORTED.
   */
  request(topic: string, message: Message, options?: RequestOptions): Promise<Message>;
  /** One request, any number of replies, in order; ends when the responder ends. */
  requestMany(topic: string, message: Message, options?: RequestOptions): AsyncIterable<Message>;
  /** Answers requests; responders of one group (default: the topic's name) share them. */
  respond(topic: string, handler: Responder, options?: RespondOptions): Promise<Subscriber>;

  /** Messages delivered to the group and not yet acknowledged, oldest first. */
  pending(topic: string, group: string, query?: PendingQuery): Promise<PendingEntry[]>;
  /** Moves the group to a position: it will get everything after it again. Pending ones are dropped. */
  replay(topic: string, group: string, from: Position): Promise<void>;
  /** Sends dead letters back to where they came from; resolves to how many went. */
  redrive(topic: string, options?: RedriveOptions): Promise<number>;
  topics(): AsyncIterable<TopicInfo>;
  /** Removes a topic with its groups, dead letters excepted. */
  deleteTopic(topic: string): Promise<void>;

  /** Reports what would otherwise be silent: reconnects, lost groups, handler errors. */
  on<K extends keyof BrokerEvents>(
    event: K,
    listener: (detail: BrokerEvents[K]) => void,
  ): () => void;
}

export type Handler = (delivery: Delivery) => unknown | Promise<unknown>;
export type BatchHandler = (deliveries: readonly Delivery[]) => unknown | Promise<unknown>;

/**
 * Answers a request: a message, or an async iterable of messages for many replies. Throwing sends
 * the error (code and text) to the caller.
 */
export type Responder = (
  request: Message,
  context: { readonly signal: AbortSignal; readonly topic: string },
) => Message | Promise<Message> | AsyncIterable<Message>;

export interface Receipt {
  /** The broker's id of the message, as text; ascending within a topic where `capabilities.ids` says so. */
  readonly id: string;
  /** True when a message with the same `PublishOptions.id` was already there and nothing was added. */
  readonly duplicate: boolean;
}

/** [Event] One delivery of one message to one subscriber. Settling it twice is ALREADY_SETTLED. */
export interface Delivery {
  readonly topic: string;
  /** The broker's id of the message. */
  readonly id: string;
  readonly message: Message;
  /** 1 for the first delivery. */
  readonly attempt: number;
  readonly publishedAt: Date;
  /** Aborted when the subscriber closes or the delivery is lost to another consumer. */
  readonly signal: AbortSignal;
  ack(): Promise<void>;
  /** Gives it back: it comes again after `delayMs` (default: the retry's backoff). */
  nack(options?: { delayMs?: number; reason?: string }): Promise<void>;
  /** Moves it to the dead letter now, atomically with its acknowledgement. */
  deadLetter(reason: string): Promise<void>;
  /** Pushes the acknowledgement deadline to `ms` from now. */
  extend(ms: number): Promise<void>;
}

/** [Subscriber] */
export interface Subscriber extends AsyncDisposable {
  readonly topic: string;
  readonly options: Readonly<SubscribeOptions>;
  /** Deliveries handed to the handler and not yet settled. */
  readonly inFlight: number;
  /** Stops deliveries, waits for running handlers; a durable group keeps its place. */
  unsubscribe(): Promise<void>;
}

export type Position = 'new' | 'earliest' | { readonly id: string } | { readonly time: Date };

export interface PendingQuery {
  readonly consumer?: string;
  readonly minIdleMs?: number;
  /** At most this many; default 100. */
  readonly limit?: number;
  /** Only ids after this one: for paging. */
  readonly after?: string;
}

export interface PendingEntry {
  readonly id: string;
  /** Empty while nobody holds it (waiting for its retry). */
  readonly consumer: string;
  readonly idleMs: number;
  readonly attempts: number;
}

export interface RedriveOptions {
  /** Dead-letter topic; default `${topic}.dead`. */
  readonly from?: string;
  readonly limit?: number;
}

export interface TopicInfo {
  readonly topic: string;
  readonly length: number;
  readonly groups: readonly {
    readonly name: string;
    readonly pending: number;
    readonly lag: number | null;
  }[];
}

export interface BrokerEvents {
  /** The connection is lost; deliveries stop until `connected`. */
  disconnected: { readonly cause: Error };
  /** Connected again, subscriptions resumed. */
  connected: { readonly attempt: number };
  /** A group or its topic vanished (flush, failover) and was made anew. */
  groupLost: { readonly topic: string; readonly group: string };
  /** A handler threw or rejected. */
  handlerError: {
    readonly topic: string;
    readonly id: string;
    readonly attempt: number;
    readonly error: unknown;
  };
  /** A message went to the dead letter. */
  deadLettered: { readonly topic: string; readonly id: string; readonly reason: string };
  /** Something failed that will be tried again. */
  warning: { readonly error: Error };
}
