/**
 * Handlers that still run although their message is settled or lost.
 *
 * Invariant: `count` is the number of calls that run and whose messages are all lost to their
 * deadline; each takes the place of one delivery until it returns.
 * Cost: one set entry for each delivery whose handler runs on, or for each running call of a batch.
 */
import type { HeldDelivery, RawDelivery } from './delivery.ts';

/** One call of a batch handler. */
export interface BatchCall<Raw extends RawDelivery> {
  readonly deliveries: readonly HeldDelivery<Raw>[];
  overdue: boolean;
}

export class OverdueHandlers<Raw extends RawDelivery> {
  readonly #inBatches: boolean;
  readonly #calls = new Set<BatchCall<Raw>>();
  /** Settled or lost deliveries whose handler has not returned. */
  readonly #left = new Set<HeldDelivery<Raw>>();
  #count = 0;

  constructor(inBatches: boolean) {
    this.#inBatches = inBatches;
  }

  get count(): number {
    return this.#count;
  }

  /** The deliveries that are settled or lost and whose handler has not returned. */
  get deliveries(): Iterable<HeldDelivery<Raw>> {
    return this.#left;
  }

  beginBatch(deliveries: readonly HeldDelivery<Raw>[]): BatchCall<Raw> {
    const call = { deliveries, overdue: false };
    if (this.#inBatches) this.#calls.add(call);
    return call;
  }

  /** True where the call was overdue: there is room for one more. */
  endBatch(call: BatchCall<Raw>): boolean {
    this.#calls.delete(call);
    if (call.overdue) this.#count--;
    return call.overdue;
  }

  /** It was settled or lost, and its handler runs on. */
  add(held: HeldDelivery<Raw>): void {
    this.#left.add(held);
  }

  /** Its handler has returned. */
  remove(held: HeldDelivery<Raw>): void {
    this.#left.delete(held);
  }

  /** The handler of an overdue delivery has returned. */
  returned(held: HeldDelivery<Raw>): void {
    held.overdue = false;
    this.#count--;
  }

  /** Looks for handlers that run on although all their messages are lost. */
  update(): void {
    for (const call of this.#calls) {
      if (call.overdue || !call.deliveries.every(({ state }) => state === 'lost')) continue;
      call.overdue = true;
      this.#count++;
    }
    if (this.#inBatches) return;
    for (const held of this.#left) {
      if (held.overdue || held.state !== 'lost') continue;
      held.overdue = true;
      this.#count++;
    }
  }
}
