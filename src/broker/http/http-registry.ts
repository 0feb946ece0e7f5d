/**
 * How nodes of the http broker find each other: the three calls of go-micro's registry that it needs,
 * a registry within one process, and one with a fixed list.
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
  /** The http broker writes none; a registry of services wants them there. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly endpoints?: readonly unknown[];
  readonly nodes: readonly ServiceNode[];
}

/** Every registry of services is one: `openRegistry('etcd://host:2379')`. */
export interface ServiceRegistry {
  /** Adds or renews a record. It may expire `ttlMs` after its last renewal. */
  register(service: ServiceRecord, options: { readonly ttlMs: number }): Promise<void>;
  deregister(service: ServiceRecord): Promise<void>;
  /** Every record of this name. */
  getService(name: string): Promise<readonly ServiceRecord[]>;
}

/** Brokers that share it find each other. Records do not expire. */
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

/** A fixed list of nodes, and those that register. */
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

/** The default, for all brokers of this process. */
export const processRegistry: ServiceRegistry = new LocalRegistry();

function keyOf({ name, version, nodes }: ServiceRecord): string {
  return JSON.stringify([name, version, ...nodes.map(({ id }) => id)]);
}
