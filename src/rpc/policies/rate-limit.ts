/**
 * The rate limit of a method: a token bucket per endpoint.
 *
 * Invariant: in any second at most `perSecond` calls pass beyond a `burst` that has been saved up; what
 * does not pass is LIMIT_EXCEEDED with the wait until the next, and has run no handler. The client and
 * the server each keep their own. Cost: a few additions per call of a limited method.
 */
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { AnyMethod } from '../contract.ts';

interface Bucket {
  tokens: number;
  /** Monotonic milliseconds of the last refill. */
  at: number;
}

export class RateLimits {
  readonly #scheduler: Scheduler;
  /** By method: as many as there are in contracts. */
  readonly #buckets = new Map<AnyMethod, Bucket>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Counts a call. Throws LIMIT_EXCEEDED when the method has none left. */
  pass(endpoint: string, method: AnyMethod): void {
    const limit = method.options.rateLimit;
    if (limit === undefined) return;
    const { perSecond, burst = Math.max(1, Math.ceil(perSecond)) } = limit;
    const now = this.#scheduler.monotonic();
    let bucket = this.#buckets.get(method);
    if (bucket === undefined) {
      bucket = { tokens: burst, at: now };
      this.#buckets.set(method, bucket);
    }
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1000) * perSecond);
    bucket.at = now;
    // A thousandth of a call is the rounding of many small refills.
    if (bucket.tokens < 0.999) {
      const wait = Math.ceil(((1 - bucket.tokens) / perSecond) * 1000);
      const text = `${endpoint} takes ${perSecond} calls a second; the next one in ${wait} ms`;
      throw new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
    }
    bucket.tokens -= 1;
  }
}
