/**
 * When a hand-over is reported to the broker, so that its count of attempts is right if this process ends.
 *
 * Invariants: a suspect is counted before its handler gets it; until the subscription is trusted
 * (hand-overs.ts) so is every delivery that the broker has not counted. A trusted subscription counts
 * in the turn of the hand-over, where its source can (`Settler.storeAttemptNow`): at most once in
 * `everyMs`, and with `quietMs` each hand-over that is this long after the one before it, and others
 * only while other handlers run. What is left uncounted is counted when its handler takes long
 * (deadline-monitor.ts). So a busy consumer whose handlers return at once sends no counts.
 * Cost: one comparison for each delivery; a command to the broker for each call that is counted.
 */
import type { Activity } from './activity.ts';
import { type HeldDelivery, isLost, type RawDelivery, type Settler } from './delivery.ts';
import type { HandOvers } from './hand-overs.ts';

export interface AttemptCounterSetup<Raw extends RawDelivery> {
  readonly settler: Settler<Raw>;
  readonly handOvers: HandOvers;
  readonly now: () => number;
  readonly everyMs: number;
  /** Null: `everyMs` alone decides. */
  readonly quietMs: number | null;
  readonly activity: Activity;
}

export class AttemptCounter<Raw extends RawDelivery> {
  /** Whether the source can count in the turn of the hand-over. */
  readonly countsNow: boolean;
  readonly #settler: Settler<Raw>;
  readonly #handOvers: HandOvers;
  readonly #now: () => number;
  readonly #everyMs: number;
  readonly #quietMs: number | null;
  readonly #activity: Activity;
  #countedAt = Number.NEGATIVE_INFINITY;
  /** The last hand-over of a trusted subscription. */
  #handedAt = Number.NEGATIVE_INFINITY;

  constructor(setup: AttemptCounterSetup<Raw>) {
    this.#settler = setup.settler;
    this.#handOvers = setup.handOvers;
    this.#now = setup.now;
    this.#everyMs = setup.everyMs;
    this.#quietMs = setup.quietMs;
    this.#activity = setup.activity;
    this.countsNow = setup.settler.storeAttemptNow !== undefined;
  }

  /** Whether the hand-over of this delivery, which follows now, has to be counted. */
  mustCount(held: HeldDelivery<Raw>, now: number): boolean {
    if (held.counted) return false;
    return held.countFirst || !this.#handOvers.trusted || this.#isDue(now);
  }

  /** As `mustCount`, for what one call of the handler gets. */
  uncounted(deliveries: readonly HeldDelivery<Raw>[]): HeldDelivery<Raw>[] {
    const open = deliveries.filter((held) => !held.counted);
    if (open.length === 0) return open;
    const all = !this.#handOvers.trusted || this.#isDue(this.#now());
    return all ? open : open.filter((held) => held.countFirst);
  }

  /** Under load, counting every hand-over would cost more than the hand-overs. */
  #isDue(now: number): boolean {
    if (!this.countsNow) return false;
    const sinceHandOver = now - this.#handedAt;
    this.#handedAt = now;
    if (this.#quietMs !== null) {
      if (sinceHandOver >= this.#quietMs) return true;
      if (this.#activity.running === 0) return false;
    }
    return now - this.#countedAt >= this.#everyMs;
  }

  /** Counts what a handler gets in this turn. Where that fails, the deadline monitor tries again. */
  countNow(deliveries: readonly HeldDelivery<Raw>[]): void {
    if (deliveries.length === 0) return;
    this.#countedAt = this.#now();
    const counting = this.#storeNow(deliveries.map(({ raw }) => raw));
    deliveries.forEach((held, at) => {
      held.counted = true;
      counting[at]?.catch((error) => {
        held.counted = false;
        if (isLost(error)) held.revoke(error);
      });
    });
  }

  #storeNow(raws: readonly Raw[]): readonly Promise<void>[] {
    const settler = this.#settler;
    if (settler.storeAttemptsNow !== undefined) return settler.storeAttemptsNow(raws);
    return raws.flatMap((raw) => settler.storeAttemptNow?.(raw) ?? []);
  }

  async count(held: HeldDelivery<Raw>): Promise<void> {
    await this.#settler.storeAttempt(held.raw);
    held.counted = true;
  }
}
