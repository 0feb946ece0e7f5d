/**
 * Numbers over time: 10 minutes of seconds and 24 hours of minutes for each name.
 *
 * Invariant: a second without a sample is NaN here and null in JSON; a minute is the mean of its seconds
 * that were measured. Cost: 16 KB a name, allocated when the name is first added; O(1) a sample.
 */
import type { Series } from '../api-types.ts';

const SECONDS = 600;
const MINUTES = 1440;
const A_MINUTE = 60;

class Ring {
  readonly #values: Float64Array;
  readonly #stepMs: number;
  /** Number of the newest step; -1 = none. */
  #newest = -1;

  constructor(length: number, stepMs: number) {
    this.#values = new Float64Array(length).fill(Number.NaN);
    this.#stepMs = stepMs;
  }

  set(at: number, value: number): void {
    const step = Math.floor(at / this.#stepMs);
    const { length } = this.#values;
    if (this.#newest < 0) this.#newest = step;
    // A clock that was set back writes over what is there; one set forward leaves a gap.
    if (step <= this.#newest - length) return;
    const skipped = Math.min(step - this.#newest - 1, length);
    for (let i = 1; i <= skipped; i++) this.#values[(this.#newest + i) % length] = Number.NaN;
    if (step > this.#newest) this.#newest = step;
    this.#values[step % length] = value;
  }

  /** The values of `count` steps up to this one, oldest first. */
  last(step: number, count: number): (number | null)[] {
    const values: (number | null)[] = [];
    const { length } = this.#values;
    for (let at = step - count + 1; at <= step; at++) {
      const isKept = at <= this.#newest && at > this.#newest - length && at >= 0;
      const value = isKept ? this.#values[at % length]! : Number.NaN;
      values.push(Number.isNaN(value) ? null : round(value));
    }
    return values;
  }
}

interface Line {
  readonly seconds: Ring;
  readonly minutes: Ring;
  sum: number;
  count: number;
}

export class SeriesSet {
  readonly #lines = new Map<string, Line>();
  readonly #most: number;
  #second = -1;
  #minute = -1;

  /** `most` names at most; further ones are not kept. */
  constructor(most: number) {
    this.#most = most;
  }

  /** The values of one second, `at` Unix ms. */
  add(at: number, values: Readonly<Record<string, number | null>>): void {
    this.#second = Math.floor(at / 1000);
    const minute = Math.floor(this.#second / A_MINUTE);
    if (minute !== this.#minute) {
      for (const line of this.#lines.values()) line.sum = line.count = 0;
      this.#minute = minute;
    }
    for (const [name, value] of Object.entries(values)) {
      if (value === null) continue;
      let line = this.#lines.get(name);
      if (line === undefined) {
        if (this.#lines.size >= this.#most) continue;
        line = {
          seconds: new Ring(SECONDS, 1000),
          minutes: new Ring(MINUTES, 60_000),
          sum: 0,
          count: 0,
        };
        this.#lines.set(name, line);
      }
      line.seconds.set(at, value);
      line.sum += value;
      line.count++;
      line.minutes.set(at, line.sum / line.count);
    }
  }

  seconds(count = SECONDS): Series {
    return this.#show(this.#second, count, 1000, 'seconds');
  }

  minutes(count = MINUTES): Series {
    return this.#show(this.#minute, count, 60_000, 'minutes');
  }

  #show(step: number, count: number, stepMs: number, kind: 'seconds' | 'minutes'): Series {
    const values: Record<string, (number | null)[]> = {};
    for (const [name, line] of this.#lines) values[name] = line[kind].last(step, count);
    return { from: (step - count + 1) * stepMs, stepMs, values };
  }
}

/** Three digits behind the point: less text for the same picture. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
