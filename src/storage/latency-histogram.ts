/**
 * How long something took: count, sum, largest, last and a histogram with fixed bounds.
 *
 * Bounds are Prometheus's style: a bucket counts what took at most its bound, the last one is +Inf.
 * Cost: one short loop per value; no allocation.
 */
export const LATENCY_BOUNDS_MS = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500,
] as const;

export class LatencyHistogram {
  count = 0;
  /** Milliseconds, as all values here. */
  sum = 0;
  max = 0;
  last = 0;
  /** One more than there are bounds; not cumulative. */
  readonly buckets: number[] = new Array(LATENCY_BOUNDS_MS.length + 1).fill(0);

  record(ms: number): void {
    this.count++;
    this.sum += ms;
    this.last = ms;
    if (ms > this.max) this.max = ms;
    let i = 0;
    while (i < LATENCY_BOUNDS_MS.length && ms > LATENCY_BOUNDS_MS[i]) i++;
    this.buckets[i]++;
  }

  /** An upper bound of the q-quantile (0..1) from the buckets; `max` beyond the last bound. */
  quantile(q: number): number {
    const rank = Math.ceil(q * this.count);
    let seen = 0;
    for (let i = 0; i < LATENCY_BOUNDS_MS.length; i++) {
      seen += this.buckets[i];
      if (seen >= rank) return LATENCY_BOUNDS_MS[i];
    }
    return this.max;
  }
}
