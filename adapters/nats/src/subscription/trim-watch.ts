/**
 * Notices that a message was trimmed from its stream while it waits here for its retry.
 *
 * The server drops such a message without a word. So while retries wait, the first sequence of their
 * stream is asked for every LOOK_MS. Invariant: a message is reported only if it was gone before its
 * delay ended, so none that another consumer has settled is. One that is trimmed in the last LOOK_MS
 * before it is due, or from the middle of its stream, is not noticed.
 * Cost: nothing without waiting retries; else two requests a second for each topic that has some.
 */
import type { Scheduler } from 'rivulet/adapter';
import type { WaitingRetries, WaitingRetry } from './waiting-retries.ts';

const LOOK_MS = 500;

export interface TrimWatchSetup {
  readonly scheduler: Scheduler;
  readonly retries: WaitingRetries;
  /** The first sequence in a topic's stream; null where it cannot be known now. */
  readonly firstSequence: (topic: string) => Promise<number | null>;
  readonly onTrimmed: (retry: WaitingRetry) => void;
}

export class TrimWatch {
  readonly #setup: TrimWatchSetup;
  #cancel: (() => void) | null = null;
  #stopped = false;

  constructor(setup: TrimWatchSetup) {
    this.#setup = setup;
  }

  /** A retry waits from now on. */
  start(): void {
    if (this.#stopped) return;
    this.#cancel ??= this.#setup.scheduler.after(LOOK_MS, () => void this.#look());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  async #look(): Promise<void> {
    const { scheduler, retries, firstSequence, onTrimmed } = this.#setup;
    const topics = retries.waitingTopics(scheduler.monotonic());
    for (const topic of topics) {
      const first = await firstSequence(topic);
      if (this.#stopped) return;
      if (first === null) continue;
      for (const retry of retries.waiting(topic, scheduler.monotonic())) {
        if (Number(retry.id) < first && retries.remove(retry)) onTrimmed(retry);
      }
    }
    this.#cancel = null;
    if (topics.size > 0) this.start();
  }
}
