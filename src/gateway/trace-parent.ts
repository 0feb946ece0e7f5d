/**
 * The W3C trace of a request: the client's goes on, a request without one begins one.
 *
 * Invariant: ids are random bytes of the system. Cost: a two hundredth of a call for random bytes.
 */
import { randomFillSync } from 'node:crypto';

const ID_BYTES = 24;
const pool = Buffer.allocUnsafe(200 * ID_BYTES);
let used = pool.length;
const WHOLE = /^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

export function traceparentOf(given: string): string {
  if (given !== '' && WHOLE.test(given)) return given;
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const hex = pool.toString('hex', used, used + ID_BYTES);
  used += ID_BYTES;
  return `00-${hex.slice(0, 32)}-${hex.slice(32)}-01`;
}
