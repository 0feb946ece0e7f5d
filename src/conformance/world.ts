/**
 * What a case of the suite has in hand: brokers on one server, topics of its own, and ways to wait
 * for what happens instead of sleeping.
 */
import assert from 'node:assert/strict';
import type { Broker, BrokerEvents, Delivery, Subscriber } from '../broker/broker.ts';
import type { Capabilities } from '../broker/capabilities.ts';
import type { Message } from '../broker/message.ts';
import type { BrokerOptions, SubscribeOptions } from '../broker/options.ts';
import type { FaultyProxy } from './faulty-proxy.ts';

/** One server or cluster under test. What it leaves out, the cases that need it are skipped for. */
export interface Backing extends AsyncDisposable {
  /** Opens a broker to it. Every call is another one, as in another process. */
  open(options?: Partial<BrokerOptions>): Promise<Broker>;
  /** For processes of their own, which use `openBroker`. */
  readonly url?: string;
  /**
   * For one process at a time: no other broker is open while a child uses it. Left out where `url`
   * may be used for that.
   */
  readonly processUrl?: string;
  /** A proxy before it, and how to open a broker through that. */
  behindProxy?(): Promise<{
    readonly proxy: FaultyProxy;
    open(options?: Partial<BrokerOptions>): Promise<Broker>;
  }>;
  /** Kills the server hard; `start` brings it back with what it had stored durably. */
  kill?(): Promise<void>;
  start?(): Promise<void>;
  /** Kills the cluster's node that holds the topic; resolves once the cluster works without it. */
  killNodeOf?(topic: string): Promise<void>;
  /** Forgets everything, groups too, as a flush or a failover to an empty node does. */
  flush?(): Promise<void>;
  /** Names of cases that its broker does not pass yet. */
  readonly notYet?: readonly string[];
  /** How many client connections the server sees. */
  connections?(): Promise<number>;
}

export const WAIT_MS = 15_000;

export class World {
  readonly backing: Backing;
  readonly #prefix: string;
  readonly #brokers: Broker[] = [];
  #topics = 0;

  constructor(backing: Backing, prefix: string) {
    this.backing = backing;
    this.#prefix = prefix;
  }

  /** Where a child process connects to, while no broker of this process is open. */
  get processUrl(): string {
    return this.backing.processUrl ?? this.backing.url ?? '';
  }

  /** A topic that no other case has. */
  topic(suffix = 'topic'): string {
    return `${this.#prefix}.${suffix}${this.#topics++}`;
  }

  async open(options?: Partial<BrokerOptions>): Promise<Broker> {
    return this.keep(await this.backing.open(options));
  }

  /** Disconnects it when the case ends. */
  keep(broker: Broker): Broker {
    this.#brokers.push(broker);
    return broker;
  }

  /** Work with a broker that is closed afterwards, so that a child process may have its place. */
  async briefly<T>(work: (broker: Broker) => Promise<T>): Promise<T> {
    await using broker = await this.backing.open();
    return await work(broker);
  }

  async end(): Promise<void> {
    await Promise.all(this.#brokers.map((broker) => broker.disconnect()));
  }
}

/** A list that can be waited on. */
export class Seen<Item> {
  readonly items: Item[] = [];
  readonly #checks = new Set<() => void>();

  get length(): number {
    return this.items.length;
  }

  add(item: Item): void {
    this.items.push(item);
    for (const check of [...this.#checks]) check();
  }

  /** Resolves as soon as there are `count`; fails with what there is. */
  count(count: number, waitMs = WAIT_MS): Promise<readonly Item[]> {
    return this.until((items) => items.length >= count, `${count} items`, waitMs);
  }

  until(
    done: (items: readonly Item[]) => boolean,
    what: string,
    waitMs = WAIT_MS,
  ): Promise<readonly Item[]> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#checks.delete(check);
        const last = this.items.slice(-5).map((item) => String(item));
        reject(
          new Error(`no ${what} within ${waitMs} ms; ${this.items.length} came, last ${last}`),
        );
      }, waitMs);
      const check = () => {
        if (!done(this.items)) return;
        clearTimeout(timer);
        this.#checks.delete(check);
        resolve(this.items);
      };
      this.#checks.add(check);
      check();
    });
  }
}

/** Shows that nothing happens: the one wait that has no event to end it. */
export function quiet(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Until the condition holds, looking often: for what has no event, like a server's numbers. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  waitMs = WAIT_MS,
): Promise<void> {
  const end = Date.now() + waitMs;
  while (!(await holds())) {
    if (Date.now() > end) assert.fail(`not within ${waitMs} ms: ${what}`);
    await quiet(20);
  }
}

export function message(text: string, key?: string, headers: Record<string, string> = {}): Message {
  return { headers, body: Buffer.from(text), ...(key === undefined ? {} : { key }) };
}

export function text(of: { readonly body: Uint8Array } | Delivery): string {
  return Buffer.from('message' in of ? of.message.body : of.body).toString();
}

export function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => String(from + index));
}

/** Publishes texts in order, many at once. */
export async function publishAll(broker: Broker, topic: string, texts: readonly string[]) {
  return broker.publishBatch(
    topic,
    texts.map((each) => message(each)),
  );
}

/** A subscriber that writes down the texts it has handled. */
export async function collect(
  broker: Broker,
  topic: string,
  options: SubscribeOptions,
): Promise<{ seen: Seen<string>; subscriber: Subscriber }> {
  const seen = new Seen<string>();
  const subscriber = await broker.subscribe(topic, (delivery) => seen.add(text(delivery)), options);
  return { seen, subscriber };
}

export function nextEvent<K extends keyof BrokerEvents>(
  broker: Broker,
  event: K,
  waitMs = WAIT_MS,
): Promise<BrokerEvents[K]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      remove();
      reject(new Error(`no ${event} within ${waitMs} ms`));
    }, waitMs);
    const remove = broker.on(event, (detail) => {
      clearTimeout(timer);
      remove();
      resolve(detail);
    });
  });
}

/** In order of number; what came twice is there twice. */
export function sorted(items: Iterable<string>): string[] {
  return [...items].sort((a, b) => Number(a) - Number(b));
}

/** As `sorted`, each once: for cases in which a message may come again. */
export function distinct(items: Iterable<string>): string[] {
  return sorted(new Set(items));
}

/** One case: what it needs, and what it does. A need that is not met is the reason of the skip. */
export interface Case {
  readonly name: string;
  /** The capability that it needs, as the skip names it; null = there. */
  readonly needs?: (capabilities: Readonly<Capabilities>) => string | null;
  /** What of the backing it needs. */
  readonly uses?: readonly (keyof Backing)[];
  readonly timeoutMs?: number;
  /** It blocks the process, so what runs beside it would miss its deadlines. */
  readonly alone?: boolean;
  /** How the broker is opened whose capabilities are looked at. */
  readonly options?: Partial<BrokerOptions>;
  run(world: World): Promise<void>;
}

/** The skip's words for a capability that is missing. */
export function need(...names: (keyof Capabilities)[]) {
  return (capabilities: Readonly<Capabilities>): string | null => {
    for (const name of names) {
      const value = capabilities[name];
      if (value === false || value === null || value === 'none') return `${name}: ${value}`;
    }
    return null;
  };
}
