/**
 * Clients with output that is sent at the end of this turn of the event loop, all together.
 *
 * Why: a write wakes its reader. Sent one by one between the commands of a turn, each write wakes the
 * client for one reply, and the kernel spends more time on waking than on sending. Sent together they wake
 * it once. Redis does the same (handleClientsWithPendingWrites).
 * Invariants: output is sent in the turn in which it was added, or earlier when the turn takes longer than
 * DELAY_MS. When more than MAX_PER_TURN clients have output, MAX_PER_TURN of them are served per turn, in
 * order, so that other clients' commands run in between.
 * Cost: one entry in a list per client and turn.
 */

/** A reply waits no longer than this for others. */
const DELAY_MS = 1;

/** Clients that are written to in one turn: about 10 ms of work. */
const MAX_PER_TURN = 512;

export interface PendingWrite {
  /** Hands the output to the socket. */
  send(): void;
}

export class PendingWrites {
  readonly #now: () => number;
  readonly #failed: (error: unknown) => void;
  #waiting: PendingWrite[] = [];
  /** The list that was emptied last, to be filled next. */
  #spare: PendingWrite[] = [];
  /** Monotonic ms since which the first of the list waits. */
  #since = 0;

  /** `now`: monotonic ms; the time of the last command will do. `failed`: a socket refused the write. */
  constructor(now: () => number, failed: (error: unknown) => void = () => {}) {
    this.#now = now;
    this.#failed = failed;
  }

  /** This client has output to send; `send` is called once for it. */
  add(client: PendingWrite): void {
    if (this.#waiting.push(client) === 1) {
      this.#since = this.#now();
      setImmediate(this.#flush);
    } else if (this.#now() - this.#since > DELAY_MS) {
      this.#flush();
    }
  }

  readonly #flush = (): void => {
    let sending = this.#waiting;
    this.#waiting = this.#spare;
    if (sending.length > MAX_PER_TURN) {
      this.#waiting = sending.slice(MAX_PER_TURN);
      sending = sending.slice(0, MAX_PER_TURN);
      this.#since = this.#now();
      setImmediate(this.#flush);
    }
    for (const client of sending) {
      try {
        client.send();
      } catch (error) {
        this.#failed(error);
      }
    }
    sending.length = 0;
    this.#spare = sending;
  };
}
