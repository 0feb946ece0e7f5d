/**
 * Work in microtasks that leaves the event loop its turns: after `most` rounds within one turn the next
 * round waits for a new turn, so that timers and sockets are served.
 *
 * Invariant: each round runs once, in the order of the calls. Cost: one immediate for each turn in which
 * there is a round.
 */
export class TurnBudget {
  readonly #most: number;
  #rounds = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Runs `round` in a microtask, or in the next turn where this turn has had its rounds. */
  run(round: () => void): void {
    if (this.#rounds === 0) {
      setImmediate(() => {
        this.#rounds = 0;
      });
    }
    this.#rounds++;
    if (this.#rounds > this.#most) setImmediate(round);
    else queueMicrotask(round);
  }
}
