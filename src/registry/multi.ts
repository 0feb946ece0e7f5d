/**
 * Several registries as one: `['etcd://…', 'mdns']`, for a move from one to another or a fleet in two.
 *
 * Invariants: registrations go to all and succeed where at least one has them; reads merge what those
 * give that answer, and the last answers of those that do not; when none answers a call, or one does not
 * and no node is known, it is REGISTRY_UNAVAILABLE. A watch reports a node
 * once: at its first registry, and its end at its last; a registry that does not answer delays no event of
 * another but the end of a node that it may have. A registry that was down gets the registration with the
 * next renewal. Cost: each call goes to every registry at once, and waits for the slowest; a registry that
 * does not answer is waited for until its own limit; a watch lists each registry once, and holds the key of
 * each node that was there.
 */
import { RivuletError } from '../errors.ts';
import { LastAnswers } from './last-answers.ts';
import { encodeRecord } from './record.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceRecord,
  WatchOptions,
} from './registry.ts';
import { Watchers } from './watchers.ts';

/** Services whose last answers are kept. */
const MAX_SERVICES = 10_000;

/** The nodes that a registry had when the watch began, which are no events of it. */
interface Before {
  readonly keys: Set<string>;
  isRead: boolean;
  reading: Promise<void> | null;
  /** What it lost while it was read. */
  readonly gone: Set<string>;
}

export class MultiRegistry implements Registry {
  readonly name: string;
  readonly #registries: readonly Registry[];
  readonly #watchers = new Watchers();
  readonly #closing = new AbortController();
  /** Per node: what each registry that has it says of it. */
  readonly #seen = new Map<string, Map<Registry, string>>();
  /** Nodes that are in no registry that was read; another may have them. */
  readonly #leaving = new Map<string, { readonly text: string }>();
  readonly #followed = new Map<Registry, Before>();
  /** The last answers about each service that any registry has. */
  readonly #answers = new Map<string, LastAnswers>();
  /** The last answers to `listServices`. */
  readonly #lists: LastAnswers;

  /** The registries belong to this one: it closes them. */
  constructor(registries: readonly Registry[]) {
    if (registries.length === 0) {
      throw new RivuletError('INVALID_ARGUMENT', 'several registries are at least one');
    }
    this.#registries = [...registries];
    this.#lists = new LastAnswers(this.#registries);
    this.name = registries.map(({ name }) => name).join('+');
  }

  async register(service: ServiceRecord, options: RegisterOptions): Promise<void> {
    await this.#all((registry) => registry.register(service, options));
  }

  async deregister(service: ServiceRecord): Promise<void> {
    await this.#all((registry) => registry.deregister(service));
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    const answers = this.#answers.get(name) ?? new LastAnswers(this.#registries);
    try {
      return await this.#merged(answers, (registry) => registry.getService(name));
    } finally {
      this.#keep(name, answers);
    }
  }

  async listServices(): Promise<ServiceRecord[]> {
    return this.#merged(this.#lists, (registry) => registry.listServices());
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    const watcher = this.#watchers.watch(name, options);
    if (this.#watchers.size === 0) return watcher;
    for (const registry of this.#registries) {
      if (this.#followed.has(registry)) continue;
      // The watch begins now, not when its loop first runs.
      const events = registry.watch(undefined, { signal: this.#closing.signal });
      const before: Before = { keys: new Set(), isRead: false, reading: null, gone: new Set() };
      this.#followed.set(registry, before);
      void this.#read(registry, before);
      void this.#follow(registry, events);
    }
    return watcher;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#watchers.close();
    await Promise.all(this.#registries.map((registry) => registry.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #follow(registry: Registry, events: AsyncIterable<RegistryEvent>): Promise<void> {
    try {
      for await (const { action, service } of events) {
        for (const node of service.nodes) {
          const single = { ...service, nodes: [node] };
          if (action === 'delete') this.#remove(registry, single, node.id);
          else this.#put(registry, single, node.id);
        }
      }
    } catch (error) {
      // What it says from here on is not known: the next watch begins with it again.
      this.#followed.delete(registry);
      for (const [key, seen] of this.#seen) {
        if (seen.delete(registry) && seen.size === 0) this.#seen.delete(key);
      }
      this.#watchers.end(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #put(registry: Registry, service: ServiceRecord, id: string): void {
    const key = keyOf(service, id);
    let seen = this.#seen.get(key);
    if (seen === undefined) {
      seen = new Map();
      this.#seen.set(key, seen);
    }
    const text = encodeRecord(service);
    const left = this.#leaving.get(key);
    const isNew = seen.size === 0 && left === undefined;
    const isSame = left?.text === text || [...seen.values()].includes(text);
    this.#leaving.delete(key);
    seen.set(registry, text);
    // The same from a second registry is no news.
    if (!isSame) this.#watchers.notify({ action: isNew ? 'create' : 'update', service });
  }

  #remove(registry: Registry, service: ServiceRecord, id: string): void {
    const key = keyOf(service, id);
    const before = this.#followed.get(registry);
    before?.keys.delete(key);
    if (before?.reading) before.gone.add(key);
    const seen = this.#seen.get(key);
    seen?.delete(registry);
    if (seen !== undefined && seen.size > 0) return;
    this.#seen.delete(key);
    // Another registry may have had the node since before the watch.
    const others = [...this.#followed].filter(([other]) => other !== registry);
    const isKnown = others.every(([, { isRead }]) => isRead);
    if (isKnown) this.#end(key, service);
    else void this.#endLater(key, service, others);
  }

  /** An answer that could not be had does not say that the node is there: what it is, its watch reports. */
  async #endLater(
    key: string,
    service: ServiceRecord,
    others: readonly [Registry, Before][],
  ): Promise<void> {
    const leaving = { text: encodeRecord(service) };
    this.#leaving.set(key, leaving);
    await Promise.all(others.map(([other, before]) => this.#read(other, before)));
    // It may have come back during the look.
    if (this.#leaving.get(key) !== leaving) return;
    this.#leaving.delete(key);
    this.#end(key, service);
  }

  #end(key: string, service: ServiceRecord): void {
    for (const { keys } of this.#followed.values()) if (keys.has(key)) return;
    this.#watchers.notify({ action: 'delete', service });
  }

  /** Reads what a registry had; many callers share one read. One that fails is tried again at the next call. */
  #read(registry: Registry, before: Before): Promise<void> {
    if (before.isRead || this.#closing.signal.aborted) return Promise.resolve();
    before.reading ??= registry
      .listServices()
      .then((records) => {
        for (const record of records) {
          for (const { id } of record.nodes) before.keys.add(keyOf(record, id));
        }
        for (const key of before.gone) before.keys.delete(key);
        before.isRead = true;
      })
      .catch(() => {})
      .finally(() => {
        before.reading = null;
        before.gone.clear();
      });
    return before.reading;
  }

  /** Names that no registry knows push nothing out; the service that was asked for longest ago leaves first. */
  #keep(name: string, answers: LastAnswers): void {
    this.#answers.delete(name);
    if (answers.isEmpty) return;
    this.#answers.set(name, answers);
    if (this.#answers.size <= MAX_SERVICES) return;
    const [oldest] = this.#answers.keys();
    this.#answers.delete(oldest as string);
  }

  /** The answers of all registries: of one that does not answer now, its last one, if there is any. */
  async #merged(
    answers: LastAnswers,
    read: (registry: Registry) => Promise<ServiceRecord[]>,
  ): Promise<ServiceRecord[]> {
    let failure: { readonly registry: Registry; readonly error: unknown } | null = null;
    const now = new Map<Registry, ServiceRecord[]>();
    await this.#all(async (registry) => {
      try {
        now.set(registry, await read(registry));
      } catch (error) {
        failure ??= { registry, error };
        throw error;
      }
    });
    const found = answers.merge(now);
    if (found.length > 0 || failure === null) return found;
    // The registry that failed may have the service.
    const { registry, error } = failure as { registry: Registry; error: unknown };
    const text = `the registry ${registry.name} failed, and no other has a node: ${messageOf(error)}`;
    throw new RivuletError('REGISTRY_UNAVAILABLE', text, { cause: error });
  }

  /** The results of the registries that answer; the first error when none does. */
  async #all<T>(run: (registry: Registry) => Promise<T>): Promise<T[]> {
    const results = await Promise.allSettled(this.#registries.map(run));
    const good: T[] = [];
    const errors: unknown[] = [];
    for (const result of results) {
      if (result.status === 'fulfilled') good.push(result.value);
      else errors.push(result.reason);
    }
    // A record that one of them refuses is a mistake of the caller, not an outage.
    const refused = errors.find((error) => codeOf(error) === 'INVALID_ARGUMENT');
    if (refused !== undefined) throw refused;
    if (good.length > 0) return good;
    const [first] = errors;
    if (errors.every((error) => codeOf(error) === codeOf(first))) throw first;
    const text = `none of the registries ${this.name} answers: ${errors.map(messageOf).join('; ')}`;
    throw new RivuletError('REGISTRY_UNAVAILABLE', text, { cause: new AggregateError(errors) });
  }
}

function keyOf(service: ServiceRecord, nodeId: string): string {
  return `${service.name}\n${service.version}\n${nodeId}`;
}

function codeOf(error: unknown): string {
  return error instanceof RivuletError ? error.code : '';
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
