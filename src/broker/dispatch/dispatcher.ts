/**
 * From raw deliveries to handler calls: what every implementation of subscribe shares.
 *
 * Invariants: handlers run at most `concurrency` at once, and at most `maxInFlight` deliveries are held
 * (a source asks `free` before it fetches). In order by key or strictly, a message that fails, or misses
 * its deadline, is retried in place and holds back its successors, nothing else. A failing message
 * never delays others. A deadline counts from the moment a handler gets the message: the dispatcher
 * extends it while the message waits here, and from then on only the handler does. An attempt is a
 * hand-over (ARCHITECTURE.md): a suspect is counted at the broker first and then runs alone.
 * Cost: one object per delivery whose handler returns no promise, and one more promise for others;
 * acknowledgements of one turn go together; one timer per subscription.
 */
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { BrokerEvents } from '../broker.ts';
import type { Events } from '../events.ts';
import { ONLY_GROUP } from '../message/message.ts';
import { reasonOf } from '../message/reason.ts';
import { backoffMs, type ResolvedSubscribeOptions } from '../options/options.ts';
import { AckBatcher } from './ack-batcher.ts';
import { Activity } from './activity.ts';
import { AttemptCounter } from './attempt-counter.ts';
import { DeadlineMonitor } from './deadline-monitor.ts';
import {
  type DeliveryOwner,
  HeldDelivery,
  isLost,
  type Outcome,
  overdue,
  type RawDelivery,
  type Settler,
} from './delivery.ts';
import { HandlerDemand } from './delivery-handler.ts';
import type { DispatcherSetup } from './dispatcher-setup.ts';
import { HandOvers } from './hand-overs.ts';
import { HandlerRunner, type RunnerOwner } from './handler-runner.ts';
import { InPlaceRetries } from './in-place-retries.ts';
import { KeyedQueue } from './keyed-queue.ts';
import { OverdueHandlers } from './overdue-handlers.ts';
import { Returns } from './returns.ts';

/** How long a close waits at least for messages that it returned to arrive at the broker, ms. */
const LEAST_SETTLE_MS = 100;

/** While nothing fails, counts that go out with the hand-over are this far apart, ms. */
const COUNT_EVERY_MS = 1;

export class Dispatcher<Raw extends RawDelivery = RawDelivery> implements DeliveryOwner<Raw> {
  readonly options: ResolvedSubscribeOptions;
  readonly #demand: HandlerDemand;
  readonly handsCopies: boolean;
  readonly #settler: Settler<Raw>;
  readonly #scheduler: Scheduler;
  readonly #events: Events<BrokerEvents>;
  readonly #onFree: () => void;
  readonly #countsReads: boolean;
  readonly #keepsWaiting: boolean;
  /** Every delivery that is neither settled nor lost. */
  readonly #held = new Set<HeldDelivery<Raw>>();
  /** Deliveries that wait for a handler. */
  readonly #queue: KeyedQueue<HeldDelivery<Raw>>;
  readonly #activity: Activity;
  readonly #overdue: OverdueHandlers<Raw>;
  readonly #handOvers: HandOvers;
  readonly #attempts: AttemptCounter<Raw>;
  readonly #acks: AckBatcher<Raw>;
  readonly #deadlines: DeadlineMonitor<Raw>;
  readonly #retries: InPlaceRetries<Raw>;
  readonly #runner: HandlerRunner<Raw>;
  readonly #returns: Returns<Raw>;
  /** Room that sources have taken for deliveries that are on their way. */
  #reserved = 0;
  #sequence = 0;
  #closing: Promise<void> | null = null;

  constructor(setup: DispatcherSetup<Raw>) {
    const { options, consume, settler, scheduler } = setup;
    this.options = options;
    this.#settler = settler;
    // A retry in place is handed over again from memory.
    this.handsCopies = settler.sendsNoBytes !== true || options.ordered !== 'none';
    this.#scheduler = scheduler;
    this.#events = setup.events;
    this.#onFree = setup.onFree ?? (() => {});
    this.#countsReads = setup.countsReads ?? false;
    this.#keepsWaiting = setup.keepsWaiting ?? false;
    const now = () => this.now();
    const demand = consume.demand ?? null;
    this.#demand = new HandlerDemand(demand, now, options.ackWaitMs);
    if (demand !== null) demand.onWanted = () => this.#wanted();
    const inBatches = consume.batch !== undefined;
    const { ordered, ackWaitMs } = options;
    this.#queue = new KeyedQueue((held) => {
      if (ordered === 'none' || inBatches) return null;
      return ordered === 'strict' ? '' : (held.raw.message.key ?? null);
    });
    this.#returns = new Returns(settler, options, setup.events);
    this.#activity = new Activity(scheduler);
    this.#overdue = new OverdueHandlers(inBatches);
    this.#handOvers = new HandOvers(setup.fetchAhead === 'always');
    const everyMs = setup.countEveryMs ?? COUNT_EVERY_MS;
    this.#attempts = new AttemptCounter({
      settler,
      handOvers: this.#handOvers,
      now,
      everyMs,
      quietMs: setup.countAfterQuietMs ?? null,
      activity: this.#activity,
    });
    this.#acks = new AckBatcher({
      settler,
      onAcknowledged: (deliveries) => this.#acknowledged(deliveries),
      onFailed: (deliveries, cause) => this.#ackFailed(deliveries, cause),
      onLate: (held) => this.#ackedLate(held),
      now,
    });
    this.#deadlines = new DeadlineMonitor({
      held: this.#held,
      ackWaitMs,
      scheduler,
      settler,
      expire: (held) => this.expire(held),
      count: (held) => void this.#quietly(this.#attempts.count(held)),
      lost: (held, cause) => this.#couldNotSettle(held, cause),
      onChecked: () => this.#deadlinesChecked(),
    });
    this.#retries = new InPlaceRetries({
      scheduler,
      inBatches,
      prepare: (retry) => this.#prepareRetry(retry),
      requeue: (retry) => this.#queue.requeueFront(retry),
      onResumed: () => this.#runner.pump(),
    });
    this.#runner = new HandlerRunner({
      owner: this.#runnerOwner(),
      options,
      handler: consume,
      demand: this.#demand,
      queue: this.#queue,
      activity: this.#activity,
      attempts: this.#attempts,
      overdue: this.#overdue,
      deadlines: this.#deadlines,
      retries: this.#retries,
      scheduler,
      tracing: setup.tracing,
    });
  }

  /** Deliveries that are held and not settled. */
  get inFlight(): number {
    return this.#held.size;
  }

  /** How many more deliveries a source may push, or reserve. */
  get free(): number {
    if (this.#closing || this.stuck || this.#runner.suspects > 0) return 0;
    // Nothing is fetched for a loop that has not begun.
    if (!this.#demand.hasBegun) return 0;
    const { maxInFlight } = this.options;
    const room = maxInFlight - this.#held.size - this.#overdue.count - this.#reserved;
    if (this.fetchesAhead) return Math.max(0, room);
    const coming = this.#countsReads ? (this.#reserved > 0 ? 0 : this.#runner.callSize) : room;
    return Math.max(0, Math.min(room, this.idle, coming));
  }

  /** Whether a source may fetch more than the handlers take at once. */
  get fetchesAhead(): boolean {
    // In order, a message is counted before its turn comes, so it may wait here.
    return this.#handOvers.trusted || this.options.ordered !== 'none';
  }

  /** How many of the next deliveries are handed over as soon as they are pushed. */
  get idle(): number {
    const { callSize: size, freeCalls: calls } = this.#runner;
    const coming = this.#queue.readyCount + this.#reserved;
    if (this.options.ordered !== 'none') {
      return calls > 0 && this.#held.size === 0 && this.#reserved === 0 ? size : 0;
    }
    return Math.max(0, size * calls - coming);
  }

  /**
   * Reserves room for `count` deliveries that a source has read and pushes soon, so that several
   * sources of one dispatcher share `maxInFlight`.
   */
  reserve(count: number): void {
    this.#reserved += count;
  }

  /** Ends a reservation: the deliveries are pushed in this turn, or do not come. */
  unreserve(count: number): void {
    this.#reserved -= count;
    if (this.#countsReads && !this.#closing && !this.#handOvers.trusted) this.#onFree();
  }

  /**
   * Nothing more can be handled: every handler that may run has a message past its deadline, or the
   * loop has stopped asking.
   */
  get stuck(): boolean {
    return this.#runner.stuck;
  }

  /** The ids of one topic whose handlers have not returned, lost ones included. */
  idsInHandlers(topic: string): string[] {
    const ids: string[] = [];
    for (const held of this.#held) if (held.inHandler && held.topic === topic) ids.push(held.id);
    for (const held of this.#overdue.deliveries) if (held.topic === topic) ids.push(held.id);
    return ids;
  }

  /** The ids of one topic that are held. */
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
    const now = this.now();
    const deadline = now + this.options.ackWaitMs;
    const attempt = this.#handOvers.attemptOf(raw);
    const isSpent = attempt > this.options.attempts;
    const known =
      attempt === raw.attempt && !isSpent
        ? raw
        : // A message without attempts left is not handed over again: its last attempt was the one before.
          { ...raw, attempt: isSpent ? attempt - 1 : attempt, counted: false, spent: isSpent };
    const held = new HeldDelivery(known, this, deadline, this.#sequence++);
    held.countFirst = raw.suspect === true || attempt !== raw.attempt;
    if (held.suspect) this.#runner.suspects++;
    this.#held.add(held);
    this.#deadlines.watch();
    const onlyGroup = raw.message.headers[ONLY_GROUP];
    if (onlyGroup !== undefined && onlyGroup !== this.options.group) {
      void this.#settleOrRevoke(held, held.settle({ kind: 'ack' }));
    } else if (isSpent) {
      const reason = `delivered ${attempt - 1} times and never settled`;
      void this.#settleOrRevoke(held, held.settle({ kind: 'dead letter', reason }));
    } else {
      this.#queue.add(held);
      this.#runner.pump(now);
      // A source that pushed deliveries for one call may fetch for the other handlers too.
      if (this.#countsReads && !this.#handOvers.trusted && this.free > 0) this.#onFree();
    }
  }

  /**
   * Makes the broker's counts those of hand-overs, before another consumer may take what is held, as when an
   * ordered group gets another leader: of what handlers have, of what waits for its retry, and of what
   * was counted when it was fetched and has had no handler.
   */
  async countHandOvers(): Promise<void> {
    const wrong = [...this.#held].filter((held) => held.handedOver !== held.counted);
    await Promise.all(
      wrong.map(({ raw, handedOver, attempt }) =>
        this.#quietly(
          this.#settler.storeAttempt({ ...raw, attempt: handedOver ? attempt : attempt - 1 }),
        ),
      ),
    );
  }

  /** The broker has taken a delivery away: another consumer has it, or its group is gone. */
  revoke(topic: string, id: string, reason: string): void {
    for (const held of [...this.#held]) {
      if (held.id === id && held.topic === topic) this.#revokeOne(held, reason);
    }
  }

  /** Revokes all of them, as when the channel they came on is gone. */
  revokeAll(reason: string): void {
    for (const held of [...this.#held]) this.#revokeOne(held, reason);
  }

  /**
   * Returns what waits to the broker, and waits (at most `timeoutMs`) for handlers and their
   * settlements. Returns what a handler in manual mode has not settled by then.
   */
  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  now(): number {
    return this.#scheduler.monotonic();
  }

  // ---- For deliveries

  async settle(held: HeldDelivery<Raw>, outcome: Outcome): Promise<void> {
    this.#activity.settling++;
    try {
      switch (outcome.kind) {
        case 'ack':
          await this.#settler.ack(held.raw);
          break;
        case 'extend':
          await this.#settler.extend(held.raw, outcome.ms);
          held.deadline = this.now() + outcome.ms;
          this.#deadlines.watch();
          break;
        case 'dead letter':
          await this.#returns.deadLetter(held, outcome.reason);
          break;
        case 'nack':
          await this.#retryOrDeadLetter(held, outcome.delayMs, outcome.reason);
          break;
      }
    } finally {
      this.#settlementEnded();
    }
  }

  /**
   * Returns a message whose handler has missed the deadline, while the broker still counts it as this
   * consumer's. So the attempt is counted, and the message is no suspect for its next consumer.
   */
  expire(held: HeldDelivery<Raw>): void {
    if (!held.open) return;
    const error = overdue(held.raw);
    this.#events.emit('warning', { error });
    const reason = `attempt ${held.attempt} was not settled within its deadline`;
    const { attempts, ordered } = this.options;
    const inPlace = ordered !== 'none' && !this.#closing && held.attempt < attempts;
    this.#activity.settling++;
    // In place, the retry is planned before `revoke` frees the key. Otherwise the handler counts as
    // overdue before the broker can deliver the message to it again.
    const before = inPlace ? this.#retryOrDeadLetter(held, 0, reason) : null;
    held.revoke(error);
    this.#overdue.update();
    const returned = before ?? this.#retryOrDeadLetter(held, 0, reason);
    // Where it fails, the broker's own deadline gives the message to another consumer.
    returned.catch(() => {}).finally(() => this.#settlementEnded());
  }

  settlementFailed(_held: HeldDelivery<Raw>, cause: unknown): void {
    this.#warn(cause, 'a delivery could not be settled');
  }

  onSettled(held: HeldDelivery<Raw>): void {
    if (!this.#remove(held)) return;
    if (!this.#closing) this.#onFree();
    this.#runner.pump();
  }

  // ---- Handlers

  #runnerOwner(): RunnerOwner<Raw> {
    return {
      succeed: (held) => this.#succeed(held),
      fail: (held, error) => this.#fail(held, error),
      couldNotCount: (held, cause) => this.#couldNotSettle(held, cause),
      onOverdueReturned: () => {
        if (!this.#closing) this.#onFree();
      },
      outOfHandler: (held) => this.#outOfHandler(held),
      onReturned: () => {
        this.#handlerIsFree();
        this.#runner.pump();
        this.#activity.check();
      },
    };
  }

  /** A loop has asked for its next delivery. */
  #wanted(): void {
    const fetchedNothing = this.#demand.asked();
    this.#runner.pump();
    if (fetchedNothing && !this.#closing) this.#onFree();
    else this.#handlerIsFree();
  }

  #outOfHandler(held: HeldDelivery<Raw>): void {
    held.inHandler = false;
    held.whenOut?.();
    held.whenOut = null;
    if (held.overdue) {
      this.#overdue.returned(held);
      if (!this.#closing) this.#onFree();
    }
    if (this.#held.has(held)) return;
    this.#overdue.remove(held);
    this.#freeKey(held);
  }

  /** Until it fetches ahead, a source waits for handlers to return, settled or not. */
  #handlerIsFree(): void {
    if (!this.#handOvers.trusted && !this.#closing && this.#queue.readyCount === 0) this.#onFree();
  }

  // ---- Settling

  #succeed(held: HeldDelivery<Raw>): Promise<void> | undefined {
    const { ack, ordered } = this.options;
    if (ack !== 'auto') return undefined;
    if (ordered !== 'none') return this.#settleOrRevoke(held, held.settle({ kind: 'ack' }));
    this.#acknowledgeLater(held);
    return undefined;
  }

  #fail(held: HeldDelivery<Raw>, error: unknown): Promise<void> {
    const { topic, id, attempt } = held;
    this.#events.emit('handlerError', { topic, id, attempt, error });
    const outcome = { kind: 'nack', delayMs: undefined, reason: reasonOf(error) } as const;
    return this.#settleOrRevoke(held, held.settle(outcome));
  }

  /** With the others that succeed in this turn. */
  #acknowledgeLater(held: HeldDelivery<Raw>): void {
    if (!this.#acks.isSupported) {
      void this.#settleOrRevoke(held, held.settle({ kind: 'ack' }));
      return;
    }
    held.state = 'settling';
    this.#activity.settling++;
    this.#acks.add(held);
  }

  #acknowledged(deliveries: readonly HeldDelivery<Raw>[]): void {
    for (const held of deliveries) {
      if (held.state === 'lost') continue;
      held.state = 'settled';
      this.#remove(held);
    }
    // Once for all: `onSettled` would ask the source for more after each.
    if (!this.#closing) this.#onFree();
    this.#runner.pump();
    this.#settlementEnded(deliveries.length);
  }

  /** Its handler has returned after its deadline. */
  #ackedLate(held: HeldDelivery<Raw>): void {
    if (held.state === 'settling') {
      held.state = 'handed';
      void this.#settleOrRevoke(held, held.settle({ kind: 'ack' }));
    }
    this.#settlementEnded();
  }

  #ackFailed(deliveries: readonly HeldDelivery<Raw>[], cause: unknown): void {
    for (const held of deliveries) {
      if (held.state !== 'lost') this.#couldNotSettle(held, cause);
    }
    this.#settlementEnded(deliveries.length);
  }

  /** For settlements that no caller awaits: a failure is reported and the delivery revoked. */
  async #settleOrRevoke(held: HeldDelivery<Raw>, settlement: Promise<void>): Promise<void> {
    try {
      await settlement;
    } catch (cause) {
      this.#couldNotSettle(held, cause);
    }
  }

  #couldNotSettle(held: HeldDelivery<Raw>, cause: unknown): void {
    const text = `message ${held.id} of ${held.topic} could not be settled: unless it was trimmed, it is delivered again`;
    const error = new RivuletError('DELIVERY_LOST', text, { cause });
    this.#events.emit('warning', { error });
    held.revoke(error);
  }

  async #retryOrDeadLetter(
    held: HeldDelivery<Raw>,
    delayMs: number | undefined,
    reason: string,
  ): Promise<void> {
    const { attempts, backoff, ordered, ackWaitMs } = this.options;
    if (held.attempt >= attempts) return this.#returns.deadLetter(held, reason);
    const delay = delayMs ?? backoffMs(backoff, held.attempt, this.#scheduler.fraction());
    if (ordered === 'none' || this.#closing) return this.#settler.nack(held.raw, delay, reason);
    const retry = new HeldDelivery<Raw>(
      { ...held.raw, attempt: held.attempt + 1, counted: true, suspect: false },
      this,
      held.deadline,
      held.sequence,
    );
    this.#held.add(retry);
    retry.taken = true;
    // Near its deadline the broker would give the message to another consumer.
    if (this.now() >= retry.deadline - ackWaitMs / 4) void this.#deadlines.extend(retry);
    this.#retries.plan(held, retry, delay);
  }

  async #prepareRetry(retry: HeldDelivery<Raw>): Promise<void> {
    try {
      if (this.#attempts.countsNow) {
        // The hand-over itself counts it. Until then it stays this consumer's.
        retry.counted = false;
        retry.countFirst = true;
        await this.#settler.extend(retry.raw, this.options.ackWaitMs);
      } else {
        await this.#attempts.count(retry);
      }
    } catch (error) {
      if (isLost(error)) retry.revoke(error);
      else this.settlementFailed(retry, error);
    }
    retry.deadline = this.now() + this.options.ackWaitMs;
  }

  #deadlinesChecked(): void {
    this.#overdue.update();
    // Other consumers get what waits behind handlers that do not return.
    if (this.stuck && !this.#keepsWaiting)
      for (const held of this.#queue.clear()) this.#return(held);
  }

  // ---- Ends

  /** Settled or lost. False where it was before. */
  #remove(held: HeldDelivery<Raw>): boolean {
    if (!this.#held.delete(held)) return false;
    if (held.suspect) this.#runner.suspects--;
    if (held.state !== 'lost') this.#handOvers.settled(held.raw);
    else if (held.handedOver) this.#handOvers.lost(held.raw);
    this.#retries.cancel(held);
    if (!held.taken) this.#queue.remove(held);
    // While its handler runs its key stays busy.
    if (held.inHandler) this.#overdue.add(held);
    else this.#freeKey(held);
    held.onEnd?.();
    return true;
  }

  /** Its retry takes the key over; without one the next message of the key is ready. */
  #freeKey(held: HeldDelivery<Raw>): void {
    const planned = this.#retries.takePlanned(held);
    const wasTaken = held.taken;
    held.taken = false;
    if (planned === undefined) {
      if (wasTaken) this.#queue.done(held);
    } else if (this.#closing) this.#return(planned.retry);
    else this.#retries.start(planned);
  }

  #revokeOne(held: HeldDelivery<Raw>, reason: string): void {
    const text = `message ${held.id} of ${held.topic} is no longer this consumer's: ${reason}`;
    held.revoke(new RivuletError('DELIVERY_LOST', text));
  }

  async #close(timeoutMs: number): Promise<void> {
    // `free` and `push` see #closing only after this function's first await.
    await null;
    this.#runner.close();
    this.#deadlines.end();
    for (const held of [...this.#queue.clear(), ...this.#retries.close()]) this.#return(held);
    const end = this.now() + timeoutMs;
    await this.#activity.idle(timeoutMs);
    const closed = new RivuletError('CLOSED', 'the subscriber is closed');
    const counted = this.countHandOvers();
    for (const held of [...this.#held]) {
      if (held.state === 'handed' && !held.inHandler) this.#return(held);
      held.revoke(closed);
    }
    this.#activity.settling++;
    void counted.finally(() => this.#settlementEnded());
    // Handlers that still run keep their messages until the deadline; only settlements are awaited.
    await this.#activity.settled(Math.max(LEAST_SETTLE_MS, end - this.now()));
    this.#deadlines.stop();
  }

  /** Returns it to the broker, for another consumer; counted where a handler had it. */
  #return(held: HeldDelivery<Raw>): void {
    this.#activity.settling++;
    void this.#quietly(this.#returns.giveBack(held)).then(() => this.#settlementEnded());
    held.revoke(new RivuletError('CLOSED', 'the subscriber is closed'));
  }

  #settlementEnded(count = 1): void {
    this.#activity.settling -= count;
    this.#activity.check();
    if (this.#runner.suspects > 0) this.#runner.pump();
  }

  async #quietly(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (cause) {
      this.#warn(cause, 'a delivery could not be returned to the broker');
    }
  }

  #warn(cause: unknown, text: string): void {
    const error =
      cause instanceof RivuletError ? cause : new RivuletError('INTERNAL', text, { cause });
    this.#events.emit('warning', { error });
  }
}
