/**
 * The time of one turn: read once, the same for everything that the turn does.
 *
 * Three times, because clocks are set. `now` is the date: ids, EXPIRE, AT. `monotonic` measures waits
 * of this process: BLOCK, CLIENT PAUSE. `steady` is a date that no step of the clock moves: delivery
 * times, idle times, ACKWAIT, backoff and delays are counted on it. It is the date less `stepped`, the
 * sum of all steps, which the log and the checkpoint keep, so it goes on over a restart.
 * Invariant: between two turns `steady` advances by as much as the monotonic clock, to within STEP_MS.
 * Cost: two readings of the clock a turn.
 */
import type { Clock } from '../util/time/clock.ts';

/** The date and the monotonic clock moving apart by more than this between two turns is a step, ms. */
const STEP_MS = 1000;

export class TurnClock {
  /** Unix ms. */
  now: number;
  /** Milliseconds since an arbitrary start. */
  monotonic: number;
  /** By how many ms the clock was set forward, all in all; below 0 = set back. */
  stepped = 0;
  readonly #clock: Clock;
  #offset: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.now = clock.now();
    this.monotonic = clock.monotonic();
    this.#offset = this.now - this.monotonic;
  }

  /** Unix ms as if the clock had never been set. */
  get steady(): number {
    return this.now - this.stepped;
  }

  /** Reads the clock; true when it has been set since the last reading. */
  read(): boolean {
    this.now = this.#clock.now();
    this.monotonic = this.#clock.monotonic();
    const offset = this.now - this.monotonic;
    const step = Math.round(offset - this.#offset);
    this.#offset = offset;
    if (Math.abs(step) <= STEP_MS) return false;
    this.stepped += step;
    return true;
  }

  /** Goes on with what an earlier process knew: the clock as it stands is no step. */
  resume(stepped: number): void {
    this.now = this.#clock.now();
    this.monotonic = this.#clock.monotonic();
    this.#offset = this.now - this.monotonic;
    this.stepped = stepped;
  }

  /**
   * An earlier process saw this steady date, so it is not earlier now: the clock was set back while
   * no process was there to see it. True when it was.
   */
  isNotBefore(steady: number): boolean {
    if (this.steady >= steady) return false;
    this.stepped = this.now - steady;
    return true;
  }

  /** When the monotonic clock will show what is `at` by the date. */
  whenDate(at: number): number {
    return this.monotonic + (at - this.now);
  }

  /** When the monotonic clock will show what is `at` by the steady date. */
  whenSteady(at: number): number {
    return this.monotonic + (at - this.steady);
  }
}
