/**
 * One subscription of the http broker: accepted messages wait here for their handler.
 *
 * Holds: messages that were accepted and not settled, in memory alone. Invariants: at most
 * `MOST_WAITING` wait, more are refused (the publisher posts to another node, or again); a returned
 * message is retried after its delay; one whose deadline passes, or that is not settled when this
 * subscriber closes, goes to another member of the queue, or stays here where there is no other.
 */
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { BrokerEvents } from '../broker.ts';
import type { SubscriptionHandle } from '../broker-base.ts';
import type { RawDelivery, Settler } from '../dispatch/delivery.ts';
import type { DeliveryHandler } from '../dispatch/delivery-handler.ts';
import { Dispatcher } from '../dispatch/dispatcher.ts';
import type { Events } from '../events.ts';
import { deadLetterMessage, type RawMessage } from '../message/message.ts';
import { deadlineGraceMs, type ResolvedSubscribeOptions } from '../options/options.ts';
import type { Tracing } from '../trace.ts';

const MOST_WAITING = 10_000;
/** When no other member of the queue accepts a message, it is offered again after this time, ms. */
const OFFER_AGAIN_MS = 500;

export interface HttpSubscriptionSetup {
  readonly topic: string;
  readonly consume: DeliveryHandler;
  readonly options: ResolvedSubscribeOptions;
  readonly scheduler: Scheduler;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  publish(topic: string, message: RawMessage): Promise<void>;
  /** Posts it to another member of the queue; false where none accepts it. */
  handOver(raw: RawDelivery): Promise<boolean>;
  /** Called once, when the subscription accepts no more. */
  leave(): Promise<void>;
}

export class HttpSubscription implements SubscriptionHandle, Settler {
  readonly #setup: HttpSubscriptionSetup;
  readonly #dispatcher: Dispatcher;
  readonly #waiting: RawDelivery[] = [];
  /** By id: cancels the deadline of a message that the dispatcher has, or the delay of a retry. */
  readonly #timers = new Map<string, () => void>();
  #closed = false;
  #cancelRetry: (() => void) | null = null;

  constructor(setup: HttpSubscriptionSetup) {
    this.#setup = setup;
    this.#dispatcher = new Dispatcher({
      options: setup.options,
      consume: setup.consume,
      settler: this,
      scheduler: setup.scheduler,
      events: setup.events,
      tracing: setup.tracing,
      onFree: () => this.#pump(),
    });
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  /** False where the subscription is closed or full. */
  accept(raw: RawDelivery): boolean {
    if (this.#closed || this.#waiting.length >= MOST_WAITING) return false;
    // A publisher that has not received the response posts the message again.
    if (this.#timers.has(raw.id) || this.#waiting.some(({ id }) => id === raw.id)) return true;
    this.#waiting.push(raw);
    this.#pump();
    return true;
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelRetry?.();
    await this.#setup.leave();
    await this.#dispatcher.close(timeoutMs);
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    await Promise.all(this.#waiting.splice(0).map((raw) => this.#handOver(raw)));
  }

  async ack(raw: RawDelivery): Promise<void> {
    this.#done(raw);
  }

  async nack(raw: RawDelivery, delayMs: number): Promise<void> {
    this.#done(raw);
    const again = { ...raw, attempt: raw.attempt + 1 };
    if (this.#closed) return this.#handOver(again);
    this.#after(raw, delayMs, () => this.#again(again));
  }

  async deadLetter(raw: RawDelivery, topic: string, reason: string): Promise<void> {
    const { options, scheduler, publish } = this.#setup;
    const { group } = options;
    await publish(topic, deadLetterMessage(raw, group, raw.attempt, reason, scheduler.now()));
    this.#done(raw);
  }

  async extend(raw: RawDelivery, ms: number): Promise<void> {
    if (!this.#timers.has(raw.id)) throw lost(raw);
    this.#watch(raw, ms);
  }

  async release(raw: RawDelivery): Promise<void> {
    this.#done(raw);
    await this.#handOver(raw);
  }

  async storeAttempt(): Promise<void> {
    // Only the dispatcher counts attempts: no other process knows of the message.
  }

  #pump(): void {
    while (!this.#closed && this.#waiting.length > 0 && this.#dispatcher.free > 0) {
      const raw = this.#waiting.shift() as RawDelivery;
      const { ackWaitMs } = this.#setup.options;
      this.#watch(raw, ackWaitMs + deadlineGraceMs(ackWaitMs));
      this.#dispatcher.push(raw);
    }
    this.#passOn();
  }

  /**
   * While handlers do not return, waiting messages go to the other members of the queue. Where no
   * member accepts one, it is offered again after OFFER_AGAIN_MS.
   */
  #passOn(): void {
    const { options, scheduler, handOver } = this.#setup;
    if (!this.#dispatcher.stuck || options.group === null || this.#cancelRetry !== null) return;
    const offered = this.#waiting.splice(0);
    if (offered.length === 0) return;
    this.#cancelRetry = scheduler.after(OFFER_AGAIN_MS, () => {
      this.#cancelRetry = null;
      this.#pump();
    });
    for (const raw of offered) {
      void handOver(raw)
        .catch(() => false)
        .then((taken) => {
          if (taken) return;
          if (this.#closed) this.#lost(raw);
          else this.#waiting.push(raw);
          if (!this.#dispatcher.stuck) this.#pump();
        });
    }
  }

  #watch(raw: RawDelivery, ms: number): void {
    this.#after(raw, ms, () => {
      this.#dispatcher.revoke(raw.topic, raw.id, 'its deadline has passed');
      void this.#handOver({ ...raw, attempt: raw.attempt + 1 });
    });
  }

  #after(raw: RawDelivery, ms: number, run: () => void): void {
    this.#timers.get(raw.id)?.();
    const cancel = this.#setup.scheduler.after(ms, () => {
      this.#timers.delete(raw.id);
      run();
    });
    this.#timers.set(raw.id, cancel);
  }

  #again(raw: RawDelivery): void {
    if (this.#closed) return void this.#handOver(raw);
    this.#waiting.unshift(raw);
    this.#pump();
  }

  #done(raw: RawDelivery): void {
    const cancel = this.#timers.get(raw.id);
    if (cancel === undefined) throw lost(raw);
    cancel();
    this.#timers.delete(raw.id);
  }

  async #handOver(raw: RawDelivery): Promise<void> {
    const { handOver, options } = this.#setup;
    if (options.group !== null && (await handOver(raw).catch(() => false))) return;
    if (this.#closed) this.#lost(raw);
    else this.#again(raw);
  }

  #lost(raw: RawDelivery): void {
    const { events } = this.#setup;
    const text = `message ${raw.id} of ${raw.topic} is lost: its subscriber closed, and its queue has no other`;
    events.emit('warning', { error: new RivuletError('DELIVERY_LOST', text) });
  }
}

function lost({ id, topic }: RawDelivery): RivuletError {
  return new RivuletError(
    'DELIVERY_LOST',
    `message ${id} of ${topic} was passed to another consumer`,
  );
}
