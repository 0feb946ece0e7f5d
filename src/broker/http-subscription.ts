/**
 * One subscription of the http broker: what was accepted waits here for its handler.
 *
 * Holds: messages accepted and not yet settled, in memory alone. Invariants: at most `MOST_WAITING`
 * wait, more are refused (the publisher tries elsewhere, or again); a message given back comes again
 * after its delay; one whose deadline passes, or that is left when this subscriber goes, is for
 * another member of the queue, and for this one where there is no other.
 */
import { RivuletError } from '../errors.ts';
import type { BrokerEvents } from './broker.ts';
import type { Attachment } from './broker-base.ts';
import type { RawDelivery, Settler } from './delivery.ts';
import { type Consume, Dispatcher } from './dispatcher.ts';
import type { Events } from './events.ts';
import { deadLetterMessage, type Message } from './message.ts';
import { deadlineGraceMs, type ResolvedSubscribeOptions } from './options.ts';
import type { Scheduler } from './scheduler.ts';
import type { Tracing } from './trace.ts';

const MOST_WAITING = 10_000;
/** What no other member of the queue takes is offered again after this time, ms. */
const OFFER_AGAIN_MS = 500;

export interface HttpSubscriptionSetup {
  readonly topic: string;
  readonly consume: Consume;
  readonly options: ResolvedSubscribeOptions;
  readonly scheduler: Scheduler;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  publish(topic: string, message: Message): Promise<void>;
  /** To another member of the queue; false where there is none that takes it. */
  handOver(raw: RawDelivery): Promise<boolean>;
  /** Called once, when nothing may be sent here any more. */
  leave(): Promise<void>;
}

export class HttpSubscription implements Attachment, Settler {
  readonly #setup: HttpSubscriptionSetup;
  readonly #dispatcher: Dispatcher;
  readonly #waiting: RawDelivery[] = [];
  /** In the dispatcher's hands, with what ends their deadline; or resting, with what ends that. */
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

  /** Takes a message; false when there is no room, or not any more. */
  accept(raw: RawDelivery): boolean {
    if (this.#closed || this.#waiting.length >= MOST_WAITING) return false;
    // A publisher that has not heard the answer sends it again.
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

  async recount(): Promise<void> {
    // The dispatcher counts, and nobody else does.
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
   * Handlers that do not return must not keep what waits from the queue's other members. Where no
   * other member takes it, it is offered again later, not at once.
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
      this.#dispatcher.lose(raw.topic, raw.id, 'its deadline has passed');
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
    const text = `message ${raw.id} of ${raw.topic} is lost: its subscriber left, and there is no other`;
    events.emit('warning', { error: new RivuletError('DELIVERY_LOST', text) });
  }
}

function lost({ id, topic }: RawDelivery): RivuletError {
  return new RivuletError('DELIVERY_LOST', `message ${id} of ${topic} was handed on`);
}
