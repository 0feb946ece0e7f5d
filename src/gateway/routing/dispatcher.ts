/**
 * From a request to the handler that answers it.
 *
 * Order: the gateway's own pages (`/`, `/rpc`, `/_/...`), a route of endpoint metadata, the resolver.
 * Invariants: every path passes the same gate (rule, authentication, rate limit) before any handler; an
 * endpoint that several paths reach is under the rules of all of them; a path with dot segments, encoded
 * slashes or control characters is 400. Cost: one walk over rules and routes.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket, WebSocketServer } from 'ws';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { Authentication, Identity } from '../access/authentication.ts';
import { isOfPage } from '../access/cors.ts';
import { networkOf, type RateLimiter } from '../access/rate-limiter.ts';
import { type Rule, type Rules, strictest } from '../access/rules.ts';
import type { Answer } from '../answer.ts';
import { bodyOf, type Exchange, headerOf } from '../exchange.ts';
import { callMetadata } from '../forwarding.ts';
import { handleApi } from '../handlers/api-handler.ts';
import type { CallClient } from '../handlers/call-client.ts';
import type { EventHandler } from '../handlers/event-handler.ts';
import type { ProxyHandler } from '../handlers/proxy-handler.ts';
import { callOptions, handleRpc, restarting, rpcEnvelope } from '../handlers/rpc-handler.ts';
import { serveCall } from '../handlers/rpc-socket.ts';
import { keepAlive } from '../handlers/socket-liveness.ts';
import { WORKFLOWS, type WorkflowHandler } from '../handlers/workflow-handler.ts';
import { HttpError } from '../http-error.ts';
import type { GatewayLimits } from '../limits.ts';
import type { GatewayOptions } from '../options.ts';
import type { Pages } from '../pages/pages.ts';
import type { TopicStreams } from '../topics/topic-streams.ts';
import { traceparentOf } from '../trace-parent.ts';
import { type Directory, streamKind } from './directory.ts';
import { pathsTo } from './endpoint-paths.ts';
import {
  namespaceOf,
  plainSegments,
  resolveCall,
  resolveService,
  segmentsOf,
  type Target,
} from './names.ts';
import type { RouteTable } from './routes.ts';

export interface DispatcherSetup {
  readonly options: GatewayOptions;
  readonly rules: Rules;
  readonly authentication: Authentication;
  readonly limits: GatewayLimits;
  readonly limiter: RateLimiter;
  readonly client: CallClient;
  readonly directory: Directory;
  readonly events: EventHandler;
  readonly proxy: ProxyHandler;
  readonly topics: TopicStreams;
  readonly workflows: WorkflowHandler;
  readonly pages: Pages;
  readonly sockets: WebSocketServer;
  readonly scheduler: Scheduler;
}

/** What a path reaches. */
interface Found extends Target {
  readonly handler: string;
  readonly namespace: string;
  readonly isRoute: boolean;
  readonly fields: Readonly<Record<string, string>>;
  readonly bodyField: string;
  /** The part of the path that is cut before it is passed on. */
  readonly cut: string;
}

/** Under which rule a client may send a request, and which client that is. */
interface Passed {
  readonly rule: Rule;
  readonly identity: Identity;
  readonly clientAddress: string;
}

/** Request lines whose look-up is kept; all are forgotten when this many are kept. */
const MAX_FOUND = 2000;
const MAX_FOUND_KEY = 512;
const OWN = '/_/';
const TOPICS = '/_/topics/';

export class Dispatcher {
  readonly #setup: DispatcherSetup;
  /** What request lines reached, while the routes are `#foundIn`. */
  readonly #found = new Map<string, Found>();
  #foundIn: RouteTable | null = null;

  constructor(setup: DispatcherSetup) {
    this.#setup = setup;
  }

  /**
   * The exchange of a request that may pass; a promise only where a token must be verified. Throws
   * HttpError.
   */
  admit(
    request: IncomingMessage,
    reply: Answer,
    signal: AbortSignal,
  ): Exchange | Promise<Exchange> {
    const { path, query } = locationOf(request.url ?? '/');
    if (hasTwoHosts(request.rawHeaders)) throw new HttpError(400, 'there is more than one Host');
    const coding = request.headers['transfer-encoding'];
    // RFC 9112, 6.1: a body of another coding would be passed on as what it is not.
    if (coding !== undefined && coding.toLowerCase() !== 'chunked') {
      throw new HttpError(501, 'send the body without Transfer-Encoding, or chunked');
    }
    const passed = this.#permit(request, path);
    const exchange = ({ rule, identity, clientAddress }: Passed): Exchange => ({
      request,
      reply,
      method: (request.method ?? 'GET').toUpperCase(),
      path,
      query,
      host: headerOf(request, 'host'),
      clientAddress,
      trustsProxy: this.#setup.options.trustProxy === true,
      rule,
      identity,
      traceparent: traceparentOf(headerOf(request, 'traceparent')),
      signal,
    });
    return passed instanceof Promise ? passed.then(exchange) : exchange(passed);
  }

  /**
   * The rule under which an endpoint is called in the client's name: that of `path`, and of every other
   * path that reaches the same. Throws as `admit` does.
   */
  async permit(exchange: Exchange, path: string, target: Target): Promise<Rule> {
    const { options, directory } = this.#setup;
    const { namespace: name = 'go.micro', type = 'api' } = options;
    const namespace = namespaceOf(name, type, exchange.host);
    const { rule, identity } = await this.#permit(exchange.request, path);
    const isRoute =
      (directory.endpoint(target.service, target.endpoint)?.metadata.path ?? '') !== '';
    const found = { ...NOTHING, ...target, handler: 'rpc', namespace, isRoute };
    return (await this.#underAllRules({ ...exchange, rule, identity, path }, found)).rule;
  }

  #permit(request: IncomingMessage, path: string): Passed | Promise<Passed> {
    return this.#pass(request, this.#setup.rules.of(path));
  }

  #pass(request: IncomingMessage, rule: Rule): Passed | Promise<Passed> {
    const clientAddress = this.#addressOf(request);
    let identity: Identity | Promise<Identity>;
    try {
      identity = this.#setup.authentication.check(request, rule);
    } catch (error) {
      return this.#wrongKey(clientAddress, error);
    }
    if (!(identity instanceof Promise)) return this.#counted(rule, identity, clientAddress);
    return identity
      .catch((error) => this.#wrongKey(clientAddress, error))
      .then((known) => this.#counted(rule, known, clientAddress));
  }

  /** A client that guesses keys is slowed down. */
  #wrongKey(clientAddress: string, error: unknown): never {
    const { limiter, scheduler, options } = this.#setup;
    const { perSecond = 20, burst = 10 * perSecond } = options.wrongKeyLimit ?? {};
    const limit = { perSecond, burst: Math.max(1, Math.ceil(burst)) };
    limiter.take(`wrong ${networkOf(clientAddress)}`, limit, scheduler.monotonic());
    throw error;
  }

  #counted(rule: Rule, identity: Identity, clientAddress: string): Passed {
    const { limiter, scheduler } = this.#setup;
    if (rule.rateLimit !== null) {
      const client = identity.name === '' ? networkOf(clientAddress) : `name:${identity.name}`;
      limiter.take(`${rule.path} ${client}`, rule.rateLimit, scheduler.monotonic());
    }
    return { rule, identity, clientAddress };
  }

  /** Answers a request; resolves with the name of the handler. */
  async answer(admitted: Exchange): Promise<string> {
    const { directory, pages, topics, workflows, options, rules } = this.#setup;
    let exchange = admitted;
    const { path } = exchange;
    if (path === '/rpc' && options.enableRpc) {
      await this.#rpcPage(exchange);
      return 'rpc';
    }
    if (path.startsWith(TOPICS)) {
      mustBeGet(exchange);
      await topics.serveEvents(exchange, topicOf(path));
      return 'topics';
    }
    if (path.startsWith(WORKFLOWS)) {
      await workflows.handle(exchange);
      return 'workflows';
    }
    if (path.startsWith(OWN) || (path === '/' && options.handler !== 'event')) {
      await pages.serve(exchange);
      return 'pages';
    }
    const found = this.#find(exchange);
    if (rules.size > 1) exchange = await this.#underAllRules(exchange, found);
    await this.#handle(exchange, found).catch((error) => {
      throw directory.knew(found.service) ? restarting(error, found.service) : error;
    });
    return found.handler;
  }

  async #handle(exchange: Exchange, found: Found): Promise<void> {
    const { client, directory, events, proxy, limits } = this.#setup;
    switch (found.handler) {
      case 'event':
        return events.handle(exchange, found.namespace);
      case 'api':
        return handleApi(exchange, found, client, limits.maxFields);
      case 'http':
      case 'web':
        mustNotBeSigned(exchange);
        return proxy.handle(exchange, { service: found.service, cut: found.cut });
      default:
        return handleRpc(exchange, found, client, directory, limits);
    }
  }

  /** Takes over an upgraded connection: topics and streaming calls here, all else is spliced. */
  async upgrade(admitted: Exchange, socket: Duplex, head: Buffer): Promise<string> {
    const { topics, client, directory, proxy, limits } = this.#setup;
    let exchange = admitted;
    const { request, path } = exchange;
    mustBeGet(exchange);
    if (path.startsWith(TOPICS)) {
      this.#mustBeOfAllowedPage(request);
      const lastId = headerOf(request, 'last-event-id');
      const reader = await topics.open(topicOf(path), exchange.query, lastId);
      const accepted = await this.#accept(request, socket, head).catch((error) => {
        reader.end();
        throw error;
      });
      await topics.serveSocket(accepted, reader);
      return 'topics';
    }
    if (path.startsWith(OWN)) throw new HttpError(404, 'there is nothing here');
    const found = this.#find(exchange);
    exchange = await this.#underAllRules(exchange, found);
    mustNotBeSigned(exchange);
    if (found.handler === 'http' || found.handler === 'web') {
      const backend = { service: found.service, cut: found.cut };
      await proxy.upgrade(exchange, socket, head, backend);
      return found.handler;
    }
    const kind = streamKind(directory.endpoint(found.service, found.endpoint));
    if (found.handler !== 'rpc' || kind === null) {
      throw new HttpError(400, `${found.endpoint} of ${found.service} is no stream`);
    }
    this.#mustBeOfAllowedPage(request);
    const accepted = await this.#accept(request, socket, head);
    const contentType = 'application/json';
    const metadata = callMetadata(exchange);
    const { maxBodyBytes } = exchange.rule;
    const { maxQueuedRequests: maxQueued, stalledMs } = limits;
    const socketCall = { kind, maxBodyBytes, maxQueued, stalledMs };
    await serveCall(accepted, found, socketCall, client, { metadata, contentType });
    return 'rpc';
  }

  /** Browsers send no preflight request for a WebSocket of another origin: so `cors` is checked here. */
  #mustBeOfAllowedPage({ headers }: IncomingMessage): void {
    const { cors = [], trustProxy } = this.#setup.options;
    const { origin } = headers;
    if (origin === undefined || cors.includes('*') || isOfPage(origin, headers.host, cors)) return;
    const forwarded = trustProxy ? String(headers['x-forwarded-host'] ?? '') : '';
    if (forwarded !== '' && isOfPage(origin, forwarded, cors)) return;
    throw new HttpError(403, 'pages of this origin may not open a WebSocket here');
  }

  /** Rejects where the handshake is none, or the client has left. */
  #accept(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<WebSocket> {
    return new Promise((resolve, reject) => {
      const gone = () => reject(new HttpError(400, 'the WebSocket could not be opened'));
      if (socket.destroyed) return gone();
      socket.once('close', gone);
      this.#setup.sockets.handleUpgrade(request, socket, head, (accepted) => {
        socket.off('close', gone);
        // A client that breaks WebSocket's rules ends its own connection and nothing else.
        accepted.on('error', () => accepted.terminate());
        keepAlive(accepted, request.socket, this.#setup.limits.pingMs);
        resolve(accepted);
      });
    });
  }

  /** The exchange under the rules of every path that reaches the same. Throws as `admit` does. */
  async #underAllRules(
    exchange: Exchange,
    { handler, service, endpoint, namespace, isRoute }: Found,
  ): Promise<Exchange> {
    const { rules, directory } = this.#setup;
    let paths: readonly string[] = [];
    // A route is the path that its endpoint was given: no other way of writing it is found here.
    if ((handler === 'rpc' || handler === 'api') && !isRoute) {
      paths = pathsTo(service, endpoint, namespace, directory.endpoint(service, endpoint));
    } else if (handler === 'event') {
      paths = eventPaths(plainSegments(exchange.path) ?? []);
    }
    let { rule } = exchange;
    for (const other of rules.beside(rule, paths)) {
      rule = strictest(rule, (await this.#pass(exchange.request, other)).rule);
    }
    return rule === exchange.rule ? exchange : { ...exchange, rule };
  }

  /** What a path reaches: looked up once for the same request line, until the services change. */
  #find(exchange: Exchange): Found {
    const { method, path, host } = exchange;
    const { directory } = this.#setup;
    if (this.#foundIn !== directory.routes || this.#found.size >= MAX_FOUND) {
      this.#found.clear();
      this.#foundIn = directory.routes;
    }
    const key = `${method} ${host} ${path}`;
    const known = this.#found.get(key);
    if (known !== undefined) return known;
    const found = this.#look(exchange);
    if (key.length <= MAX_FOUND_KEY) this.#found.set(key, found);
    return found;
  }

  #look(exchange: Exchange): Found {
    const { directory, options } = this.#setup;
    const { handler = 'meta', resolver = 'micro' } = options;
    const { namespace: name = 'go.micro', type = 'api' } = options;
    const { method, path, host } = exchange;
    if (plainSegments(path) === null) {
      throw new HttpError(400, 'the path holds what another server could read differently');
    }
    const namespace = namespaceOf(name, type, host);
    const nothing = { ...NOTHING, namespace };
    if (handler === 'meta') {
      const matched = directory.routes.match(method, path, host);
      if (matched !== null) {
        const { service, endpoint, handler: own, body } = matched.route;
        const { fields } = matched;
        const route = { handler: own, service, endpoint, fields, bodyField: body };
        return { ...nothing, ...route, isRoute: true };
      }
    }
    if (handler === 'event') return { ...nothing, handler, service: '', endpoint: '' };
    const request = { method, path, host };
    if (handler === 'http' || handler === 'proxy' || handler === 'web') {
      const found = resolveService(resolver, namespace, request);
      if (found === null) throw unknown(path);
      // go-micro cuts the segment for web only.
      const cut = handler === 'web' ? found.prefix : '';
      const own = handler === 'web' ? ('web' as const) : ('http' as const);
      return { ...nothing, handler: own, service: found.service, endpoint: '', cut };
    }
    if (segmentsOf(path) === null && resolver !== 'host') {
      throw new HttpError(400, 'the path holds what no service or endpoint is called');
    }
    const target = resolveCall(resolver, namespace, request);
    if (target === null) throw unknown(path);
    return {
      ...nothing,
      ...target,
      handler: handler === 'api' ? ('api' as const) : ('rpc' as const),
    };
  }

  /** `/rpc`: any service by its name, which is why it must be switched on. */
  async #rpcPage(exchange: Exchange): Promise<void> {
    const { client } = this.#setup;
    if (exchange.method !== 'POST') throw new HttpError(405, 'send a POST', { allow: 'POST' });
    const type = headerOf(exchange.request, 'content-type');
    const call = rpcEnvelope(type, await bodyOf(exchange), this.#setup.limits.maxFields);
    const target: Target = { service: call.service, endpoint: call.endpoint };
    if (call.address !== undefined) {
      throw new HttpError(403, 'a call to an address of the client is not allowed here');
    }
    const options = callOptions(exchange, { contentType: 'application/json' });
    const seconds = Number(headerOf(exchange.request, 'timeout'));
    const timeoutMs = seconds > 0 ? Math.min(seconds * 1000, options.timeoutMs) : options.timeoutMs;
    const body = Buffer.from(call.request);
    const reply = await client.call(target.service, target.endpoint, body, {
      ...options,
      timeoutMs,
    });
    const text = reply.length === 0 ? '{}' : Buffer.from(reply);
    exchange.reply.code(200).header('content-type', 'application/json').send(text);
  }

  #addressOf(request: IncomingMessage): string {
    const own = request.socket.remoteAddress ?? '';
    if (!this.#setup.options.trustProxy) return own;
    const last = headerOf(request, 'x-forwarded-for').split(',').at(-1)?.trim();
    return last || own;
  }
}

const NOTHING = { fields: {}, bodyField: '', cut: '', isRoute: false };

/** Topics and events join the parts of a path with dots: `/v1.user/a.b` is `/v1/user/a/b`. */
function eventPaths([first = '', ...rest]: readonly string[]): string[] {
  const topic = first.replace(/^(v[0-9]+)\./, '$1/');
  return [
    `/${[topic, ...rest.map((word) => word.replaceAll('.', '/'))].join('/')}`,
    ...(/^v[0-9]+$/.test(first) ? [`/${first}.${rest.join('/')}`] : []),
  ];
}

/** The path as it was sent, and its query. Throws 400 for a target that is no path. */
function locationOf(url: string): { path: string; query: URLSearchParams } {
  if (!url.startsWith('/')) throw new HttpError(400, 'the target is no path');
  const end = url.search(/[?#]/);
  if (end < 0) return { path: url, query: NO_QUERY };
  const path = url.slice(0, end);
  const rest = url[end] === '#' ? '' : url.slice(end + 1);
  return { path, query: new URLSearchParams(rest.split('#')[0]) };
}

/** Nothing writes to it. */
const NO_QUERY = new URLSearchParams();

/** Two servers could take two different ones. */
function hasTwoHosts(rawHeaders: readonly string[]): boolean {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') hosts++;
  }
  return hosts > 1;
}

function topicOf(path: string): string {
  const [topic, ...more] = segmentsOf(path.slice(TOPICS.length)) ?? [];
  if (topic === undefined || more.length > 0) throw new HttpError(404, 'name one topic');
  return topic;
}

/** A body that flows through, and a socket, have no bytes that a signature could be checked against. */
function mustNotBeSigned({ rule }: Exchange): void {
  if (rule.webhooks.length === 0) return;
  throw new HttpError(403, 'the signature of a webhook is checked for events and calls only');
}

function mustBeGet({ method }: Exchange): void {
  if (method !== 'GET') throw new HttpError(405, 'send a GET', { allow: 'GET' });
}

function unknown(path: string): HttpError {
  return new HttpError(404, `no service has the path ${path.slice(0, 200)}`);
}
