/**
 * A topic as a typed value: what may be published to it and what its handlers get.
 *
 * The codec turns values into bytes (JSON unless told otherwise); the schema, any validator that
 * speaks Standard Schema, looks at each value on both sides. What does not validate is never
 * published, and what arrives invalid goes to the dead letter with the reason instead of round and
 * round.
 */
import { type StandardSchema, validate } from '../codec/standard-schema.ts';
import { RivuletError } from '../errors.ts';
import type { Broker, Delivery, Receipt, Subscriber } from './broker.ts';
import type { PublishOptions, SubscribeOptions } from './options.ts';
import { reasonOf } from './reason.ts';
import { checkPattern } from './topics.ts';

export type { StandardSchema } from '../codec/standard-schema.ts';

export interface ValueCodec<Value> {
  /** Travels in the `Content-Type` header. */
  readonly contentType: string;
  encode(value: Value): Uint8Array;
  decode(bytes: Uint8Array): Value;
}

export interface TopicOptions<Input, Output> {
  /** Default: JSON. */
  readonly codec?: ValueCodec<unknown>;
  readonly schema?: StandardSchema<Input, Output>;
}

export interface TypedPublishOptions extends PublishOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly key?: string;
}

export interface Topic<Input, Output = Input> {
  readonly name: string;
  /** Rejects with VALIDATION_FAILED before anything is sent. */
  publish(broker: Broker, value: Input, options?: TypedPublishOptions): Promise<Receipt>;
  subscribe(
    broker: Broker,
    handler: (value: Output, delivery: Delivery) => unknown | Promise<unknown>,
    options?: SubscribeOptions,
  ): Promise<Subscriber>;
}

export const jsonCodec: ValueCodec<unknown> = {
  contentType: 'application/json',
  encode(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`${typeof value} has no form in JSON`);
    return Buffer.from(text);
  },
  decode: (bytes) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)),
};

/** `topic<Order>('orders.created')`, or with a schema, from which the types then come. */
export function topic<Input, Output = Input>(
  name: string,
  options: TopicOptions<Input, Output> = {},
): Topic<Input, Output> {
  checkPattern(name);
  const { codec = jsonCodec, schema } = options;
  return {
    name,
    async publish(broker, value, { headers, key, ...publishOptions } = {}) {
      // What is sent is what was given: the receiver's own validation makes the output of it.
      if (schema !== undefined) await validate(schema, value, `a message of ${name}`);
      const message = {
        headers: { 'Content-Type': codec.contentType, ...headers },
        body: encode(name, codec, value),
        ...(key === undefined ? {} : { key }),
      };
      return broker.publish(name, message, publishOptions);
    },
    subscribe(broker, handler, subscribeOptions) {
      const each = async (delivery: Delivery) => {
        let value: Output;
        try {
          const decoded = codec.decode(delivery.message.body);
          value =
            schema === undefined
              ? (decoded as Output)
              : await validate(schema, decoded, `a message of ${delivery.topic}`);
        } catch (error) {
          await delivery.deadLetter(reasonOf(error));
          return;
        }
        await handler(value, delivery);
      };
      return broker.subscribe(name, each, subscribeOptions);
    },
  };
}

function encode(name: string, codec: ValueCodec<unknown>, value: unknown): Uint8Array {
  try {
    return codec.encode(value);
  } catch (cause) {
    const text = `a message for ${name} cannot be written as ${codec.contentType}: ${reasonOf(cause)}`;
    throw new RivuletError('VALIDATION_FAILED', text, { cause });
  }
}
