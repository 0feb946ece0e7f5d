/**
 * What a sender gets while it may go on at once: always this promise, so that a loop can tell that there
 * is nothing to wait for. Cost: none.
 */
export const READY: Promise<void> = Promise.resolve();
