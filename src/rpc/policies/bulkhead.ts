/**
 * The bulkhead: how many calls to one service may be in flight, so that one slow service does not take
 * all of a process.
 *
 * Invariants: at most `maxConcurrent` calls to a service run at once; at most `maxQueue` more wait, in
 * order, each until its own deadline or signal; the rest is refused at once with LIMIT_EXCEEDED, `sent:
 * 'no'`; a place that becomes free goes to the one that has waited longest. Streams are not counted:
 * their transports bound them. Cost: one map look-up per call.
 */
import { checkOptions, count, type OptionTable } from '../../client/option-table.ts';
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

export interface BulkheadOptions {
  /** Calls to one service at once. Default 1 000. */
  readonly maxConcurrent?: number;
  /** Calls that wait for a place. Default 10 000. */
  readonly maxQueue?: number;
}

export const bulkheadTable: OptionTable = {
  maxConcurrent: count(1, 1_000_000),
  maxQueue: count(0, 1_000_000),
};

interface Waiting {
  readonly enter: () => void;
  isOver: boolean;
}

interface Compartment {
  running: number;
  /** Made when a call first has to wait. */
  queue: Set<Waiting> | null;
}

const NONE: ReadonlySet<Waiting> = new Set();

export class Bulkhead {
  readonly #scheduler: Scheduler;
  readonly #maxConcurrent: number;
  readonly #maxQueue: number;
  readonly #services = new Map<string, Compartment>();

  constructor(scheduler: Scheduler, options: BulkheadOptions = {}) {
    checkOptions(bulkheadTable, options, 'bulkhead.');
    this.#scheduler = scheduler;
    this.#maxConcurrent = options.maxConcurrent ?? 1000;
    this.#maxQueue = options.maxQueue ?? 10_000;
  }

  /** Services with calls. */
  get size(): number {
    return this.#services.size;
  }

  /** Takes a place; a promise where one must be waited for until `deadline` (monotonic milliseconds). */
  enter(service: string, deadline: number, signal: AbortSignal | undefined): Promise<void> | null {
    let compartment = this.#services.get(service);
    if (compartment === undefined) {
      compartment = { running: 0, queue: null };
      this.#services.set(service, compartment);
    }
    if (compartment.running < this.#maxConcurrent) {
      compartment.running++;
      return null;
    }
    compartment.queue ??= new Set();
    if (compartment.queue.size >= this.#maxQueue) {
      const text = `${this.#maxConcurrent} calls to ${service} run and ${compartment.queue.size} wait, which is the limit`;
      return Promise.reject(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' }));
    }
    return this.#wait(service, compartment.queue, deadline, signal);
  }

  /** Gives a place back: once for each `enter` that succeeded. */
  leave(service: string): void {
    const compartment = this.#services.get(service);
    if (compartment === undefined) return;
    for (const next of compartment.queue ?? NONE) {
      // The place changes hands.
      compartment.queue?.delete(next);
      next.enter();
      return;
    }
    compartment.running--;
    if (compartment.running === 0) this.#services.delete(service);
  }

  #wait(
    service: string,
    queue: Set<Waiting>,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      let stop = () => {};
      let unwatch = () => {};
      const finish = (settle: () => void) => {
        if (waiting.isOver) return;
        waiting.isOver = true;
        queue.delete(waiting);
        stop();
        unwatch();
        settle();
      };
      const fail = (code: 'TIMEOUT' | 'ABORTED', text: string) =>
        finish(() => reject(new RivuletError(code, text, { sent: 'no', cause: signal?.reason })));
      const abort = () => fail('ABORTED', `the call to ${service} was aborted while it waited`);
      const waiting: Waiting = { isOver: false, enter: () => finish(resolve) };
      if (signal?.aborted) {
        abort();
        return;
      }
      queue.add(waiting);
      if (signal !== undefined) unwatch = onAbort(signal, abort);
      if (deadline !== Number.POSITIVE_INFINITY) {
        const ms = Math.max(0, deadline - this.#scheduler.monotonic());
        const text = `the deadline passed while the call waited for one of ${this.#maxConcurrent} places of ${service}`;
        stop = this.#scheduler.after(ms, () => fail('TIMEOUT', text));
      }
    });
  }
}
