/**
 * Many deadlines, few of them ever reached, behind one timer.
 *
 * Holds: per duration, the waiting ones in the order they came, which is the order they fall due.
 * Invariant: a timer is set while and only while somebody waits. Cost: O(1) to add and to remove; a
 * publish or request that is answered in time costs no timer of its own.
 */
import type { Scheduler } from './scheduler.ts';

interface Waiting {
  readonly deadline: number;
  readonly queue: Set<Waiting>;
  readonly expire: () => void;
}

export class Timeouts {
  readonly #scheduler: Scheduler;
  readonly #queues = new Map<number, Set<Waiting>>();
  #size = 0;
  #cancel: (() => void) | null = null;
  #armedFor = Number.POSITIVE_INFINITY;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Calls `expire` once `ms` have passed, unless the returned function was called before. */
  add(ms: number, expire: () => void): () => void {
    let queue = this.#queues.get(ms);
    if (queue === undefined) {
      queue = new Set();
      this.#queues.set(ms, queue);
    }
    const waiting: Waiting = { deadline: this.#scheduler.monotonic() + ms, queue, expire };
    queue.add(waiting);
    this.#size++;
    if (waiting.deadline < this.#armedFor) this.#arm(waiting.deadline);
    return () => this.#remove(waiting);
  }

  #remove(waiting: Waiting): void {
    if (!waiting.queue.delete(waiting)) return;
    this.#size--;
    if (this.#size === 0) {
      this.#cancel?.();
      this.#cancel = null;
      this.#armedFor = Number.POSITIVE_INFINITY;
      // Durations that callers choose freely must not gather here.
      this.#queues.clear();
    }
  }

  #arm(deadline: number): void {
    this.#cancel?.();
    this.#armedFor = deadline;
    const wait = Math.max(0, deadline - this.#scheduler.monotonic());
    this.#cancel = this.#scheduler.after(wait, () => this.#expireDue());
  }

  #expireDue(): void {
    this.#cancel = null;
    this.#armedFor = Number.POSITIVE_INFINITY;
    const now = this.#scheduler.monotonic();
    const due: Waiting[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const queue of this.#queues.values()) {
      for (const waiting of queue) {
        // Timers may fire a fraction early.
        if (waiting.deadline > now + 0.5) {
          next = Math.min(next, waiting.deadline);
          break;
        }
        due.push(waiting);
      }
    }
    if (next !== Number.POSITIVE_INFINITY) this.#arm(next);
    for (const waiting of due) {
      this.#remove(waiting);
      waiting.expire();
    }
  }
}
