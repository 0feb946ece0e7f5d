/**
 * How long a member stays suspected before it counts as dead: the fewer members suspect it, the longer.
 *
 * Invariants: each member confirms once; the wait begins at `longestMs`, is `shortestMs` once `wanted`
 * others have confirmed, and between them falls with the logarithm of their number, as memberlist's; a
 * timer that fires late, because this process stood still, waits `graceMs` more, so that an answer that
 * has arrived is read first. Cost: one timer, and one name for each confirmation.
 */
import type { Cancel, Scheduler } from '../../../util/time/scheduler.ts';

export interface SuspicionOptions {
  readonly scheduler: Scheduler;
  /** The member that suspects. */
  readonly from: string;
  /** Confirmations that make the wait the shortest. */
  readonly wanted: number;
  readonly shortestMs: number;
  readonly longestMs: number;
  readonly graceMs: number;
  readonly onEnd: () => void;
}

export class Suspicion {
  readonly #options: SuspicionOptions;
  readonly #confirmed: Set<string>;
  readonly #startedAt: number;
  #cancel: Cancel = () => {};

  constructor(options: SuspicionOptions) {
    this.#options = options;
    this.#confirmed = new Set([options.from]);
    this.#startedAt = options.scheduler.monotonic();
    this.#wait();
  }

  /** True where the confirmation is new and shortens the wait. */
  confirm(from: string): boolean {
    if (this.#confirmed.size - 1 >= this.#options.wanted || this.#confirmed.has(from)) return false;
    this.#confirmed.add(from);
    this.#cancel();
    this.#wait();
    return true;
  }

  end(): void {
    this.#cancel();
  }

  #wait(): void {
    const { scheduler, graceMs } = this.#options;
    const due = this.#startedAt + this.#lengthMs();
    const fire = () => {
      // A timer is at most 24.8 days long.
      if (scheduler.monotonic() < due) this.#wait();
      else if (scheduler.monotonic() - due <= graceMs) this.#options.onEnd();
      else this.#cancel = scheduler.after(graceMs, () => this.#options.onEnd(), false);
    };
    this.#cancel = scheduler.after(Math.max(0, due - scheduler.monotonic()), fire, false);
  }

  #lengthMs(): number {
    const { wanted, shortestMs, longestMs } = this.#options;
    if (wanted < 1) return shortestMs;
    const share = Math.log(this.#confirmed.size) / Math.log(wanted + 1);
    return Math.max(shortestMs, longestMs - share * (longestMs - shortestMs));
  }
}
