/**
 * Looks whether a consumer is deaf: RabbitMQ may leave one without the messages that wait in its queue.
 *
 * Invariant: a consumer that was deaf at two looks in a row is replaced; a look that fails finds nothing.
 * Cost: one timer; what `missed` costs, every 2.5 s.
 */
import type { Scheduler } from 'rivulet/adapter';

const EVERY_MS = 2500;

export interface DeafWatchSetup {
  readonly scheduler: Scheduler;
  /** How many messages wait that this consumer has room for and does not receive; 0 = it is not deaf. */
  readonly missed: () => Promise<number>;
  /** Consumes again. */
  readonly replace: (missed: number) => Promise<void>;
}

export class DeafWatch {
  readonly #setup: DeafWatchSetup;
  #deafLooks = 0;
  #isStopped = false;
  #cancel = () => {};

  constructor(setup: DeafWatchSetup) {
    this.#setup = setup;
  }

  start(): void {
    this.#cancel = this.#setup.scheduler.after(EVERY_MS, () => void this.#look());
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const { missed, replace } = this.#setup;
    const count = await missed().catch(() => 0);
    if (this.#isStopped) return;
    this.#deafLooks = count > 0 ? this.#deafLooks + 1 : 0;
    if (this.#deafLooks >= 2) {
      this.#deafLooks = 0;
      await replace(count);
    }
    if (!this.#isStopped) this.start();
  }
}
