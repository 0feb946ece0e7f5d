/**
 * How many requests a client may send: a bucket of tokens for each client and rule.
 *
 * Invariants: a client that pauses gets its burst back and no more; at most MAX_CLIENTS buckets are
 * kept, the one used longest ago leaves first, so that addresses without end need no memory without end.
 * Cost: one map look-up.
 */
import { HttpError } from '../http-error.ts';

const MAX_CLIENTS = 100_000;

export class RateLimiter {
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  /** Throws 429 with the seconds until the next request is welcome. */
  take(
    client: string,
    limit: { readonly perSecond: number; readonly burst: number },
    nowMs: number,
  ): void {
    const { perSecond, burst } = limit;
    const before = this.#buckets.get(client);
    const gained = before === undefined ? 0 : (Math.max(0, nowMs - before.at) / 1000) * perSecond;
    const tokens = before === undefined ? burst : Math.min(burst, before.tokens + gained);
    this.#buckets.delete(client);
    this.#buckets.set(client, { tokens: Math.max(0, tokens < 1 ? tokens : tokens - 1), at: nowMs });
    if (this.#buckets.size > MAX_CLIENTS) {
      this.#buckets.delete(this.#buckets.keys().next().value as string);
    }
    if (tokens >= 1) return;
    const seconds = Math.max(1, Math.ceil((1 - tokens) / perSecond));
    const text = `at most ${perSecond} requests a second of one client`;
    throw new HttpError(429, text, { 'retry-after': String(seconds) });
  }
}
