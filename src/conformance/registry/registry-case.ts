/**
 * A case of the registry suite and what it works with: a fixture, registries opened on it, names.
 *
 * Invariant: no two cases get the same service name, and every registry that a case opened is closed
 * when the case ends.
 */
import { randomBytes } from 'node:crypto';
import type { Registry, ServiceRecord } from '../../registry/registry.ts';

/** One registry server (or network) under test. */
export interface RegistryFixture extends AsyncDisposable {
  /** Opens a registry on it. Every call is another one, as in another process. */
  open(): Promise<Registry>;
  /** The shortest TTL that it can keep, in milliseconds. Default 1000. */
  readonly shortestTtlMs?: number;
  /** How much later than its TTL a node may disappear, in milliseconds. Default 2000. */
  readonly expirySlackMs?: number;
  /** Lets time pass, where the registry runs on a virtual clock; without it real time passes. */
  advance?(ms: number): Promise<void>;
  /** Makes the server unreachable, and reachable again with what it had. */
  stop?(): Promise<void>;
  start?(): Promise<void>;
  /** Empties the server while it runs, as a restart without its data does. */
  empty?(): Promise<void>;
  /** Writes bytes where a record of the service is expected, as another program would. */
  writeForeign?(service: string, bytes: Uint8Array): Promise<void>;
  /** Ends the registry without deregistering, as a killed process does. */
  kill?(registry: Registry): Promise<void>;
  /** The largest record that it carries, in bytes of JSON. Default: no limit. */
  readonly maxRecordBytes?: number;
}

export interface RegistryCase {
  readonly name: string;
  readonly uses?: readonly (keyof RegistryFixture)[];
  readonly timeoutMs?: number;
  run(context: RegistryContext): Promise<void>;
}

/** What a case works with: registries on one fixture and names that no other case has. */
export class RegistryContext {
  readonly fixture: RegistryFixture;
  readonly #prefix = `conformance.${randomBytes(4).toString('hex')}`;
  readonly #registries: Registry[] = [];
  #names = 0;

  constructor(fixture: RegistryFixture) {
    this.fixture = fixture;
  }

  get ttlMs(): number {
    return this.fixture.shortestTtlMs ?? 1000;
  }

  /** Within this many milliseconds after its last renewal a node is gone. */
  get goneWithinMs(): number {
    return this.ttlMs + (this.fixture.expirySlackMs ?? 2000);
  }

  serviceName(): string {
    return `${this.#prefix}.s${this.#names++}`;
  }

  async open(): Promise<Registry> {
    const registry = await this.fixture.open();
    this.#registries.push(registry);
    return registry;
  }

  /** A record with one node, endpoints and metadata. */
  record(name: string, node = 'a', changes: Partial<ServiceRecord> = {}): ServiceRecord {
    return {
      name,
      version: '1.0.0',
      metadata: { team: 'orders' },
      endpoints: [
        {
          name: 'OrderSrv.GetOrder',
          request: {
            name: 'GetOrderRequest',
            type: 'GetOrderRequest',
            values: [{ name: 'id', type: 'int64', values: [] }],
          },
          response: { name: 'Order', type: 'Order', values: [] },
          metadata: { stream: 'false' },
        },
      ],
      nodes: [
        {
          id: `${name}-${node}`,
          address: `127.0.0.1:${40_000 + node.charCodeAt(0)}`,
          metadata: { protocol: 'mucp', zone: node },
        },
      ],
      ...changes,
    };
  }

  async end(): Promise<void> {
    await Promise.all(this.#registries.map((registry) => registry.close()));
  }
}
