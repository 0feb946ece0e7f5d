/**
 * A console on its own port, for any broker and any registry: `serveConsole({ broker, registry })`.
 *
 *   memory:, file:       from inside the process that has the broker; everything but clients and slow log
 *   rivulet://, redis:// by commands, with the rights of the address
 *   others               what the Broker contract reports
 *
 * Invariants: it listens on 127.0.0.1 unless another host is named; a broker that was given as an instance
 * is not closed; nothing is left open after `close`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Broker } from '../broker/broker.ts';
import { EmbeddedBroker } from '../broker/embedded/embedded-broker.ts';
import { openBroker } from '../broker/open-broker.ts';
import { type ClientOptions, connect } from '../client/index.ts';
import { RivuletError } from '../errors.ts';
import type { Registry } from '../registry/registry.ts';
import { RIVULET_VERSION } from '../server/version.ts';
import { MicroPages } from './apps/micro-pages.ts';
import { endUpgrade, WebApps } from './apps/web-apps.ts';
import { Console, refuseHost } from './console.ts';
import { OpenUsers, RespUsers } from './http/open-users.ts';
import type { Users } from './http/users.ts';
import { ProtoTypes } from './messages/proto-types.ts';
import { Services } from './services/services.ts';
import { BrokerSource } from './sources/broker-source.ts';
import type { Ability } from './sources/capabilities.ts';
import { embeddedHome } from './sources/engine-home.ts';
import { EngineSource } from './sources/engine-source.ts';
import type { Monitor } from './sources/monitors/monitor.ts';
import { NatsMonitor } from './sources/monitors/nats-monitor.ts';
import { RabbitMqApi } from './sources/monitors/rabbitmq-api.ts';
import { RespSource } from './sources/resp-source.ts';
import type { ConsoleSource } from './sources/source.ts';

const CONNECTIONS = 256;
const APP_CONNECTIONS = 4096;
const APP_REQUEST_MS = 300_000;

/** Answers a request and returns true, or leaves it. */
export type PageHandler = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface ServeConsoleOptions {
  /** An address, or a broker that is connected and stays so. */
  readonly broker: string | Broker;
  /** @default the broker's registry */
  readonly registry?: string | readonly string[] | Registry;
  /** @default 8082, go-micro's; 0 = any free one */
  readonly port?: number;
  /** @default '127.0.0.1' */
  readonly host?: string;
  /** Further host names by which the console may be opened. */
  readonly consoleHost?: readonly string[];
  /** What only admins see: `json.card`, `header.authorization`. */
  readonly mask?: readonly string[];
  /** Folder of .proto files, and `topic=type` for the topics whose bodies have a type of them. */
  readonly proto?: { readonly folder: string; readonly topics: readonly string[] };
  /**
   * Passes requests on to web apps, the services `go.micro.web.NAME`: of `NAME.host`, or of `/NAME/`, where
   * they share the console's origin, so that the console changes nothing. Default: none is reached.
   */
  readonly apps?: 'subdomain' | 'path';
  /** The beginning of the names of web apps. @default 'go.micro.web' */
  readonly namespace?: string;
  /** Until the answer of a web app must have begun. @default 30 000 */
  readonly appTimeoutMs?: number;
  /** RabbitMQ's management API, `http://127.0.0.1:15672`: for rates, bytes, nodes, connections. */
  readonly rabbitMqApi?: string;
  /** The monitoring page of NATS, `http://127.0.0.1:8222`: for the server's facts and connections. */
  readonly natsMonitor?: string;
  /** Address of a trace elsewhere, with `{traceId}` in it. */
  readonly traceUrl?: string;
  /** Requests outside of /console/ are given to it first. */
  readonly pages?: PageHandler;
  /** Called with what belongs into a log. */
  readonly report?: (text: string) => void;
}

export interface RunningConsole extends AsyncDisposable {
  /** `http://127.0.0.1:8082` */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

export async function serveConsole(options: ServeConsoleOptions): Promise<RunningConsole> {
  const { host = '127.0.0.1', port = 8082, pages } = options;
  const opened = await open(options);
  const server = createServer({ keepAliveTimeout: 5000, requestTimeout: 10_000 });
  server.maxConnections = CONNECTIONS;
  let console: Console | null = null;
  try {
    await listen(server, host, port);
    const bound = (server.address() as AddressInfo).port;
    console = await consoleOf(options, opened, host, bound);
  } catch (error) {
    server.close();
    // The console, which was not made, would close them.
    await opened.source.close();
    opened.users.close();
    await opened.services.close();
    await opened.close();
    throw error;
  }
  const running = console;
  const { apps = null, namespace = 'go.micro.web', appTimeoutMs = 30_000 } = options;
  const { services } = opened;
  const acceptsHost = (name: string | undefined) => running.acceptsHost(name);
  const webApps =
    apps === null
      ? null
      : new WebApps({
          mode: apps,
          namespace,
          selector: services.selector,
          acceptsHost,
          timeoutMs: appTimeoutMs,
        });
  const micro = new MicroPages({
    acceptsHost,
    admit: (request) => running.admit(request),
    refuseHost,
    services,
    audit: running.audit,
    isReadOnly: apps === 'path',
    apps: webApps,
    namespace,
  });
  if (webApps !== null) {
    // Bodies of apps are longer than those of the console, and their connections more.
    server.requestTimeout = APP_REQUEST_MS;
    server.maxConnections = APP_CONNECTIONS;
    server.on('upgrade', (request, socket, head) => {
      socket.on('error', () => socket.destroy());
      const isApps = hasOneHost(request) && !isOwn(request);
      const backend = isApps ? webApps.backendOf(request) : null;
      if (backend === null) endUpgrade(socket, 404);
      else void webApps.upgrade(request, socket, head, backend);
    });
  }
  server.on('request', (request, response) => {
    if (!hasOneHost(request)) {
      refuseHost(response);
      return;
    }
    if (!isOwn(request)) {
      if (pages?.(request, response) === true) return;
      const backend = webApps?.backendOf(request) ?? null;
      if (backend !== null) {
        void webApps?.answer(request, response, backend);
        return;
      }
      if (micro.answer(request, response)) return;
    }
    if (running.handle(request, response)) return;
    if (!acceptsHost(request.headers.host)) {
      refuseHost(response);
      return;
    }
    response.writeHead(404, { 'content-type': 'text/plain', 'x-content-type-options': 'nosniff' });
    response.end('not found: the console is at /console/\n');
  });
  const bound = (server.address() as AddressInfo).port;
  const close = async (): Promise<void> => {
    await running.close();
    webApps?.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await opened.close();
  };
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    port: bound,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Node reads the first of two; a server in front may have read the other. */
function hasOneHost({ headersDistinct }: IncomingMessage): boolean {
  return headersDistinct.host?.length === 1;
}

/** Whether a request is the console's, on every host: no app can be asked for by its paths. */
function isOwn({ url = '/' }: IncomingMessage): boolean {
  return /^\/console(?:[/?]|$)/.test(url);
}

interface Opened {
  readonly source: ConsoleSource;
  readonly users: Users;
  readonly services: Services;
  close(): Promise<void>;
}

async function consoleOf(
  options: ServeConsoleOptions,
  { source, users, services }: Opened,
  host: string,
  port: number,
): Promise<Console> {
  const { consoleHost = [], mask = [], proto, apps, traceUrl = null, report } = options;
  return new Console({
    source,
    users,
    services,
    version: RIVULET_VERSION,
    host,
    port,
    consoleHost,
    mask,
    protos: proto === undefined ? null : await ProtoTypes.read(proto.folder, proto.topics),
    isReadOnly: apps === 'path',
    traceUrl,
    ...(report === undefined ? {} : { report }),
  });
}

async function open(options: ServeConsoleOptions): Promise<Opened> {
  const { broker: given, registry = 'broker' } = options;
  const broker = typeof given === 'string' ? await openBroker(given) : given;
  const disconnect = async (): Promise<void> => {
    if (typeof given === 'string') await broker.disconnect();
  };
  try {
    const services = new Services(
      { broker, registry: registry as string },
      typeof registry === 'object' && 'name' in registry ? registry.name : String(registry),
    );
    const [source, users] = await sourceOf(broker, options).catch(async (error) => {
      await services.close();
      throw error;
    });
    return {
      source,
      users,
      services,
      close: disconnect,
    };
  } catch (error) {
    await disconnect();
    throw error;
  }
}

async function sourceOf(
  broker: Broker,
  options: ServeConsoleOptions,
): Promise<[ConsoleSource, Users]> {
  const { broker: given } = options;
  const { name, address } = broker;
  const monitor = monitorOf(name, options);
  const host = EmbeddedBroker.hostOf(broker);
  if (host !== null) {
    const home = embeddedHome(name === 'file' ? 'file' : 'memory', host);
    return [new EngineSource(home, address, INSIDE), new OpenUsers(home.own)];
  }
  if (name === 'rivulet' || name === 'redis') {
    if (typeof given === 'string') {
      const settings = respOptions(given);
      const client = await connect(settings);
      const missing = name === 'redis' ? ON_REDIS : {};
      const source = new RespSource(name, address, client, broker, missing);
      return [source, new RespUsers(client, settings)];
    }
  }
  return [new BrokerSource(broker, withoutJournals(broker), monitor), new OpenUsers(null)];
}

/** Null: none is given. Throws INVALID_ARGUMENT for one of another broker. */
function monitorOf(
  name: string,
  { broker, rabbitMqApi, natsMonitor }: ServeConsoleOptions,
): Monitor | null {
  const refuse = (option: string, other: string) =>
    new RivuletError('INVALID_ARGUMENT', `${option} is for ${other}; the broker here is ${name}`);
  if (rabbitMqApi !== undefined) {
    if (name !== 'rabbitmq') throw refuse('--rabbitmq-api', 'RabbitMQ (amqp://)');
    return new RabbitMqApi(rabbitMqApi, typeof broker === 'string' ? broker : '');
  }
  if (natsMonitor !== undefined) {
    if (name !== 'nats') throw refuse('--nats-monitor', 'NATS (nats://)');
    return new NatsMonitor(natsMonitor);
  }
  return null;
}

const NO_SERVER = 'a broker inside a process has no server';
const INSIDE: Partial<Record<Ability, string>> = {
  server: NO_SERVER,
  clients: NO_SERVER,
  slowlog: NO_SERVER,
};
const ON_REDIS: Partial<Record<Ability, string>> = {
  schedule: 'the adapter keeps delayed messages in a set that the console does not read',
};

function withoutJournals(broker: Broker): Partial<Record<Ability, string>> {
  const isThere = broker.capabilities.journal === 'atomic' && broker.journal !== undefined;
  if (isThere) return {};
  return { workflows: `${broker.name} keeps no journals of workflows` };
}

/** Options of our RESP client from the first address of a broker. Throws for what it cannot speak. */
function respOptions(address: string): ClientOptions {
  const [first = ''] = address.split(',');
  const url = URL.canParse(first) ? new URL(first) : null;
  if (url === null)
    throw new RivuletError('INVALID_ARGUMENT', 'the broker has no readable address');
  const isSecure = /^(?:rivulets|rediss):$/.test(url.protocol);
  const isRedis = url.protocol.startsWith('redis');
  return {
    host: url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1',
    port: Number(url.port) || (isRedis ? 6379 : 7488),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(isSecure ? { tls: true } : {}),
    name: 'console',
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message;
      reject(new RivuletError('CONNECTION_FAILED', `can't listen on ${host}:${port}: ${why}`));
    });
    server.listen(port, host, resolve);
  });
}
