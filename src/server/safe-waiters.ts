/**
 * What is told outside a connection (HTTP) and may tell of changes: it waits as replies do, until the
 * log is safe up to the position at which it was made.
 *
 * Invariant: the waiting ones are in ascending order of position.
 * Cost: O(1) each.
 */
import type { Journal } from '../storage/journal.ts';

/** A disk that takes nothing for so long must not hold a monitoring system's request for ever. */
const LONGEST_WAIT_MS = 5000;

export class SafeWaiters {
  readonly #journal: Journal;
  readonly #waiting: { readonly gate: number; readonly done: (isSafe: boolean) => void }[] = [];

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** Resolves with true once all that was recorded before this call is safe; with false after 5 s. */
  wait(): Promise<boolean> {
    const { gate, safe } = this.#journal;
    if (gate <= safe) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => done(false), LONGEST_WAIT_MS);
      timer.unref();
      const done = (isSafe: boolean): void => {
        clearTimeout(timer);
        resolve(isSafe);
      };
      this.#waiting.push({ gate, done });
    });
  }

  /** The journal is safe further than before. */
  release(): void {
    const { safe } = this.#journal;
    const waiting = this.#waiting;
    while (waiting.length > 0 && waiting[0]!.gate <= safe) waiting.shift()!.done(true);
  }
}
