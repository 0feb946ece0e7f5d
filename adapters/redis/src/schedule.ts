/**
 * Delayed publishing: a sorted set per topic, emptied by whoever is connected.
 *
 * Every connected broker looks after all topics that have a schedule, so any one of them that stays
 * alive is enough. The move into the stream is one script: once, and only once.
 * Invariants: a schedule that holds something is known to all, also when the server was emptied in the
 * meantime; a topic whose schedule cannot be moved keeps no other from being moved; what another
 * program has put into a schedule goes to the topic's dead letters.
 * Cost: while nothing is scheduled anywhere, one SMEMBERS a second.
 */
import { randomUUID } from 'node:crypto';
import {
  type BrokerEvents,
  type BrokerOptions,
  deadLetterMessage,
  type Events,
  isOutage,
  RivuletError,
} from 'rivulet';
import type { Connection } from './connection.ts';
import type { Fields } from './entry.ts';
import { ServerError, toRivulet } from './failures.ts';
import { type Keys, SCHEDULED } from './keys.ts';
import { scripts } from './scripts.ts';

const LOOK_EVERY_MS = 1000;
const FAILING_REST_MS = 5000;
const MOST_FAILING = 1000;
const EMPTY = new Uint8Array(0);

export class Schedule {
  readonly #commands: Connection;
  readonly #keys: Keys;
  readonly #broker: BrokerOptions;
  readonly #events: Events<BrokerEvents>;
  /** Topics that this process has scheduled something for, until nothing of them waits. */
  readonly #own = new Set<string>();
  /** Topics whose last look failed: when the next one is, and what was said of it. */
  readonly #failing = new Map<string, { until: number; reason: string }>();
  #next = 0;
  #cancel: () => void = () => {};
  #looking: Promise<void> | null = null;
  #closed = false;

  constructor(
    commands: Connection,
    keys: Keys,
    broker: BrokerOptions,
    events: Events<BrokerEvents>,
  ) {
    this.#commands = commands;
    this.#keys = keys;
    this.#broker = broker;
    this.#events = events;
  }

  start(): void {
    this.#arm(0);
  }

  async stop(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    await this.#looking;
  }

  /**
   * Puts something into a topic's schedule. The topic is announced before, and once more where its
   * schedule was empty: the server may have been emptied between the two.
   */
  async add<T>(
    topic: string,
    waitMs: number,
    put: () => Promise<T>,
    wasEmpty: (answer: T) => boolean,
  ): Promise<T> {
    // Sent in one go, so that what was published later cannot pass.
    const [announced, answer] = await Promise.allSettled([this.#announce([topic]), put()]);
    if (answer.status === 'rejected') throw answer.reason;
    this.#own.add(topic);
    if (announced.status === 'rejected') throw announced.reason;
    if (wasEmpty(answer.value)) await this.#announce([topic]);
    this.#expect(waitMs);
    return answer.value;
  }

  async #announce(topics: readonly string[]): Promise<void> {
    await this.#commands.call('SADD', SCHEDULED, ...topics);
  }

  /** Something falls due in this many milliseconds. */
  #expect(delayMs: number): void {
    const at = this.#now() + Math.max(0, delayMs);
    if (at < this.#next) this.#arm(at - this.#now());
  }

  #arm(ms: number): void {
    this.#cancel();
    if (this.#closed) return;
    this.#next = this.#now() + ms;
    this.#cancel = this.#broker.scheduler.after(ms, () => {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = null;
      });
    });
  }

  async #look(): Promise<void> {
    let wait = LOOK_EVERY_MS;
    this.#next = this.#now() + wait;
    try {
      const names = (await this.#commands.call('SMEMBERS', SCHEDULED)) as Buffer[];
      const known = new Set(names.map(String));
      const forgotten = [...this.#own].filter((topic) => !known.has(topic));
      if (forgotten.length > 0) await this.#announce(forgotten);
      for (const topic of [...known, ...forgotten]) {
        wait = Math.min(wait, await this.#lookAt(topic));
      }
    } catch (error) {
      // While the broker is away the connection reports so.
      if (!isOutage(error)) this.#events.emit('warning', { error: error as RivuletError });
    }
    // What was scheduled meanwhile has set an earlier time.
    this.#arm(Math.min(wait, Math.max(0, this.#next - this.#now())));
  }

  /** Answers how long until the next look. One topic that fails is reported and left for a while. */
  async #lookAt(topic: string): Promise<number> {
    const failing = this.#failing.get(topic);
    if (failing !== undefined && this.#now() < failing.until) return LOOK_EVERY_MS;
    try {
      const wait = await this.#release(topic);
      this.#failing.delete(topic);
      return wait;
    } catch (error) {
      if (isOutage(error)) throw error;
      const { code, message } = error as RivuletError;
      if (this.#failing.size >= MOST_FAILING) this.#failing.clear();
      this.#failing.set(topic, { until: this.#now() + FAILING_REST_MS, reason: message });
      if (failing?.reason !== message) {
        const text = `delayed messages of ${topic} cannot be moved into it, which is tried again: ${message}`;
        this.#events.emit('warning', { error: new RivuletError(code, text, { cause: error }) });
      }
      return LOOK_EVERY_MS;
    }
  }

  /** Answers how long until the next one. */
  async #release(topic: string): Promise<number> {
    const keys = this.#keys;
    const reason = 'another program has put it among the delayed messages';
    const dead = deadLetterMessage(
      { topic, id: '', message: { headers: {}, body: EMPTY } },
      null,
      1,
      reason,
      this.#broker.scheduler.now(),
    );
    const [now, due, , buried, failure] = (await this.#commands.run(
      scripts.release,
      keys.schedule(topic),
      keys.stream(topic),
      keys.stream(`${topic}.dead`),
      JSON.stringify(dead.headers),
    )) as [number, number, number, number, Buffer];
    if (buried > 0) this.#events.emit('deadLettered', { topic, id: '', reason });
    if (failure.length > 0) throw toRivulet(new ServerError(failure.toString()));
    if (due < 0) this.#own.delete(topic);
    return due < 0 ? LOOK_EVERY_MS : Math.max(0, due - now);
  }

  #now(): number {
    return this.#broker.scheduler.monotonic();
  }
}

/** Fields in the form that the release script takes apart; and the name that is told as an id. */
export function scheduledForm(fields: Fields, maxLength: number | null) {
  const parts = fields.map((field) => (typeof field === 'string' ? Buffer.from(field) : field));
  const name = randomUUID();
  const lengths = parts.map((part) => `${part.length},`).join('');
  const head = Buffer.from(`${name}|${maxLength ?? 0}|${lengths}|`);
  return { name, form: Buffer.concat([head, ...parts]) };
}
