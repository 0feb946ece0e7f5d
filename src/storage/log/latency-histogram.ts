/**
 * Durations: their count, their sum, and a histogram with fixed bounds.
 *
 * As in Prometheus a bucket counts the durations up to its bound; the last bucket has none.
 * Cost: one short loop per value; no allocation.
 */
export const LATENCY_BOUNDS_MS = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500,
] as const;

export class LatencyHistogram {
  count = 0;
  /** Milliseconds, as all values here. */
  sum = 0;
  /** One more than there are bounds; not cumulative. */
  readonly buckets: number[] = new Array(LATENCY_BOUNDS_MS.length + 1).fill(0);

  record(ms: number): void {
    this.count++;
    this.sum += ms;
    let i = 0;
    while (i < LATENCY_BOUNDS_MS.length && ms > LATENCY_BOUNDS_MS[i]) i++;
    this.buckets[i]++;
  }
}
