/**
 * What a case of the suite works with: brokers on one server, topics that no other case has, and ways to
 * wait for events instead of sleeping.
 */
import assert from 'node:assert/strict';
import type { Broker, BrokerEvents, Delivery, Subscriber } from '../broker/broker.ts';
import type { Capabilities } from '../broker/capabilities.ts';
import type { RawMessage } from '../broker/message/message.ts';
import type { BrokerOptions, SubscribeOptions } from '../broker/options/options.ts';
import type { FaultyProxy } from './faulty-proxy.ts';

/** One server or cluster under test. Cases that need a member that it does not have are skipped. */
export interface Fixture extends AsyncDisposable {
  /** Opens another broker on it, as another process would. */
  open(options?: Partial<BrokerOptions>): Promise<Broker>;
  /** The URL for child processes, which use `openBroker`. */
  readonly url?: string;
  /**
   * The URL for one process at a time: no other broker is open while a child uses it. Missing where
   * `url` can be used.
   */
  readonly processUrl?: string;
  /** A proxy before the server, and a function that opens a broker through it. */
  behindProxy?(): Promise<{
    readonly proxy: FaultyProxy;
    open(options?: Partial<BrokerOptions>): Promise<Broker>;
  }>;
  /** Kills the server with SIGKILL; `start` starts it again on its durable data. */
  kill?(): Promise<void>;
  start?(): Promise<void>;
  /**
   * Kills the cluster node that stores the topic; resolves when the cluster works without it, to a function
   * that starts the node again where delayed messages and retries may wait for it.
   */
  killNodeOf?(topic: string): Promise<(() => Promise<void>) | undefined>;
  /** Deletes all data, groups too, as a flush or a failover to an empty node does. */
  flush?(): Promise<void>;
  /**
   * Makes the topic's name that of something else, which takes no message, until the returned function
   * is called. The topic is not there.
   */
  occupy?(topic: string): Promise<() => Promise<void>>;
  /** How many client connections the server sees. */
  connections?(): Promise<number>;
}

const WAIT_MS = 60_000;

/** Limits of brokers that cases open: a slow server is slow, not broken. Cases of limits set their own. */
const PATIENT = { publishTimeoutMs: 60_000, connectTimeoutMs: 60_000 } as const;

export class CaseContext {
  readonly fixture: Fixture;
  /** What the case draws from, where it draws. */
  readonly seed: number;
  readonly #prefix: string;
  readonly #brokers: Broker[] = [];
  #topics = 0;

  constructor(fixture: Fixture, prefix: string, seed = 1) {
    this.fixture = fixture;
    this.seed = seed;
    this.#prefix = prefix;
  }

  /** The URL for a child process, while no broker of this process is open. */
  get processUrl(): string {
    return this.fixture.processUrl ?? this.fixture.url ?? '';
  }

  /** A topic that no other case has. */
  topic(suffix = 'topic'): string {
    return `${this.#prefix}.${suffix}${this.#topics++}`;
  }

  async open(options?: Partial<BrokerOptions>): Promise<Broker> {
    return this.keep(await this.fixture.open({ ...PATIENT, ...options }));
  }

  /** Disconnects it when the case ends. */
  keep(broker: Broker): Broker {
    this.#brokers.push(broker);
    return broker;
  }

  /** Runs `work` with a broker and closes it, so that a child process can use the data next. */
  async briefly<T>(work: (broker: Broker) => Promise<T>): Promise<T> {
    await using broker = await this.fixture.open(PATIENT);
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

/** Waits without an event: to show that nothing happens. */
export function quiet(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Polls every 20 ms until the condition holds: for what has no event, such as a server's numbers. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  waitMs = WAIT_MS,
): Promise<void> {
  const end = performance.now() + waitMs;
  while (!(await holds())) {
    if (performance.now() > end) assert.fail(`not within ${waitMs} ms: ${what}`);
    await quiet(20);
  }
}

/** A moment on both clocks of this process. */
export interface Moment {
  /** Unix ms, whole: it may be set meanwhile. */
  readonly date: number;
  readonly monotonic: number;
}

export function now(): Moment {
  return { date: Date.now(), monotonic: performance.now() };
}

/**
 * That `ms` have passed, in whole milliseconds: by the date or by the monotonic clock, because servers count
 * on either, and only one of them is right when the date is set.
 */
export function assertPassed(from: Moment, to: Moment, ms: number, what = ''): void {
  const { date, monotonic } = between(from, to);
  // A clock of whole milliseconds shows the end up to one before the fractions of another do.
  const isPassed = date >= ms || monotonic > ms - 1;
  assert.ok(isPassed, `${what} after ${date} ms by the date, ${monotonic} ms, not after ${ms}`);
}

/** That no more than `ms` have passed, by the clock that shows less. */
export function assertWithin(from: Moment, to: Moment, ms: number, what = ''): void {
  const { date, monotonic } = between(from, to);
  const isWithin = Math.min(date, monotonic) <= ms;
  assert.ok(isWithin, `${what} took ${date} ms by the date, ${monotonic} ms: more than ${ms}`);
}

function between(from: Moment, to: Moment): Moment {
  return { date: to.date - from.date, monotonic: to.monotonic - from.monotonic };
}

export function message(
  text: string,
  key?: string,
  headers: Record<string, string> = {},
): RawMessage {
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

/** A subscriber that records the texts that it has handled. */
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

/** In order of number, with repetitions. */
export function sorted(items: Iterable<string>): string[] {
  return [...items].sort((a, b) => Number(a) - Number(b));
}

/** As `sorted`, without repetitions: for cases in which a message may be redelivered. */
export function distinct(items: Iterable<string>): string[] {
  return sorted(new Set(items));
}

/** One case: what it needs, and what it does. A missing need is the reason of a skip. */
export interface Case {
  readonly name: string;
  /** The missing capability, as the skip names it; null = the broker has it. */
  readonly needs?: (capabilities: Readonly<Capabilities>) => string | null;
  /** The members of the fixture that it needs. */
  readonly uses?: readonly (keyof Fixture)[];
  readonly timeoutMs?: number;
  /** It blocks the process: cases that ran beside it would miss their deadlines. */
  readonly alone?: boolean;
  /** Options of the broker whose capabilities are checked. */
  readonly options?: Partial<BrokerOptions>;
  run(context: CaseContext): Promise<void>;
}

/** A check for capabilities: returns the text of the skip for the first missing one. */
export function need(...names: (keyof Capabilities)[]) {
  return (capabilities: Readonly<Capabilities>): string | null => {
    for (const name of names) {
      const value = capabilities[name];
      if (value === false || value === null || value === 'none') return `${name}: ${value}`;
    }
    return null;
  };
}
