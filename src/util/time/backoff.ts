/**
 * How long to wait before what failed is tried again: longer after each failure, up to a bound, and never
 * by all at the same time.
 */

export interface Backoff {
  readonly minMs: number;
  readonly maxMs: number;
  /** Each wait is this many times the one before. */
  readonly factor: number;
  readonly jitter: boolean;
}

/** The wait after the n-th failure, ms. With jitter it is half of it to all of it, by `fraction` in [0, 1). */
export function backoffMs(rule: Backoff, failures: number, fraction: number): number {
  const { minMs, maxMs, factor, jitter } = rule;
  const full = Math.min(maxMs, minMs * factor ** Math.max(0, failures - 1));
  return Math.round(jitter ? full * (0.5 + fraction / 2) : full);
}
