/**
 * Keeps deliveries at this consumer until their deadlines.
 *
 * The server redelivers a message that is not acknowledged within `ackWaitMs`, and cannot move that
 * deadline by an arbitrary time. So each delivery is reported as in progress (`+WPI`) every third of
 * `ackWaitMs` until its own deadline, at which it expires.
 * Cost: one timer for all deliveries.
 */
import type { Scheduler } from 'rivulet/adapter';
import type { InFlight } from './in-flight.ts';

/** The dispatcher notices an expired deadline this much earlier. */
const GRACE_MS = 20;

export interface ProgressTimerSetup {
  readonly scheduler: Scheduler;
  readonly ackWaitMs: number;
  readonly all: () => Iterable<InFlight>;
  readonly report: (inFlight: InFlight) => void;
  readonly expire: (inFlight: InFlight) => void;
}

export class ProgressTimer {
  readonly #setup: ProgressTimerSetup;
  #cancel = () => {};
  #at = Number.POSITIVE_INFINITY;

  constructor(setup: ProgressTimerSetup) {
    this.#setup = setup;
  }

  /** Sets when a delivery's next reply is due. */
  watch(inFlight: InFlight, now = this.#now()): void {
    const every = this.#setup.ackWaitMs / 3;
    const left = inFlight.deadline - now;
    inFlight.replyAt = left > every ? now + every : Math.max(inFlight.deadline, now) + GRACE_MS;
    this.#runBy(inFlight.replyAt);
  }

  stop(): void {
    this.#cancel();
  }

  #runBy(time: number): void {
    if (time >= this.#at) return;
    this.#cancel();
    this.#at = time;
    const wait = Math.max(1, Math.ceil(time - this.#now()));
    this.#cancel = this.#setup.scheduler.after(wait, () => this.#run());
  }

  #run(): void {
    const { all, report, expire } = this.#setup;
    const now = this.#now();
    // While the loop was held up nothing could be settled: the dispatcher looks at its deadlines first.
    const late = now - this.#at;
    const heldUpMs = late > GRACE_MS ? late : 0;
    this.#at = Number.POSITIVE_INFINITY;
    let next = Number.POSITIVE_INFINITY;
    for (const each of [...all()]) {
      if (each.gone) continue;
      each.deadline += heldUpMs;
      if (each.replyAt > now) {
        next = Math.min(next, each.replyAt);
      } else if (each.deadline > now) {
        report(each);
        this.watch(each);
      } else {
        expire(each);
      }
    }
    this.#runBy(next);
  }

  #now(): number {
    return this.#setup.scheduler.monotonic();
  }
}
