/**
 * A scheduler whose time moves only when its owner moves it: a day of backoff passes in a millisecond.
 *
 * Invariant: timers run in order of their time, equal ones in the order they were set; the next
 * timer runs when everything that the one before it began has ended or waits. Equal seeds give equal runs.
 * Cost: O(timers) per step.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Random } from '../random.ts';
import { ManualClock } from './clock.ts';
import type { Scheduler } from './scheduler.ts';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export class VirtualScheduler implements Scheduler {
  readonly #clock: ManualClock;
  readonly #random: Random;
  readonly #timers = new Set<Timer>();
  #order = 0;

  constructor(seed = 1, now?: number) {
    this.#clock = new ManualClock(now);
    this.#random = new Random(seed);
  }

  now(): number {
    return this.#clock.now();
  }

  monotonic(): number {
    return this.#clock.monotonic();
  }

  fraction(): number {
    return this.#random.fraction();
  }

  uniqueName(): string {
    return `${this.#random.uint32().toString(36)}${this.#random.uint32().toString(36)}`;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.monotonic() + Math.max(0, ms), order: this.#order++, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** How many timers are set: 0 after a clean shutdown. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /** Lets `ms` pass, running what falls due on the way, and everything to rest after each. */
  async advance(ms: number): Promise<void> {
    const end = this.monotonic() + ms;
    await this.settle();
    for (let next = this.#next(end); next !== null; next = this.#next(end)) {
      this.#timers.delete(next);
      this.#clock.advance(Math.max(0, next.at - this.monotonic()));
      next.run();
      await this.settle();
    }
    this.#clock.advance(Math.max(0, end - this.monotonic()));
    await this.settle();
  }

  /** Goes to the next timer, however far, and runs it; false when none is set. */
  async step(): Promise<boolean> {
    await this.settle();
    const next = this.#next(Number.POSITIVE_INFINITY);
    if (next === null) return false;
    await this.advance(Math.max(0, next.at - this.monotonic()));
    return true;
  }

  /** Sets the date, as an administrator or NTP does; durations are not affected. */
  setDate(unixMs: number): void {
    this.#clock.setNow(unixMs);
  }

  /** Lets time pass and nothing happen, as when a handler keeps the loop busy. */
  elapse(ms: number): void {
    this.#clock.advance(ms);
  }

  /** Lets everything that has begun settle, without time passing. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 3; turn++) await nextTurn();
  }

  #next(end: number): Timer | null {
    let first: Timer | null = null;
    for (const timer of this.#timers) {
      if (timer.at > end) continue;
      if (
        first === null ||
        timer.at < first.at ||
        (timer.at === first.at && timer.order < first.order)
      ) {
        first = timer;
      }
    }
    return first;
  }
}
