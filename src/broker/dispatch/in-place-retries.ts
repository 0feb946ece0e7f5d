/**
 * Retries of ordered subscriptions: the message stays with this consumer and keeps its place.
 *
 * A retry begins to wait when the handler of the failed delivery has returned. When its backoff is
 * over it is stored at the broker as one attempt more, and then runs before its successors.
 * Invariants: a retry keeps its key busy until it has run; of a batch all retries run together, in the
 * order of the batch, and nothing runs before them (`pausesAll`).
 * Cost: one map entry and one timer for each waiting retry.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { HeldDelivery, RawDelivery } from './delivery.ts';

interface Planned<Raw extends RawDelivery> {
  readonly retry: HeldDelivery<Raw>;
  readonly delayMs: number;
}

export interface InPlaceRetriesSetup<Raw extends RawDelivery> {
  readonly scheduler: Scheduler;
  /** The failed deliveries were one batch: nothing else runs before they are retried. */
  readonly inBatches: boolean;
  /** Stores the attempt at the broker. Does not reject. */
  readonly prepare: (retry: HeldDelivery<Raw>) => Promise<void>;
  /** Puts it before everything that waits. */
  readonly requeue: (retry: HeldDelivery<Raw>) => void;
  /** Called after retries were requeued, or nothing has to wait for them any more. */
  readonly onResumed: () => void;
}

export class InPlaceRetries<Raw extends RawDelivery> {
  readonly #setup: InPlaceRetriesSetup<Raw>;
  /** By the failed delivery, whose handler has not returned. */
  readonly #planned = new Map<HeldDelivery<Raw>, Planned<Raw>>();
  /** Waiting for their backoff; the value cancels it. */
  readonly #waiting = new Map<HeldDelivery<Raw>, () => void>();
  /** Due, and waiting for the other retries of their batch. */
  readonly #due: HeldDelivery<Raw>[] = [];
  #pausesAll = false;
  #isClosed = false;

  constructor(setup: InPlaceRetriesSetup<Raw>) {
    this.#setup = setup;
  }

  /** A batch waits for its retry: nothing else may run. */
  get pausesAll(): boolean {
    return this.#pausesAll;
  }

  /** Plans the retry of `failed`, whose handler has not returned. */
  plan(failed: HeldDelivery<Raw>, retry: HeldDelivery<Raw>, delayMs: number): void {
    if (this.#setup.inBatches) this.#pausesAll = true;
    this.#planned.set(failed, { retry, delayMs });
  }

  /** Removes and returns the planned retry of a delivery whose handler has returned. */
  takePlanned(failed: HeldDelivery<Raw>): Planned<Raw> | undefined {
    const planned = this.#planned.get(failed);
    if (planned !== undefined) this.#planned.delete(failed);
    return planned;
  }

  start({ retry, delayMs }: Planned<Raw>): void {
    const { scheduler, prepare } = this.#setup;
    const cancel = scheduler.after(delayMs, async () => {
      await prepare(retry);
      if (!this.#waiting.delete(retry)) return;
      this.#due.push(retry);
      this.#resume();
    });
    this.#waiting.set(retry, cancel);
  }

  /** It was settled, or revoked, before its backoff was over. */
  cancel(retry: HeldDelivery<Raw>): void {
    const cancel = this.#waiting.get(retry);
    if (cancel === undefined) return;
    cancel();
    this.#waiting.delete(retry);
    this.#resume();
  }

  /** Cancels and returns every retry that waits. */
  close(): HeldDelivery<Raw>[] {
    this.#isClosed = true;
    const all: HeldDelivery<Raw>[] = [];
    for (const [retry, cancel] of this.#waiting) {
      cancel();
      all.push(retry);
    }
    this.#waiting.clear();
    all.push(...this.#due.splice(0));
    return all;
  }

  #resume(): void {
    if (this.#isClosed || (this.#pausesAll && this.#waiting.size > 0)) return;
    this.#pausesAll = false;
    // Each goes to the front: the first of the batch last.
    const due = this.#due.splice(0).sort((a, b) => b.sequence - a.sequence);
    for (const retry of due) {
      // Settled or revoked since.
      if (!retry.taken) continue;
      retry.taken = false;
      this.#setup.requeue(retry);
    }
    this.#setup.onResumed();
  }
}
