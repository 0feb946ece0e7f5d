/**
 * A typed topic on a broker: `broker.topic('orders', { schema })`.
 *
 * Encodes and validates values on every path that carries messages. Invariants: a value that does not
 * validate is never sent (VALIDATION_FAILED); a message that cannot be decoded, or does not validate,
 * goes to the dead letter with the reason, is not retried, and reaches neither handler nor loop; such a
 * request fails with VALIDATION_FAILED or DECODING_FAILED at its sender. The value is sent as given: the
 * receiver's validation turns it into the schema's output.
 * Cost: one encoding and one validation at each side.
 */
import { invalid, shown } from '../../client/option-table.ts';
import { type StandardSchema, validate } from '../../codec/standard-schema.ts';
import type {
  Broker,
  Delivery,
  PendingEntry,
  PendingQuery,
  Position,
  Receipt,
  RedriveOptions,
  Responder,
  Subscriber,
} from '../broker.ts';
import type { Message } from '../message/message.ts';
import { reasonOf } from '../message/reason.ts';
import type { ReceivedMessage } from '../message/received-message.ts';
import type { RespondOptions } from '../options/options.ts';
import { isMany } from '../requests/own-replies.ts';
import type {
  BoundTopic,
  TopicOptions,
  TypedDelivery,
  TypedPublishOptions,
  TypedRequestOptions,
  TypedResponder,
} from './topic-types.ts';
import { TypedLoop, valued } from './typed-loop.ts';
import {
  decodeValue,
  encodeValue,
  jsonCodec,
  type Readable,
  type ValueCodec,
} from './value-codec.ts';

export class TopicOfBroker implements BoundTopic<unknown, unknown, unknown, unknown> {
  readonly name: string;
  readonly #broker: Broker;
  readonly #codec: ValueCodec<unknown>;
  readonly #schema: StandardSchema<unknown, unknown> | undefined;
  readonly #response: StandardSchema<unknown, unknown> | undefined;

  constructor(
    broker: Broker,
    name: string,
    options: TopicOptions<unknown, unknown, unknown, unknown>,
  ) {
    this.name = name;
    this.#broker = broker;
    this.#codec = options.codec ?? jsonCodec;
    this.#schema = options.schema;
    this.#response = options.response;
  }

  async publish(value: unknown, options?: TypedPublishOptions<unknown>): Promise<Receipt> {
    const { headers, key, ...others } = partsOf(options);
    const message = await this.#message(value, headers, key);
    return this.#broker.publish(this.name, message, others);
  }

  async publishBatch(
    values: readonly unknown[],
    options?: TypedPublishOptions<unknown>,
  ): Promise<Receipt[]> {
    const { headers, key, ...others } = partsOf(options);
    const messages = Array.isArray(values)
      ? await Promise.all(values.map((value) => this.#message(value, headers, key)))
      : values;
    return this.#broker.publishBatch(this.name, messages as Message[], others);
  }

  async subscribe(first?: unknown, second?: unknown): Promise<never> {
    const subscribe = this.#broker.subscribe.bind(this.#broker) as Subscribe;
    if (typeof first !== 'function') {
      const subscriber = await subscribe(this.name, first, second);
      return new TypedLoop(subscriber as never, (item: Delivery | readonly Delivery[]) =>
        this.#readable(item),
      ) as never;
    }
    const handle = (readable: Readings) =>
      readable === null ? undefined : first(valuesOf(readable), readable);
    const handler = (item: Delivery | readonly Delivery[]) => {
      const readable = this.#readable(item);
      return readable instanceof Promise ? readable.then(handle) : handle(readable);
    };
    return (await subscribe(this.name, handler, second)) as never;
  }

  async request(value: unknown, options?: TypedRequestOptions): Promise<unknown> {
    const { headers, key, ...others } = partsOf(options);
    const message = await this.#message(value, headers, key);
    return this.#reply(await this.#broker.request(this.name, message, others));
  }

  async *requestMany(value: unknown, options?: TypedRequestOptions): AsyncIterable<unknown> {
    const { headers, key, ...others } = partsOf(options);
    const message = await this.#message(value, headers, key);
    for await (const reply of this.#broker.requestMany(this.name, message, others)) {
      yield await this.#reply(reply);
    }
  }

  respond(
    handler: TypedResponder<unknown, unknown>,
    options?: RespondOptions,
  ): Promise<Subscriber> {
    const responder: Responder = async (request, context) => {
      const value = await this.#value(request, `a request on ${this.name}`);
      const result = await handler(value, {
        request,
        topic: context.topic,
        // Made when it is first read.
        get signal() {
          return context.signal;
        },
      });
      return isMany(result) ? this.#answers(result) : this.#answer(result);
    };
    const checked = typeof handler === 'function' ? responder : handler;
    return this.#broker.respond(this.name, checked as Responder, options);
  }

  replay(group: string, from: Position): Promise<void> {
    return this.#broker.replay(this.name, group, from);
  }

  pending(group: string, query?: PendingQuery): Promise<PendingEntry[]> {
    return this.#broker.pending(this.name, group, query);
  }

  redrive(options?: RedriveOptions): Promise<number> {
    return this.#broker.redrive(this.name, options);
  }

  async #message(
    value: unknown,
    headers: TypedPublishOptions<unknown>['headers'],
    key: TypedPublishOptions<unknown>['key'],
  ): Promise<Message> {
    const what = `a message of ${this.name}`;
    // Encoded first: the caller may write into its value while an asynchronous schema validates.
    const message = {
      headers: { 'Content-Type': this.#codec.contentType, ...headers },
      body: encodeValue(this.#codec, value, what),
      key: typeof key === 'function' ? key(value) : key,
    };
    if (this.#schema !== undefined) await validate(this.#schema, value, what);
    return message;
  }

  /** Without a promise where the schema needs none. */
  #value(body: Readable, what: string): unknown {
    const value = decodeValue(this.#codec, body, what);
    return this.#schema === undefined ? value : validate(this.#schema, value, what);
  }

  /** The deliveries with values for handlers and loops; null where none is left. */
  #readable(item: Delivery | readonly Delivery[]): Readings | Promise<Readings> {
    return Array.isArray(item) ? this.#readAll(item) : this.#readOne(item as Delivery);
  }

  async #readAll(deliveries: readonly Delivery[]): Promise<Readings> {
    const read = await Promise.all(deliveries.map((delivery) => this.#readOne(delivery)));
    const good = read.filter((delivery) => delivery !== null);
    return good.length === 0 ? null : good;
  }

  #readOne(delivery: Delivery): Reading | Promise<Reading> {
    const deadLetter = async (error: unknown): Promise<null> => {
      await delivery.deadLetter(reasonOf(error));
      return null;
    };
    try {
      const value = this.#value(delivery, `message ${delivery.id} of ${delivery.topic}`);
      if (!(value instanceof Promise)) return valued(delivery, value);
      return value.then((awaited) => valued(delivery, awaited), deadLetter);
    } catch (error) {
      return deadLetter(error);
    }
  }

  /** `undefined` is a reply without a body. */
  async #answer(value: unknown): Promise<Message> {
    const what = `a reply on ${this.name}`;
    if (this.#response !== undefined) await validate(this.#response, value, what);
    if (value === undefined) return { body: '' };
    return {
      headers: { 'Content-Type': this.#codec.contentType },
      body: encodeValue(this.#codec, value, what),
    };
  }

  async *#answers(values: AsyncIterable<unknown>): AsyncIterable<Message> {
    for await (const value of values) yield await this.#answer(value);
  }

  async #reply(reply: ReceivedMessage): Promise<unknown> {
    const what = `a reply on ${this.name}`;
    const value = reply.body.length === 0 ? undefined : decodeValue(this.#codec, reply, what);
    return this.#response === undefined ? value : validate(this.#response, value, what);
  }
}

type Reading = TypedDelivery<unknown> | null;
type Readings = Reading | readonly TypedDelivery<unknown>[];
type Subscribe = (topic: string, first: unknown, second: unknown) => Promise<Subscriber>;

function valuesOf(readable: NonNullable<Readings>): unknown {
  if (!Array.isArray(readable)) return (readable as TypedDelivery<unknown>).value;
  return readable.map(({ value }) => value);
}

/** Refuses options that are no object; the broker checks the rest. */
function partsOf<Options extends object>(options: Options | undefined): Partial<Options> {
  if (options === undefined) return {};
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return options;
  throw invalid(`options must be an object, not ${shown(options)}`);
}
