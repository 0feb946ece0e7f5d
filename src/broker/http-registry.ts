/**
 * Where the nodes of the http broker find each other: the few calls of go-micro's registry that it
 * needs, one registry within a process, and one that is a fixed list.
 *
 * A record is go-micro's: per subscription a service `micro.http.broker` whose version is the queue,
 * or `ff.http.broadcast`, with one node.
 */

export interface ServiceNode {
  readonly id: string;
  /** host:port */
  readonly address: string;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ServiceRecord {
  readonly name: string;
  readonly version: string;
  readonly nodes: readonly ServiceNode[];
}

export interface ServiceRegistry {
  /** Adds or renews; whoever is not renewed within `ttlMs` may be forgotten. */
  register(service: ServiceRecord, ttlMs: number): Promise<void>;
  deregister(service: ServiceRecord): Promise<void>;
  /** Every record of this name. */
  getService(name: string): Promise<readonly ServiceRecord[]>;
}

/** Brokers that share it find each other. Records last as long as they are registered. */
export class LocalRegistry implements ServiceRegistry {
  readonly #records = new Map<string, ServiceRecord>();

  async register(service: ServiceRecord): Promise<void> {
    this.#records.set(keyOf(service), service);
  }

  async deregister(service: ServiceRecord): Promise<void> {
    this.#records.delete(keyOf(service));
  }

  async getService(name: string): Promise<readonly ServiceRecord[]> {
    return [...this.#records.values()].filter((service) => service.name === name);
  }
}

/** Nodes that are known beforehand, besides what registers itself here. */
export class StaticRegistry extends LocalRegistry {
  readonly #fixed: readonly ServiceRecord[];

  constructor(fixed: readonly ServiceRecord[]) {
    super();
    this.#fixed = fixed;
  }

  override async getService(name: string): Promise<readonly ServiceRecord[]> {
    const registered = await super.getService(name);
    return [...this.#fixed.filter((service) => service.name === name), ...registered];
  }
}

/** What brokers use that were given none. */
export const processRegistry: ServiceRegistry = new LocalRegistry();

function keyOf({ name, version, nodes }: ServiceRecord): string {
  return JSON.stringify([name, version, ...nodes.map(({ id }) => id)]);
}
