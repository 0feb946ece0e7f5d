/**
 * Several registries as one: `['etcd://…', 'mdns']`, for a move from one to another or a fleet in two.
 *
 * Invariants: registrations go to all and succeed where at least one has them; reads merge what those
 * give that answer; only when none answers a call is it REGISTRY_UNAVAILABLE. A watch reports a node
 * once: at its first registry, and its end at its last. A registry that was down gets the registration
 * with the next renewal. Cost: each call goes to every registry at once, and waits for the slowest; a
 * registry that does not answer is waited for until its own limit.
 */
import { RivuletError } from '../errors.ts';
import { encodeRecord, mergeRecords } from './record.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceRecord,
  WatchOptions,
} from './registry.ts';
import { Watchers } from './watchers.ts';

export class MultiRegistry implements Registry {
  readonly name: string;
  readonly #registries: readonly Registry[];
  readonly #watchers = new Watchers();
  readonly #closing = new AbortController();
  /** Per node: what each registry that has it says of it. */
  readonly #seen = new Map<string, Map<Registry, string>>();
  #isWatching = false;

  /** The registries belong to this one: it closes them. */
  constructor(registries: readonly Registry[]) {
    if (registries.length === 0) {
      throw new RivuletError('INVALID_ARGUMENT', 'several registries are at least one');
    }
    this.#registries = [...registries];
    this.name = registries.map(({ name }) => name).join('+');
  }

  async register(service: ServiceRecord, options: RegisterOptions): Promise<void> {
    await this.#all((registry) => registry.register(service, options));
  }

  async deregister(service: ServiceRecord): Promise<void> {
    await this.#all((registry) => registry.deregister(service));
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    return merge(await this.#all((registry) => registry.getService(name)));
  }

  async listServices(): Promise<ServiceRecord[]> {
    return merge(await this.#all((registry) => registry.listServices()));
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    const watcher = this.#watchers.watch(name, options);
    if (!this.#isWatching && !this.#closing.signal.aborted) {
      this.#isWatching = true;
      for (const registry of this.#registries) {
        // The watch begins now, not when its loop first runs.
        const events = registry.watch(undefined, { signal: this.#closing.signal });
        this.#follow(registry, events).catch((error) => this.#watchers.close(error));
      }
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
    for await (const { action, service } of events) {
      for (const node of service.nodes) {
        const single = { ...service, nodes: [node] };
        if (action === 'delete') await this.#remove(registry, single, node.id);
        else this.#put(registry, single, node.id);
      }
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
    const isNew = seen.size === 0;
    const isSame = [...seen.values()].includes(text);
    seen.set(registry, text);
    // The same from a second registry is no news.
    if (!isSame) this.#watchers.notify({ action: isNew ? 'create' : 'update', service });
  }

  async #remove(registry: Registry, service: ServiceRecord, id: string): Promise<void> {
    const key = keyOf(service, id);
    const seen = this.#seen.get(key);
    seen?.delete(registry);
    if (seen !== undefined && seen.size > 0) return;
    this.#seen.delete(key);
    // Another registry may have had the node since before the watch.
    for (const other of this.#registries) {
      if (other === registry || this.#closing.signal.aborted) continue;
      const records = await other.getService(service.name).catch(() => []);
      const found = records.find(
        ({ version, nodes }) => version === service.version && nodes.some((node) => node.id === id),
      );
      const node = found?.nodes.find((each) => each.id === id);
      if (found === undefined || node === undefined) continue;
      const now = this.#seen.get(key) ?? new Map<Registry, string>();
      if (!now.has(other)) now.set(other, encodeRecord({ ...found, nodes: [node] }));
      this.#seen.set(key, now);
    }
    // It may have come back during the look.
    if (!this.#seen.has(key)) this.#watchers.notify({ action: 'delete', service });
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

/** The first registry's word on a node counts. */
function merge(answers: readonly ServiceRecord[][]): ServiceRecord[] {
  return mergeRecords([...answers].reverse().flat());
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
