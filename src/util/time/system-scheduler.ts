/** The system's own time, timers and randomness: a shell, which the core never imports. */
import { AsyncResource } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { systemClock } from './clock.ts';
import type { Scheduler } from './scheduler.ts';

const outside = new AsyncResource('RivuletScheduler', { requireManualDestroy: true });

export const systemScheduler: Scheduler = {
  ...systemClock,
  after(ms, run, keepsAlive = true) {
    const timer = setTimeout(run, Math.min(Math.max(0, ms), LONGEST_MS));
    if (!keepsAlive) timer.unref();
    const cancel = () => clearTimeout(timer);
    return Object.assign(cancel, {
      keepAlive: (on: boolean) => void (on ? timer.ref() : timer.unref()),
    });
  },
  outside: (run) => outside.runInAsyncScope(run),
  fraction: () => Math.random(),
  uniqueName: () => BigInt(`0x${randomBytes(8).toString('hex')}`).toString(36),
};

/** setTimeout fires at once when asked for more. A caller that waits longer checks its deadline again when the timer fires. */
const LONGEST_MS = 2 ** 31 - 1;
