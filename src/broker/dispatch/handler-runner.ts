/**
 * When the handler of a subscription is called, and with which deliveries.
 *
 * Invariants: at most `concurrency` calls run; deliveries of one key run one after the other; a batch
 * has at most `batch.size` deliveries and waits at most `batch.waitMs` for more. A suspect (its last
 * consumer did not settle it) runs alone: nothing starts beside it, and it starts when no other handler
 * runs that is within its deadline and every settlement is answered.
 * Cost: a handler that returns no promise costs none here; a batch costs one microtask.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { ResolvedSubscribeOptions } from '../options/options.ts';
import type { Delivery } from '../subscribers/subscriber.ts';
import type { Tracing } from '../trace.ts';
import type { Activity } from './activity.ts';
import type { AttemptCounter } from './attempt-counter.ts';
import type { DeadlineMonitor } from './deadline-monitor.ts';
import type { HeldDelivery, RawDelivery } from './delivery.ts';
import type { DeliveryHandler, HandlerDemand } from './delivery-handler.ts';
import type { InPlaceRetries } from './in-place-retries.ts';
import type { KeyedQueue } from './keyed-queue.ts';
import type { OverdueHandlers } from './overdue-handlers.ts';

/** The dispatcher, which settles what handlers have had. */
export interface RunnerOwner<Raw extends RawDelivery> {
  /** A promise where the settlement goes by itself; undefined where it is gathered with others. */
  succeed(held: HeldDelivery<Raw>): Promise<void> | undefined;
  fail(held: HeldDelivery<Raw>, error: unknown): Promise<void>;
  /** Its hand-over could not be counted: it is not handed over. */
  couldNotCount(held: HeldDelivery<Raw>, cause: unknown): void;
  /** A call has returned that was overdue: there is room for one more. */
  onOverdueReturned(): void;
  /** The handler of this delivery has returned; `onReturned` follows. */
  outOfHandler(held: HeldDelivery<Raw>): void;
  /** A call has returned, and its deliveries were reported. */
  onReturned(): void;
}

export interface RunnerSetup<Raw extends RawDelivery> {
  readonly owner: RunnerOwner<Raw>;
  readonly options: ResolvedSubscribeOptions;
  readonly handler: DeliveryHandler;
  readonly demand: HandlerDemand;
  readonly queue: KeyedQueue<HeldDelivery<Raw>>;
  readonly activity: Activity;
  readonly attempts: AttemptCounter<Raw>;
  readonly overdue: OverdueHandlers<Raw>;
  readonly deadlines: DeadlineMonitor<Raw>;
  readonly retries: InPlaceRetries<Raw>;
  readonly scheduler: Scheduler;
  readonly tracing: Tracing;
}

/** Sentinel: the handler succeeded. */
const NO_FAILURE = Symbol('no failure');

export class HandlerRunner<Raw extends RawDelivery> {
  /** Held deliveries whose last consumer did not settle them. The dispatcher counts them. */
  suspects = 0;
  readonly #owner: RunnerOwner<Raw>;
  readonly #options: ResolvedSubscribeOptions;
  readonly #handler: DeliveryHandler;
  readonly #demand: HandlerDemand;
  readonly #queue: KeyedQueue<HeldDelivery<Raw>>;
  readonly #activity: Activity;
  readonly #attempts: AttemptCounter<Raw>;
  readonly #overdue: OverdueHandlers<Raw>;
  readonly #deadlines: DeadlineMonitor<Raw>;
  readonly #retries: InPlaceRetries<Raw>;
  readonly #scheduler: Scheduler;
  readonly #tracing: Tracing;
  /** A handler has a suspect: nothing else starts. */
  #alone = false;
  /** The oldest message of a batch has waited long enough. */
  #flush = false;
  #pumping = false;
  #pumpAsked = false;
  #cancelFlush: (() => void) | null = null;
  #isClosed = false;
  /** What `#callEach` is called with. */
  #next: HeldDelivery<Raw> | null = null;
  /** One function for all calls: each would make another. */
  readonly #callEach = () => this.#handler.each?.(this.#next as HeldDelivery<Raw>);

  constructor(setup: RunnerSetup<Raw>) {
    this.#owner = setup.owner;
    this.#options = setup.options;
    this.#handler = setup.handler;
    this.#demand = setup.demand;
    this.#queue = setup.queue;
    this.#activity = setup.activity;
    this.#attempts = setup.attempts;
    this.#overdue = setup.overdue;
    this.#deadlines = setup.deadlines;
    this.#retries = setup.retries;
    this.#scheduler = setup.scheduler;
    this.#tracing = setup.tracing;
  }

  /** How many calls of the handler may start now. */
  get freeCalls(): number {
    return Math.min(this.#options.concurrency - this.#activity.running, this.#demand.calls);
  }

  /** How many deliveries one call of the handler gets at most. */
  get callSize(): number {
    return this.#handler.batch === undefined ? 1 : this.#options.batch.size;
  }

  /**
   * Nothing more can be handled: every handler that may run has a message past its deadline, or the
   * loop has stopped asking.
   */
  get stuck(): boolean {
    if (this.#overdue.count >= this.#options.concurrency) return true;
    return this.#demand.calls <= 0 && this.#demand.isLoopIdle;
  }

  /** Calls the handler no more. Calls that run are left alone. */
  close(): void {
    this.#isClosed = true;
    this.#cancelFlush?.();
  }

  /** Calls the handler as often as it may be called now. `at`: the monotonic time, where it is known. */
  pump(at?: number): void {
    if (this.#isPaused) return;
    if (this.#handler.batch === undefined) {
      // A handler that returns at once calls this again: the outer loop continues.
      if (this.#pumping) return;
      this.#pumping = true;
      let now = at ?? this.#scheduler.monotonic();
      try {
        while (this.#activity.running < this.#options.concurrency && !this.#isClosed) {
          if (this.#demand.calls <= 0 || this.#mustWait()) break;
          const held = this.#queue.take();
          if (held === null) break;
          held.taken = true;
          this.#demand.claim();
          this.#runOne(held, now);
          if (this.#queue.readyCount > 0) now = this.#scheduler.monotonic();
        }
      } finally {
        this.#pumping = false;
      }
    } else if (!this.#pumpAsked) {
      // Deliveries pushed in one turn make one batch.
      this.#pumpAsked = true;
      queueMicrotask(() => {
        this.#pumpAsked = false;
        this.#pumpBatches();
      });
    }
  }

  /** Nothing starts now: the dispatcher closes, or a batch waits for its retry. */
  get #isPaused(): boolean {
    return this.#isClosed || this.#retries.pausesAll;
  }

  /**
   * While a suspect runs, and before a suspect runs until the other handlers have returned. While
   * suspects are held nothing starts before the broker has answered every settlement: the next handler
   * may end the process, and what was handled before it would be delivered again.
   */
  #mustWait(): boolean {
    if (this.#alone || this.suspects === 0) return this.#alone;
    const { running, settling } = this.#activity;
    if (settling > 0) return true;
    return this.#queue.peek()?.suspect === true && running > this.#overdue.count;
  }

  #pumpBatches(): void {
    const { batch, concurrency } = this.#options;
    while (!this.#isPaused && this.#activity.running < concurrency) {
      const ready = this.#queue.readyCount;
      if (ready === 0 || this.#demand.calls <= 0 || this.#mustWait()) break;
      const isUrgent = this.#flush || this.suspects > 0;
      if (ready < batch.size && batch.waitMs > 0 && !isUrgent) {
        this.#cancelFlush ??= this.#scheduler.after(batch.waitMs, () => {
          this.#cancelFlush = null;
          this.#flush = true;
          this.#pumpBatches();
        });
        return;
      }
      this.#cancelFlush?.();
      this.#cancelFlush = null;
      this.#flush = false;
      const taken = this.#takeBatch();
      this.#demand.claim();
      void this.#run(taken);
    }
  }

  /** The next batch. A suspect is a batch by itself. */
  #takeBatch(): HeldDelivery<Raw>[] {
    const taken: HeldDelivery<Raw>[] = [];
    while (taken.length < this.#options.batch.size) {
      if (taken.some((held) => held.suspect)) break;
      if (taken.length > 0 && this.#queue.peek()?.suspect === true) break;
      const held = this.#queue.take();
      if (held === null) break;
      held.taken = true;
      taken.push(held);
    }
    return taken;
  }

  /** Calls the handler without a promise where the message is fresh, counted and not ordered. */
  #runOne(held: HeldDelivery<Raw>, now: number): void {
    const { each } = this.#handler;
    const isPlain = this.#options.ordered === 'none' && !held.suspect;
    if (each === undefined || !isPlain || this.#deadlines.hasWaited(held, now)) {
      void this.#run([held]);
      return;
    }
    if (this.#attempts.mustCount(held, now)) {
      if (!this.#attempts.countsNow) {
        void this.#run([held]);
        return;
      }
      this.#attempts.countNow([held]);
    }
    this.#activity.running++;
    held.inHandler = true;
    held.state = 'handed';
    held.handedOver = true;
    let later: Promise<unknown> | null = null;
    try {
      this.#next = held;
      const result = this.#tracing.run(held.raw.message.headers, this.#callEach);
      // What is not a real promise may call back twice, or throw.
      if (typeof (result as Promise<unknown> | undefined)?.then === 'function') {
        later = Promise.resolve(result);
      }
    } catch (error) {
      this.#returned(held, error);
      return;
    }
    if (later === null) {
      this.#returned(held, NO_FAILURE);
      return;
    }
    later.then(
      () => this.#returned(held, NO_FAILURE),
      (error) => this.#returned(held, error),
    );
  }

  /** The end of `#runOne`. */
  #returned(held: HeldDelivery<Raw>, failure: unknown): void {
    if (held.open) {
      if (failure !== NO_FAILURE) void this.#owner.fail(held, failure);
      else void this.#owner.succeed(held);
    }
    this.#activity.running--;
    this.#owner.outOfHandler(held);
    this.#owner.onReturned();
  }

  async #run(deliveries: HeldDelivery<Raw>[]): Promise<void> {
    const uncounted = this.#attempts.uncounted(deliveries);
    this.#activity.running++;
    for (const held of deliveries) held.inHandler = true;
    const alone = deliveries.some((held) => held.suspect);
    if (alone) this.#alone = true;
    const { countsNow } = this.#attempts;
    if (uncounted.length > 0 && !countsNow) await this.#countFirst(uncounted);
    if (deliveries.some((held) => this.#deadlines.hasWaited(held)))
      await this.#deadlines.renew(deliveries);
    // Others were lost meanwhile.
    const left = deliveries.filter((held) => held.open);
    if (left.length === 0) this.#demand.unclaim();
    let failed = false;
    let failure: unknown;
    if (left.length > 0) {
      for (const held of left) {
        held.state = 'handed';
        held.handedOver = true;
      }
      if (countsNow) this.#attempts.countNow(uncounted.filter((held) => held.state === 'handed'));
      const call = this.#overdue.beginBatch(left);
      try {
        await this.#call(left);
      } catch (error) {
        failed = true;
        failure = error;
      }
      if (this.#overdue.endBatch(call)) this.#owner.onOverdueReturned();
    }
    const settlements = left
      .filter((held) => held.open)
      .map((held) => (failed ? this.#owner.fail(held, failure) : this.#owner.succeed(held)));
    // In order, the next one must not start before this one is settled.
    if (this.#options.ordered !== 'none') await Promise.all(settlements);
    this.#activity.running--;
    if (alone) this.#alone = false;
    for (const held of deliveries) this.#owner.outOfHandler(held);
    this.#owner.onReturned();
  }

  #call(deliveries: HeldDelivery<Raw>[]): unknown {
    const { each, batch } = this.#handler;
    const [first] = deliveries as [HeldDelivery<Raw>];
    if (each !== undefined) {
      return this.#tracing.run(first.raw.message.headers, () => each(first));
    }
    return batch(deliveries as readonly Delivery[]);
  }

  /** A delivery that cannot be counted is not handed over: the broker delivers it again. */
  async #countFirst(deliveries: readonly HeldDelivery<Raw>[]): Promise<void> {
    await Promise.all(
      deliveries.map(async (held) => {
        try {
          await this.#attempts.count(held);
        } catch (cause) {
          this.#owner.couldNotCount(held, cause);
        }
      }),
    );
  }
}
