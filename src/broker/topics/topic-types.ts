/**
 * The types of typed topics: definitions that programs share, and topics bound to a broker.
 *
 * Contract only. `Input` is what is published, `Output` what handlers get: a schema that transforms
 * makes one of the other. `Reply` and `ReplyOutput` are the same for answers to requests.
 */
import type { StandardSchema } from '../../codec/standard-schema.ts';
import type { ReceivedMessage } from '../message/received-message.ts';
import type {
  BatchSubscribeOptions,
  PublishOptions,
  RequestOptions,
  RespondOptions,
  SubscribeOptions,
} from '../options/options.ts';
import type { Position } from '../positions.ts';
import type { Delivery, IterableSubscriber, Subscriber } from '../subscribers/subscriber.ts';
import type { PendingEntry, PendingQuery, Receipt, RedriveOptions } from './topic-info.ts';
import type { ValueCodec } from './value-codec.ts';

export interface TopicOptions<Input, Output, Reply = unknown, ReplyOutput = Reply> {
  /** Default: JSON. */
  readonly codec?: ValueCodec<unknown>;
  /** Looks at every value, on both sides: zod, valibot, arktype, or any other Standard Schema. */
  readonly schema?: StandardSchema<Input, Output>;
  /** Looks at every answer to a request, on both sides. */
  readonly response?: StandardSchema<Reply, ReplyOutput>;
}

/** What a broker has to know of a topic that programs share. */
export interface TopicDefinition<Input, Output = Input, Reply = unknown, ReplyOutput = Reply> {
  readonly name: string;
  readonly options: TopicOptions<Input, Output, Reply, ReplyOutput>;
}

export interface TypedPublishOptions<Input = unknown> extends PublishOptions {
  /** Beside `Content-Type`, which is the codec's. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Orders the message; or a function that reads it from the value. */
  readonly key?: string | ((value: Input) => string | undefined);
}

export interface TypedRequestOptions extends RequestOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly key?: string;
}

/** A delivery with the value of its body. */
export interface TypedDelivery<Value> extends Delivery {
  readonly value: Value;
}

/** Answers with a value, with `undefined` (no body), or with many values. */
export type TypedResponder<Output, Reply> = (
  value: Output,
  context: {
    readonly signal: AbortSignal;
    readonly topic: string;
    readonly request: ReceivedMessage;
  },
) => Reply | AsyncIterable<Reply> | Promise<Reply | AsyncIterable<Reply>>;

/** A topic of one broker. Everything is as the broker's method of the same name, with values. */
export interface BoundTopic<Input, Output = Input, Reply = unknown, ReplyOutput = Reply> {
  readonly name: string;
  /** Rejects with VALIDATION_FAILED before anything is sent. */
  publish(value: Input, options?: TypedPublishOptions<Input>): Promise<Receipt>;
  /** All or none: one value that does not validate, and nothing is sent. */
  publishBatch(values: readonly Input[], options?: TypedPublishOptions<Input>): Promise<Receipt[]>;
  /** What cannot be read or does not validate goes to the dead letter, unseen. */
  subscribe(
    handler: (value: Output, delivery: TypedDelivery<Output>) => unknown | Promise<unknown>,
    options?: SubscribeOptions,
  ): Promise<Subscriber>;
  subscribe(
    handler: (
      values: readonly Output[],
      deliveries: readonly TypedDelivery<Output>[],
    ) => unknown | Promise<unknown>,
    options: BatchSubscribeOptions,
  ): Promise<Subscriber>;
  /** `for await (const { value } of await orders.subscribe())`. */
  subscribe(options?: SubscribeOptions): Promise<IterableSubscriber<TypedDelivery<Output>>>;
  subscribe(
    options: BatchSubscribeOptions,
  ): Promise<IterableSubscriber<readonly TypedDelivery<Output>[]>>;
  /** Rejects as `broker.request`, with VALIDATION_FAILED, or with DECODING_FAILED. */
  request(value: Input, options?: TypedRequestOptions): Promise<ReplyOutput>;
  requestMany(value: Input, options?: TypedRequestOptions): AsyncIterable<ReplyOutput>;
  respond(handler: TypedResponder<Output, Reply>, options?: RespondOptions): Promise<Subscriber>;
  replay(group: string, from: Position): Promise<void>;
  pending(group: string, query?: PendingQuery): Promise<PendingEntry[]>;
  redrive(options?: RedriveOptions): Promise<number>;
}
