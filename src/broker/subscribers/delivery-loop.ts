/**
 * Deliveries for a loop: `for await (const delivery of subscriber)`.
 *
 * Holds: the `next` calls that wait, and the deliveries whose body runs. The dispatcher hands over only
 * what a loop has asked for (Demand), so a delivery that no loop asked for is not an attempt. A slow
 * loop slows the source as a handler does: `maxInFlight` bounds what is fetched.
 * Invariants: with `ack: 'auto'` the loop's body is the handler: asking for the next delivery
 * acknowledges the one before, unless the body has settled it; with `manual` only the body settles.
 * Leaving the loop unsubscribes, and returns to the broker at once what is not settled. A body that
 * calls `disconnect` does not wait for itself: reading a step's value makes the reader the body
 * (handler-context.ts).
 * Cost: one promise and two objects per delivery.
 */
import type { Delivery, IterableSubscriber } from '../broker.ts';
import { HeldDelivery } from '../dispatch/delivery.ts';
import type { Demand } from '../dispatch/delivery-handler.ts';
import { enterBody, type HandlerWork } from './handler-context.ts';
import { OwnSubscriber, type OwnSubscriberSetup } from './own-subscriber.ts';

type Item = Delivery | readonly Delivery[];

interface Taken<T> {
  readonly item: T;
  /** The loop has asked for the next one, or was left. */
  finish(): void;
}

export class LoopFeed<T extends Item> implements Demand {
  onWanted = () => {};
  readonly #isManual: boolean;
  readonly #waiting: ((taken: Taken<T> | null) => void)[] = [];
  #claimed = 0;
  #inBody = 0;
  #ended = false;

  constructor(isManual: boolean) {
    this.#isManual = isManual;
  }

  get wanted(): number {
    return this.#waiting.length - this.#claimed;
  }

  /** How many bodies run; 0 with manual acknowledgement. */
  get inBody(): number {
    return this.#inBody;
  }

  claim(): void {
    this.#claimed++;
  }

  unclaim(): void {
    this.#claimed--;
  }

  /** The handler: returns when the body that gets the item has ended. */
  offer(item: T): Promise<void> | undefined {
    this.#claimed--;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) return giveBack(item);
    if (this.#isManual) {
      waiting({ item, finish: () => {} });
      return undefined;
    }
    this.#inBody++;
    return new Promise<void>((resolve) => {
      const finish = () => {
        this.#inBody--;
        resolve();
      };
      waiting({ item, finish });
    });
  }

  /** The next item; null when the subscriber has closed. */
  take(): Promise<Taken<T> | null> {
    if (this.#ended) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.onWanted();
    });
  }

  end(): void {
    this.#ended = true;
    for (const waiting of this.#waiting.splice(0)) waiting(null);
  }
}

export class LoopSubscriber<T extends Item> extends OwnSubscriber implements IterableSubscriber<T> {
  readonly #feed: LoopFeed<T>;

  constructor(setup: OwnSubscriberSetup, feed: LoopFeed<T>) {
    super(setup);
    this.#feed = feed;
  }

  override close(): Promise<void> {
    this.#feed.end();
    return super.close();
  }

  /** It does not wait for a body that runs: the call may be that body's own. */
  override unsubscribe(): Promise<void> {
    const closing = this.close();
    if (this.#feed.inBody === 0) return closing;
    closing.catch(() => {});
    return Promise.resolve();
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<T, undefined> {
    return new Loop(this.#feed, () => this.close());
  }
}

/**
 * One delivery of a loop. `for await` reads the value in the function that holds the loop, after its wait:
 * so that function, and no code that started it, is the body.
 */
class Step<T> implements IteratorYieldResult<T> {
  readonly done = false;
  readonly #value: T;
  readonly #beginBody: () => void;

  constructor(value: T, beginBody: () => void) {
    this.#value = value;
    this.#beginBody = beginBody;
  }

  get value(): T {
    this.#beginBody();
    return this.#value;
  }
}

/** One loop. Several may share a subscriber: each delivery goes to one of them. */
class Loop<T extends Item> implements AsyncIterableIterator<T, undefined>, HandlerWork {
  readonly #feed: LoopFeed<T>;
  readonly #close: () => Promise<void>;
  #current: Taken<T> | null = null;
  #over = false;
  /** The running step. Steps that are requested meanwhile follow it, as in a generator. */
  #step: Promise<unknown> | null = null;

  constructor(feed: LoopFeed<T>, close: () => Promise<void>) {
    this.#feed = feed;
    this.#close = close;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** A body runs. */
  get inHandler(): boolean {
    return this.#current !== null;
  }

  readonly #beginBody = () => enterBody(this.#feed, this);

  next(): Promise<IteratorResult<T, undefined>> {
    const step = this.#step === null ? this.#advance() : this.#step.then(() => this.#advance());
    this.#step = step;
    void step.then(() => {
      if (this.#step === step) this.#step = null;
    });
    return step;
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#over = true;
    const current = this.#current;
    this.#current = null;
    const closing = this.#close();
    if (current !== null) {
      // With `manual` the close does it.
      await giveBack(current.item);
      current.finish();
    }
    await closing;
    return DONE;
  }

  async #advance(): Promise<IteratorResult<T, undefined>> {
    this.#current?.finish();
    this.#current = null;
    const taken = this.#over ? null : await this.#feed.take();
    if (taken === null) {
      this.#over = true;
      // Settlements have gone out when the loop ends. What failed was reported as a warning.
      await this.#close().catch(() => {});
      return DONE;
    }
    this.#current = taken;
    return new Step(taken.item, this.#beginBody);
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });

/** For another consumer, at once, unless it is settled. Failures are reported by the delivery. */
async function giveBack(item: Item): Promise<void> {
  const deliveries = Array.isArray(item) ? item : [item];
  await Promise.all(
    deliveries.map(async (delivery) => {
      if (!(delivery instanceof HeldDelivery) || !delivery.open) return;
      await delivery
        .nack({ delayMs: 0, reason: 'its loop was left without settling it' })
        .catch(() => {});
    }),
  );
}
