/**
 * The retry budget: how much of a client's work may be repetition.
 *
 * Holds: calls and repetitions of the last ten seconds, one count a second. Invariant: in any ten
 * seconds there are at most `ratio` repetitions per call, or `minPerSecond` in a second where that is
 * more; retries, hedges and redelivered messages draw from it alike, so that a service that fails is
 * not called twice as often because it fails. What reached no handler because its node was gone is sent
 * to another one without it: that adds nothing. Cost: an addition per call.
 */
import { checkOptions, count, type OptionTable } from '../../client/option-table.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

export interface RetryBudgetOptions {
  /** Repetitions per call. Default 0.1. */
  readonly ratio?: number;
  /** Repetitions a second that are allowed in any case. Default 10. */
  readonly minPerSecond?: number;
}

export const retryBudgetTable: OptionTable = {
  ratio: { kind: 'number', min: 0, max: 100, integer: false, unit: '' },
  minPerSecond: count(0, 1_000_000),
};

const SECONDS = 10;

export class RetryBudget {
  readonly #scheduler: Scheduler;
  readonly #ratio: number;
  readonly #minPerSecond: number;
  readonly #calls = new Array<number>(SECONDS).fill(0);
  readonly #repeats = new Array<number>(SECONDS).fill(0);
  #second: number;
  #allCalls = 0;
  #allRepeats = 0;

  constructor(scheduler: Scheduler, options: RetryBudgetOptions = {}) {
    checkOptions(retryBudgetTable, options, 'retryBudget.');
    this.#scheduler = scheduler;
    this.#ratio = options.ratio ?? 0.1;
    this.#minPerSecond = options.minPerSecond ?? 10;
    this.#second = Math.floor(scheduler.monotonic() / 1000);
  }

  /** Counts a call, which earns its share of repetitions. */
  earn(now = this.#scheduler.monotonic()): void {
    this.#turn(now);
    this.#calls[this.#second % SECONDS]!++;
    this.#allCalls++;
  }

  /** Takes one repetition; false when none is left, and then nothing may be repeated. */
  take(): boolean {
    this.#turn(this.#scheduler.monotonic());
    const slot = this.#second % SECONDS;
    const thisSecond = this.#repeats[slot] as number;
    if (thisSecond >= this.#minPerSecond && this.#allRepeats + 1 > this.#allCalls * this.#ratio) {
      return false;
    }
    this.#repeats[slot] = thisSecond + 1;
    this.#allRepeats++;
    return true;
  }

  /** Forgets the seconds that have left the window. */
  #turn(ms: number): void {
    const now = Math.floor(ms / 1000);
    if (now === this.#second) return;
    for (let passed = 1; passed <= Math.min(SECONDS, now - this.#second); passed++) {
      const slot = (this.#second + passed) % SECONDS;
      this.#allCalls -= this.#calls[slot] as number;
      this.#allRepeats -= this.#repeats[slot] as number;
      this.#calls[slot] = 0;
      this.#repeats[slot] = 0;
    }
    this.#second = now;
  }
}
