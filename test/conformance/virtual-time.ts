/**
 * The time of this process, played by a scheduler: timers, Date and performance.now, so that cases
 * written for real time run on a virtual clock, as fast as they can, and alike each time.
 *
 * node:test keeps timers of its own, so its timeouts still hold in real time.
 */
import type { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

/** What one look at the clock costs: a loop that waits for it to move must end. */
const LOOK_MS = 0.01;

/** From here on time moves only by itself: to the next timer, whenever nothing else is to do. */
export function playTime(scheduler: VirtualScheduler): () => void {
  const real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    Date: globalThis.Date,
    now: performance.now,
  };
  class VirtualDate extends real.Date {
    constructor(...args: unknown[]) {
      if (args.length === 0) super(scheduler.now());
      else super(...(args as [number]));
    }

    static override now(): number {
      return scheduler.now();
    }
  }
  const cancels = new WeakMap<object, () => void>();
  const setVirtual = (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
    const handle = { ref: () => handle, unref: () => handle };
    cancels.set(
      handle,
      scheduler.after(ms, () => run(...args)),
    );
    return handle;
  };
  const clearVirtual = (handle?: object) => {
    if (handle !== undefined && handle !== null) cancels.get(handle)?.();
  };
  Object.assign(globalThis, {
    setTimeout: setVirtual,
    clearTimeout: clearVirtual,
    Date: VirtualDate,
  });
  performance.now = () => {
    scheduler.elapse(LOOK_MS);
    return scheduler.monotonic();
  };
  let playing = true;
  const play = async () => {
    while (playing) await scheduler.step();
  };
  void play();
  return () => {
    playing = false;
    performance.now = real.now;
    const { setTimeout, clearTimeout } = real;
    Object.assign(globalThis, { setTimeout, clearTimeout, Date: real.Date });
  };
}
