/**
 * The subscriptions of a service: declared before or after the start, made when the broker is there,
 * ended before the calls are.
 *
 * Invariants: a declaration is checked when it is made; a handler runs inside every wrapper, the first
 * outermost; after `close` resolves no handler of ours is given a message. Cost: one closure and one
 * counter per message.
 */
import type { Broker, Delivery, Subscriber } from '../broker/broker.ts';
import { resolveSubscribeOptions, type SubscribeOptions } from '../broker/options/options.ts';
import type { AnyTopic } from '../broker/topics/topic.ts';
import { checkPattern } from '../broker/topics/topics.ts';
import { invalid, shown } from '../client/option-table.ts';
import type { RetryBudget } from '../rpc/policies/budget.ts';
import { errorText } from '../util/error-text.ts';
import { pause, type Scheduler } from '../util/time/scheduler.ts';

/** The budget has more each second. */
const BUDGET_STEP_MS = 250;

/** go-micro's words for a subscription, beside the broker's own options. */
export interface ServiceSubscribeOptions extends Omit<SubscribeOptions, 'group' | 'ack'> {
  /** Subscribers of one queue share its messages. None: each gets every message. */
  readonly queue?: string;
  /** True (default): acknowledged when the handler succeeds. False: the handler settles the delivery. */
  readonly autoAck?: boolean;
}

export type MessageHandler = (delivery: Delivery) => unknown;
export type ValueHandler<Value> = (value: Value, delivery: Delivery) => unknown;

export interface ServiceSubscription {
  readonly topic: string;
  readonly queue: string | null;
  /** Resolves when messages can flow; rejects when the broker refused the subscription. */
  readonly ready: Promise<void>;
  /** Stops messages and waits for running handlers. */
  unsubscribe(): Promise<void>;
}

/** What a subscription did, for statistics and health. */
export interface SubscriptionState {
  readonly topic: string;
  readonly queue: string | null;
  /** Handlers that run now, and how many may. */
  readonly running: number;
  readonly concurrency: number;
  readonly handled: number;
  readonly failed: number;
  /** How long no handler has ended while every slot was taken, in milliseconds; 0 otherwise. */
  readonly stalledMs: number;
  /** After which stall it counts as stopped. */
  readonly ackWaitMs: number;
  readonly error: Error | null;
}

export interface SubscriptionNames {
  readonly topic: string;
  readonly queue: string | null;
}

export interface SubscriptionsSetup {
  readonly scheduler: Scheduler;
  /** Of the service's calls: a redelivered message is a repetition like any other. */
  readonly budget: RetryBudget;
  /** Wrappers, traces and statistics around a handler. */
  readonly around: (delivery: Delivery, of: SubscriptionNames, run: () => unknown) => unknown;
}

export class Subscriptions {
  readonly #setup: SubscriptionsSetup;
  readonly #all = new Set<OneSubscription>();
  #broker: Broker | null = null;
  #isClosed = false;

  constructor(setup: SubscriptionsSetup) {
    this.#setup = setup;
  }

  get size(): number {
    return this.#all.size;
  }

  get states(): SubscriptionState[] {
    return [...this.#all].map((each) => each.state);
  }

  /** Throws INVALID_ARGUMENT for what no broker would take. */
  add(
    topic: string | AnyTopic,
    handler: MessageHandler | ValueHandler<never>,
    options: ServiceSubscribeOptions = {},
  ): ServiceSubscription {
    if (this.#isClosed) throw invalid('the service has stopped: it takes no subscriptions');
    if (typeof handler !== 'function') {
      throw invalid(`a subscription needs a handler, not ${shown(handler)}`);
    }
    const made = new OneSubscription(this.#setup, topic, handler, options);
    this.#all.add(made);
    if (this.#broker !== null) void made.start(this.#broker);
    return {
      topic: made.topic,
      queue: made.queue,
      get ready() {
        return made.ready;
      },
      unsubscribe: async () => {
        this.#all.delete(made);
        await made.close();
      },
    };
  }

  /** Makes every subscription that was declared. Rejects with the first refusal. */
  async start(broker: Broker): Promise<void> {
    this.#broker = broker;
    await Promise.all([...this.#all].map((each) => each.start(broker)));
    await Promise.all([...this.#all].map((each) => each.ready));
  }

  /** Ends what `start` began, so that it can begin again. */
  async pause(): Promise<void> {
    this.#broker = null;
    await Promise.allSettled([...this.#all].map((each) => each.pause()));
  }

  /** Stops messages; waits for running handlers at most `drainMs`. Idempotent. */
  async close(drainMs: number): Promise<void> {
    this.#isClosed = true;
    const closing = Promise.allSettled([...this.#all].map((each) => each.close()));
    let stop = () => {};
    const late = new Promise<void>((resolve) => {
      stop = this.#setup.scheduler.after(drainMs, resolve);
    });
    await Promise.race([closing, late]);
    stop();
  }
}

class OneSubscription {
  readonly topic: string;
  readonly queue: string | null;
  readonly #setup: SubscriptionsSetup;
  readonly #topic: string | AnyTopic;
  readonly #handler: MessageHandler | ValueHandler<never>;
  readonly #options: SubscribeOptions;
  readonly #concurrency: number;
  readonly #ackWaitMs: number;
  #ready: Promise<void>;
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};
  #subscribing: Promise<Subscriber | null> | null = null;
  #isClosed = false;
  #error: Error | null = null;
  #running = 0;
  #handled = 0;
  #failed = 0;
  #progressAt = 0;

  constructor(
    setup: SubscriptionsSetup,
    topic: string | AnyTopic,
    handler: MessageHandler | ValueHandler<never>,
    { queue, autoAck = true, ...more }: ServiceSubscribeOptions,
  ) {
    if (typeof autoAck !== 'boolean') {
      throw invalid(`autoAck is true or false, not ${shown(autoAck)}`);
    }
    if ('group' in more) throw invalid('there is no option group: did you mean queue?');
    if ('ack' in more) throw invalid('there is no option ack: did you mean autoAck?');
    this.#setup = setup;
    this.#topic = topic;
    this.topic = typeof topic === 'string' ? topic : topic.name;
    checkPattern(this.topic);
    this.queue = queue ?? null;
    this.#handler = handler;
    this.#options = {
      ...more,
      ...(queue === undefined ? {} : { group: queue }),
      ack: autoAck ? 'auto' : 'manual',
    };
    const { concurrency, ackWaitMs } = resolveSubscribeOptions(this.#options);
    this.#concurrency = concurrency;
    this.#ackWaitMs = ackWaitMs;
    this.#ready = this.#expectReady();
  }

  get ready(): Promise<void> {
    return this.#ready;
  }

  get state(): SubscriptionState {
    const isFull = this.#running >= this.#concurrency;
    const now = this.#setup.scheduler.monotonic();
    return {
      topic: this.topic,
      queue: this.queue,
      running: this.#running,
      concurrency: this.#concurrency,
      handled: this.#handled,
      failed: this.#failed,
      stalledMs: isFull ? now - this.#progressAt : 0,
      ackWaitMs: this.#ackWaitMs,
      error: this.#error,
    };
  }

  async start(broker: Broker): Promise<void> {
    this.#subscribing ??= this.#subscribe(broker);
    await this.#subscribing;
  }

  async pause(): Promise<void> {
    const subscriber = await this.#subscribing;
    this.#subscribing = null;
    this.#error = null;
    this.#ready = this.#expectReady();
    await subscriber?.unsubscribe();
  }

  #expectReady(): Promise<void> {
    const ready = new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The start of the service reports it; later, `state` does.
    ready.catch(() => {});
    return ready;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const subscriber = await this.#subscribing;
    await subscriber?.unsubscribe();
  }

  async #subscribe(broker: Broker): Promise<Subscriber | null> {
    try {
      const topic = this.#topic;
      const subscriber =
        typeof topic === 'string'
          ? await broker.subscribe(
              topic,
              (delivery) => this.#run(delivery, () => (this.#handler as MessageHandler)(delivery)),
              this.#options,
            )
          : await topic.subscribe(
              broker,
              (value, delivery) =>
                this.#run(delivery, () =>
                  (this.#handler as ValueHandler<unknown>)(value, delivery),
                ),
              this.#options,
            );
      this.#resolve();
      return subscriber;
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error(errorText(error));
      this.#reject(this.#error);
      return null;
    }
  }

  async #run(delivery: Delivery, run: () => unknown): Promise<void> {
    if (this.#isClosed && delivery.signal.aborted) return;
    if (this.#running++ === 0) this.#progressAt = this.#setup.scheduler.monotonic();
    try {
      if (delivery.attempt > 1) await this.#waitForBudget(delivery);
      await this.#setup.around(delivery, this, run);
      this.#handled++;
    } catch (error) {
      this.#failed++;
      throw error;
    } finally {
      this.#running--;
      this.#progressAt = this.#setup.scheduler.monotonic();
    }
  }

  /**
   * Messages that come again wait while the budget is used up, so that a service that fails is not
   * kept busy by what failed; at most for half the time in which they must be acknowledged.
   */
  async #waitForBudget({ signal }: Delivery): Promise<void> {
    const { scheduler, budget } = this.#setup;
    const until = scheduler.monotonic() + this.#ackWaitMs / 2;
    while (!budget.take() && scheduler.monotonic() + BUDGET_STEP_MS <= until) {
      await pause(scheduler, BUDGET_STEP_MS, signal);
    }
  }
}
