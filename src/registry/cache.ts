/**
 * The registry cache: answers from memory, kept current by one watch, and survives an outage.
 *
 * Holds: the records of each service that was asked for. Invariants: a service is read once, then
 * kept current by the watch and read again every `ttlMs`; callers that ask at once share one read;
 * while the registry cannot be reached the last answer is served, and a service without an answer is
 * REGISTRY_UNAVAILABLE; after a failed read the registry is left alone for `retryMs`. Bounds: at most
 * `maxServices` services are kept, the one asked for longest ago leaves first. Cost: one map look-up.
 */
import { RivuletError } from '../errors.ts';

import { pause, runOutside, type Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { mergeRecords } from './record.ts';
import type { Registry, RegistryEvent, ServiceNode, ServiceRecord } from './registry.ts';

export interface RegistryCacheOptions {
  /** How old an answer may be while the watch works. Default 60 000, go-micro's. */
  readonly ttlMs?: number;
  /** How long the registry is left alone after a failed read. Default 5 000, go-micro's. */
  readonly retryMs?: number;
  /** Default 10 000. */
  readonly maxServices?: number;
  readonly scheduler?: Scheduler;
  /** Called at the first failure of an outage. */
  readonly onError?: (error: Error) => void;
}

interface Cached {
  records: ServiceRecord[];
  /** Monotonic milliseconds of the last good read. */
  readAt: number;
  reading: Promise<ServiceRecord[]> | null;
  /** Changes when an event arrives: a read that began before it is read again. */
  version: number;
  /** Null while the last read succeeded. */
  error: Error | null;
  failedAt: number;
}

export class RegistryCache {
  readonly #registry: Registry;
  readonly #scheduler: Scheduler;
  readonly #ttlMs: number;
  readonly #retryMs: number;
  readonly #maxServices: number;
  readonly #onError: (error: Error) => void;
  readonly #services = new Map<string, Cached>();
  /** The service that was asked for last, which is at the end of the map. */
  #last: string | null = null;
  readonly #closing = new AbortController();
  #watching: Promise<void> | null = null;
  #reported = false;

  constructor(registry: Registry, options: RegistryCacheOptions = {}) {
    this.#registry = registry;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#ttlMs = options.ttlMs ?? 60_000;
    this.#retryMs = options.retryMs ?? 5000;
    this.#maxServices = options.maxServices ?? 10_000;
    this.#onError = options.onError ?? (() => {});
  }

  /** Every version of the service. Rejects with REGISTRY_UNAVAILABLE only when nothing is known. */
  getService(name: string): Promise<ServiceRecord[]> {
    const cached = this.#cached(name);
    const now = this.#scheduler.monotonic();
    if (cached.readAt + this.#ttlMs > now) return Promise.resolve(cached.records);
    if (cached.error !== null && cached.failedAt + this.#retryMs > now) return stale(name, cached);
    this.#startWatch();
    cached.reading ??= this.#read(name, cached).finally(() => {
      cached.reading = null;
    });
    return cached.reading;
  }

  /** The records while they need not be read again; null otherwise. Not to be changed. */
  fresh(name: string): readonly ServiceRecord[] | null {
    const cached = this.#services.get(name);
    if (cached === undefined || cached.readAt + this.#ttlMs <= this.#scheduler.monotonic()) {
      return null;
    }
    // So that the one asked for longest ago leaves first.
    if (this.#last !== name) this.#cached(name);
    return cached.records;
  }

  /** What is known now, without asking: for callers that cannot wait. */
  peek(name: string): readonly ServiceRecord[] | null {
    const cached = this.#services.get(name);
    return cached === undefined || cached.readAt === Number.NEGATIVE_INFINITY
      ? null
      : cached.records;
  }

  /** Forgets one service, so that the next call reads it: a caller found its nodes wrong. */
  invalidate(name: string): void {
    const cached = this.#services.get(name);
    if (cached !== undefined) cached.readAt = Number.NEGATIVE_INFINITY;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#watching;
  }

  #cached(name: string): Cached {
    let cached = this.#services.get(name);
    if (cached === undefined) {
      const never = Number.NEGATIVE_INFINITY;
      cached = { records: [], readAt: never, reading: null, version: 0, error: null, failedAt: 0 };
    } else this.#services.delete(name);
    this.#services.set(name, cached);
    this.#last = name;
    if (this.#services.size > this.#maxServices) {
      for (const oldest of this.#services.keys()) {
        this.#services.delete(oldest);
        break;
      }
    }
    return cached;
  }

  async #read(name: string, cached: Cached): Promise<ServiceRecord[]> {
    try {
      for (let round = 0; round < 3; round++) {
        const { version } = cached;
        cached.records = await this.#registry.getService(name);
        if (cached.version === version) break;
      }
      cached.readAt = this.#scheduler.monotonic();
      cached.error = null;
      this.#reported = false;
      return cached.records;
    } catch (error) {
      cached.error = error instanceof Error ? error : new Error(String(error));
      cached.failedAt = this.#scheduler.monotonic();
      this.#report(cached.error);
      return await stale(name, cached);
    }
  }

  #startWatch(): void {
    // It goes on for ever, and must not hold the call that read first.
    this.#watching ??= runOutside(this.#scheduler, () => this.#watch());
  }

  /** Watches until closed; after a failure every service is read again when it is next asked for. */
  async #watch(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        for await (const event of this.#registry.watch(undefined, { signal })) this.#apply(event);
      } catch (error) {
        this.#report(error instanceof Error ? error : new Error(String(error)));
      }
      for (const cached of this.#services.values()) cached.readAt = Number.NEGATIVE_INFINITY;
      await pause(this.#scheduler, this.#retryMs, signal).catch(() => {});
    }
  }

  #apply({ action, service }: RegistryEvent): void {
    const cached = this.#services.get(service.name);
    if (cached === undefined) return;
    cached.version++;
    const ids = new Set(service.nodes.map(({ id }) => id));
    const keeps = ({ id }: ServiceNode) => !ids.has(id);
    // A node is in one version: an event about it removes it from every other.
    const others = cached.records
      .map((record) =>
        action === 'delete' && record.version !== service.version
          ? record
          : { ...record, nodes: record.nodes.filter(keeps) },
      )
      .filter(({ nodes }) => nodes.length > 0);
    cached.records = action === 'delete' ? others : mergeRecords([...others, service]);
  }

  #report(error: Error): void {
    if (this.#reported || this.#closing.signal.aborted) return;
    this.#reported = true;
    this.#onError(error);
  }
}

/** The last answer, however old, or the error where there never was one. */
async function stale(name: string, cached: Cached): Promise<ServiceRecord[]> {
  if (cached.records.length > 0) return cached.records;
  throw new RivuletError(
    'REGISTRY_UNAVAILABLE',
    `the registry could not be asked for ${name}: ${cached.error?.message ?? 'no answer'}`,
    { cause: cached.error },
  );
}
