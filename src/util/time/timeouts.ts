/**
 * Many deadlines, few of them ever reached, behind one timer.
 *
 * Holds: per duration in whole milliseconds, the waits in the order in which they began, which is the
 * order in which they expire. Invariants: a wait ends at its deadline or less than a millisecond after
 * it, whatever the end of another throws; while nothing waits, no timer keeps the process alive; what is
 * called at the end of a wait runs in no async context of another wait. Cost: O(1) to add and to remove,
 * without a call of the system: a timer that is no longer needed stays set until it fires or serves the
 * next wait.
 */
import { type Cancel, runOutside, type Scheduler } from './scheduler.ts';

/** What is called when a wait is over. */
export interface Expiring {
  expire(): void;
}

/** The waits of one duration, a list linked both ways. */
class Queue {
  first: Timeout | null = null;
  last: Timeout | null = null;
}

/** One wait. */
export class Timeout {
  readonly deadline: number;
  /** @internal Null once the wait has ended. */
  queue: Queue | null;
  /** @internal */
  previous: Timeout | null;
  /** @internal */
  next: Timeout | null = null;
  readonly #timeouts: Timeouts;
  readonly #target: Expiring;

  constructor(timeouts: Timeouts, queue: Queue, deadline: number, target: Expiring) {
    this.#timeouts = timeouts;
    this.queue = queue;
    this.deadline = deadline;
    this.#target = target;
    this.previous = queue.last;
    if (queue.last === null) queue.first = this;
    else queue.last.next = this;
    queue.last = this;
  }

  /** Ends the wait; nothing is called. */
  cancel(): void {
    this.#timeouts.remove(this);
  }

  /** @internal */
  expire(): void {
    this.#target.expire();
  }
}

/** Durations whose empty queues are kept for the next wait. */
const MAX_QUEUES = 1000;

export class Timeouts {
  readonly #scheduler: Scheduler;
  readonly #queues = new Map<number, Queue>();
  #size = 0;
  /** Queues at which the empty ones are looked for. */
  #mostQueues = MAX_QUEUES;
  #timer: Cancel | null = null;
  #armedFor = Number.POSITIVE_INFINITY;
  #isHeld = false;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Calls `expire` once `ms` have passed, unless the returned function was called before. */
  add(ms: number, expire: () => void): () => void {
    const timeout = this.start(ms, { expire });
    return () => timeout.cancel();
  }

  /** As `add`; `now` is what the monotonic clock says, where the caller has just read it. */
  start(ms: number, target: Expiring, now = this.#scheduler.monotonic()): Timeout {
    const whole = Math.ceil(ms);
    let queue = this.#queues.get(whole);
    if (queue === undefined) {
      if (this.#queues.size >= this.#mostQueues) this.#forgetEmpty();
      queue = new Queue();
      this.#queues.set(whole, queue);
    }
    const timeout = new Timeout(this, queue, now + whole, target);
    this.#size++;
    if (timeout.deadline < this.#armedFor) this.#arm(timeout.deadline, now);
    else if (!this.#isHeld) this.#hold(true);
    return timeout;
  }

  /** @internal */
  remove(timeout: Timeout): void {
    const { queue, previous, next } = timeout;
    if (queue === null) return;
    timeout.queue = null;
    timeout.previous = null;
    timeout.next = null;
    if (previous === null) queue.first = next;
    else previous.next = next;
    if (next === null) queue.last = previous;
    else next.previous = previous;
    this.#size--;
    if (this.#size === 0) this.#hold(false);
  }

  #forgetEmpty(): void {
    for (const [ms, queue] of this.#queues) if (queue.first === null) this.#queues.delete(ms);
    // Where few are empty the next look comes later: else every new duration would look at all.
    this.#mostQueues = Math.max(MAX_QUEUES, 2 * this.#queues.size);
  }

  /** Whether the timer keeps the process alive. A timer that cannot be let go of is cancelled. */
  #hold(isHeld: boolean): void {
    if (this.#timer === null) return;
    this.#isHeld = isHeld;
    if (this.#timer.keepAlive !== undefined) {
      this.#timer.keepAlive(isHeld);
      return;
    }
    if (isHeld) return;
    this.#timer();
    this.#timer = null;
    this.#armedFor = Number.POSITIVE_INFINITY;
  }

  #arm(deadline: number, now: number): void {
    this.#timer?.();
    this.#armedFor = deadline;
    this.#isHeld = true;
    // It serves every wait: it must not keep the context of the one that sets it.
    this.#timer = runOutside(this.#scheduler, () =>
      this.#scheduler.after(Math.max(0, deadline - now), () => this.#expireDue()),
    );
  }

  #expireDue(): void {
    this.#timer = null;
    this.#isHeld = false;
    this.#armedFor = Number.POSITIVE_INFINITY;
    const now = this.#scheduler.monotonic();
    const due: Timeout[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [ms, queue] of this.#queues) {
      // What is left of a deadline is another duration each time: empty queues must not gather here.
      if (queue.first === null) this.#queues.delete(ms);
      for (let timeout = queue.first; timeout !== null; timeout = timeout.next) {
        // Timers may fire a fraction early.
        if (timeout.deadline > now + 0.5) {
          next = Math.min(next, timeout.deadline);
          break;
        }
        due.push(timeout);
      }
    }
    if (next !== Number.POSITIVE_INFINITY) this.#arm(next, now);
    for (const timeout of due) {
      // One that expired before may have ended the wait of this one.
      if (timeout.queue === null) continue;
      this.remove(timeout);
      try {
        timeout.expire();
      } catch (error) {
        // As uncaught as in a separate timer, and the other waits end in time.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
