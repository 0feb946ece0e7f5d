/**
 * What peers make this process hold.
 *
 * Invariants: what all calls of one peer hold never grows beyond `most`; a body that is kept keeps at most
 * `MOST_KEPT` times its own size, or a piece of Node's pool. Cost: one number; one copy of a body that is a
 * small part of what was read at once.
 */
export class HeldBytes {
  readonly #most: number;
  #bytes = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** False where more would be held than may be, and nothing is counted; what shrinks always is. */
  change(by: number): boolean {
    if (by > 0 && this.#bytes + by > this.#most) return false;
    this.#bytes += by;
    return true;
  }
}

/** Times its own size that a body may keep of what was read together with it. */
const MOST_KEPT = 4;

/** Whether it would keep far more memory than its own. */
export function isSmallPart(body: Uint8Array): boolean {
  return body.length * MOST_KEPT < body.buffer.byteLength;
}

export function keptOf(body: Uint8Array): Uint8Array {
  return isSmallPart(body) ? Buffer.from(body) : body;
}
