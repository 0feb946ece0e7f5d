/**
 * What is reported outside a connection (HTTP) and may show changes waits here, as replies do, until the
 * log is durable up to the position at which it was made.
 *
 * Invariant: waiters are in ascending order of position.
 * Cost: O(1) each.
 */
import type { Journal } from '../storage/log/journal.ts';

/** A disk that takes nothing for this long must not hold a monitoring system's request for ever. */
const LONGEST_WAIT_MS = 5000;

export class DurableWaiters {
  readonly #journal: Journal;
  readonly #waiting: { readonly barrier: number; readonly done: (durable: boolean) => void }[] = [];

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** Resolves with true once everything recorded before this call is durable; with false after 5 s. */
  wait(): Promise<boolean> {
    const { gate: barrier, safe } = this.#journal;
    if (barrier <= safe) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => done(false), LONGEST_WAIT_MS);
      timer.unref();
      const done = (durable: boolean): void => {
        clearTimeout(timer);
        resolve(durable);
      };
      this.#waiting.push({ barrier, done });
    });
  }

  /** The log is durable further than before. */
  release(): void {
    const { safe } = this.#journal;
    const waiting = this.#waiting;
    while (waiting.length > 0 && waiting[0]!.barrier <= safe) waiting.shift()!.done(true);
  }
}
