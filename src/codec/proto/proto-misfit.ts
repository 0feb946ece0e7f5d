/**
 * Why a value does not fit a protobuf type, and where in the value.
 *
 * Invariant: it never leaves this folder; proto-types.ts turns it into VALIDATION_FAILED. The path is
 * put together while the error rises, so a value that fits pays nothing for it.
 */
export class Misfit extends Error {
  #path = '';

  get path(): string {
    return this.#path;
  }

  /** Adds the step above: `.name` or `[0]`. */
  within(step: string): this {
    this.#path = step + this.#path;
    return this;
  }
}

/** Runs again at each level: the step is added to a Misfit, and anything else passes. */
export function rethrow(error: unknown, step: string): never {
  throw error instanceof Misfit ? error.within(step) : error;
}

/** A value as an error shows it: short, and without its stack. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (typeof value === 'bigint') return `${value}n`.slice(0, 40);
  if (value === null || typeof value !== 'object') return String(value).slice(0, 40);
  if (Array.isArray(value)) return 'a list';
  return value instanceof Uint8Array ? 'bytes' : 'an object';
}
