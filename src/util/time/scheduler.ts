/**
 * Time, timers and randomness, as one argument.
 *
 * Holds: the interface. Invariant: brokers, transports, registries, selectors and RPC set no timer,
 * read no time and draw no number except through a Scheduler, so a run on a virtual scheduler is
 * deterministic. Cost: one call.
 */
import type { Clock } from './clock.ts';
import { onAbort } from './on-abort.ts';

/** Ends a timer; may be called at any time. */
export interface Cancel {
  (): void;
  /** Whether the timer alone keeps the process alive. Not there where the scheduler cannot change that. */
  readonly keepAlive?: (on: boolean) => void;
}

export interface Scheduler extends Clock {
  /**
   * Runs once, `ms` from now; the returned function cancels and may be called at any time. With
   * `keepsAlive` false the timer alone does not keep the process from ending.
   */
  after(ms: number, run: () => void, keepsAlive?: boolean): Cancel;
  /** Runs at once, in no async context of its caller; not there where timers keep no context. */
  outside?<T>(run: () => T): T;
  /** A number in [0, 1), for jitter and for choosing among equals. */
  fraction(): number;
  /** A fresh word of `[0-9a-z]`, unique among all processes, for names of consumers and inboxes. */
  uniqueName(): string;
}

/** Runs what outlives its caller, such as a socket, without holding the call or message that its caller serves. */
export function runOutside<T>(scheduler: Scheduler, run: () => T): T {
  return scheduler.outside === undefined ? run() : scheduler.outside(run);
}

/** Resolves after `ms`, or rejects with the signal's reason; leaves no timer behind. */
export function pause(scheduler: Scheduler, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    let unwatch = () => {};
    const cancel = scheduler.after(ms, () => {
      unwatch();
      resolve();
    });
    if (signal === undefined) return;
    unwatch = onAbort(signal, () => {
      cancel();
      reject(signal.reason);
    });
  });
}
