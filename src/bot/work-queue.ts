/**
 * Work of many users, some of it at once.
 *
 * Invariants: at most `atOnce` works run and `maxWaiting` wait, of one user at most `maxWaitingOfOne`;
 * what finds no room is refused; works of one user begin in order. Cost: one object per work.
 */

export interface WorkQueueLimits {
  readonly atOnce: number;
  readonly maxWaiting: number;
  readonly maxWaitingOfOne: number;
}

interface Waiting {
  readonly user: string;
  readonly run: () => Promise<void>;
}

export class WorkQueue {
  readonly #limits: WorkQueueLimits;
  readonly #waiting: Waiting[] = [];
  readonly #running = new Set<Promise<void>>();
  #isClosed = false;

  constructor(limits: WorkQueueLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#running.size;
  }

  /** False where there is no room. `run` must not reject. */
  add(user: string, run: () => Promise<void>): boolean {
    const { maxWaiting, maxWaitingOfOne } = this.#limits;
    if (this.#isClosed || this.#waiting.length >= maxWaiting) return false;
    const own = this.#waiting.filter((each) => each.user === user).length;
    if (own >= maxWaitingOfOne) return false;
    this.#waiting.push({ user, run });
    this.#next();
    return true;
  }

  /** Starts nothing more; resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#waiting.length = 0;
    await this.idle();
  }

  /** Resolves when nothing runs and nothing waits. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #next(): void {
    while (this.#running.size < this.#limits.atOnce) {
      const work = this.#waiting.shift();
      if (work === undefined) return;
      const running = work.run().finally(() => {
        this.#running.delete(running);
        this.#next();
      });
      this.#running.add(running);
    }
  }
}
