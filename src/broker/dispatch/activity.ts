/**
 * What a close waits for: handlers that run, and settlements that have not ended.
 *
 * Invariant: `check` follows every decrease of a count, so a wait ends in the turn in which its
 * condition holds, or after its time. Cost: two numbers; one timer while a close waits.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';

export class Activity {
  /** Calls of handlers that have not returned. */
  running = 0;
  /** Settlements that the broker has not answered. */
  settling = 0;
  readonly #scheduler: Scheduler;
  #onIdle: (() => void) | null = null;
  #onSettled: (() => void) | null = null;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Ends the waits whose condition holds now. */
  check(): void {
    if (this.settling > 0) return;
    this.#onSettled?.();
    if (this.running === 0) this.#onIdle?.();
  }

  /** Resolves when no handler runs and every settlement has ended, or after `timeoutMs`. */
  idle(timeoutMs: number): Promise<void> {
    if (this.running === 0 && this.settling === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#scheduler.after(timeoutMs, () => this.#onIdle?.());
      this.#onIdle = () => {
        this.#onIdle = null;
        cancel();
        resolve();
      };
    });
  }

  /** Resolves when every settlement has ended, or after `timeoutMs`. */
  settled(timeoutMs: number): Promise<void> {
    if (this.settling === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#scheduler.after(timeoutMs, () => this.#onSettled?.());
      this.#onSettled = () => {
        this.#onSettled = null;
        cancel();
        resolve();
      };
    });
  }
}
