/**
 * Which handlers the running code was called from.
 *
 * A handler that awaits its own subscriber's `unsubscribe`, or its broker's `disconnect`, would wait
 * for itself. Holds: one AsyncLocalStorage with the chain of handlers around the running code.
 * Cost: one object for each call of a handler.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

interface Frame {
  readonly owner: object;
  readonly outer: Frame | undefined;
}

const frames = new AsyncLocalStorage<Frame>();

/** Runs a handler on behalf of `owner`. */
export function runInHandler<T>(owner: object, handler: () => T): T {
  return frames.run({ owner, outer: frames.getStore() }, handler);
}

/** Whether the running code is part of a handler whose owner the test accepts. */
export function isInHandler(accepts: (owner: object) => boolean): boolean {
  for (let frame = frames.getStore(); frame !== undefined; frame = frame.outer) {
    if (accepts(frame.owner)) return true;
  }
  return false;
}
