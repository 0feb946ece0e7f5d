/**
 * Work of many users, some of it at once.
 *
 * Invariants: at most `atOnce` works run and `maxWaiting` wait, of one user at most `atOnceOfOne` and
 * `maxWaitingOfOne`; what finds no room is refused; works of one user begin in order. Cost: one object per work.
 */

export interface WorkQueueLimits {
  readonly atOnce: number;
  readonly maxWaiting: number;
  readonly maxWaitingOfOne: number;
  /** Works of one user that run, so that one whose works take long leaves room for the others. */
  readonly atOnceOfOne: number;
}

interface Waiting {
  readonly user: string;
  readonly run: () => Promise<void>;
}

export class WorkQueue {
  readonly #limits: WorkQueueLimits;
  readonly #waiting: Waiting[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #runningOf = new Map<string, number>();
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

  #countOf(user: string): number {
    return this.#runningOf.get(user) ?? 0;
  }

  #next(): void {
    const { atOnce, atOnceOfOne } = this.#limits;
    while (this.#running.size < atOnce) {
      const at = this.#waiting.findIndex(({ user }) => this.#countOf(user) < atOnceOfOne);
      const [work] = at < 0 ? [] : this.#waiting.splice(at, 1);
      if (work === undefined) return;
      this.#runningOf.set(work.user, this.#countOf(work.user) + 1);
      const running = work.run().finally(() => {
        this.#running.delete(running);
        const left = this.#countOf(work.user) - 1;
        if (left === 0) this.#runningOf.delete(work.user);
        else this.#runningOf.set(work.user, left);
        this.#next();
      });
      this.#running.add(running);
    }
  }
}
