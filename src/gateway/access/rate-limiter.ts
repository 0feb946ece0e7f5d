/**
 * How many requests a client may send: a bucket of tokens for each client and rule.
 *
 * Invariants: a client that pauses gets its burst back and no more; at most `maxClients` buckets are
 * kept, the one used longest ago leaves first, so that addresses without end need no memory without end.
 * Cost: one map look-up.
 */
import { isIPv6 } from 'node:net';
import { HttpError } from '../http-error.ts';

export class RateLimiter {
  readonly #buckets = new Map<string, { tokens: number; at: number }>();
  readonly #maxClients: number;

  constructor(maxClients: number) {
    this.#maxClients = maxClients;
  }

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
    if (this.#buckets.size > this.#maxClients) {
      this.#buckets.delete(this.#buckets.keys().next().value as string);
    }
    if (tokens >= 1) return;
    const seconds = Math.max(1, Math.ceil((1 - tokens) / perSecond));
    const text = `at most ${perSecond} requests a second of one client`;
    throw new HttpError(429, text, { 'retry-after': String(seconds) });
  }
}

/** What counts as one client: an IPv4 address, or the 64 bits that one holder of IPv6 addresses has in common. */
export function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address;
  const [before = '', after] = address.replace(/%.*$/, '').split('::');
  const left = before === '' ? [] : before.split(':');
  const right = after === undefined || after === '' ? [] : after.split(':');
  const zeros = after === undefined ? 0 : 8 - left.length - right.length;
  const words = [...left, ...Array.from({ length: zeros }, () => '0'), ...right];
  return `${words
    .slice(0, 4)
    .map((word) => Number.parseInt(word, 16).toString(16))
    .join(':')}::/64`;
}
