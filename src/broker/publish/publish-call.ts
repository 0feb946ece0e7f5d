/**
 * One call of `publish` or `publishBatch`, as it is tried until it succeeds.
 *
 * Invariant: `ended` runs once, whatever the outcome. Cost: this object; it has methods where closures
 * would cost one object each for every publish.
 */
import type { PublishWatch } from '../dispatch/publish-observers.ts';
import type { RawMessage } from '../message/message.ts';
import type { Receipt } from '../topics/topic-info.ts';
import type { RetryableCall } from './outage-retry.ts';
import type { PublishPlan } from './publish-plan.ts';

/** The broker whose publishes they are. */
export interface PublishHost {
  /** Calls `stored` or `failed` once, or throws. */
  store(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    stored: (receipts: Receipt[]) => void,
    failed: (error: unknown) => void,
  ): void;
  /** A publish has ended. */
  published(): void;
}

export interface PublishSetup<T> {
  readonly topic: string;
  readonly messages: readonly RawMessage[];
  readonly plan: PublishPlan;
  readonly watch: PublishWatch | null;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | null;
  readonly resultOf: (receipts: Receipt[]) => T;
}

export class PublishCall<T> implements RetryableCall<Receipt[], T> {
  readonly queue: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | null;
  readonly #host: PublishHost;
  readonly #messages: readonly RawMessage[];
  readonly #plan: PublishPlan;
  readonly #watch: PublishWatch | null;
  readonly #resultOf: (receipts: Receipt[]) => T;

  constructor(host: PublishHost, setup: PublishSetup<T>) {
    this.#host = host;
    this.queue = setup.topic;
    this.timeoutMs = setup.timeoutMs;
    this.signal = setup.signal;
    this.#messages = setup.messages;
    this.#plan = setup.plan;
    this.#watch = setup.watch;
    this.#resultOf = setup.resultOf;
  }

  get what(): string {
    return `publish to ${this.queue}`;
  }

  attempt(stored: (receipts: Receipt[]) => void, failed: (error: unknown) => void): void {
    this.#host.store(this.queue, this.#messages, this.#plan, stored, failed);
  }

  resultOf(receipts: Receipt[]): T {
    this.#watch?.stored(receipts);
    return this.#resultOf(receipts);
  }

  ended(): void {
    this.#plan.ended?.(this.#plan);
    this.#host.published();
  }
}
