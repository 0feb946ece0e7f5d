/**
 * What a subscription gives its caller: deliveries, and the subscriber that ends it.
 *
 * Contract only. go-micro's name stands in brackets where it has one.
 */
import type { ReceivedMessage } from '../message/received-message.ts';
import type { AnySubscribeOptions } from '../options/options.ts';

export type Handler = (delivery: Delivery) => unknown | Promise<unknown>;
export type BatchHandler = (deliveries: readonly Delivery[]) => unknown | Promise<unknown>;

/** [Event] One delivery of one message to one subscriber. Settling it twice is ALREADY_SETTLED. */
export interface Delivery {
  readonly topic: string;
  /** The broker's id of the message. */
  readonly id: string;
  readonly message: ReceivedMessage;
  /** 1 for the first delivery. */
  readonly attempt: number;
  readonly publishedAt: Date;
  /** Aborted when the subscriber closes, or when another consumer gets the message. */
  readonly signal: AbortSignal;
  /** The body as text. Throws DECODING_FAILED where it is not UTF-8. */
  text(): string;
  /** The body parsed as JSON. Throws DECODING_FAILED where it is not JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse and fetch's json()
  json<Value = any>(): Value;
  /** The received bytes of the body. What is written into them changes no retry and no dead letter. */
  bytes(): Uint8Array;
  ack(): Promise<void>;
  /** Returns the message to its group, which delivers it again after `delayMs` (default: the retry's backoff). */
  nack(options?: { delayMs?: number; reason?: string }): Promise<void>;
  /** Moves the message to the dead letter now, atomically with its acknowledgement. */
  deadLetter(reason: string): Promise<void>;
  /** Moves the acknowledgement deadline to `ms` from now. */
  extend(ms: number): Promise<void>;
}

/** [Subscriber] */
export interface Subscriber extends AsyncDisposable {
  readonly topic: string;
  readonly options: Readonly<AnySubscribeOptions>;
  /** Deliveries that were fetched and are not settled. */
  readonly inFlight: number;
  /** Stops deliveries and waits for running handlers. A group keeps its position. */
  unsubscribe(): Promise<void>;
}

/**
 * A subscriber without a handler: a loop reads its deliveries, one (or one batch) at a time.
 *
 *   for await (const delivery of await broker.subscribe('orders', { group: 'billing' })) {
 *     await bill(delivery.json());
 *   }
 *
 * - With `ack: 'auto'` (default) the loop's body is the handler: asking for the next delivery
 *   acknowledges the one before, unless the body has settled it. With `manual` only the body settles.
 * - Leaving the loop (break, return, throw) unsubscribes. What the body has not settled is returned at
 *   once and delivered again, to any consumer of the group, as another attempt.
 * - At most `maxInFlight` deliveries are fetched and not settled. A delivery is handed over only when a
 *   loop asks for it. When no loop has asked for `ackWaitMs`, what was fetched ahead is returned.
 * - The loop ends, without an error, after `unsubscribe`, `disconnect` or an abort of `signal`.
 *   `disconnect` waits for the body, at most `drainTimeoutMs`; `unsubscribe` does not, and neither does
 *   `disconnect` within the body. Code that a generator around the loop passes its deliveries to is not
 *   recognized as the body.
 * - Several loops may share a subscriber, at most `concurrency` bodies at once. When one is left, all end.
 * - Unlike a handler, a body does not pass the trace of its message on to what it publishes.
 */
export interface IterableSubscriber<Item = Delivery> extends Subscriber, AsyncIterable<Item> {
  [Symbol.asyncIterator](): AsyncIterableIterator<Item, undefined>;
}
