/**
 * A service: client, server, registry, selector and transports of one process, as one object.
 *
 * Invariants: `start` registers only after the service can be called, and `stop` deregisters before it
 * drains, so that a rolling restart fails no call; both may be called twice; what a failed `start`
 * opened is closed again. The record is renewed every `registerIntervalMs`.
 */
import type { Broker } from '../broker/broker.ts';
import { Codecs } from '../codec/by-content-type.ts';
import { RivuletError } from '../errors.ts';
import { openRegistry } from '../registry/open-registry.ts';
import { isServiceName } from '../registry/record.ts';
import type { Registry, ServiceRecord } from '../registry/registry.ts';
import { Client } from '../rpc/client.ts';
import type { Contract } from '../rpc/contract.ts';
import type { CallOptions, ClientOf, HandlersOf } from '../rpc/handlers.ts';
import { Server } from '../rpc/server.ts';
import type { ClientWrapper, ServerWrapper } from '../rpc/wrappers.ts';
import { RegistrySelector } from '../selector/registry-selector.ts';
import { strategyByName } from '../selector/strategies.ts';
import { LocalTransport } from '../transport/local.ts';
import { TcpTransport } from '../transport/tcp.ts';
import type { Listener } from '../transport/transport.ts';
import type { Scheduler } from '../util/scheduler.ts';
import { systemScheduler } from '../util/system-scheduler.ts';
import { describeEndpoint } from './describe-endpoint.ts';
import { Registration } from './registration.ts';

export interface ServiceOptions {
  /** Registry name. Default go-micro's `go.micro.server`. */
  readonly name?: string;
  /** Default `latest`. */
  readonly version?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * A URL, a name, an instance, or several, which then belong to the service. Default: the broker's own
   * registry where there is a broker, else `mdns`.
   */
  readonly registry?: string | Registry | readonly (string | Registry)[];
  /** A URL, or a broker that is open and stays open. */
  readonly broker?: string | Broker;
  /** `random` (default), `round-robin`, `least-loaded`, `consistent-hash`. */
  readonly selector?: string;
  /** `auto` (default), `local`, `tcp`. */
  readonly transport?: string;
  /** Where to listen. Default `:0`, a free port of the loopback interface. */
  readonly address?: string;
  /** What the registry is told instead of the bound address. */
  readonly advertise?: string;
  /** Default 90 000. */
  readonly registerTtlMs?: number;
  /** Default 30 000. */
  readonly registerIntervalMs?: number;
  /** Runs before each registration; while it rejects, the service is not registered. */
  readonly registerCheck?: () => Promise<void>;
  readonly wrap?: {
    readonly client?: readonly ClientWrapper[];
    readonly server?: readonly ServerWrapper[];
  };
  /** How long `stop` waits for calls. Default 30 000. */
  readonly drainTimeoutMs?: number;
  readonly scheduler?: Scheduler;
}

export function createService(options: ServiceOptions = {}): Service {
  return new Service(options);
}

export class Service implements AsyncDisposable {
  readonly name: string;
  readonly version: string;
  readonly nodeId: string;
  readonly server: Server;
  readonly #options: ServiceOptions;
  readonly #scheduler: Scheduler;
  readonly #codecs = new Codecs();
  #registry: Registry | null = null;
  #ownsRegistry = false;
  #client: Client | null = null;
  #listeners: Listener[] = [];
  #registration: Registration | null = null;
  #starting: Promise<void> | null = null;
  #stopping: Promise<void> | null = null;

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.name = options.name ?? 'go.micro.server';
    this.version = options.version ?? 'latest';
    if (!isServiceName(this.name)) {
      const text = `service name ${JSON.stringify(this.name.slice(0, 64))} must be 1 to 255 bytes without spaces, control characters or "/"`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    this.nodeId = `${this.name}-${this.#scheduler.uniqueName()}`;
    this.server = new Server({
      name: this.name,
      codecs: this.#codecs,
      scheduler: this.#scheduler,
      wrappers: options.wrap?.server ?? [],
    });
  }

  /** Adds the handlers of a contract; before `start`. */
  handle<C extends Contract>(contract: C, handlers: HandlersOf<C>): this {
    if (this.#starting !== null) {
      throw new RivuletError('INVALID_ARGUMENT', 'add handlers before the service starts');
    }
    this.server.handle(contract, handlers);
    return this;
  }

  /** The typed client of another service's contract. */
  client<C extends Contract>(contract: C): ClientOf<C> {
    return this.#mustClient().of(contract);
  }

  /** An untyped call. */
  call<Response = unknown>(
    service: string,
    endpoint: string,
    request?: unknown,
    options?: CallOptions,
  ): Promise<Response> {
    return this.#mustClient().call<Response>(service, endpoint, request, options);
  }

  start(): Promise<void> {
    this.#starting ??= this.#start().catch(async (error) => {
      await this.#close().catch(() => {});
      this.#starting = null;
      throw error;
    });
    return this.#starting;
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #start(): Promise<void> {
    const { broker, address = ':0', transport = 'auto' } = this.#options;
    const registry = this.#options.registry ?? (broker === undefined ? 'mdns' : 'broker');
    this.#ownsRegistry = typeof registry === 'string' || Array.isArray(registry);
    this.#registry = await openRegistry(registry, {
      scheduler: this.#scheduler,
      ...(broker === undefined ? {} : { broker }),
    });
    this.#makeClient(this.#registry);
    if (!this.server.hasEndpoints) return;
    const handler = this.server.dispatch.bind(this.server);
    const token = this.#scheduler.uniqueName();
    const listen = { address, handler, nodeId: this.nodeId, token };
    const all = {
      local: new LocalTransport(this.#scheduler),
      tcp: new TcpTransport(this.#scheduler),
    };
    const metadata: Record<string, string> = { protocol: 'mucp' };
    let bound = '127.0.0.1:1';
    for (const [name, each] of Object.entries(all)) {
      if (transport !== 'auto' && transport !== name) continue;
      const listener = await each.listen(listen);
      this.#listeners.push(listener);
      Object.assign(metadata, listener.metadata);
      if (name === 'tcp') bound = listener.address;
    }
    const record: ServiceRecord = {
      name: this.name,
      version: this.version,
      metadata: this.#options.metadata ?? {},
      endpoints: this.server.endpoints(describeEndpoint),
      nodes: [{ id: this.nodeId, address: this.#options.advertise ?? bound, metadata }],
    };
    this.#registration = new Registration(this.#registry, record, this.#scheduler, {
      ttlMs: this.#options.registerTtlMs ?? 90_000,
      intervalMs: this.#options.registerIntervalMs ?? 30_000,
      ...(this.#options.registerCheck === undefined ? {} : { check: this.#options.registerCheck }),
    });
    await this.#registration.start();
  }

  #makeClient(registry: Registry): void {
    const { selector = 'random', transport = 'auto' } = this.#options;
    const strategy = strategyByName(selector);
    if (strategy === null) {
      throw new RivuletError(
        'INVALID_ARGUMENT',
        `selector ${JSON.stringify(selector)} is not known`,
      );
    }
    const all = [new LocalTransport(this.#scheduler), new TcpTransport(this.#scheduler)];
    this.#client = new Client({
      selector: new RegistrySelector(registry, { strategy, scheduler: this.#scheduler }),
      transports: transport === 'auto' ? all : all.filter(({ name }) => name === transport),
      codecs: this.#codecs,
      scheduler: this.#scheduler,
      wrappers: this.#options.wrap?.client ?? [],
      fromService: this.name,
    });
  }

  #mustClient(): Client {
    if (this.#client === null) {
      throw new RivuletError('NOT_CONNECTED', `start ${this.name} before it calls`, { sent: 'no' });
    }
    return this.#client;
  }

  async #stop(): Promise<void> {
    await this.#starting?.catch(() => {});
    const { drainTimeoutMs = 30_000 } = this.#options;
    await this.#registration?.stop();
    await Promise.all([
      this.server.drain(drainTimeoutMs),
      ...this.#listeners.map((listener) => listener.close(drainTimeoutMs)),
    ]);
    this.#listeners = [];
    await this.#close();
  }

  async #close(): Promise<void> {
    await this.#registration?.stop();
    await Promise.all(this.#listeners.map((listener) => listener.close()));
    await this.#client?.close();
    if (this.#ownsRegistry) await this.#registry?.close();
  }
}
