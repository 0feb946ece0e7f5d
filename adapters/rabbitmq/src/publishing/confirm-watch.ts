/**
 * Looks whether confirms still come on a channel: RabbitMQ may never confirm what was published on it.
 *
 * RabbitMQ before 3.11.22 and 3.12.4 may send a message to a log's former leader, and sends it to the
 * present one only with the next message of that channel. A quorum queue may lose one in a partition.
 * Invariant: while something waits for a confirm, `late` is called once nothing was confirmed at
 * `looks` looks in a row. A process that was held up reads its socket between two looks.
 * Cost: one timer every 2 s while something waits.
 */
import type { Scheduler } from 'rivulet/adapter';

const EVERY_MS = 2000;
/** Nothing was confirmed for 6 to 8 seconds: a publish with the default timeout of 10 s has time left. */
const LOOKS = 4;
/** The most that repeated lateness makes of it: 32 to 34 seconds. */
const MOST_LOOKS = 17;

export interface ConfirmWatchSetup {
  readonly scheduler: Scheduler;
  /** Whether something waits for a confirm. */
  readonly waits: () => boolean;
  /** Whether RabbitMQ has said that it takes no publishes now. */
  readonly isBlocked: () => boolean;
  readonly late: () => void;
}

export class ConfirmWatch {
  readonly #setup: ConfirmWatchSetup;
  readonly #looks: number;
  #silent = 0;
  #cancel: (() => void) | null = null;

  /** `lateBefore`: how many channels before this one were late; each doubles the time. */
  constructor(setup: ConfirmWatchSetup, lateBefore: number) {
    this.#setup = setup;
    this.#looks = Math.min(MOST_LOOKS, LOOKS * 2 ** Math.min(lateBefore, 10));
  }

  sent(): void {
    if (this.#cancel === null) this.#later();
  }

  /** RabbitMQ confirmed or refused a message. */
  answered(): void {
    this.#silent = 0;
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  #later(): void {
    this.#cancel = this.#setup.scheduler.after(EVERY_MS, () => this.#look());
  }

  #look(): void {
    const { waits, isBlocked, late } = this.#setup;
    this.#cancel = null;
    if (!waits() || isBlocked()) this.#silent = 0;
    else this.#silent++;
    if (this.#silent >= this.#looks) late();
    else if (waits()) this.#later();
  }
}
