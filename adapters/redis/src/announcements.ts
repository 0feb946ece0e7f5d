/**
 * Makes the topics that this process publishes to known to the clients that look for topics.
 *
 * A topic is announced together with its first message, and again within `AGAIN_MS` of later ones: a
 * server that was emptied in the meantime has forgotten it. Invariant: every topic that was published
 * to is announced once more after that publish, at the latest by `close`.
 * Cost: one SADD in `AGAIN_MS` while something is published.
 */
import { type BrokerEvents, type Events, isOutage, RivuletError, type Scheduler } from 'rivulet';
import type { Dialect } from './dialect.ts';

const AGAIN_MS = 500;
const MOST_KNOWN = 100_000;
const AT_ONCE = 1000;

export class Announcements {
  readonly #dialect: Dialect;
  readonly #scheduler: Scheduler;
  readonly #events: Events<BrokerEvents>;
  readonly #known = new Set<string>();
  /** Published to since they were announced. */
  readonly #due = new Set<string>();
  #cancel: (() => void) | null = null;
  #closed = false;

  constructor(dialect: Dialect, scheduler: Scheduler, events: Events<BrokerEvents>) {
    this.#dialect = dialect;
    this.#scheduler = scheduler;
    this.#events = events;
  }

  /** Something is being published to the topic. Answers what to wait for, when it is the first. */
  note(topic: string): Promise<void> | undefined {
    this.#due.add(topic);
    this.#arm();
    if (this.#known.has(topic)) return undefined;
    if (this.#known.size >= MOST_KNOWN) this.#known.clear();
    return this.#announce([topic]).then(() => {
      this.#known.add(topic);
    });
  }

  /** It is deleted: the next message is a first one again. */
  forget(topic: string): void {
    this.#known.delete(topic);
    this.#due.delete(topic);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel?.();
    await this.#flush();
  }

  #arm(): void {
    if (this.#closed) return;
    this.#cancel ??= this.#scheduler.after(AGAIN_MS, () => {
      this.#cancel = null;
      void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    const topics = [...this.#due];
    this.#due.clear();
    for (let at = 0; at < topics.length; at += AT_ONCE) {
      const some = topics.slice(at, at + AT_ONCE);
      await this.#announce(some).catch((error) => {
        for (const topic of some) this.#due.add(topic);
        if (isOutage(error)) return;
        const text = `wildcards may not find what was published to ${some.slice(0, 3)}: ${error.message}`;
        this.#events.emit('warning', {
          error: new RivuletError('INTERNAL', text, { cause: error }),
        });
      });
    }
    if (this.#due.size > 0) this.#arm();
  }

  #announce(topics: readonly string[]): Promise<void> {
    return this.#dialect.announce(topics);
  }
}
