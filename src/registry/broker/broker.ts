/**
 * The broker registry: services announce themselves on a topic of the broker that they use anyway.
 *
 * Each registration publishes the record with its TTL; each removal publishes that; every registry
 * reads the whole topic from its beginning and keeps the living nodes. Invariants: a read publishes a
 * marker and answers when the marker comes back, so that it holds everything published before it, and
 * a broker that does not answer is REGISTRY_UNAVAILABLE; ages are counted on the broker's clock alone;
 * while the broker is away no node expires here. A topic whose broker keeps no history is asked for:
 * registries announce what they hold when another one begins. The topic is trimmed to what a few
 * intervals need. Cost: one entry per registration and per read; reads at once share one marker.
 */
import { setMaxListeners } from 'node:events';
import type { Broker, Delivery, Subscriber } from '../../broker/broker.ts';
import { openBroker } from '../../broker/open-broker.ts';
import { RivuletError } from '../../errors.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { type Announcement, decodeAnnouncement, encodeAnnouncement } from '../announcement.ts';
import { checkRecord, checkTtl } from '../record.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceRecord,
  WatchOptions,
} from '../registry.ts';
import { type WarningListener, Warnings } from '../warnings.ts';
import { Watchers } from '../watchers.ts';
import { BrokerNodes } from './broker-nodes.ts';

export const REGISTRY_TOPIC = 'rivulet.registry';

export interface BrokerRegistryOptions {
  /** Default `rivulet.registry`. Registries of one topic see each other. */
  readonly topic?: string;
  /** How long a read waits for the broker. Default 5000. */
  readonly timeoutMs?: number;
  readonly scheduler?: Scheduler;
  /** Called once per sender whose announcement cannot be read. Default: Node's warnings. */
  readonly onWarning?: WarningListener;
}

/** The topic keeps at least this many entries, and more for each node that is known. */
const MIN_LENGTH = 1000;
const LENGTH_PER_NODE = 50;
/** How long the answers of other registries may take, where the topic keeps no history. */
const ANSWER_MS = 250;
const ANSWER_JITTER_MS = 50;
const MAX_HELD = 10_000;

interface Held {
  readonly record: ServiceRecord;
  readonly ttlMs: number;
  /** Monotonic milliseconds at which the registration ends unless it is renewed. */
  readonly deadline: number;
}

export class BrokerRegistry implements Registry {
  readonly name = 'broker';
  readonly #given: Broker | string;
  #broker: Broker | null;
  readonly #ownsBroker: boolean;
  readonly #topic: string;
  readonly #timeoutMs: number;
  readonly #scheduler: Scheduler;
  readonly #warnings: Warnings;
  readonly #watchers = new Watchers();
  readonly #nodes: BrokerNodes;
  readonly #held = new Map<string, Held>();
  readonly #markers = new Map<string, (publishedAt: number) => void>();
  readonly #id: string;
  readonly #closing = new AbortController();
  readonly #stops: (() => void)[] = [];
  #starting: Promise<void> | null = null;
  #subscriber: Subscriber | null = null;
  /** The next read's marker, not published yet: every caller of this turn shares it. */
  #nextMarker: Promise<void> | null = null;
  #answering = false;
  #cancelAnswer: () => void = () => {};
  #number = 0;

  /**
   * On a broker that is open and stays open, unless the registry is given to own; or on the broker at
   * a URL, which the registry opens at its first call and owns.
   */
  constructor(
    broker: Broker | string,
    options: BrokerRegistryOptions = {},
    ownsBroker = typeof broker === 'string',
  ) {
    this.#given = broker;
    this.#broker = typeof broker === 'string' ? null : broker;
    this.#ownsBroker = ownsBroker;
    this.#topic = options.topic ?? REGISTRY_TOPIC;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#warnings = new Warnings('broker', options.onWarning);
    this.#id = this.#scheduler.uniqueName();
    // Each operation that runs listens for the end.
    setMaxListeners(0, this.#closing.signal);
    this.#nodes = new BrokerNodes(this.#scheduler, (event) => this.#watchers.notify(event));
  }

  async register(service: ServiceRecord, { ttlMs }: RegisterOptions): Promise<void> {
    checkRecord(service);
    checkTtl(ttlMs);
    const record = structuredClone(service);
    await this.#start();
    await this.#publish({ action: 'register', from: this.#id, ttlMs, service: record });
    this.#hold(record, ttlMs);
  }

  async deregister(service: ServiceRecord): Promise<void> {
    for (const { id } of service.nodes) this.#held.delete(heldKey(service.name, id));
    await this.#start();
    const record = structuredClone(service);
    await this.#publish({ action: 'deregister', from: this.#id, ttlMs: 0, service: record });
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    await this.#catchUp();
    return this.#nodes.get(name);
  }

  async listServices(): Promise<ServiceRecord[]> {
    await this.#catchUp();
    return this.#nodes.list();
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    const watcher = this.#watchers.watch(name, options);
    // A broker that is away: the next read, or its return, tries again.
    this.#catchUp().catch(() => {});
    return watcher;
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    for (const stop of this.#stops.splice(0)) stop();
    this.#cancelAnswer();
    this.#watchers.close();
    this.#nodes.close();
    await this.#starting?.catch(() => {});
    await this.#subscriber?.unsubscribe().catch(() => {});
    if (this.#ownsBroker) await this.#broker?.disconnect();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Subscribes; once for all callers, and again after a failure. */
  #start(): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(closed());
    this.#starting ??= this.#subscribe().catch((error) => {
      this.#starting = null;
      throw this.#unavailable(error);
    });
    return this.#starting;
  }

  async #subscribe(): Promise<void> {
    const broker = await this.#open();
    const { capabilities } = broker;
    const subscriber = await this.#withinLimit((signal) =>
      broker.subscribe(this.#topic, (delivery) => this.#receive(delivery), {
        from: capabilities.replayById ? 'earliest' : 'new',
        maxInFlight: 256,
        retry: { attempts: 1 },
        deadLetter: false,
        ...(capabilities.strictOrder ? { ordered: 'strict' as const } : {}),
        signal,
      }),
    );
    this.#subscriber = subscriber;
    if (this.#closing.signal.aborted) {
      await subscriber.unsubscribe().catch(() => {});
      throw closed();
    }
    this.#stops.push(
      broker.on('disconnected', () => this.#nodes.suspend()),
      broker.on('connected', () => this.#return()),
      broker.on('groupLost', ({ topic }) => {
        if (topic === this.#topic) this.#return();
      }),
    );
    if (!capabilities.replayById) {
      await this.#publish({ action: 'query', from: this.#id, ttlMs: 0, service: null });
      await pause(this.#scheduler, ANSWER_MS, this.#closing.signal);
    }
  }

  async #open(): Promise<Broker> {
    if (this.#broker !== null) return this.#broker;
    const url = this.#given as string;
    const broker = await openBroker(url, { connectTimeoutMs: this.#timeoutMs });
    if (this.#closing.signal.aborted) {
      await broker.disconnect();
      throw closed();
    }
    this.#broker = broker;
    return broker;
  }

  /** The broker is back, perhaps without what it had: what is held here is announced again. */
  #return(): void {
    this.#announce();
    this.#catchUp().catch(() => {});
  }

  #hold(record: ServiceRecord, ttlMs: number): void {
    const deadline = this.#scheduler.monotonic() + ttlMs;
    for (const node of record.nodes) {
      const key = heldKey(record.name, node.id);
      if (!this.#held.has(key) && this.#held.size >= MAX_HELD) return;
      this.#held.set(key, { record: { ...record, nodes: [node] }, ttlMs, deadline });
    }
  }

  /** Publishes what this registry registered, with the time that is left; once for calls at once. */
  #announce(): void {
    if (this.#answering || this.#held.size === 0) return;
    this.#answering = true;
    const wait = ANSWER_JITTER_MS * this.#scheduler.fraction();
    this.#cancelAnswer = this.#scheduler.after(wait, () => void this.#announceHeld(), false);
  }

  async #announceHeld(): Promise<void> {
    this.#answering = false;
    const { signal } = this.#closing;
    for (const [key, held] of [...this.#held]) {
      const left = Math.floor(held.deadline - this.#scheduler.monotonic());
      if (left < 1) this.#held.delete(key);
      // It may have been renewed or withdrawn meanwhile.
      if (left < 1 || this.#held.get(key) !== held || signal.aborted) continue;
      const service = held.record;
      const announcement = { action: 'register', from: this.#id, ttlMs: left, service } as const;
      await this.#send(announcement, signal).catch(() => {});
    }
  }

  /** Resolves once everything published before the call has been received. */
  async #catchUp(): Promise<void> {
    await this.#start();
    // Callers of one turn share a marker; a caller that comes after it was published needs its own.
    this.#nextMarker ??= Promise.resolve().then(() => {
      this.#nextMarker = null;
      return this.#mark();
    });
    await this.#nextMarker;
    if (this.#closing.signal.aborted) throw closed();
  }

  async #mark(): Promise<void> {
    const marker = `${this.#id}-${this.#number++}`;
    try {
      await this.#withinLimit(async (signal) => {
        const returned = new Promise<number>((resolve, reject) => {
          this.#markers.set(marker, resolve);
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        });
        returned.catch(() => {});
        await this.#send({ action: 'marker', from: marker, ttlMs: 0, service: null }, signal);
        await returned;
      });
    } catch (error) {
      throw this.#unavailable(error);
    } finally {
      this.#markers.delete(marker);
    }
  }

  async #publish(announcement: Announcement): Promise<void> {
    try {
      await this.#withinLimit((signal) => this.#send(announcement, signal));
    } catch (error) {
      throw this.#unavailable(error);
    }
  }

  async #send(announcement: Announcement, signal: AbortSignal): Promise<void> {
    const broker = await this.#open();
    const maxLength = Math.max(MIN_LENGTH, LENGTH_PER_NODE * this.#nodes.size);
    const body = encodeAnnouncement(announcement);
    await broker.publish(this.#topic, { headers: {}, body }, { maxLength, signal });
  }

  #receive(delivery: Delivery): void {
    const published = delivery.publishedAt.getTime();
    let announcement: Announcement;
    try {
      announcement = decodeAnnouncement(delivery.message.body);
    } catch (error) {
      this.#warnings.badRecord(`the announcement ${delivery.id} on ${delivery.topic}`, error);
      return;
    }
    if (announcement.service !== null) {
      this.#nodes.apply(announcement, published);
    } else if (announcement.action === 'query') {
      if (announcement.from !== this.#id) this.#announce();
    } else {
      const returned = this.#markers.get(announcement.from);
      if (returned === undefined) return;
      this.#nodes.resume(published);
      returned(published);
    }
  }

  /** Runs with a signal that ends it after `timeoutMs`, or with the registry. */
  async #withinLimit<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const limit = new AbortController();
    const text = `the broker gave no answer within ${this.#timeoutMs} ms`;
    const cancel = this.#scheduler.after(this.#timeoutMs, () =>
      limit.abort(new RivuletError('TIMEOUT', text)),
    );
    const end = () => limit.abort(closed());
    this.#closing.signal.addEventListener('abort', end, { once: true });
    const ended = new Promise<never>((_, reject) => {
      limit.signal.addEventListener('abort', () => reject(limit.signal.reason), { once: true });
    });
    ended.catch(() => {});
    try {
      return await Promise.race([run(limit.signal), ended]);
    } finally {
      cancel();
      this.#closing.signal.removeEventListener('abort', end);
    }
  }

  #unavailable(cause: unknown): unknown {
    if (this.#closing.signal.aborted) return closed();
    if (cause instanceof RivuletError && STANDING.has(cause.code)) return cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const text = `the registry on topic ${this.#topic} of the ${this.#broker?.name ?? 'given'} broker cannot be reached: ${reason}`;
    return new RivuletError('REGISTRY_UNAVAILABLE', text, { cause });
  }
}

/** Errors that no waiting mends: they are what they are. */
const STANDING: ReadonlySet<string> = new Set([
  'REGISTRY_UNAVAILABLE',
  'PERMISSION_DENIED',
  'AUTHENTICATION_FAILED',
  'UNSUPPORTED',
  'UNKNOWN_SCHEME',
  'ADAPTER_MISSING',
  'BODY_TOO_LARGE',
  'INVALID_ARGUMENT',
]);

function heldKey(service: string, nodeId: string): string {
  return `${service}/${nodeId}`;
}

function closed(): RivuletError {
  return new RivuletError('CLOSED', 'the registry is closed; open another one');
}
