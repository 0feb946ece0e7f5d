/**
 * Output that leaves at the end of this round of the event loop, that of all connections together.
 *
 * Why: a write wakes its reader. Written one by one between the commands of a round, each wakes the
 * client for one reply, and the kernel spends more on waking than on sending; together they wake it
 * once. Redis does the same (handleClientsWithPendingWrites).
 * Invariant: what is added leaves in this round, or sooner when the round takes longer than PATIENCE_MS.
 * Cost: one entry in a list per connection and round.
 */
import type { OutputQueue } from './output-queue.ts';

/** A reply waits no longer than this for others, in ms. */
const PATIENCE_MS = 1;

export class Departures {
  readonly #now: () => number;
  readonly #failed: (error: unknown) => void;
  #waiting: OutputQueue[] = [];
  // The one just emptied, to be filled next.
  #spare: OutputQueue[] = [];
  #since = 0;

  /** `now`: monotonic ms, as of the last command will do. `failed`: a socket refused the write. */
  constructor(now: () => number, failed: (error: unknown) => void = () => {}) {
    this.#now = now;
    this.#failed = failed;
  }

  /** The queue has something to send; it is asked to once. */
  add(queue: OutputQueue): void {
    if (this.#waiting.push(queue) === 1) {
      this.#since = this.#now();
      setImmediate(this.#leave);
    } else if (this.#now() - this.#since > PATIENCE_MS) {
      this.#leave();
    }
  }

  readonly #leave = (): void => {
    const leaving = this.#waiting;
    this.#waiting = this.#spare;
    for (const queue of leaving) {
      try {
        queue.depart();
      } catch (error) {
        this.#failed(error);
      }
    }
    leaving.length = 0;
    this.#spare = leaving;
  };
}
