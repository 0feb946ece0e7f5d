/**
 * What receives the deliveries of a subscription: a function, or a loop that asks for each call.
 *
 * Invariant: without a loop a handler always wants more; with a loop no delivery is handed over that
 * the loop has not asked for. Cost: two reads of a field for each delivery.
 */
import type { BatchHandler, Handler } from '../subscribers/subscriber.ts';

/** Calls of the handler that a loop has asked for. */
export interface Demand {
  /** How many calls are asked for and not claimed. */
  readonly wanted: number;
  /** Claims one call. Its messages may have to be counted at the broker before the call. */
  claim(): void;
  /** A claimed call does not happen: none of its messages is left. */
  unclaim(): void;
  /** Set by the dispatcher; called when `wanted` has grown. */
  onWanted: () => void;
}

export type DeliveryHandler = { readonly demand?: Demand } & (
  | { readonly each: Handler; readonly batch?: undefined }
  | { readonly batch: BatchHandler; readonly each?: undefined }
);

/** The demand of one subscription over time. */
export class HandlerDemand {
  readonly #demand: Demand | null;
  readonly #now: () => number;
  readonly #idleAfterMs: number;
  /** When a loop last asked; before its first request, when the subscription began. */
  #askedAt: number;
  #hasBegun: boolean;

  constructor(demand: Demand | null, now: () => number, idleAfterMs: number) {
    this.#demand = demand;
    this.#now = now;
    this.#idleAfterMs = idleAfterMs;
    this.#askedAt = now();
    this.#hasBegun = demand === null;
  }

  /** How many calls of the handler may be made now. */
  get calls(): number {
    return this.#demand?.wanted ?? Number.POSITIVE_INFINITY;
  }

  /** Whether a loop has asked for its first delivery. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** No loop has asked for as long as a message may stay unsettled. */
  get isLoopIdle(): boolean {
    return this.#demand !== null && this.#now() - this.#askedAt >= this.#idleAfterMs;
  }

  /** A loop has asked. True where the source fetched nothing until now and has to start. */
  asked(): boolean {
    const fetchedNothing = this.isLoopIdle || !this.#hasBegun;
    this.#hasBegun = true;
    this.#askedAt = this.#now();
    return fetchedNothing;
  }

  claim(): void {
    this.#demand?.claim();
  }

  unclaim(): void {
    this.#demand?.unclaim();
  }
}
