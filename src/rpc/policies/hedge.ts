/**
 * Hedging: a second attempt when the first has not answered in time; the first answer wins.
 *
 * Invariants: at most two attempts run; the loser is cancelled as soon as there is a winner; when one
 * fails while the other runs, the other decides; without a second attempt the first one's failure is the
 * outcome. Cost: one timer, and one AbortController per attempt.
 */
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

export type Attempting<T> = (signal: AbortSignal, isHedge: boolean) => Promise<T>;

/** `mayHedge` is asked when the time has come. */
export function hedged<T>(
  scheduler: Scheduler,
  afterMs: number,
  outer: AbortSignal | undefined,
  mayHedge: () => boolean,
  attempt: Attempting<T>,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const attempts: AbortController[] = [];
    let running = 0;
    let isOver = false;
    let unwatch = () => {};
    const finish = (settle: () => void) => {
      if (isOver) return;
      isOver = true;
      stop();
      unwatch();
      settle();
      for (const each of attempts) each.abort();
    };
    const start = (isHedge: boolean) => {
      const controller = new AbortController();
      attempts.push(controller);
      running++;
      attempt(controller.signal, isHedge).then(
        (value) => finish(() => resolve(value)),
        (error) => {
          running--;
          if (running === 0) finish(() => reject(error));
        },
      );
    };
    // The attempts report the abort themselves.
    const abort = () => {
      stop();
      for (const each of attempts) each.abort(outer?.reason);
    };
    const stop = scheduler.after(afterMs, () => {
      if (!isOver && mayHedge()) start(true);
    });
    start(false);
    if (outer !== undefined) unwatch = onAbort(outer, abort);
  });
}
