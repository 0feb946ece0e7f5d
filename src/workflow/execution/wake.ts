/**
 * What an execution waits for between two looks at its instance.
 *
 * Invariant: a call of `happen` while nothing waits is not lost: the next wait ends at once. Cost: one
 * timer while something waits.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';

export class Wake {
  readonly #scheduler: Scheduler;
  #happened = false;
  #end: (() => void) | null = null;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  happen(): void {
    this.#happened = true;
    this.#end?.();
  }

  /** Resolves when something happens, or after `ms`; true after `ms`. */
  async next(ms: number): Promise<boolean> {
    let isLate = false;
    if (!this.#happened) {
      let cancel = () => {};
      await new Promise<void>((resolve) => {
        this.#end = resolve;
        if (ms === Number.POSITIVE_INFINITY) return;
        cancel = this.#scheduler.after(Math.min(ms, 2 ** 31 - 1), () => {
          isLate = true;
          resolve();
        });
      });
      cancel();
      this.#end = null;
    }
    this.#happened = false;
    return isLate;
  }

  /** As `next`, and what happened meanwhile stays for the next wait. */
  async peek(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#end = resolve;
      this.#scheduler.after(ms, resolve);
    });
    this.#end = null;
  }
}
