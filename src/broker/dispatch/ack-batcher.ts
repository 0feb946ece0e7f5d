/**
 * Acknowledgements of handlers that succeeded, gathered for one turn of the event loop.
 *
 * Invariant: every delivery added is reported once, as acknowledged or as failed, with all others of
 * its topic. Cost: one array and one microtask for each turn with acknowledgements.
 */
import type { HeldDelivery, RawDelivery, Settler } from './delivery.ts';

export interface AckBatcherSetup<Raw extends RawDelivery> {
  readonly settler: Settler<Raw>;
  readonly onAcknowledged: (deliveries: readonly HeldDelivery<Raw>[]) => void;
  readonly onFailed: (deliveries: readonly HeldDelivery<Raw>[], cause: unknown) => void;
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
    const all = this.#waiting;
    this.#waiting = [];
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
    const { settler, onAcknowledged, onFailed } = this.#setup;
    try {
      await settler.ackMany?.(all.map(({ raw }) => raw));
      onAcknowledged(all);
    } catch (cause) {
      onFailed(all, cause);
    }
  }
}
