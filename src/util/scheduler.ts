/**
 * Time, timers and randomness, as one argument.
 *
 * Holds: the interface. Invariant: brokers, transports, registries, selectors and RPC set no timer,
 * read no time and draw no number except through a Scheduler, so a run on a virtual scheduler is
 * deterministic. Cost: one call.
 */
import type { Clock } from './clock.ts';

export interface Scheduler extends Clock {
  /**
   * Runs once, `ms` from now; the returned function cancels and may be called at any time. With
   * `keepsAlive` false the timer alone does not keep the process from ending.
   */
  after(ms: number, run: () => void, keepsAlive?: boolean): () => void;
  /** A number in [0, 1), for jitter and for choosing among equals. */
  fraction(): number;
  /** A fresh word of `[0-9a-z]`, unique among all processes, for names of consumers and inboxes. */
  uniqueName(): string;
}

/** Resolves after `ms`, or rejects with the signal's reason; leaves no timer behind. */
export function pause(scheduler: Scheduler, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const cancel = scheduler.after(ms, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    const abort = () => {
      cancel();
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', abort, { once: true });
  });
}
