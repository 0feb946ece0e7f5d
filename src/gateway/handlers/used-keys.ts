/**
 * The idempotency keys that this process has taken, and which body came with each.
 *
 * Invariant: a key that was used with another body is 422, because what the client then sent would be lost in
 * silence; at most `maxKeys` are remembered, the one used longest ago leaves first. Cost: one digest.
 */
import { createHash } from 'node:crypto';
import { HttpError } from '../http-error.ts';

export class UsedKeys {
  readonly #bodies = new Map<string, string>();
  readonly #maxKeys: number;

  constructor(maxKeys: number) {
    this.#maxKeys = maxKeys;
  }

  /** Whether the key was used with this body. Throws 422 where it was used with another one. */
  isKnown(key: string, body: Buffer): boolean {
    const known = this.#bodies.get(key);
    if (known !== undefined && known !== digest(body)) throw reused();
    return known !== undefined;
  }

  add(key: string, body: Buffer): void {
    this.#bodies.delete(key);
    this.#bodies.set(key, digest(body));
    if (this.#bodies.size > this.#maxKeys) {
      this.#bodies.delete(this.#bodies.keys().next().value as string);
    }
  }
}

export function reused(): HttpError {
  return new HttpError(422, 'this Idempotency-Key was used with another body');
}

export function digest(text: string | Buffer): string {
  return createHash('sha256').update(text).digest('hex');
}
