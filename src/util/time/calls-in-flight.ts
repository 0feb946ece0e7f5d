/**
 * How many calls are in flight, and a wait for their end.
 */
import type { Scheduler } from './scheduler.ts';

export class CallsInFlight {
  #count = 0;
  #whenIdle: (() => void) | null = null;

  get count(): number {
    return this.#count;
  }

  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count === 0) this.#whenIdle?.();
  }

  /** Resolves when no call is in flight, or after `ms`. */
  async idle(scheduler: Scheduler, ms: number): Promise<void> {
    if (this.#count === 0 || ms <= 0) return;
    await new Promise<void>((resolve) => {
      const stop = scheduler.after(ms, resolve);
      this.#whenIdle = () => {
        stop();
        resolve();
      };
    });
  }
}
