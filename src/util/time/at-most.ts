/** Waiting for what may not come. Cost: one timer. */
import type { Scheduler } from './scheduler.ts';

/** Resolves when what `watch` is given is called, or after `ms`; at once where that is no time. */
export async function atMost(
  scheduler: Scheduler,
  ms: number,
  watch: (resolve: () => void) => void,
): Promise<void> {
  if (!(ms > 0)) return;
  await new Promise<void>((resolve) => {
    const stop = scheduler.after(ms, resolve);
    watch(() => {
      stop();
      resolve();
    });
  });
}
