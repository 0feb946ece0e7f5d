/**
 * From raw deliveries to handler calls: what every implementation of subscribe shares.
 *
 * Invariants: handlers run at most `concurrency` at once, and at most `maxInFlight` deliveries are
 * in hand (a source asks `free` before it fetches). In order by key or strictly, a message that
 * fails, or misses its deadline, is retried in place and holds back its successors, nothing else. A
 * failing message never holds up others. A deadline counts from the moment a handler gets the
 * message: while one waits here for its turn, this extends it; once handed over, only the handler
 * does. An attempt is a hand-over (ARCHITECTURE.md): a suspect is counted at the broker first and
 * then runs alone.
 * Cost: one object per delivery whose handler returns no promise, and one more promise for others;
 * acknowledgements of one turn go together; one timer per subscription.
 */
import { RivuletError } from '../errors.ts';
import type { BatchHandler, BrokerEvents, Delivery, Handler } from './broker.ts';
import {
  type DeliveryKeeper,
  HeldDelivery,
  isLost,
  type Outcome,
  overdue,
  type RawDelivery,
  type Settler,
} from './delivery.ts';
import type { Events } from './events.ts';
import { HandOvers } from './hand-overs.ts';
import { Lanes } from './lanes.ts';
import { ONLY_GROUP } from './message.ts';
import { backoffMs, deadLetterTopic, type ResolvedSubscribeOptions } from './options.ts';
import { reasonOf } from './reason.ts';
import type { Scheduler } from './scheduler.ts';
import type { Tracing } from './trace.ts';

export type Consume =
  | { readonly each: Handler; readonly batch?: undefined }
  | { readonly batch: BatchHandler; readonly each?: undefined };

export interface DispatcherSetup<Raw extends RawDelivery> {
  readonly options: ResolvedSubscribeOptions;
  readonly consume: Consume;
  readonly settler: Settler<Raw>;
  readonly scheduler: Scheduler;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  /**
   * When the source may fetch more than the handlers take at once. `when trusted` (the default): after
   * some deliveries are settled. `always`: where the messages end with the process.
   */
  readonly fetchAhead?: 'always' | 'when trusted';
  /**
   * The source counts what it reads, before a handler has it. Then, until it fetches ahead, it reads
   * one call's worth at a time: a message that ends the process has no others counted beside it.
   */
  readonly countsReads?: boolean;
  /** Called whenever `free` has grown. */
  readonly onFree?: () => void;
}

/** What was given back at the end of a close has at least this long to arrive, ms. */
const LEAST_SETTLE_MS = 100;

/** While all is well, counts that go out with the hand-over are this far apart, ms. */
const COUNT_EVERY_MS = 1;

/** What a handler that succeeds fails with. */
const NO_FAILURE = Symbol('no failure');

/** One call of a batch handler. */
interface Call<Raw extends RawDelivery> {
  readonly deliveries: readonly HeldDelivery<Raw>[];
  overdue: boolean;
}

export class Dispatcher<Raw extends RawDelivery = RawDelivery> implements DeliveryKeeper<Raw> {
  readonly options: ResolvedSubscribeOptions;
  readonly #consume: Consume;
  readonly #settler: Settler<Raw>;
  readonly #scheduler: Scheduler;
  readonly #events: Events<BrokerEvents>;
  readonly #tracing: Tracing;
  readonly #onFree: () => void;
  readonly #countsReads: boolean;
  readonly #lanes: Lanes<HeldDelivery<Raw>>;
  /** Everything in hand: waiting, handed or settling. */
  readonly #held = new Set<HeldDelivery<Raw>>();
  /** Settled or lost ones whose handler has not returned. */
  readonly #leftInHandler = new Set<HeldDelivery<Raw>>();
  /** Given back in order, waiting here for their retry: their lane stays theirs. */
  readonly #retries = new Map<HeldDelivery<Raw>, () => void>();
  /** Retries that are due and wait for the rest of their batch. */
  readonly #ripe: HeldDelivery<Raw>[] = [];
  /** What starts the retry in place of a delivery, once its handler has returned. */
  readonly #successors = new Map<HeldDelivery<Raw>, () => void>();
  readonly #calls = new Set<Call<Raw>>();
  /** Whose handlers have succeeded, to be acknowledged at the end of this turn. */
  #succeeded: HeldDelivery<Raw>[] = [];
  readonly #handOvers: HandOvers;
  /** Deliveries in hand whose last consumer did not settle them. */
  #suspects = 0;
  /** A suspect is with its handler: nothing else starts. */
  #alone = false;
  #countedAt = Number.NEGATIVE_INFINITY;
  /** Room that sources have taken for deliveries that are on their way. */
  #reserved = 0;
  #sequence = 0;
  #running = 0;
  #settling = 0;
  /** Calls of handlers whose messages have all been lost to their deadline. */
  #overdue = 0;
  /** A batch in order waits for its retry: nothing else may run. */
  #paused = false;
  #flush = false;
  #pumping = false;
  #pumpAsked = false;
  #cancelFlush: (() => void) | null = null;
  #cancelSweep: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  #whenIdle: (() => void) | null = null;
  #whenSettled: (() => void) | null = null;

  constructor(setup: DispatcherSetup<Raw>) {
    this.options = setup.options;
    this.#consume = setup.consume;
    this.#settler = setup.settler;
    this.#scheduler = setup.scheduler;
    this.#events = setup.events;
    this.#tracing = setup.tracing;
    this.#onFree = setup.onFree ?? (() => {});
    this.#countsReads = setup.countsReads ?? false;
    this.#handOvers = new HandOvers(setup.fetchAhead === 'always');
    const { ordered } = setup.options;
    const inBatches = setup.consume.batch !== undefined;
    this.#lanes = new Lanes((held) => {
      if (ordered === 'no' || inBatches) return null;
      return ordered === 'strictly' ? '' : (held.message.key ?? null);
    });
  }

  /** Deliveries in hand and not settled. */
  get inFlight(): number {
    return this.#held.size;
  }

  /** How many more a source may push, or reserve. */
  get free(): number {
    if (this.#closing || this.stuck || this.#suspects > 0) return 0;
    const { maxInFlight } = this.options;
    const room = maxInFlight - this.#held.size - this.#overdue - this.#reserved;
    // In order, what waits for its turn is counted before it has it.
    const fetchesAhead = this.#handOvers.trusted || this.options.ordered !== 'no';
    if (fetchesAhead) return Math.max(0, room);
    const coming = this.#countsReads ? (this.#reserved > 0 ? 0 : this.#callSize) : room;
    return Math.max(0, Math.min(room, this.idle, coming));
  }

  /** Of the next deliveries, how many are handed over as soon as they are pushed. */
  get idle(): number {
    const { concurrency, ordered } = this.options;
    const size = this.#callSize;
    const coming = this.#lanes.readyCount + this.#reserved;
    if (ordered !== 'no') return this.#held.size === 0 && this.#reserved === 0 ? size : 0;
    return Math.max(0, size * (concurrency - this.#running) - coming);
  }

  /** How many deliveries one call of the handler gets at most. */
  get #callSize(): number {
    return this.#consume.batch === undefined ? 1 : this.options.batch.size;
  }

  /** A source has taken so many and pushes them soon: for several sources of one dispatcher. */
  reserve(count: number): void {
    this.#reserved += count;
  }

  /** They come now, or never. */
  unreserve(count: number): void {
    this.#reserved -= count;
    if (this.#countsReads && !this.#closing && !this.#handOvers.trusted) this.#onFree();
  }

  /** Every handler that may run holds a message past its deadline: nothing more can be handled. */
  get stuck(): boolean {
    return this.#overdue >= this.options.concurrency;
  }

  /** The ids of one topic whose handlers have not returned, lost ones included. */
  idsInHandlers(topic: string): string[] {
    const ids: string[] = [];
    for (const held of this.#held) if (held.inHandler && held.topic === topic) ids.push(held.id);
    for (const held of this.#leftInHandler) if (held.topic === topic) ids.push(held.id);
    return ids;
  }

  /** The ids in hand of one topic. */
  heldIds(topic: string): string[] {
    const ids: string[] = [];
    for (const held of this.#held) if (held.topic === topic) ids.push(held.id);
    return ids;
  }

  /** Takes a delivery over. A source pushes at most `free`; more would wait here for their turn. */
  push(raw: Raw): void {
    if (this.#closing) {
      void this.#quietly(this.#settler.release(raw));
      return;
    }
    const deadline = this.now() + this.options.ackWaitMs;
    const attempt = this.#handOvers.attemptOf(raw);
    const isSpent = attempt > this.options.attempts;
    const known =
      attempt === raw.attempt && !isSpent
        ? raw
        : // What is spent is not handed over once more.
          { ...raw, attempt: isSpent ? attempt - 1 : attempt, counted: false };
    const held = new HeldDelivery(known, this, deadline, this.#sequence++);
    held.countFirst = raw.suspect === true || attempt !== raw.attempt;
    if (held.suspect) this.#suspects++;
    this.#held.add(held);
    this.#watchDeadlines();
    const onlyGroup = raw.message.headers[ONLY_GROUP];
    if (onlyGroup !== undefined && onlyGroup !== this.options.group) {
      void this.#settleOrLose(held, held.settle({ kind: 'ack' }));
    } else if (isSpent) {
      const reason = `delivered ${attempt - 1} times and never settled`;
      void this.#settleOrLose(held, held.settle({ kind: 'dead letter', reason }));
    } else {
      this.#lanes.add(held);
      this.#pump();
      // A source that gave one call's worth does not know of the room of the other handlers.
      if (this.#countsReads && !this.#handOvers.trusted && this.free > 0) this.#onFree();
    }
  }

  /**
   * Counts at the broker what handlers hold and what was fetched ahead of them: before others may
   * take it, as when the lead of an ordered group passes on.
   */
  async countHandOvers(): Promise<void> {
    const uncounted = [...this.#held].filter((held) => held.handedOver && !held.counted);
    await Promise.all(uncounted.map((held) => this.#quietly(this.#count(held))));
  }

  /** The broker has taken it away: another consumer has it, or its group is gone. */
  lose(topic: string, id: string, reason: string): void {
    for (const held of [...this.#held]) {
      if (held.id === id && held.topic === topic) this.#loseOne(held, reason);
    }
  }

  /** All of them, as when the channel they came on is gone. */
  loseAll(reason: string): void {
    for (const held of [...this.#held]) this.#loseOne(held, reason);
  }

  /**
   * Gives back what waits, lets handlers finish (at most `timeoutMs`) and their settlements with
   * them. What a handler in manual mode has not settled by then is given back.
   */
  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  now(): number {
    return this.#scheduler.monotonic();
  }

  async carryOut(held: HeldDelivery<Raw>, outcome: Outcome): Promise<void> {
    this.#settling++;
    try {
      switch (outcome.kind) {
        case 'ack':
          await this.#settler.ack(held.raw);
          break;
        case 'extend':
          await this.#settler.extend(held.raw, outcome.ms);
          held.deadline = this.now() + outcome.ms;
          this.#watchDeadlines();
          break;
        case 'dead letter':
          await this.#bury(held, outcome.reason);
          break;
        case 'nack':
          await this.#giveBack(held, outcome.delayMs, outcome.reason);
          break;
      }
    } finally {
      this.#settling--;
      this.#checkIdle();
    }
  }

  /**
   * The handler has missed the deadline: the message goes back while the broker still believes that
   * it is this consumer's, so that the attempt is counted and no other consumer has to suspect it.
   */
  expire(held: HeldDelivery<Raw>): void {
    if (!held.open) return;
    const error = overdue(held.raw);
    this.#events.emit('warning', { error });
    const reason = `attempt ${held.attempt} was not settled within its deadline`;
    const { attempts, ordered } = this.options;
    const inPlace = ordered !== 'no' && !this.#closing && held.attempt < attempts;
    this.#settling++;
    // Its lane must know of the retry before the handler leaves it; elsewhere the handler's slot must
    // be known to be taken before the message is there to be taken again.
    const before = inPlace ? this.#giveBack(held, 0, reason) : null;
    held.lose(error);
    this.#countOverdue();
    const given = before ?? this.#giveBack(held, 0, reason);
    // Where it does not arrive, the broker's own deadline gives the message to another consumer.
    given
      .catch(() => {})
      .finally(() => {
        this.#settling--;
        this.#checkIdle();
      });
  }

  settlementFailed(_held: HeldDelivery<Raw>, cause: unknown): void {
    const error =
      cause instanceof RivuletError
        ? cause
        : new RivuletError('INTERNAL', 'a delivery could not be settled', { cause });
    this.#events.emit('warning', { error });
  }

  left(held: HeldDelivery<Raw>): void {
    if (!this.#forget(held)) return;
    if (!this.#closing) this.#onFree();
    this.#pump();
  }

  #forget(held: HeldDelivery<Raw>): boolean {
    if (!this.#held.delete(held)) return false;
    if (held.suspect) this.#suspects--;
    if (held.state !== 'lost') this.#handOvers.settled(held.raw);
    else if (held.handedOver) this.#handOvers.lost(held.raw);
    this.#retries.get(held)?.();
    if (!held.taken) this.#lanes.remove(held);
    // While its handler still runs, its lane stays busy: its return frees it.
    if (held.inHandler) this.#leftInHandler.add(held);
    else this.#leaveLane(held);
    return true;
  }

  #leaveLane(held: HeldDelivery<Raw>): void {
    const successor = this.#successors.get(held);
    const wasTaken = held.taken;
    held.taken = false;
    if (successor === undefined) {
      if (wasTaken) this.#lanes.done(held);
      return;
    }
    this.#successors.delete(held);
    successor();
  }

  #pump(): void {
    if (this.#closing || this.#paused) return;
    if (this.#consume.batch === undefined) {
      // A handler that returns at once comes here again: the loop that is under way goes on.
      if (this.#pumping) return;
      this.#pumping = true;
      try {
        while (this.#running < this.options.concurrency && !this.#closing) {
          if (this.#mustWait()) break;
          const held = this.#lanes.take();
          if (held === null) break;
          held.taken = true;
          this.#runOne(held);
        }
      } finally {
        this.#pumping = false;
      }
    } else if (!this.#pumpAsked) {
      // What is pushed in one go belongs into one batch.
      this.#pumpAsked = true;
      queueMicrotask(() => {
        this.#pumpAsked = false;
        this.#pumpBatches();
      });
    }
  }

  /** While a suspect runs, and before one that is next until the other handlers have returned. */
  #mustWait(): boolean {
    if (this.#suspects === 0) return this.#alone;
    return this.#alone || (this.#lanes.peek()?.suspect === true && this.#running > this.#overdue);
  }

  #pumpBatches(): void {
    const { batch, concurrency } = this.options;
    while (!this.#closing && !this.#paused && this.#running < concurrency) {
      const ready = this.#lanes.readyCount;
      if (ready === 0 || this.#mustWait()) break;
      const hurry = this.#flush || this.#suspects > 0;
      if (ready < batch.size && batch.waitMs > 0 && !hurry) {
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
      const taken: HeldDelivery<Raw>[] = [];
      while (taken.length < batch.size) {
        // A suspect is a batch by itself.
        if (taken.some((held) => held.suspect)) break;
        if (taken.length > 0 && this.#lanes.peek()?.suspect === true) break;
        const held = this.#lanes.take();
        if (held === null) break;
        held.taken = true;
        taken.push(held);
      }
      void this.#run(taken);
    }
  }

  /** Without a promise of its own where the handler needs none and the message is fresh. */
  #runOne(held: HeldDelivery<Raw>): void {
    const { each } = this.#consume;
    const mustWait = this.#mustCount(held) && (held.suspect || !this.#countsNow);
    const isPlain = this.options.ordered === 'no' && !mustWait;
    if (each === undefined || !isPlain || this.#hasWaited(held)) {
      void this.#run([held]);
      return;
    }
    if (this.#countsNow && this.#mustCount(held)) this.#countNow([held]);
    this.#running++;
    held.inHandler = true;
    held.state = 'handed';
    held.handedOver = true;
    let result: unknown;
    try {
      result = this.#tracing.run(held.message.headers, () => each(held));
    } catch (error) {
      this.#returned(held, error);
      return;
    }
    if (typeof (result as Promise<unknown> | undefined)?.then === 'function') {
      (result as Promise<unknown>).then(
        () => this.#returned(held, NO_FAILURE),
        (error) => this.#returned(held, error),
      );
    } else {
      this.#returned(held, NO_FAILURE);
    }
  }

  /** The end of `#runOne`. */
  #returned(held: HeldDelivery<Raw>, failure: unknown): void {
    if (held.open) {
      if (failure !== NO_FAILURE) void this.#fail(held, failure);
      else if (this.options.ack === 'auto') this.#acknowledgeLater(held);
    }
    this.#running--;
    this.#outOfHandler(held);
    this.#roomOfHandlers();
    this.#pump();
    this.#checkIdle();
  }

  /** Until it fetches ahead, a source waits for handlers to return, settled or not. */
  #roomOfHandlers(): void {
    if (!this.#handOvers.trusted && !this.#closing && this.#lanes.readyCount === 0) this.#onFree();
  }

  /** Whether the broker has to count the hand-over before it happens. */
  #mustCount(held: HeldDelivery<Raw>): boolean {
    if (held.counted) return false;
    if (held.countFirst || !this.#handOvers.trusted) return true;
    // In a flood the counts of most hand-overs would cost more than the hand-overs.
    return this.#countsNow && this.now() - this.#countedAt >= COUNT_EVERY_MS;
  }

  get #countsNow(): boolean {
    return this.#settler.countNow !== undefined;
  }

  /** Counts what a handler gets in this turn. Where that fails, the sweep tries again. */
  #countNow(deliveries: readonly HeldDelivery<Raw>[]): void {
    this.#countedAt = this.now();
    for (const held of deliveries) {
      held.counted = true;
      this.#settler.countNow?.(held.raw).catch((error) => {
        held.counted = false;
        if (isLost(error)) held.lose(error);
      });
    }
  }

  async #count(held: HeldDelivery<Raw>): Promise<void> {
    await this.#settler.recount(held.raw);
    held.counted = true;
  }

  /** What cannot be counted is not handed over: it comes again. */
  async #countFirst(deliveries: readonly HeldDelivery<Raw>[]): Promise<void> {
    await Promise.all(
      deliveries.map(async (held) => {
        try {
          await this.#count(held);
        } catch (cause) {
          this.#couldNotSettle(held, cause);
        }
      }),
    );
  }

  #outOfHandler(held: HeldDelivery<Raw>): void {
    held.inHandler = false;
    if (held.overdue) {
      held.overdue = false;
      this.#overdue--;
      if (!this.#closing) this.#onFree();
    }
    if (this.#held.has(held)) return;
    this.#leftInHandler.delete(held);
    this.#leaveLane(held);
  }

  /** What succeeds in one turn is acknowledged together. */
  #acknowledgeLater(held: HeldDelivery<Raw>): void {
    if (this.#settler.ackMany === undefined || this.now() >= held.deadline) {
      void this.#settleOrLose(held, held.settle({ kind: 'ack' }));
      return;
    }
    held.state = 'settling';
    this.#settling++;
    if (this.#succeeded.push(held) === 1) queueMicrotask(() => this.#acknowledgeNow());
  }

  #acknowledgeNow(): void {
    const all = this.#succeeded;
    this.#succeeded = [];
    const { topic } = all[0] as HeldDelivery<Raw>;
    if (all.every((held) => held.topic === topic)) {
      void this.#acknowledge(all);
      return;
    }
    for (const topic of new Set(all.map((held) => held.topic))) {
      void this.#acknowledge(all.filter((held) => held.topic === topic));
    }
  }

  async #acknowledge(all: readonly HeldDelivery<Raw>[]): Promise<void> {
    try {
      await this.#settler.ackMany?.(all.map(({ raw }) => raw));
      // One after the other they would each ask the source for more.
      for (const held of all) {
        if (held.state === 'lost') continue;
        held.state = 'settled';
        this.#forget(held);
      }
      if (!this.#closing) this.#onFree();
      this.#pump();
    } catch (cause) {
      for (const held of all) {
        if (held.state !== 'lost') this.#couldNotSettle(held, cause);
      }
    }
    this.#settling -= all.length;
    this.#checkIdle();
  }

  async #run(deliveries: HeldDelivery<Raw>[]): Promise<void> {
    this.#running++;
    for (const held of deliveries) held.inHandler = true;
    const alone = deliveries.some((held) => held.suspect);
    if (alone) this.#alone = true;
    const uncounted = deliveries.filter((held) => this.#mustCount(held));
    if (uncounted.length > 0 && !this.#countsNow) await this.#countFirst(uncounted);
    const waited = deliveries.some((held) => this.#hasWaited(held));
    if (waited) await this.#freshen(deliveries);
    const ripe = deliveries.filter((held) => held.open);
    let failed = false;
    let failure: unknown;
    if (ripe.length > 0) {
      for (const held of ripe) {
        held.state = 'handed';
        held.handedOver = true;
      }
      if (this.#countsNow) this.#countNow(uncounted.filter((held) => held.state === 'handed'));
      const call: Call<Raw> = { deliveries: ripe, overdue: false };
      if (this.#consume.batch !== undefined) this.#calls.add(call);
      try {
        await this.#call(ripe);
      } catch (error) {
        failed = true;
        failure = error;
      }
      this.#calls.delete(call);
      if (call.overdue) {
        this.#overdue--;
        if (!this.#closing) this.#onFree();
      }
    }
    const settlements = ripe
      .filter((held) => held.open)
      .map((held) => (failed ? this.#fail(held, failure) : this.#succeed(held)));
    // In order, the next one must not start before this one is settled.
    if (this.options.ordered !== 'no') await Promise.all(settlements);
    this.#running--;
    if (alone) this.#alone = false;
    for (const held of deliveries) this.#outOfHandler(held);
    this.#roomOfHandlers();
    this.#pump();
    this.#checkIdle();
  }

  #call(deliveries: HeldDelivery<Raw>[]): unknown {
    const { each, batch } = this.#consume;
    const [first] = deliveries as [HeldDelivery<Raw>];
    if (each !== undefined) {
      return this.#tracing.run(first.message.headers, () => each(first));
    }
    return batch(deliveries as readonly Delivery[]);
  }

  #succeed(held: HeldDelivery<Raw>): Promise<void> | undefined {
    const { ack, ordered } = this.options;
    if (ack !== 'auto') return undefined;
    if (ordered !== 'no') return this.#settleOrLose(held, held.settle({ kind: 'ack' }));
    this.#acknowledgeLater(held);
    return undefined;
  }

  #fail(held: HeldDelivery<Raw>, error: unknown): Promise<void> {
    const { topic, id, attempt } = held;
    this.#events.emit('handlerError', { topic, id, attempt, error });
    const outcome = { kind: 'nack', delayMs: undefined, reason: reasonOf(error) } as const;
    return this.#settleOrLose(held, held.settle(outcome));
  }

  /** A settlement that nobody else waits for: its failure is reported, and the place freed. */
  async #settleOrLose(held: HeldDelivery<Raw>, settlement: Promise<void>): Promise<void> {
    try {
      await settlement;
    } catch (cause) {
      this.#couldNotSettle(held, cause);
    }
  }

  #couldNotSettle(held: HeldDelivery<Raw>, cause: unknown): void {
    const error = new RivuletError(
      'DELIVERY_LOST',
      `message ${held.id} of ${held.topic} could not be settled and will come again`,
      { cause },
    );
    this.#events.emit('warning', { error });
    held.lose(error);
  }

  async #bury(held: HeldDelivery<Raw>, reason: string): Promise<void> {
    const { topic, id } = held;
    const to = deadLetterTopic(topic, this.options);
    if (to === null) {
      await this.#settler.ack(held.raw);
      const text = `message ${id} of ${topic} is dropped, there is no dead letter: ${reason}`;
      this.#events.emit('warning', { error: new RivuletError('HANDLER_FAILED', text) });
    } else {
      await this.#settler.deadLetter(held.raw, to, reason);
      this.#events.emit('deadLettered', { topic, id, reason });
    }
  }

  async #giveBack(
    held: HeldDelivery<Raw>,
    delayMs: number | undefined,
    reason: string,
  ): Promise<void> {
    const { attempts, backoff, ordered } = this.options;
    if (held.attempt >= attempts) return this.#bury(held, reason);
    const delay = delayMs ?? backoffMs(backoff, held.attempt, this.#scheduler.fraction());
    if (ordered === 'no' || this.#closing) return this.#settler.nack(held.raw, delay, reason);
    const next = new HeldDelivery<Raw>(
      { ...held.raw, attempt: held.attempt + 1, counted: true, suspect: false },
      this,
      held.deadline,
      held.sequence,
    );
    this.#held.add(next);
    next.taken = true;
    // One that is retried because its deadline has passed is about to go to another consumer.
    if (this.now() >= next.deadline - this.options.ackWaitMs / 4) void this.#prolong(next);
    if (this.#consume.batch !== undefined) this.#paused = true;
    this.#successors.set(held, () => this.#retryInPlace(next, delay));
  }

  #retryInPlace(held: HeldDelivery<Raw>, delayMs: number): void {
    if (this.#closing) {
      this.#giveAway(held);
      return;
    }
    const cancel = this.#scheduler.after(delayMs, async () => {
      try {
        if (this.#countsNow) {
          // Counted at the hand-over itself; until then it is still this consumer's.
          held.counted = false;
          held.countFirst = true;
          await this.#settler.extend(held.raw, this.options.ackWaitMs);
        } else {
          await this.#count(held);
        }
      } catch (error) {
        if (isLost(error)) held.lose(error);
        else this.settlementFailed(held, error);
      }
      if (!this.#retries.delete(held)) return;
      held.deadline = this.now() + this.options.ackWaitMs;
      this.#ripe.push(held);
      this.#resume();
    });
    this.#retries.set(held, () => {
      cancel();
      this.#retries.delete(held);
      this.#resume();
    });
  }

  /** Retries that are due run again, before anything else; those of a batch together, in order. */
  #resume(): void {
    if (this.#closing || (this.#paused && this.#retries.size > 0)) return;
    this.#paused = false;
    const ripe = this.#ripe.splice(0).sort((a, b) => b.sequence - a.sequence);
    for (const held of ripe) {
      if (!held.taken) continue;
      held.taken = false;
      this.#lanes.again(held);
    }
    this.#pump();
  }

  #hasWaited(held: HeldDelivery<Raw>): boolean {
    return held.deadline - this.now() < 0.75 * this.options.ackWaitMs;
  }

  /** A handler gets the whole of its time, however long the message waited here. */
  async #freshen(deliveries: readonly HeldDelivery<Raw>[]): Promise<void> {
    const waited = deliveries.filter((held) => held.open && this.#hasWaited(held));
    await Promise.all(waited.map((held) => this.#prolong(held)));
  }

  async #prolong(held: HeldDelivery<Raw>): Promise<void> {
    const { ackWaitMs } = this.options;
    try {
      await this.#settler.extend(held.raw, ackWaitMs);
      held.deadline = this.now() + ackWaitMs;
    } catch (error) {
      if (isLost(error)) held.lose(error);
      else if (this.now() >= held.deadline) held.lose(overdue(held.raw));
    }
  }

  #watchDeadlines(): void {
    if (this.#cancelSweep !== null || this.#closing) return;
    let wait = this.options.ackWaitMs / 4;
    for (const held of this.#held) {
      if (held.state === 'handed') wait = Math.min(wait, held.deadline - this.now());
    }
    this.#cancelSweep = this.#scheduler.after(Math.max(1, Math.ceil(wait)), () => {
      this.#cancelSweep = null;
      this.#sweep();
      if (this.#held.size > 0) this.#watchDeadlines();
    });
  }

  #sweep(): void {
    const now = this.now();
    for (const held of [...this.#held]) {
      if (held.state === 'waiting' && !held.inHandler) {
        if (held.deadline - now < this.options.ackWaitMs / 2) void this.#prolong(held);
      } else if (held.state === 'handed' && now >= held.deadline) {
        this.expire(held);
      } else if (held.handedOver && !held.counted && held.open) {
        // It takes its time: should the process end, the broker knows what was handed over.
        void this.#quietly(this.#count(held));
      }
    }
    this.#countOverdue();
    // What waits behind handlers that do not return is for others.
    if (this.stuck) for (const held of this.#lanes.clear()) this.#giveAway(held);
  }

  /** Handlers that run on although all their messages are lost. */
  #countOverdue(): void {
    for (const call of this.#calls) {
      if (call.overdue || !call.deliveries.every(({ state }) => state === 'lost')) continue;
      call.overdue = true;
      this.#overdue++;
    }
    if (this.#consume.batch === undefined) {
      for (const held of this.#leftInHandler) {
        if (held.overdue || held.state !== 'lost') continue;
        held.overdue = true;
        this.#overdue++;
      }
    }
  }

  #loseOne(held: HeldDelivery<Raw>, reason: string): void {
    const text = `message ${held.id} of ${held.topic} is no longer this consumer's: ${reason}`;
    held.lose(new RivuletError('DELIVERY_LOST', text));
  }

  async #close(timeoutMs: number): Promise<void> {
    // The getter `free` and `push` see #closing only after this function's first await.
    await null;
    this.#cancelFlush?.();
    const waiting = this.#lanes.clear();
    for (const [held, cancel] of [...this.#retries]) {
      cancel();
      waiting.push(held);
    }
    waiting.push(...this.#ripe.splice(0));
    for (const held of waiting) this.#giveAway(held);
    const end = this.now() + timeoutMs;
    await this.#idle(timeoutMs);
    const closed = new RivuletError('CLOSED', 'the subscriber is closed');
    const counted = this.countHandOvers();
    for (const held of [...this.#held]) {
      if (held.state === 'handed' && !held.inHandler) this.#giveAway(held);
      held.lose(closed);
    }
    this.#settling++;
    void counted.finally(() => {
      this.#settling--;
      this.#checkIdle();
    });
    // Handlers that are still running are left to their deadlines: only settlements are waited for.
    await this.#settled(Math.max(LEAST_SETTLE_MS, end - this.now()));
    this.#cancelSweep?.();
    this.#cancelSweep = null;
  }

  /** Back to the broker, for another consumer; counted where a handler has had it. */
  #giveAway(held: HeldDelivery<Raw>): void {
    this.#settling++;
    const given = held.handedOver ? this.#giveBackHanded(held) : this.#settler.release(held.raw);
    void this.#quietly(given).then(() => {
      this.#settling--;
      this.#checkIdle();
    });
    held.lose(new RivuletError('CLOSED', 'the subscriber is closed'));
  }

  async #giveBackHanded(held: HeldDelivery<Raw>): Promise<void> {
    const reason = 'its consumer left without settling it';
    if (held.attempt >= this.options.attempts) await this.#bury(held, reason);
    else await this.#settler.nack(held.raw, 0, reason);
  }

  #idle(timeoutMs: number): Promise<void> {
    if (this.#running === 0 && this.#settling === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#scheduler.after(timeoutMs, () => this.#whenIdle?.());
      this.#whenIdle = () => {
        this.#whenIdle = null;
        cancel();
        resolve();
      };
    });
  }

  #settled(timeoutMs: number): Promise<void> {
    if (this.#settling === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#scheduler.after(timeoutMs, () => this.#whenSettled?.());
      this.#whenSettled = () => {
        this.#whenSettled = null;
        cancel();
        resolve();
      };
    });
  }

  #checkIdle(): void {
    if (this.#settling === 0) this.#whenSettled?.();
    if (this.#running === 0 && this.#settling === 0) this.#whenIdle?.();
  }

  async #quietly(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (cause) {
      const error =
        cause instanceof RivuletError
          ? cause
          : new RivuletError('INTERNAL', 'a delivery could not be given back', { cause });
      this.#events.emit('warning', { error });
    }
  }
}
