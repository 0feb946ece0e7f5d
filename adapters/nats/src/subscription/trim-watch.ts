/**
 * Notices that a message was trimmed from its stream while it waits here for its retry.
 *
 * The server drops such a message without a word. So while retries wait, the state of their stream is asked
 * for every LOOK_MS: what is before its first sequence is gone. Where messages in the middle of the
 * stream were deleted, each retry that is due before the look after the next is asked for by itself.
 * Invariant: a message is reported only if it was gone before its delay ended, so none that another
 * consumer has settled is. One that is trimmed in the last LOOK_MS before it is due is not noticed, and
 * where a stream has lost messages in its middle, at most MOST_READ retries are looked at each time.
 * Cost: nothing without waiting retries; else two requests a second for each topic that has some. In a
 * stream with deleted messages in its middle each retry is read once or twice, with its body.
 */
import type { Scheduler } from 'rivulet/adapter';
import type { WaitingRetries, WaitingRetry } from './waiting-retries.ts';

const LOOK_MS = 500;
const MOST_READ = 100;

/** What is left of a topic's stream. */
export interface StreamRest {
  readonly firstSequence: number;
  /** Messages were deleted that came after the first one. */
  readonly hasGaps: boolean;
}

export interface TrimWatchSetup {
  readonly scheduler: Scheduler;
  readonly retries: WaitingRetries;
  /** null where it cannot be known now. */
  readonly restOf: (topic: string) => Promise<StreamRest | null>;
  /** Whether a message of the stream was deleted; false also where that cannot be known now. */
  readonly isDeleted: (topic: string, sequence: number) => Promise<boolean>;
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
    const { scheduler, retries, restOf } = this.#setup;
    const topics = retries.waitingTopics(scheduler.monotonic());
    let room = MOST_READ;
    for (const topic of topics) {
      const rest = await restOf(topic);
      if (this.#stopped) return;
      if (rest === null) continue;
      const now = scheduler.monotonic();
      const left: WaitingRetry[] = [];
      for (const retry of retries.waiting(topic, now)) {
        if (Number(retry.id) < rest.firstSequence) this.#report(retry);
        else if (retry.until - now <= 2 * LOOK_MS) left.push(retry);
      }
      if (!rest.hasGaps) continue;
      const read = left.sort((a, b) => a.until - b.until).slice(0, room);
      room -= read.length;
      await Promise.all(read.map((retry) => this.#readOne(retry)));
      if (this.#stopped) return;
    }
    this.#cancel = null;
    if (topics.size > 0) this.start();
  }

  async #readOne(retry: WaitingRetry): Promise<void> {
    const isDeleted = await this.#setup.isDeleted(retry.topic, Number(retry.id));
    // Once it is due another consumer may have had it.
    if (!isDeleted || this.#stopped || retry.until <= this.#setup.scheduler.monotonic()) return;
    this.#report(retry);
  }

  #report(retry: WaitingRetry): void {
    if (this.#setup.retries.remove(retry)) this.#setup.onTrimmed(retry);
  }
}
