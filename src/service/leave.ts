/**
 * The end of a process's part in a network, where others may not answer.
 *
 * Invariants: each step begins when the one before it has ended, as one may need what the next closes; after
 * `LEAVE_MS` all that have not begun begin at once, so that what one waits for keeps no connection of another
 * open, and none is waited for. A step that fails stops no other. Cost: one timer.
 */
import type { Scheduler } from '../util/time/scheduler.ts';

/** How long brokers, registries and services are waited for. */
export const LEAVE_MS = 2000;

/** Resolves when all steps have ended, after `LEAVE_MS` at most; rejects with the first failure before that. */
export async function leaveWithin(
  scheduler: Scheduler,
  steps: readonly (() => Promise<void>)[],
): Promise<void> {
  const rest = [...steps];
  const failures: unknown[] = [];
  const next = async () => {
    await rest
      .shift()?.()
      .catch((error) => failures.push(error));
  };
  const all = async () => {
    while (rest.length > 0) await next();
  };
  let cancel = () => {};
  const late = new Promise<void>((resolve) => {
    cancel = scheduler.after(LEAVE_MS, resolve);
  });
  try {
    await Promise.race([all(), late]);
  } finally {
    cancel();
  }
  while (rest.length > 0) void next();
  if (failures.length > 0) throw failures[0];
}
