/**
 * The hand-overs of one subscription that its broker may not have counted.
 *
 * Holds: how many deliveries were settled since the start, and the attempts of deliveries that were
 * lost in a handler and not settled. Invariants: until `TRUST_AFTER` deliveries are settled nothing is
 * fetched ahead of its handler, so a process that restarts again and again on one message blames
 * that message alone; a delivery that was lost here and comes again is never counted lower than it
 * was handed over.
 * Cost: one number; one map entry for each lost delivery, at most `MOST_REMEMBERED`.
 */
import type { RawDelivery } from './delivery.ts';

const TRUST_AFTER = 50;
const MOST_REMEMBERED = 10_000;

export class HandOvers {
  #settled: number;
  readonly #lost = new Map<string, number>();

  /** `trusted` from the start: where the messages end with the process. */
  constructor(trusted = false) {
    this.#settled = trusted ? TRUST_AFTER : 0;
  }

  /** Whether the source may fetch more than the handlers take at once. */
  get trusted(): boolean {
    return this.#settled >= TRUST_AFTER;
  }

  settled({ topic, id }: RawDelivery): void {
    this.#settled++;
    if (this.#lost.size > 0) this.#lost.delete(keyOf(topic, id));
  }

  /** It was handed over and is lost: by its deadline, its connection, its leader. */
  lost({ topic, id, attempt }: RawDelivery): void {
    const key = keyOf(topic, id);
    this.#lost.delete(key);
    this.#lost.set(key, attempt);
    if (this.#lost.size <= MOST_REMEMBERED) return;
    const [oldest] = this.#lost.keys();
    this.#lost.delete(oldest as string);
  }

  /** The attempt of a delivery that comes now, as far as this process knows. */
  attemptOf({ topic, id, attempt }: RawDelivery): number {
    if (this.#lost.size === 0) return attempt;
    return Math.max(attempt, (this.#lost.get(keyOf(topic, id)) ?? 0) + 1);
  }
}

function keyOf(topic: string, id: string): string {
  // A topic contains no space.
  return `${topic} ${id}`;
}
