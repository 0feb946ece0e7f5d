/**
 * Acknowledgements of handlers that succeeded, gathered for one turn of the event loop.
 *
 * Invariant: every delivery added is reported once, as acknowledged or as failed, with all others of
 * its topic, or as late. Cost: one array, one microtask and one look at the clock for each turn with
 * acknowledgements.
 */
import type { HeldDelivery, RawDelivery, Settler } from './delivery.ts';

export interface AckBatcherSetup<Raw extends RawDelivery> {
  readonly settler: Settler<Raw>;
  readonly onAcknowledged: (deliveries: readonly HeldDelivery<Raw>[]) => void;
  readonly onFailed: (deliveries: readonly HeldDelivery<Raw>[], cause: unknown) => void;
  /** Its deadline has passed: it is not acknowledged here. */
  readonly onLate: (held: HeldDelivery<Raw>) => void;
  readonly now: () => number;
}

export class AckBatcher<Raw extends RawDelivery> {
  /** Whether the source acknowledges many at once. */
  readonly isSupported: boolean;
  readonly #setup: AckBatcherSetup<Raw>;
  #waiting: HeldDelivery<Raw>[] = [];

  constructor(setup: AckBatcherSetup<Raw>) {
    this.#setup = setup;
    this.isSupported = setup.settler.ackMany !== undefined;
  }

  add(held: HeldDelivery<Raw>): void {
    if (this.#waiting.push(held) === 1) queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    const all = this.#takeInTime();
    if (all.length === 0) return;
    const { topic } = all[0] as HeldDelivery<Raw>;
    if (all.every((held) => held.topic === topic)) {
      void this.#acknowledge(all);
      return;
    }
    for (const topic of new Set(all.map((held) => held.topic))) {
      void this.#acknowledge(all.filter((held) => held.topic === topic));
    }
  }

  #takeInTime(): HeldDelivery<Raw>[] {
    const all = this.#waiting;
    this.#waiting = [];
    const { now, onLate } = this.#setup;
    const at = now();
    if (all.every((held) => at < held.deadline)) return all;
    for (const held of all) if (at >= held.deadline) onLate(held);
    return all.filter((held) => at < held.deadline);
  }

  async #acknowledge(all: readonly HeldDelivery<Raw>[]): Promise<void> {
    const { settler, onAcknowledged, onFailed } = this.#setup;
    try {
      await settler.ackMany?.(all.map(({ raw }) => raw));
      onAcknowledged(all);
    } catch (cause) {
      onFailed(all, cause);
    }
  }
}
