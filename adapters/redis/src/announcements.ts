/**
 * Registers the topics that this process publishes to, so that other clients discover them.
 *
 * A topic is registered with its first message, and again within `AGAIN_MS` after later ones, in case the
 * server was emptied meanwhile. Invariant: every topic is registered after its last publish, at the
 * latest by `close`.
 * Cost: one SADD every 500 ms while messages are published.
 */
import {
  type BrokerEvents,
  type Events,
  isOutage,
  RivuletError,
  type Scheduler,
} from 'rivulet/adapter';
import type { Dialect } from './dialect/dialect.ts';

const AGAIN_MS = 500;
const MOST_KNOWN = 100_000;
const AT_ONCE = 1000;

export class Announcements {
  readonly #dialect: Dialect;
  readonly #scheduler: Scheduler;
  readonly #events: Events<BrokerEvents>;
  readonly #known = new Set<string>();
  /** Topics that were published to since they were registered. */
  readonly #due = new Set<string>();
  #cancel: (() => void) | null = null;
  #closed = false;

  constructor(dialect: Dialect, scheduler: Scheduler, events: Events<BrokerEvents>) {
    this.#dialect = dialect;
    this.#scheduler = scheduler;
    this.#events = events;
  }

  /** Notes a publish. Returns a promise to wait for if it is the topic's first. */
  note(topic: string): Promise<void> | undefined {
    this.#due.add(topic);
    this.#arm();
    if (this.#known.has(topic)) return undefined;
    if (this.#known.size >= MOST_KNOWN) this.#known.clear();
    return this.#announce([topic]).then(() => {
      this.#known.add(topic);
    });
  }

  /** The topic was deleted: its next message is a first one. */
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
    return this.#dialect.registerTopics(topics);
  }
}
