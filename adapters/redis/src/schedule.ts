/**
 * Delayed publishing: one sorted set per topic, which every connected broker empties.
 *
 * Each broker checks the schedules of all topics, so one that is connected is enough. A script moves a
 * message into the stream, exactly once.
 * Invariants: every schedule with messages is registered, also after the server was emptied. A topic
 * whose schedule cannot be moved does not block others. A member that another program has added becomes
 * a dead letter of the topic.
 * Cost: while nothing is scheduled, one SMEMBERS a second.
 */
import { randomUUID } from 'node:crypto';
import {
  type BrokerEvents,
  type BrokerOptions,
  deadLetterMessage,
  type Events,
  isOutage,
  RivuletError,
} from 'rivulet/adapter';
import type { Connection } from './connection.ts';
import { scripts } from './dialect/lua-scripts.ts';
import { ServerError, toRivulet } from './errors.ts';
import { type Keys, SCHEDULED } from './keys.ts';
import type { Fields } from './message-codec.ts';

const LOOK_EVERY_MS = 1000;
const FAILING_REST_MS = 5000;
const MOST_FAILING = 1000;
const EMPTY = new Uint8Array(0);

export class Schedule {
  readonly #commands: Connection;
  readonly #keys: Keys;
  readonly #broker: BrokerOptions;
  readonly #events: Events<BrokerEvents>;
  /** Topics that this process has scheduled messages for, until their schedules are empty. */
  readonly #own = new Set<string>();
  /** Topics whose last check failed: when the next one is, and why it failed. */
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
   * Adds messages to a topic's schedule. The topic is registered before, and again if its schedule was
   * empty: the server may have been emptied between the two.
   */
  async add<T>(
    topic: string,
    waitMs: number,
    put: () => Promise<T>,
    wasEmpty: (answer: T) => boolean,
  ): Promise<T> {
    // Sent in one write, so that a later publish cannot precede it.
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

  /** A message falls due in this many milliseconds. */
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
      // During an outage the connection reports it.
      if (!isOutage(error)) this.#events.emit('warning', { error: error as RivuletError });
    }
    // A message that was added meanwhile has set an earlier time.
    this.#arm(Math.min(wait, Math.max(0, this.#next - this.#now())));
  }

  /** Resolves to the time until the next check. A topic that fails is reported and skipped for 5 s. */
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

  /** Resolves to the time until the next message. */
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

/** The form that the release script parses, and the name that is returned as the id. */
export function scheduledForm(fields: Fields, maxLength: number | null) {
  const parts = fields.map((field) => (typeof field === 'string' ? Buffer.from(field) : field));
  const name = randomUUID();
  const lengths = parts.map((part) => `${part.length},`).join('');
  const head = Buffer.from(`${name}|${maxLength ?? 0}|${lengths}|`);
  return { name, form: Buffer.concat([head, ...parts]) };
}
