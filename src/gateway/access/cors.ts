/**
 * Cross-origin requests: go-micro's headers, for the origins that were allowed.
 *
 * Invariants: credentials are allowed to origins by name only, never together with `*`, which would let
 * any page act for its reader; go-micro echoes every origin. Each answer says that it depends on the origin, also
 * the answer to a request without one, so that no cache gives it to a page. Cost: one look-up.
 */
import type { IncomingMessage } from 'node:http';

const METHODS = 'POST, PATCH, GET, OPTIONS, PUT, DELETE';
const HEADERS =
  'Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, Idempotency-Key, Last-Event-ID, X-API-Key';
const EXPOSED = 'Micro-Message-Id, Micro-Topic, Idempotency-Replayed, X-Request-Id, Retry-After';

/** The headers of an answer; none where the origin is not allowed. */
export function corsHeaders(
  request: IncomingMessage,
  allowed: readonly string[],
): Record<string, string> {
  const { origin } = request.headers;
  if (allowed.length === 0) return {};
  if (origin === undefined) return { vary: 'Origin' };
  const isNamed = allowed.includes(origin);
  if (!isNamed && !allowed.includes('*')) return { vary: 'Origin' };
  return {
    'access-control-allow-origin': isNamed ? origin : '*',
    ...(isNamed ? { 'access-control-allow-credentials': 'true' } : {}),
    'access-control-allow-methods': METHODS,
    'access-control-allow-headers': HEADERS,
    'access-control-expose-headers': EXPOSED,
    vary: 'Origin',
  };
}

export function isPreflight(request: IncomingMessage): boolean {
  return (
    request.method === 'OPTIONS' && request.headers['access-control-request-method'] !== undefined
  );
}

/** Whether a page of the host itself, or of an origin that was allowed by its name, sends a request. */
export function isOfPage(
  origin: string,
  host: string | undefined,
  allowed: readonly string[],
): boolean {
  if (allowed.includes(origin)) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}
