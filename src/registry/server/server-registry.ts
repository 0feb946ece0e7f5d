/**
 * What registries that keep their nodes on a server share: etcd, Consul, Eureka, ZooKeeper.
 *
 * Invariants: operations on one node run one after the other; a record is taken as it is at the call;
 * a look-up after `watch` waits for the watch's first read, so that every later change is an event; a
 * closed registry begins nothing: CLOSED. Cost: one copy of a record for each registration.
 */
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
import type { RegistryWatch } from './registry-watch.ts';
import { Turns } from './turns.ts';

export abstract class ServerRegistry implements Registry {
  abstract readonly name: string;
  protected abstract readonly follower: RegistryWatch;
  protected readonly turns = new Turns();
  protected readonly watchers = new Watchers();
  protected readonly warnings: Warnings;

  constructor(title: string, onWarning?: WarningListener) {
    this.warnings = new Warnings(title, onWarning);
  }

  async register(service: ServiceRecord, { ttlMs }: RegisterOptions): Promise<void> {
    checkRecord(service);
    checkTtl(ttlMs);
    const { nodes, ...facts } = structuredClone(service);
    const writes = nodes.map((node) => {
      const write = this.prepare({ ...facts, nodes: [node] }, ttlMs);
      return { key: this.nodeKey(service.name, node.id), write };
    });
    await Promise.all(writes.map(({ key, write }) => this.turns.run(key, write)));
  }

  async deregister({ name, nodes }: ServiceRecord): Promise<void> {
    const ids = nodes.map(({ id }) => id);
    await Promise.all(
      ids.map((id) => this.turns.run(this.nodeKey(name, id), () => this.remove(name, id))),
    );
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    this.turns.mustBeOpen();
    await this.follower.firstRead;
    return this.read(name);
  }

  async listServices(): Promise<ServiceRecord[]> {
    this.turns.mustBeOpen();
    await this.follower.firstRead;
    return this.readAll();
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    const watcher = this.watchers.watch(name, options);
    if (this.watchers.size > 0) this.follower.start();
    return watcher;
  }

  async close(): Promise<void> {
    if (!this.turns.close()) return;
    this.follower.close();
    this.watchers.close();
    this.disconnect();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Names a node among all of this registry. */
  protected abstract nodeKey(service: string, nodeId: string): string;

  /** Checks a record of one node; the function that it returns writes or renews it. */
  protected abstract prepare(single: ServiceRecord, ttlMs: number): () => Promise<void>;

  protected abstract remove(service: string, nodeId: string): Promise<void>;

  protected abstract read(service: string): Promise<ServiceRecord[]>;

  protected abstract readAll(): Promise<ServiceRecord[]>;

  /** Ends connections and timers. */
  protected abstract disconnect(): void;
}
