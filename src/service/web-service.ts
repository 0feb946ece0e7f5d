/**
 * An HTTP server of the user's, found by its name: go-micro's web service.
 *
 *   const shop = webService({ name: 'go.micro.web.shop', server: app, broker: 'rivulet://host:7488' });
 *   await shop.run();
 *
 * `micro api --handler web` and `micro web` pass requests on to it. Invariants: the server listens before
 * it is registered; `stop` withdraws the registration first, then answers what has arrived, for at most
 * `drainTimeoutMs`. Cost: one registration an interval, none per request.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Broker } from '../broker/broker.ts';
import { checkOptions, invalid, type OptionTable, timeout } from '../client/option-table.ts';
import { RivuletError } from '../errors.ts';
import { isServiceName } from '../registry/record.ts';
import type { Registry } from '../registry/registry.ts';
import { type Log, quietLog } from '../rpc/context.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { runUntilSignal } from './lifecycle.ts';
import { reachable } from './listening.ts';
import { Nouns } from './nouns.ts';
import { Registration } from './registration.ts';

/** What fastify's instances have; express and others are given as `createServer(app)`. */
export interface FastifyLike {
  readonly server: Server;
  listen(options: { host: string; port: number }): Promise<unknown>;
  close(): Promise<unknown>;
}

export interface WebServiceOptions {
  /** `go.micro.web.shop` is at `/shop` of `micro web`, and of `micro api --type web --handler web`. */
  readonly name: string;
  /** Not listening yet. */
  readonly server: Server | FastifyLike;
  /** host:port. Default 127.0.0.1 and a free port; 0.0.0.0:PORT for other machines. */
  readonly address?: string;
  /** @default 'latest' */
  readonly version?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly broker?: string | Broker;
  /** Default: the broker's own, without a broker mdns. */
  readonly registry?: string | Registry;
  /** @default 90000 */
  readonly registerTtlMs?: number;
  /** @default 30000 */
  readonly registerIntervalMs?: number;
  /** How long `stop` waits for requests. @default 30000 */
  readonly drainTimeoutMs?: number;
  readonly log?: Log;
  readonly scheduler?: Scheduler;
}

export interface WebService extends AsyncDisposable {
  readonly name: string;
  /** host:port as others reach it; empty until it has started. */
  readonly address: string;
  /** Rejects with CONNECTION_FAILED where it cannot listen. */
  start(): Promise<void>;
  /** Idempotent. */
  stop(): Promise<void>;
  /** Until SIGINT or SIGTERM. */
  run(): Promise<void>;
}

export function webService(options: WebServiceOptions): WebService {
  checkOptions(TABLE, options);
  if (!isServiceName(options?.name)) {
    throw invalid('name is the name of a service, such as go.micro.web.shop');
  }
  const { server } = options;
  if (typeof server?.listen !== 'function' || typeof server.close !== 'function') {
    throw invalid('server is an http.Server or a fastify instance that does not listen yet');
  }
  return new RegisteredServer(options);
}

class RegisteredServer implements WebService {
  readonly name: string;
  readonly #options: WebServiceOptions;
  readonly #scheduler: Scheduler;
  readonly #nouns: Nouns;
  readonly #log: Log;
  #address = '';
  #registration: Registration | null = null;
  /** Listens and registers. `start` adds the stop after a failure. */
  #opening: Promise<void> | null = null;
  #starting: Promise<void> | null = null;
  #stopping: Promise<void> | null = null;
  #onStopped: () => void = () => {};
  readonly #stopped = new Promise<void>((resolve) => {
    this.#onStopped = resolve;
  });

  constructor(options: WebServiceOptions) {
    const { broker, registry, scheduler = systemScheduler } = options;
    this.name = options.name;
    this.#options = options;
    this.#scheduler = scheduler;
    this.#log = options.log ?? quietLog;
    this.#nouns = new Nouns({
      scheduler,
      ...(broker === undefined ? {} : { broker }),
      ...(registry === undefined ? {} : { registry }),
    });
  }

  get address(): string {
    return this.#address;
  }

  start(): Promise<void> {
    if (this.#stopping !== null) {
      return Promise.reject(new RivuletError('CLOSED', `${this.name} was stopped`));
    }
    this.#opening ??= this.#start();
    this.#starting ??= this.#opening.catch(async (error) => {
      await this.stop();
      throw error;
    });
    return this.#starting;
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop().finally(() => this.#onStopped());
    return this.#stopping;
  }

  run(): Promise<void> {
    return runUntilSignal(this, this.#stopped);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  get #server(): Server {
    const { server } = this.#options;
    return 'server' in server ? server.server : server;
  }

  async #start(): Promise<void> {
    const { version = 'latest', metadata = {}, registerTtlMs = 90_000 } = this.#options;
    await this.#listen();
    const { address, port, family } = this.#server.address() as AddressInfo;
    this.#address = reachable(`${family === 'IPv6' ? `[${address}]` : address}:${port}`);
    const id = `${this.name}-${this.#scheduler.uniqueName()}`;
    const record = {
      name: this.name,
      version,
      metadata: {},
      endpoints: [],
      nodes: [{ id, address: this.#address, metadata }],
    };
    this.#registration = new Registration(await this.#nouns.registry(), record, this.#scheduler, {
      ttlMs: registerTtlMs,
      intervalMs: this.#options.registerIntervalMs ?? 30_000,
      onState: (error) => {
        if (error === null) this.#log.info(`${this.name} is registered again`);
        else this.#log.warn(`${this.name} could not be registered: ${error.message}`);
      },
    });
    await this.#registration.start();
  }

  async #listen(): Promise<void> {
    const { server, address = '127.0.0.1:0' } = this.#options;
    const [, name = '', port = ''] = /^(.*):(\d{1,5})$/.exec(address) ?? [];
    if (port === '' || Number(port) > 65_535) {
      throw invalid(`address ${JSON.stringify(address)} is no host:port`);
    }
    const host = name === '' ? '127.0.0.1' : name.replace(/^\[|\]$/g, '');
    try {
      if ('server' in server) await server.listen({ host, port: Number(port) });
      else {
        server.listen(Number(port), host);
        await once(server, 'listening');
      }
    } catch (cause) {
      const text = `${this.name} cannot listen on ${host}:${port}: ${(cause as Error).message}`;
      throw new RivuletError('CONNECTION_FAILED', text, { cause });
    }
  }

  async #stop(): Promise<void> {
    const { server, drainTimeoutMs = 30_000 } = this.#options;
    // A start that goes on would listen and register after the stop.
    await this.#opening?.catch(() => {});
    await this.#registration?.stop();
    const http = this.#server;
    const cancel = this.#scheduler.after(drainTimeoutMs, () => http.closeAllConnections());
    try {
      if ('server' in server) await server.close();
      else if (http.listening) {
        await new Promise<void>((resolve) => {
          http.close(() => resolve());
        });
      }
    } finally {
      cancel();
      await this.#nouns.close();
    }
  }
}

const text = { kind: 'text' } as const;
const other = { kind: 'other', check() {} } as const;
const TABLE: OptionTable = {
  name: text,
  server: other,
  address: text,
  version: text,
  metadata: other,
  broker: other,
  registry: other,
  registerTtlMs: timeout(1),
  registerIntervalMs: timeout(1),
  drainTimeoutMs: timeout(0),
  log: other,
  scheduler: other,
};
