/**
 * Removes the records of messages that are settled, some time after that.
 *
 * A handler that holds the event loop up is noticed by the server first: it delivers the message again, and
 * that delivery may arrive after the acknowledgement. It is an attempt more, so the record has to be there.
 * Invariant: a record stays for at least `everyMs` of an event loop that was not held up; `stop` removes
 * those that are left.
 * Cost: one promise for each settled message that has a record, at most MOST; one timer while there are any.
 */
import type { Scheduler } from 'rivulet/adapter';

const MOST = 10_000;

export interface RecordRemovalSetup {
  readonly scheduler: Scheduler;
  /** Longer than the server waits before it delivers a message again. */
  readonly everyMs: number;
  /** Removes the record with this sequence. */
  readonly remove: (sequence: number) => Promise<void>;
}

export class RecordRemoval {
  readonly #setup: RecordRemovalSetup;
  /** Added since the last look. */
  #newer: Promise<number>[] = [];
  /** Added before the last look. */
  #older: Promise<number>[] = [];
  #lookAt = 0;
  #cancel: (() => void) | null = null;

  constructor(setup: RecordRemovalSetup) {
    this.#setup = setup;
  }

  /** `record`: resolves to the sequence of a record. */
  add(record: Promise<number>): void {
    if (this.#newer.length + this.#older.length >= MOST) this.#removeOlder();
    this.#newer.push(record);
    if (this.#cancel === null) this.#lookLater();
  }

  stop(): void {
    this.#cancel?.();
    this.#removeOlder();
    this.#removeOlder();
  }

  #lookLater(): void {
    const { scheduler, everyMs } = this.#setup;
    this.#lookAt = scheduler.monotonic() + everyMs;
    this.#cancel = scheduler.after(everyMs, () => this.#look());
  }

  #look(): void {
    const { scheduler, everyMs } = this.#setup;
    this.#cancel = null;
    // What came while the loop was held up has not been read yet.
    const wasHeldUp = scheduler.monotonic() - this.#lookAt > everyMs / 2;
    if (!wasHeldUp) this.#removeOlder();
    if (this.#newer.length + this.#older.length > 0) this.#lookLater();
  }

  #removeOlder(): void {
    const { remove } = this.#setup;
    // A record that stays counts for no other message, and the stream forgets it after a week.
    for (const record of this.#older) record.then(remove).catch(() => {});
    this.#older = this.#newer;
    this.#newer = [];
  }
}
