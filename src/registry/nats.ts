/**
 * The nats registry: each process answers for its own nodes, as go-micro's does.
 *
 * Subjects come in two pairs, those of go-micro's core and those of its plugins; we ask, answer and
 * announce on both. Holds: our own nodes, and those that others announced or answered for. Invariants:
 * a node of ours is announced with its TTL at each renewal and after a reconnect; a node of others is
 * known for the TTL that it said, 90 s where it said none (Go's say none); a `get` or an announcement
 * never leaves without a service, because that ends Go processes. Cost: a look-up waits `timeoutMs` for
 * answers, unless no process is there to answer.
 */
import { RivuletError } from '../errors.ts';
import { pause, type Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { NodeTable } from './node-table.ts';
import { checkRecord, checkTtl, encodeRecord, MAX_RECORD_BYTES, recordFrom } from './record.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceRecord,
  WatchOptions,
} from './registry.ts';
import { type WarningListener, Warnings } from './warnings.ts';
import { Watchers } from './watchers.ts';

/** What the registry needs of a connection; @rivulet/nats gives it. */
export interface NatsBus {
  /** Resolves when the server has it. Rejects while there is no connection. */
  publish(subject: string, text: string): Promise<void>;
  /** Over a reconnect too. `reply` is null where no answer was asked for. */
  subscribe(subject: string, listener: (text: string, reply: string | null) => void): void;
  /** Every answer within `timeoutMs`; resolves at once where no process subscribes. */
  query(subject: string, text: string, timeoutMs: number): Promise<string[]>;
  onReconnect(listener: () => void): void;
  close(): Promise<void>;
}

export interface NatsRegistryOptions {
  readonly scheduler?: Scheduler;
  /**
   * How long answers are waited for. Default 100, go-micro's. Where it is given, a call also waits no
   * longer than this for the server itself; the default for that is 5 000.
   */
  readonly timeoutMs?: number;
  readonly onWarning?: WarningListener;
}

/** Of go-micro's core, and of its plugins. */
const PREFIXES = ['micro.nats', 'micro.registry.nats'] as const;
/** go-micro's register TTL. */
const FOREIGN_TTL_MS = 90_000;
const RETRY_MS = 1000;
const SERVER_MS = 5000;
/** How much longer than its timeout a query may take that the server has received. */
const GRACE_MS = 50;

interface Own {
  readonly record: ServiceRecord;
  /** Monotonic milliseconds. */
  readonly until: number;
}

class NatsRegistry implements Registry {
  readonly name = 'nats';
  readonly #connect: () => Promise<NatsBus>;
  readonly #scheduler: Scheduler;
  readonly #timeoutMs: number;
  readonly #table: NodeTable;
  readonly #watchers = new Watchers();
  readonly #warnings: Warnings;
  readonly #own = new Map<string, Own>();
  readonly #closing = new AbortController();
  /** How long a call waits for the server, to connect or to take what was sent. */
  readonly #serverMs: number;
  #bus: Promise<NatsBus> | null = null;
  /** The same once it is there. */
  #openBus: NatsBus | null = null;

  constructor(connect: () => Promise<NatsBus>, options: NatsRegistryOptions = {}) {
    this.#connect = connect;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#timeoutMs = options.timeoutMs ?? 100;
    this.#serverMs = options.timeoutMs ?? SERVER_MS;
    this.#warnings = new Warnings('nats', options.onWarning);
    this.#table = new NodeTable(this.#scheduler);
    this.#table.onChange((event) => this.#watchers.notify(event));
  }

  async register(service: ServiceRecord, { ttlMs }: RegisterOptions): Promise<void> {
    checkRecord(service);
    checkTtl(ttlMs);
    const until = this.#scheduler.monotonic() + ttlMs;
    for (const node of service.nodes) {
      const record = structuredClone({ ...service, nodes: [node] });
      await this.#announce('create', record, ttlMs);
      this.#own.set(keyOf(service.name, node.id), { record, until });
      this.#table.put(record, ttlMs);
    }
  }

  async deregister(service: ServiceRecord): Promise<void> {
    for (const node of service.nodes) {
      this.#own.delete(keyOf(service.name, node.id));
      this.#table.remove(service.name, node.id);
      await this.#announce('delete', { ...service, nodes: [node] }, 0);
    }
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    await this.#ask(JSON.stringify({ Action: 'get', Service: { name } }), name);
    return this.#table.get(name);
  }

  async listServices(): Promise<ServiceRecord[]> {
    await this.#ask(JSON.stringify({ Action: 'list', Service: null }), 'every service');
    return this.#table.list();
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    const watcher = this.#watchers.watch(name, options);
    void this.#keepListening();
    return watcher;
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#watchers.close();
    this.#table.close();
    // A connection that does not come about is not waited for; one that comes late is closed.
    if (this.#openBus === null) this.#bus?.then((late) => late.close()).catch(() => {});
    else await this.#openBus.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A watch of a server that is away begins when it comes. */
  async #keepListening(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await this.#open();
        return;
      } catch {
        await pause(this.#scheduler, RETRY_MS, signal).catch(() => {});
      }
    }
  }

  #open(): Promise<NatsBus> {
    if (this.#closing.signal.aborted) {
      return Promise.reject(new RivuletError('CLOSED', 'the nats registry is closed'));
    }
    this.#bus ??= this.#connect().then(
      (bus) => {
        this.#openBus = bus;
        for (const prefix of PREFIXES) {
          bus.subscribe(`${prefix}.query`, (text, reply) => this.#onQuery(bus, text, reply));
          bus.subscribe(`${prefix}.watch`, (text) => this.#onAnnouncement(text));
        }
        bus.onReconnect(() => void this.#announceAll());
        return bus;
      },
      (error) => {
        this.#bus = null;
        throw error;
      },
    );
    return this.#bus;
  }

  async #announce(action: 'create' | 'delete', record: ServiceRecord, ttlMs: number) {
    const service = JSON.parse(encodeRecord(record));
    const text = JSON.stringify({ Action: action, Service: service, TtlMs: ttlMs });
    try {
      const bus = await this.#within(this.#serverMs, this.#open());
      const published = PREFIXES.map((prefix) => bus.publish(`${prefix}.watch`, text));
      await this.#within(this.#serverMs, Promise.all(published));
    } catch (cause) {
      throw this.#unavailable(`${record.name} could not be announced`, cause);
    }
  }

  /** After a reconnect: others may have missed what we said, and we what they said. */
  async #announceAll(): Promise<void> {
    for (const { record, until } of [...this.#own.values()]) {
      const leftMs = until - this.#scheduler.monotonic();
      if (leftMs > 0) await this.#announce('create', record, leftMs).catch(() => {});
    }
    await this.listServices().catch(() => {});
  }

  async #ask(text: string, what: string): Promise<void> {
    let answers: string[][];
    try {
      const bus = await this.#within(this.#serverMs, this.#open());
      const asked = PREFIXES.map((prefix) => bus.query(`${prefix}.query`, text, this.#timeoutMs));
      answers = await this.#within(this.#serverMs + GRACE_MS, Promise.all(asked));
    } catch (cause) {
      throw this.#unavailable(`no process answers for ${what}`, cause);
    }
    for (const answer of new Set(answers.flat())) this.#take(answer, `an answer for ${what}`);
  }

  /** What is waited for goes on; a connection that comes later serves the next call. */
  async #within<T>(ms: number, wait: Promise<T>): Promise<T> {
    let stop = () => {};
    const late = new Promise<never>((_, reject) => {
      stop = this.#scheduler.after(ms, () => {
        reject(new RivuletError('TIMEOUT', `the NATS server did not answer within ${ms} ms`));
      });
    });
    try {
      return await Promise.race([wait, late]);
    } finally {
      stop();
    }
  }

  #onQuery(bus: NatsBus, text: string, reply: string | null): void {
    if (reply === null) return;
    let query: { Action?: unknown; Service?: { name?: unknown } | null };
    try {
      query = JSON.parse(text) ?? {};
    } catch {
      return;
    }
    const name = query.Action === 'list' ? null : query.Service?.name;
    if (query.Action !== 'list' && (query.Action !== 'get' || typeof name !== 'string')) return;
    for (const { record, until } of this.#own.values()) {
      const leftMs = until - this.#scheduler.monotonic();
      if (leftMs <= 0 || (name !== null && record.name !== name)) continue;
      const answer = JSON.stringify({ ...JSON.parse(encodeRecord(record)), ttlMs: leftMs });
      // The asking process may be gone.
      bus.publish(reply, answer).catch(() => {});
    }
  }

  #onAnnouncement(text: string): void {
    try {
      const { Action, Service, TtlMs } = parsed(text) as Record<string, unknown>;
      const record = recordFrom(Service);
      if (Action === 'delete') {
        for (const { id } of record.nodes) this.#table.remove(record.name, id);
      } else if (Action === 'create' || Action === 'update') {
        this.#put(record, TtlMs);
      }
    } catch (error) {
      this.#warnings.badRecord('an announcement', error);
    }
  }

  #take(text: string, where: string): void {
    try {
      const json = parsed(text);
      this.#put(recordFrom(json), (json as { ttlMs?: unknown }).ttlMs);
    } catch (error) {
      this.#warnings.badRecord(where, error);
    }
  }

  #put(record: ServiceRecord, ttlMs: unknown): void {
    const isTtl = typeof ttlMs === 'number' && ttlMs > 0 && Number.isFinite(ttlMs);
    this.#table.put(record, isTtl ? ttlMs : FOREIGN_TTL_MS);
  }

  #unavailable(text: string, cause: unknown): RivuletError {
    const known = cause instanceof RivuletError ? cause.code : null;
    if (known === 'CLOSED' || known === 'AUTHENTICATION_FAILED' || known === 'ADAPTER_MISSING') {
      return cause as RivuletError;
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    return new RivuletError('REGISTRY_UNAVAILABLE', `${text}: ${why}`, { cause });
  }
}

/** `nats://host:4222`, by the adapter @rivulet/nats, which is loaded with the first call. */
export function natsRegistryFrom(url: string, options: NatsRegistryOptions = {}): NatsRegistry {
  return new NatsRegistry(async () => {
    // The name is no literal, so that neither compiler nor bundler asks for the package.
    const name: string = '@rivulet/nats';
    let adapter: { openRegistryBus(url: string, connectTimeoutMs?: number): Promise<NatsBus> };
    try {
      adapter = await import(name);
    } catch (cause) {
      const text = `the nats registry needs a package that is not installed: npm install ${name}`;
      throw new RivuletError('ADAPTER_MISSING', text, { cause });
    }
    return adapter.openRegistryBus(url, options.timeoutMs);
  }, options);
}

function parsed(text: string): unknown {
  if (text.length > MAX_RECORD_BYTES) {
    throw new RivuletError('DECODING_FAILED', `it is longer than ${MAX_RECORD_BYTES} bytes`);
  }
  const json: unknown = JSON.parse(text);
  if (typeof json === 'object' && json !== null) return json;
  throw new RivuletError('DECODING_FAILED', 'it is no object');
}

function keyOf(name: string, nodeId: string): string {
  return `${name}\n${nodeId}`;
}
