/**
 * Deliveries with their decoded values, and a loop over them: what a typed topic gives its handlers.
 *
 * Invariant: a delivery with a value wraps the delivery: settling one settles the other. Deliveries that
 * cannot be decoded are not part of the loop.
 * Cost: one more object per delivery.
 */
import type { Delivery, IterableSubscriber } from '../broker.ts';
import type { TypedDelivery } from './topic-types.ts';

/** The delivery, with its value. */
export function valued<Value>(delivery: Delivery, value: Value): TypedDelivery<Value> {
  return new ValuedDelivery(delivery, value);
}

class ValuedDelivery<Value> implements TypedDelivery<Value> {
  readonly value: Value;
  readonly #delivery: Delivery;

  constructor(delivery: Delivery, value: Value) {
    this.#delivery = delivery;
    this.value = value;
  }

  get topic(): string {
    return this.#delivery.topic;
  }

  get id(): string {
    return this.#delivery.id;
  }

  get message(): Delivery['message'] {
    return this.#delivery.message;
  }

  get attempt(): number {
    return this.#delivery.attempt;
  }

  get publishedAt(): Date {
    return this.#delivery.publishedAt;
  }

  get signal(): AbortSignal {
    return this.#delivery.signal;
  }

  text(): string {
    return this.#delivery.text();
  }

  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse
  json<Json = any>(): Json {
    return this.#delivery.json<Json>();
  }

  bytes(): Uint8Array {
    return this.#delivery.bytes();
  }

  ack(): Promise<void> {
    return this.#delivery.ack();
  }

  nack(options?: { delayMs?: number; reason?: string }): Promise<void> {
    return this.#delivery.nack(options);
  }

  deadLetter(reason: string): Promise<void> {
    return this.#delivery.deadLetter(reason);
  }

  extend(ms: number): Promise<void> {
    return this.#delivery.extend(ms);
  }
}

/** A step with another value. Its getter reads the original step, so that the loop's body is recognised. */
class TypedStep<To> implements IteratorYieldResult<To> {
  readonly done = false;
  readonly #value: To;
  readonly #from: IteratorYieldResult<unknown>;

  constructor(value: To, from: IteratorYieldResult<unknown>) {
    this.#value = value;
    this.#from = from;
  }

  get value(): To {
    void this.#from.value;
    return this.#value;
  }
}

/** A loop that maps the items of another loop; items that become null are skipped. */
export class TypedLoop<From, To> implements IterableSubscriber<To> {
  readonly #from: IterableSubscriber<From>;
  readonly #made: (item: From) => To | null | Promise<To | null>;

  constructor(
    from: IterableSubscriber<From>,
    made: (item: From) => To | null | Promise<To | null>,
  ) {
    this.#from = from;
    this.#made = made;
  }

  get topic(): string {
    return this.#from.topic;
  }

  get options(): IterableSubscriber['options'] {
    return this.#from.options;
  }

  get inFlight(): number {
    return this.#from.inFlight;
  }

  unsubscribe(): Promise<void> {
    return this.#from.unsubscribe();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<To, undefined> {
    const from = this.#from[Symbol.asyncIterator]();
    const made = this.#made;
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      async next() {
        for (;;) {
          const step = await from.next();
          if (step.done === true) return step;
          const value = await made(step.value);
          if (value !== null) return new TypedStep(value, step);
        }
      },
      async return() {
        await from.return?.();
        return { done: true, value: undefined };
      },
    };
  }
}
