/**
 * What a handler's own calls inherit: the deadline of the call that it serves.
 *
 * Invariant: a nested call never lasts longer than the call that caused it, less `MARGIN_MS` for the
 * way back. Cost: one run of an AsyncLocalStorage per call with a deadline.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface Ambient {
  /** Monotonic milliseconds; infinite without a deadline. */
  readonly deadline: number;
  /** Ends when the call that is served ends early. */
  readonly signal: () => AbortSignal;
}

/** Kept for the reply to travel back. */
export const MARGIN_MS = 5;

const storage = new AsyncLocalStorage<Ambient>();

export function currentAmbient(): Ambient | undefined {
  return storage.getStore();
}

export function runWithin<T>(ambient: Ambient, run: () => T): T {
  return storage.run(ambient, run);
}

/** Runs what outlives the call without its deadline: background work that a handler starts. */
export function detached<T>(run: () => T): T {
  return storage.exit(run);
}
