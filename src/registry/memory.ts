/**
 * The memory registry: services of one process.
 *
 * `new MemoryRegistry()` has its own nodes; `MemoryRegistry.shared(name)` shares the nodes
 * that every caller of this process with the same name sees. Invariant: closing one door ends its
 * own watches only. Cost: see node-table.ts.
 */
import { RivuletError } from '../errors.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { NodeTable } from './node-table.ts';
import { checkRecord, checkTtl } from './record.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceRecord,
  WatchOptions,
} from './registry.ts';
import { Watchers } from './watchers.ts';

const sharedTables = new Map<string, NodeTable>();

export class MemoryRegistry implements Registry {
  readonly name: string = 'memory';
  protected readonly table: NodeTable;
  readonly #watchers = new Watchers();
  readonly #stop: () => void;

  constructor(scheduler: Scheduler = systemScheduler, table = new NodeTable(scheduler)) {
    this.table = table;
    this.#stop = table.onChange((event) => this.#watchers.notify(event));
  }

  /** A door to the nodes of this name in this process. */
  static shared(name = ''): MemoryRegistry {
    let table = sharedTables.get(name);
    if (table === undefined) {
      table = new NodeTable(systemScheduler);
      sharedTables.set(name, table);
    }
    return new MemoryRegistry(systemScheduler, table);
  }

  async register(service: ServiceRecord, { ttlMs }: RegisterOptions): Promise<void> {
    checkRecord(service);
    checkTtl(ttlMs);
    // The caller may change its object afterwards.
    if (this.table.put(structuredClone(service), ttlMs)) return;
    const text = `the registry holds ${this.table.maxNodes} nodes, which is its limit; ${service.name} was not added`;
    throw new RivuletError('LIMIT_EXCEEDED', text);
  }

  async deregister(service: ServiceRecord): Promise<void> {
    for (const { id } of service.nodes) this.table.remove(service.name, id);
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    return this.table.get(name);
  }

  async listServices(): Promise<ServiceRecord[]> {
    return this.table.list();
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    return this.#watchers.watch(name, options);
  }

  async close(): Promise<void> {
    this.#stop();
    this.#watchers.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
