/**
 * The idempotency keys that this process has taken, and which body came with each.
 *
 * Invariants: a key that was used with another body is 422, because what the client then sent would be lost in
 * silence; a key is known as stored only after its body was; at most `maxKeys` are remembered, the one used
 * longest ago leaves first. Cost: one digest.
 */
import { createHash } from 'node:crypto';
import { HttpError } from '../http-error.ts';

interface UsedKey {
  readonly digest: string;
  isStored: boolean;
}

export class UsedKeys {
  readonly #keys = new Map<string, UsedKey>();
  readonly #maxKeys: number;

  constructor(maxKeys: number) {
    this.#maxKeys = maxKeys;
  }

  /** Whether this body was stored under the key. Throws 422 where the key was used with another one. */
  isStored(key: string, digest: string): boolean {
    const known = this.#keys.get(key);
    if (known !== undefined && known.digest !== digest) throw reused();
    return known?.isStored === true;
  }

  /** Takes the key before its body is stored, or notes that it was. */
  add(key: string, digest: string, isStored: boolean): void {
    const known = this.#keys.get(key);
    this.#keys.delete(key);
    this.#keys.set(key, { digest, isStored: isStored || known?.isStored === true });
    if (this.#keys.size > this.#maxKeys) {
      this.#keys.delete(this.#keys.keys().next().value as string);
    }
  }

  /** This body was not stored: another one may take the key. */
  giveBack(key: string, digest: string): void {
    const known = this.#keys.get(key);
    if (known?.digest === digest && !known.isStored) this.#keys.delete(key);
  }
}

export function reused(): HttpError {
  return new HttpError(422, 'this Idempotency-Key was used with another body');
}

export function digest(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}
