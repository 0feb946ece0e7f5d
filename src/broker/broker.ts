/**
 * The Broker: what a service publishes to and subscribes from, on any implementation.
 *
 * Contract only. Names are go-micro's where it has one (in brackets). Every implementation (memory,
 * file, rivulet, redis, rabbitmq, nats, http) does the same, or says in `capabilities` what it cannot
 * do and refuses it at the call with UNSUPPORTED. The suite in src/conformance tests each of them.
 */

import type { Capabilities } from './capabilities.ts';
import type { JournalStore } from './journal.ts';
import type { Message } from './message/message.ts';
import type { MessageLog } from './message/message-log.ts';
import type { ReceivedMessage } from './message/received-message.ts';
import type {
  BatchSubscribeOptions,
  BrokerOptions,
  PublishOptions,
  RequestOptions,
  RespondOptions,
  StreamOptions,
  SubscribeOptions,
} from './options/options.ts';
import type { Position } from './positions.ts';
import type { BrokerCall, Responder } from './requests/responder.ts';
import type {
  BatchHandler,
  Delivery,
  Handler,
  IterableSubscriber,
  Subscriber,
} from './subscribers/subscriber.ts';
import type {
  PendingEntry,
  PendingQuery,
  Receipt,
  RedriveOptions,
  TopicInfo,
} from './topics/topic-info.ts';
import type { BoundTopic, TopicDefinition, TopicOptions } from './topics/topic-types.ts';

export type { Position } from './positions.ts';
export type { BrokerCall, Responder, ResponderContext } from './requests/responder.ts';
export type {
  BatchHandler,
  Delivery,
  Handler,
  IterableSubscriber,
  Subscriber,
} from './subscribers/subscriber.ts';
export type {
  PendingEntry,
  PendingQuery,
  Receipt,
  RedriveOptions,
  TopicInfo,
} from './topics/topic-info.ts';

export interface Broker extends AsyncDisposable {
  /** [String()] The implementation: `memory`, `file`, `rivulet`, `redis`, `rabbitmq`, `nats`, `http`. */
  readonly name: string;
  /** [Address()] Where it is connected, without credentials. */
  readonly address: string;
  /** [Options()] */
  readonly options: Readonly<BrokerOptions>;
  readonly capabilities: Readonly<Capabilities>;
  /** Journals with conditional commits, for workflows; absent where `capabilities.journal` is. */
  readonly journal?: JournalStore | undefined;
  /** Reads stored messages without a group: for consoles. Absent where commands of the server do. */
  readonly log?: MessageLog | undefined;

  /** [Init()] Changes options before `connect`. */
  init(options?: Partial<BrokerOptions>): void;
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
   *
   * With `batch` the handler gets up to `batch.size` deliveries at once. Without a handler the
   * subscriber is read by a loop, `for await (const delivery of subscriber)`: see IterableSubscriber.
   */
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

  /**
   * One request, one reply; nothing is stored. Rejects at once with NO_RESPONDERS where the topic has no
   * responder, with RESPONDER_LOST when the responder dies, RESPONDER_FAILED when its handler threw,
   * TIMEOUT, ABORTED.
   */
  request(topic: string, message: Message, options?: RequestOptions): Promise<ReceivedMessage>;
  /** One request, any number of replies, in order; ends when the responder ends. */
  requestMany(
    topic: string,
    message: Message,
    options?: RequestOptions,
  ): AsyncIterable<ReceivedMessage>;
  /**
   * Opens a call with a stream in each direction: the message is the request, `send` sends more, and the
   * responder sends any number of replies. Errors are those of `request`, thrown where the replies are
   * read. Neither side sends more than a window of bytes that the other has not read.
   */
  call(topic: string, message: Message, options?: StreamOptions): BrokerCall;
  /** Answers requests; responders of one group (default: the topic's name) share them. */
  respond(topic: string, handler: Responder, options?: RespondOptions): Promise<Subscriber>;

  /**
   * A typed topic: `broker.topic<Order>('orders')`, or with a Standard Schema, from which the types
   * then come. A definition made by `topic()` may be shared by several programs.
   */
  // biome-ignore lint/suspicious/noExplicitAny: without a type, values are as JSON.parse gives them
  topic<Input = any, Output = Input, Reply = any, ReplyOutput = Reply>(
    topic: string | TopicDefinition<Input, Output, Reply, ReplyOutput>,
    options?: TopicOptions<Input, Output, Reply, ReplyOutput>,
  ): BoundTopic<Input, Output, Reply, ReplyOutput>;

  /** Messages delivered to the group and not yet acknowledged, oldest first. */
  pending(topic: string, group: string, query?: PendingQuery): Promise<PendingEntry[]>;
  /** Moves the group to a position: it gets everything after it again. Its pending entries are dropped. */
  replay(topic: string, group: string, from: Position): Promise<void>;
  /** Publishes dead letters to their topic again and removes them; resolves to their number. */
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

export interface BrokerEvents {
  /** The connection is lost; deliveries stop until `connected`. */
  disconnected: { readonly cause: Error };
  /** Connected again, subscriptions resumed. */
  connected: { readonly attempt: number };
  /** A group or its topic was lost (flush, failover) and was created again. */
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
  /**
   * A failure that is retried, or that no call awaits: of a settlement, a checkpoint, a delayed message
   * that cannot be added. `DELIVERY_LOST`: also a message that was trimmed before its group had settled it
   * (capability `trimmedPending`).
   */
  warning: { readonly error: Error };
}
