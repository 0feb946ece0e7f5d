/**
 * Long work in slices: after `SLICE_MS` the rest waits for a new turn of the event loop, so that timers and
 * sockets are served.
 *
 * The work is a generator, which yields where it may be interrupted. Invariant: it is done in order, and
 * what it throws rejects the promise. Cost: one look at the clock for each step, one timer for each slice.
 */
import { pause, type Scheduler } from './scheduler.ts';

const SLICE_MS = 10;

/** Resolves with what the work returns; undefined where the signal was aborted before the work had ended. */
export async function inTurns<T>(scheduler: Scheduler, work: Generator<unknown, T>): Promise<T>;
export async function inTurns<T>(
  scheduler: Scheduler,
  work: Generator<unknown, T>,
  signal: AbortSignal,
): Promise<T | undefined>;
export async function inTurns<T>(
  scheduler: Scheduler,
  work: Generator<unknown, T>,
  signal?: AbortSignal,
): Promise<T | undefined> {
  let until = scheduler.monotonic() + SLICE_MS;
  for (;;) {
    if (signal?.aborted) {
      work.return(undefined as T);
      return undefined;
    }
    const { done, value } = work.next();
    if (done) return value;
    if (scheduler.monotonic() < until) continue;
    await pause(scheduler, 0);
    until = scheduler.monotonic() + SLICE_MS;
  }
}
