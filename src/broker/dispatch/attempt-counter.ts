/**
 * When the broker is told of a hand-over, so that its count of attempts is right if this process ends.
 *
 * Invariants: a suspect is counted before its handler gets it; until the subscription is trusted
 * (hand-overs.ts) so is every delivery that the broker has not counted. A trusted subscription counts
 * in the turn of the hand-over, where its source can (`Settler.storeAttemptNow`), at most once in
 * `everyMs`; what is left uncounted is counted when its handler takes long (deadline-monitor.ts).
 * Cost: one comparison for each delivery; a command to the broker for each one that is counted.
 */
import { type HeldDelivery, isLost, type RawDelivery, type Settler } from './delivery.ts';
import type { HandOvers } from './hand-overs.ts';

export interface AttemptCounterSetup<Raw extends RawDelivery> {
  readonly settler: Settler<Raw>;
  readonly handOvers: HandOvers;
  readonly now: () => number;
  readonly everyMs: number;
}

export class AttemptCounter<Raw extends RawDelivery> {
  /** Whether the source can count in the turn of the hand-over. */
  readonly countsNow: boolean;
  readonly #settler: Settler<Raw>;
  readonly #handOvers: HandOvers;
  readonly #now: () => number;
  readonly #everyMs: number;
  #countedAt = Number.NEGATIVE_INFINITY;

  constructor(setup: AttemptCounterSetup<Raw>) {
    this.#settler = setup.settler;
    this.#handOvers = setup.handOvers;
    this.#now = setup.now;
    this.#everyMs = setup.everyMs;
    this.countsNow = setup.settler.storeAttemptNow !== undefined;
  }

  /** Whether the hand-over of this delivery has to be counted. */
  mustCount(held: HeldDelivery<Raw>): boolean {
    if (held.counted) return false;
    if (held.countFirst || !this.#handOvers.trusted) return true;
    // Under load, counting every hand-over would cost more than the hand-overs.
    return this.countsNow && this.#now() - this.#countedAt >= this.#everyMs;
  }

  /** Counts what a handler gets in this turn. Where that fails, the deadline monitor tries again. */
  countNow(deliveries: readonly HeldDelivery<Raw>[]): void {
    this.#countedAt = this.#now();
    for (const held of deliveries) {
      held.counted = true;
      this.#settler.storeAttemptNow?.(held.raw).catch((error) => {
        held.counted = false;
        if (isLost(error)) held.revoke(error);
      });
    }
  }

  async count(held: HeldDelivery<Raw>): Promise<void> {
    await this.#settler.storeAttempt(held.raw);
    held.counted = true;
  }
}
