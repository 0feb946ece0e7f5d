/**
 * The time in microseconds, for TIME: the wall clock's milliseconds, and the microseconds since the
 * millisecond was first seen, from the monotonic clock.
 *
 * Invariant: while the wall clock does not step back, no reading is before an earlier one.
 * Cost: two clock readings.
 */
import type { Clock } from '../util/time/clock.ts';

export class TimeOfDay {
  readonly #clock: Clock;
  #millisecond = Number.NEGATIVE_INFINITY;
  /** Monotonic ms at which it was first seen. */
  #seenAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Unix time in microseconds. */
  get microseconds(): number {
    const now = this.#clock.now();
    const monotonic = this.#clock.monotonic();
    if (now !== this.#millisecond) {
      this.#millisecond = now;
      this.#seenAt = monotonic;
    }
    return now * 1000 + Math.min(999, Math.floor((monotonic - this.#seenAt) * 1000));
  }
}
