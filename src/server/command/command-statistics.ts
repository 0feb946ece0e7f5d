/**
 * The counters of one command, for INFO commandstats, LATENCY HISTOGRAM and /metrics.
 *
 * Holds: counters and a histogram of run times in powers of two microseconds.
 * Cost: `record` is a few additions.
 */

/** Bucket i counts run times below 2^i microseconds; the last one everything longer (about 16 s). */
export const HISTOGRAM_BUCKETS = 25;

export class CommandStatistics {
  calls = 0;
  microseconds = 0;
  /** Refused before they ran: arity, ACL, memory. */
  rejected = 0;
  /** Ran and replied with an error. */
  failed = 0;
  readonly histogram = new Float64Array(HISTOGRAM_BUCKETS);

  record(microseconds: number): void {
    this.calls++;
    this.microseconds += microseconds;
    const bucket = microseconds < 1 ? 0 : 32 - Math.clz32(microseconds);
    this.histogram[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]!++;
  }

  /** The upper bound, in microseconds, of the bucket in which this share of calls has ended. */
  percentile(share: number): number {
    const wanted = this.calls * share;
    let seen = 0;
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++) {
      seen += this.histogram[i]!;
      if (seen >= wanted && seen > 0) return 2 ** i;
    }
    return 0;
  }

  reset(): void {
    this.calls = this.microseconds = this.rejected = this.failed = 0;
    this.histogram.fill(0);
  }
}
