/**
 * Finds the topics of a pattern, once a second.
 *
 * Invariants: a topic that cannot be consumed is reported, is tried again after 30 s, and keeps no other
 * from being found. A topic that was deleted since it was listed is not made again.
 * Cost: one list of the streams that match the pattern each second.
 */
import {
  type BrokerEvents,
  compilePattern,
  type Events,
  isOutage,
  type Position,
  RivuletError,
  type Scheduler,
} from 'rivulet/adapter';
import { toRivulet } from '../errors.ts';
import type { Streams } from '../streams.ts';

const DISCOVER_EVERY_MS = 1000;
/** Topics that are added at the same time: a cluster takes a second to make a consumer. */
const TOPICS_AT_ONCE = 16;
const MAX_REFUSED = 1000;
const REFUSED_MS = 30_000;

export interface TopicDiscoverySetup {
  readonly pattern: string;
  readonly streams: Streams;
  readonly scheduler: Scheduler;
  readonly events: Events<BrokerEvents>;
  /** The topics that may match the pattern. */
  readonly list: () => Promise<readonly string[]>;
  readonly has: (topic: string) => boolean;
  readonly add: (topic: string, from: Position) => Promise<void>;
}

export class TopicDiscovery {
  readonly #setup: TopicDiscoverySetup;
  /** Topics that could not be consumed, and when they are tried again. */
  readonly #refused = new Map<string, number>();
  #cancel = () => {};
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(setup: TopicDiscoverySetup) {
    this.#setup = setup;
  }

  /** Adds the topics that exist now, then those that are made later, from their beginning. */
  async start(from: Position): Promise<void> {
    await this.#discover(from);
    this.#discoverLater();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    await this.#running;
  }

  async #discover(from: Position): Promise<void> {
    const { pattern, list, has, scheduler } = this.#setup;
    const matches = compilePattern(pattern);
    const now = scheduler.monotonic();
    const found = (await list())
      .filter((topic) => matches(topic) && !has(topic))
      // A pattern that matches dead letters as well receives them only if it ends in `.dead`.
      .filter((topic) => !topic.endsWith('.dead') || pattern.endsWith('.dead'))
      .filter((topic) => now >= (this.#refused.get(topic) ?? 0));
    for (let at = 0; at < found.length && !this.#stopped; at += TOPICS_AT_ONCE) {
      const some = found.slice(at, at + TOPICS_AT_ONCE);
      await Promise.all(some.map((topic) => this.#add(topic, from)));
    }
  }

  async #add(topic: string, from: Position): Promise<void> {
    const { pattern, streams, scheduler, events, add } = this.#setup;
    try {
      if (!(await streams.holds(topic))) return;
      await add(topic, from);
      this.#refused.delete(topic);
    } catch (error) {
      const known = toRivulet(error);
      if (isOutage(known) && known.code !== 'GROUP_LOST') throw known;
      if (this.#refused.size >= MAX_REFUSED) this.#refused.clear();
      this.#refused.set(topic, scheduler.monotonic() + REFUSED_MS);
      const text = `topic ${topic} is left out of ${pattern} and is tried again in 30 s: ${known.message}`;
      events.emit('warning', { error: new RivuletError(known.code, text, { cause: error }) });
    }
  }

  #discoverLater(): void {
    if (this.#stopped) return;
    this.#cancel = this.#setup.scheduler.after(DISCOVER_EVERY_MS, () => {
      this.#running = this.#discover('earliest')
        .catch((error) => this.#setup.events.emit('warning', { error: toRivulet(error) }))
        .finally(() => this.#discoverLater());
    });
  }
}
