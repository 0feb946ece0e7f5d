/**
 * Delayed publishing: a sorted set per topic, emptied by whoever is connected.
 *
 * Every connected broker looks after all topics that have a schedule, so a delayed message needs
 * nobody in particular to stay alive. The move into the stream is one script: once, and only once.
 * Cost: while nothing is scheduled anywhere, one SMEMBERS a second.
 */
import { randomUUID } from 'node:crypto';
import {
  type BrokerEvents,
  type BrokerOptions,
  type Events,
  isOutage,
  type RivuletError,
} from 'rivulet';
import type { Connection } from './connection.ts';
import type { Fields } from './entry.ts';
import { type Keys, SCHEDULED } from './keys.ts';
import { scripts } from './scripts.ts';

const LOOK_EVERY_MS = 1000;

export class Schedule {
  readonly #commands: Connection;
  readonly #keys: Keys;
  readonly #broker: BrokerOptions;
  readonly #events: Events<BrokerEvents>;
  /** Topics that this process has scheduled something for, and so has announced. */
  readonly #announced = new Set<string>();
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

  /** Must be done before the first message of a topic is put into its schedule. */
  async announce(topic: string): Promise<void> {
    if (this.#announced.has(topic)) return;
    await this.#commands.call('SADD', SCHEDULED, topic);
    this.#announced.add(topic);
  }

  /** Something falls due in this many milliseconds. */
  expect(delayMs: number): void {
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
      for (const name of (await this.#commands.call('SMEMBERS', SCHEDULED)) as Buffer[]) {
        wait = Math.min(wait, await this.#release(name.toString()));
      }
    } catch (error) {
      // While the broker is away the connection reports so.
      if (!isOutage(error)) this.#events.emit('warning', { error: error as RivuletError });
    }
    // What was scheduled meanwhile has set an earlier time.
    this.#arm(Math.min(wait, Math.max(0, this.#next - this.#now())));
  }

  /** Answers how long until the next one. */
  async #release(topic: string): Promise<number> {
    const [now, due] = (await this.#commands.run(
      scripts.release,
      this.#keys.schedule(topic),
      this.#keys.stream(topic),
    )) as [number, number];
    return due < 0 ? LOOK_EVERY_MS : Math.max(0, due - now);
  }

  #now(): number {
    return this.#broker.scheduler.monotonic();
  }
}

/** Fields in the form that the release script takes apart; and the name that stands for an id. */
export function scheduledForm(fields: Fields, maxLength: number | null) {
  const parts = fields.map((field) => (typeof field === 'string' ? Buffer.from(field) : field));
  const name = randomUUID();
  const lengths = parts.map((part) => `${part.length},`).join('');
  const head = Buffer.from(`${name}|${maxLength ?? 0}|${lengths}|`);
  return { name, form: Buffer.concat([head, ...parts]) };
}
