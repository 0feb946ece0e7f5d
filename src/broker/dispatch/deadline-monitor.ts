/**
 * The acknowledgement deadlines of one subscription's deliveries.
 *
 * A delivery that waits here for its handler is extended before its deadline, so that a handler gets
 * the whole of its time. One that its handler has past its deadline is expired; one that was handed
 * over uncounted is counted at the broker.
 * Invariant: while deliveries are held there is one timer, at most a quarter of `ackWaitMs` away.
 * Cost: one pass over the held deliveries for each timer.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';
import { type HeldDelivery, isLost, overdue, type RawDelivery, type Settler } from './delivery.ts';

export interface DeadlineMonitorSetup<Raw extends RawDelivery> {
  readonly held: ReadonlySet<HeldDelivery<Raw>>;
  readonly settler: Settler<Raw>;
  readonly ackWaitMs: number;
  readonly scheduler: Scheduler;
  readonly expire: (held: HeldDelivery<Raw>) => void;
  /** Its handler takes long: if the process ends, the broker should know of the hand-over. */
  readonly count: (held: HeldDelivery<Raw>) => void;
  /** The broker does not extend it: reports that, and revokes it. */
  readonly lost: (held: HeldDelivery<Raw>, cause: unknown) => void;
  /** Called after every pass. */
  readonly onChecked: () => void;
}

export class DeadlineMonitor<Raw extends RawDelivery> {
  readonly #setup: DeadlineMonitorSetup<Raw>;
  readonly #scheduler: Scheduler;
  readonly #ackWaitMs: number;
  #cancel: (() => void) | null = null;
  #isEnding = false;

  constructor(setup: DeadlineMonitorSetup<Raw>) {
    this.#setup = setup;
    this.#scheduler = setup.scheduler;
    this.#ackWaitMs = setup.ackWaitMs;
  }

  /** Called when a delivery was added, or its deadline has changed. */
  watch(): void {
    if (this.#cancel !== null || this.#isEnding) return;
    const { held, ackWaitMs, scheduler } = this.#setup;
    const now = scheduler.monotonic();
    let wait = ackWaitMs / 4;
    for (const each of held) {
      if (each.state === 'handed') wait = Math.min(wait, each.deadline - now);
    }
    this.#cancel = scheduler.after(Math.max(1, Math.ceil(wait)), () => {
      this.#cancel = null;
      this.#check();
      if (held.size > 0) this.watch();
    });
  }

  /** Whether a delivery has waited for more than a quarter of `ackWaitMs`. */
  hasWaited(held: HeldDelivery<Raw>, now = this.#scheduler.monotonic()): boolean {
    return held.deadline - now < 0.75 * this.#ackWaitMs;
  }

  /** Before the hand-over: extends those that have waited. */
  async renew(deliveries: readonly HeldDelivery<Raw>[]): Promise<void> {
    const waited = deliveries.filter((held) => held.open && this.hasWaited(held));
    await Promise.all(waited.map((held) => this.extend(held)));
  }

  /** Moves the deadline to `ackWaitMs` from now. Revokes the delivery where the broker does not. */
  async extend(held: HeldDelivery<Raw>): Promise<void> {
    const { settler, ackWaitMs, scheduler, lost } = this.#setup;
    try {
      await settler.extend(held.raw, ackWaitMs);
      held.deadline = scheduler.monotonic() + ackWaitMs;
    } catch (error) {
      if (isLost(error)) lost(held, error);
      else if (scheduler.monotonic() >= held.deadline) lost(held, overdue(held.raw));
    }
  }

  /** Sets no further timer. */
  end(): void {
    this.#isEnding = true;
  }

  stop(): void {
    this.end();
    this.#cancel?.();
    this.#cancel = null;
  }

  #check(): void {
    const { held, ackWaitMs, scheduler, expire, count, onChecked } = this.#setup;
    const now = scheduler.monotonic();
    for (const each of [...held]) {
      if (each.state === 'waiting' && !each.inHandler) {
        if (each.deadline - now < ackWaitMs / 2) void this.extend(each);
      } else if (each.state === 'handed' && now >= each.deadline) {
        expire(each);
      } else if (each.handedOver && !each.counted && each.open) {
        count(each);
      }
    }
    onChecked();
  }
}
