/**
 * Latency spikes by event, as LATENCY LATEST and HISTORY show them: for each event the last 160
 * samples (one a second at most, the worst of it), and the worst ever.
 */

export interface LatencySample {
  /** Unix seconds. */
  readonly at: number;
  milliseconds: number;
}

interface LatencyEvent {
  readonly samples: LatencySample[];
  max: number;
}

const SAMPLES = 160;

export class LatencyMonitor {
  /** Milliseconds; 0 = off. */
  threshold = 0;
  readonly events = new Map<string, LatencyEvent>();

  note(event: string, at: number, milliseconds: number): void {
    let found = this.events.get(event);
    if (found === undefined) {
      found = { samples: [], max: 0 };
      this.events.set(event, found);
    }
    found.max = Math.max(found.max, milliseconds);
    const last = found.samples.at(-1);
    if (last?.at === at) {
      last.milliseconds = Math.max(last.milliseconds, milliseconds);
      return;
    }
    found.samples.push({ at, milliseconds });
    if (found.samples.length > SAMPLES) found.samples.shift();
  }

  /** Forgets these events, or all; returns how many there were. */
  reset(names: readonly string[]): number {
    const wanted = names.length === 0 ? [...this.events.keys()] : names;
    return wanted.filter((name) => this.events.delete(name)).length;
  }
}
