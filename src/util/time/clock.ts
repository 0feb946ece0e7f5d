/**
 * Time as an argument.
 *
 * Holds: the one interface through which the core learns the time, and the system's own clock.
 * Invariant: nothing below the shells (server, cli, bench) calls Date.now or setTimeout; it is given
 * a Clock, so a seed replays a whole run. Cost: one call.
 */
export interface Clock {
  /** Unix time in whole milliseconds. It may go backwards, as system clocks do. */
  now(): number;
  /** Milliseconds since an arbitrary start, with fractions; never goes backwards. */
  monotonic(): number;
}

// The global is a getter: asked once, not at every command.
const timer = performance;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => timer.now(),
};

/** A clock that moves only when its owner moves it: for tests, simulation and the virtual broker. */
export class ManualClock implements Clock {
  #now: number;
  #monotonic = 0;

  constructor(now = 1_700_000_000_000) {
    this.#now = now;
  }

  now(): number {
    return Math.floor(this.#now);
  }

  monotonic(): number {
    return this.#monotonic;
  }

  advance(ms: number): void {
    this.#now += ms;
    this.#monotonic += ms;
  }

  /** Sets the wall clock alone, backwards too, as an administrator or NTP would. */
  setNow(now: number): void {
    this.#now = now;
  }
}
