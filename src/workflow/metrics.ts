/**
 * What a worker counts and times. Numbers only, no labels of instances, so it stays small.
 */
import type { ExecutionEvent, Stopped } from './execution/host.ts';

/** Upper bounds of the classes of times, milliseconds. */
const BOUNDS = [1, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 60_000, 600_000] as const;

export interface Times {
  readonly count: number;
  readonly sumMs: number;
  readonly maxMs: number;
  /** How many took at most this many milliseconds, by bound. */
  readonly buckets: Readonly<Record<string, number>>;
}

export interface WorkflowMetrics {
  /** Instances that are awake here. */
  readonly awake: number;
  /** How often an instance stopped here, and how. */
  readonly stopped: Readonly<Record<Stopped, number>>;
  readonly steps: Times;
  readonly failedSteps: number;
  readonly replays: Times;
  readonly replayedRecords: number;
  /** From the time at which an instance was to wake to the time at which it was taken up here. */
  readonly wakeLag: Times;
}

class Timing {
  #count = 0;
  #sum = 0;
  #max = 0;
  readonly #classes: number[] = BOUNDS.map(() => 0);

  add(ms: number): void {
    this.#count++;
    this.#sum += ms;
    this.#max = Math.max(this.#max, ms);
    for (const [i, bound] of BOUNDS.entries()) if (ms <= bound) this.#classes[i]!++;
  }

  snapshot(): Times {
    const buckets = Object.fromEntries(BOUNDS.map((bound, i) => [bound, this.#classes[i]!]));
    return { count: this.#count, sumMs: this.#sum, maxMs: this.#max, buckets };
  }
}

export class Metrics {
  readonly #steps = new Timing();
  readonly #replays = new Timing();
  readonly #wakes = new Timing();
  readonly #stopped: Record<Stopped, number> = {
    ended: 0,
    suspended: 0,
    parked: 0,
    fenced: 0,
    left: 0,
    lost: 0,
    failed: 0,
  };
  #failedSteps = 0;
  #records = 0;

  observe(event: ExecutionEvent): void {
    switch (event.kind) {
      case 'step':
        this.#steps.add(event.ms);
        if (!event.ok) this.#failedSteps++;
        break;
      case 'replay':
        this.#replays.add(event.ms);
        this.#records += event.records;
        break;
      case 'woken':
        this.#wakes.add(event.lagMs);
        break;
      case 'stopped':
        this.#stopped[event.as]++;
        break;
    }
  }

  snapshot(awake: number): WorkflowMetrics {
    return {
      awake,
      stopped: { ...this.#stopped },
      steps: this.#steps.snapshot(),
      failedSteps: this.#failedSteps,
      replays: this.#replays.snapshot(),
      replayedRecords: this.#records,
      wakeLag: this.#wakes.snapshot(),
    };
  }
}
