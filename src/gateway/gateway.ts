/**
 * `micro api`: HTTP in, calls of services and durable events out.
 *
 *   const gateway = await startGateway({ broker: 'rivulet://127.0.0.1:7488' });
 *
 * Invariants: authentication, limits and times hold for every way in, sockets included; what was opened
 * here is closed by `stop`, which first answers what was asked; a request that fails harms no other.
 * Cost: fastify's, plus one call or publish.
 */
import {
  type Server as HttpServer,
  type IncomingMessage,
  ServerResponse,
  STATUS_CODES,
} from 'node:http';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { WebSocketServer } from 'ws';
import { invalid } from '../client/option-table.ts';
import { RivuletError } from '../errors.ts';
import { type Log, quietLog } from '../rpc/context.ts';
import { leaveWithin } from '../service/leave.ts';
import { Nouns } from '../service/nouns.ts';
import { endConnection } from '../transport/end-connection.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { Authentication } from './access/authentication.ts';
import { corsHeaders, isPreflight } from './access/cors.ts';
import { RateLimiter } from './access/rate-limiter.ts';
import { Rules } from './access/rules.ts';
import type { Answer } from './answer.ts';
import type { Exchange } from './exchange.ts';
import { goneSignal } from './gone-signal.ts';
import { CallClient } from './handlers/call-client.ts';
import { EventHandler } from './handlers/event-handler.ts';
import { ProxyHandler } from './handlers/proxy-handler.ts';
import { WorkflowHandler } from './handlers/workflow-handler.ts';
import { GATEWAY_ID, HttpError, httpFailure } from './http-error.ts';
import { openHttpServer } from './http-server.ts';
import { GATEWAY_LIMITS, type GatewayLimits, resolveLimits } from './limits.ts';
import { Observer } from './observer.ts';
import { checkGatewayOptions, type GatewayOptions, listenAddress } from './options.ts';
import { addOwnPages } from './pages/own-pages.ts';
import { Pages } from './pages/pages.ts';
import { Directory } from './routing/directory.ts';
import { Dispatcher } from './routing/dispatcher.ts';
import { closeWhenSent, mustBeTaken } from './stalled.ts';
import { TopicHub } from './topics/topic-hub.ts';
import { TopicStreams } from './topics/topic-streams.ts';
import { Unanswered } from './unanswered.ts';

const STOPPING = 'the gateway is stopping';
/** Until an idle connection is closed, once the gateway is stopping. */
const IDLE_MS = 500;

/**
 * Rejects with INVALID_ARGUMENT for an option that cannot be obeyed, with CONNECTION_FAILED where it
 * cannot listen.
 */
export async function startGateway(options: GatewayOptions = {}): Promise<Gateway> {
  checkGatewayOptions(options);
  const authentication = await Authentication.open(options.auth ?? {}, options.cors ?? []);
  const gateway = new Gateway(options, authentication);
  await gateway.start();
  return gateway;
}

export class Gateway implements AsyncDisposable {
  readonly #options: GatewayOptions;
  readonly #limits: GatewayLimits;
  readonly #nouns: Nouns;
  readonly #client: CallClient;
  readonly #directory: Directory;
  readonly #proxy: ProxyHandler;
  readonly #hub: TopicHub;
  readonly #topics: TopicStreams;
  readonly #workflows: WorkflowHandler;
  readonly #dispatcher: Dispatcher;
  readonly #observer: Observer;
  readonly #sockets: WebSocketServer;
  /** All connections: the HTTP server does not know those that it gave away or whose TLS handshake goes on. */
  readonly #connections = new Set<Duplex>();
  readonly #unanswered = new Unanswered();
  readonly #log: Log;
  /** Aborts when `stop` begins: streams that would never end by themselves end then. */
  readonly #stopping = new AbortController();
  #http: FastifyInstance | null = null;
  #closing: Promise<void> | null = null;
  #running = 0;

  /** Use `startGateway`. */
  constructor(options: GatewayOptions, authentication: Authentication) {
    const { broker, registry, transport, selector, scheduler = systemScheduler, events } = options;
    this.#options = options;
    const limits = resolveLimits(GATEWAY_LIMITS, options);
    this.#limits = limits;
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: limits.maxSocketMessageBytes,
    });
    this.#log = options.log ?? quietLog;
    this.#nouns = new Nouns({
      scheduler,
      ...(broker === undefined ? {} : { broker }),
      ...(registry === undefined ? {} : { registry }),
      ...(transport === undefined ? {} : { transport }),
      ...(selector === undefined ? {} : { selector }),
    });
    const rules = new Rules(baseRule(options, limits), options.rules ?? []);
    if (rules.needsAuthentication && !authentication.isSetUp) {
      throw invalid('a rule needs authentication: set auth.keys or auth.jwt');
    }
    const { timeoutMs, dialTimeoutMs, retries } = limits;
    this.#client = new CallClient(this.#nouns, {
      name: GATEWAY_ID,
      timeoutMs,
      dialTimeoutMs,
      retries,
    });
    this.#directory = new Directory({
      registry: () => this.#nouns.registry(),
      scheduler,
      refreshMs: limits.refreshMs,
      report: (text) => this.#log.warn(text),
    });
    this.#proxy = new ProxyHandler(this.#nouns.selector, limits);
    this.#hub = new TopicHub(() => this.#nouns.broker(), {
      maxReaders: limits.maxSubscriptions,
      maxRecent: limits.maxRecentMessages,
      maxRecentBytes: limits.maxRecentBytes,
      maxQueued: limits.maxQueuedMessages,
      maxQueuedBytes: limits.maxQueuedBytes,
      maxPast: limits.maxPastReaders,
      slowMs: limits.slowReaderMs,
      resumeWaitMs: limits.resumeWaitMs,
    });
    this.#topics = new TopicStreams(this.#hub, options.topics ?? [], limits);
    this.#workflows = new WorkflowHandler(
      () => this.#nouns.broker(),
      options.workflows ?? [],
      limits.maxIdempotencyKeys,
    );
    const pages = new Pages();
    this.#observer = new Observer(
      options.accessLog ? this.#log : null,
      () => this.#running,
      () => this.#hub.readers,
    );
    addOwnPages(pages, {
      observer: this.#observer,
      directory: this.#directory,
      options,
      client: this.#client,
      isStopping: () => this.#stopping.signal.aborted,
      permit: (exchange, path, target) => this.#dispatcher.permit(exchange, path, target),
      hasAuthentication: authentication.isSetUp,
    });
    this.#dispatcher = new Dispatcher({
      options,
      rules,
      authentication,
      limits,
      limiter: new RateLimiter(limits.maxRateClients),
      client: this.#client,
      directory: this.#directory,
      events: new EventHandler({
        broker: () => this.#nouns.broker(),
        names: events?.names ?? 'code',
        codec: events?.codec ?? 'json',
        maxBatch: events?.maxBatch ?? 1000,
        maxKeys: limits.maxIdempotencyKeys,
        maxFields: limits.maxFields,
        lookupMs: limits.repeatLookupMs,
        now: () => scheduler.now(),
      }),
      proxy: this.#proxy,
      topics: this.#topics,
      workflows: this.#workflows,
      pages,
      sockets: this.#sockets,
      scheduler,
    });
  }

  /** Requests that have not been answered. */
  get running(): number {
    return this.#running;
  }

  /** host:port as bound. */
  get address(): string {
    const bound = this.#http?.server.address() as AddressInfo | null | undefined;
    if (!bound) return '';
    return bound.family === 'IPv6'
      ? `[${bound.address}]:${bound.port}`
      : `${bound.address}:${bound.port}`;
  }

  get url(): string {
    return `${this.#options.tls === undefined ? 'http' : 'https'}://${this.address}`;
  }

  async start(): Promise<void> {
    const { host, port } = listenAddress(this.#options.address ?? '127.0.0.1:8080');
    try {
      // A broker that was named and cannot be reached stops the start, as a wrong address would.
      if (this.#nouns.hasBroker) await this.#nouns.broker();
      await this.#directory.start();
      this.#http = openHttpServer(this.#options, this.#limits, {
        serve: (request, reply) => this.#serve(request, reply),
        refuse: (error, socket) => this.#unanswered.refuse(error, socket),
      });
      const { server } = this.#http;
      this.#unanswered.follow(server);
      server.on('connection', (socket: Socket) => {
        this.#connections.add(socket);
        socket.once('close', () => this.#connections.delete(socket));
      });
      server.on('upgrade', (request, socket, head) => {
        // What is written now would pass for the answer to an earlier request.
        if (this.#unanswered.has(socket)) {
          socket.destroy();
          return;
        }
        if (wantsHttp2(request)) answerAsHttp1(server, request, socket);
        else void this.#upgrade(request, socket, head);
      });
      await this.#http.listen({ host, port }).catch((cause: Error) => {
        const text = `cannot listen on ${host}:${port}: ${cause.message}`;
        throw new RivuletError('CONNECTION_FAILED', text, { cause });
      });
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /**
   * Resolves two seconds after the last request at most, and requests are given `drainTimeoutMs`: a broker or registry
   * that does not answer is not waited for.
   */
  stop(): Promise<void> {
    this.#closing ??= this.#stop();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    const { scheduler = systemScheduler } = this.#options;
    this.#stopping.abort();
    // A broker that does not answer keeps no port open.
    const left = this.#hub.close();
    left.catch(() => {});
    await this.#closeHttp(scheduler);
    this.#proxy.close();
    await leaveWithin(scheduler, [
      () => left,
      () => this.#workflows.close(),
      () => this.#directory.close(),
      () => this.#client.close(),
      () => this.#nouns.close(),
    ]);
  }

  /** All connections have ended within `drainTimeoutMs`. */
  async #closeHttp(scheduler: Scheduler): Promise<void> {
    const http = this.#http;
    if (http === null) return;
    const { drainTimeoutMs } = this.#limits;
    // Answers that began before now said that their connection stays: it is closed when it is idle.
    http.server.keepAliveTimeout = IDLE_MS;
    const cancel = scheduler.after(drainTimeoutMs, () => {
      http.server.closeAllConnections();
      this.#proxy.cut();
      for (const socket of this.#connections) socket.destroy();
    });
    for (const socket of this.#sockets.clients) {
      if (!this.#topics.serves(socket)) closeWhenSent(socket, 1001, STOPPING);
    }
    await this.#closePort(http.server, Math.min(IDLE_MS * 2, drainTimeoutMs), scheduler);
    await http.close();
    cancel();
  }

  /**
   * Takes no more connections, and leaves those that are open a while: a request may be on its way on
   * one that looks idle, and is answered with the word that the connection closes. Node's own close of
   * an HTTP server ends such connections at once. Resolves when all connections have ended.
   */
  async #closePort(server: HttpServer, graceMs: number, scheduler: Scheduler): Promise<void> {
    if (!server.listening) return;
    await new Promise<void>((resolve) => {
      const cancel = scheduler.after(graceMs, () => server.closeIdleConnections());
      NetServer.prototype.close.call(server, () => {
        cancel();
        resolve();
      });
    });
  }

  async #serve(request: IncomingMessage, reply: Answer): Promise<void> {
    const startedAt = performance.now();
    const { cors } = this.#options;
    if (cors !== undefined && cors.length > 0) {
      reply.headers(corsHeaders(request, cors));
      if (isPreflight(request)) {
        reply.code(204).send();
        return;
      }
    }
    let handler = 'none';
    let exchange: Exchange | null = null;
    this.#running++;
    try {
      this.#mustHaveRoom();
      const admitted = this.#dispatcher.admit(request, reply, goneSignal(request.socket));
      exchange = admitted instanceof Promise ? await admitted : admitted;
      reply.header('x-request-id', exchange.traceparent.slice(3, 35));
      if (this.#stopping.signal.aborted) reply.header('connection', 'close');
      handler = await this.#dispatcher.answer(exchange);
    } catch (error) {
      this.#fail(request, reply, error);
    } finally {
      this.#running--;
      if (reply.raw.writableEnded) mustBeTaken(reply.raw, this.#limits.stalledMs);
      const note = () => this.#note(request, handler, reply.raw.statusCode, startedAt, exchange);
      if (reply.raw.writableEnded || reply.raw.destroyed) note();
      else reply.raw.once('close', note);
    }
  }

  /** One connection may send many requests before the first is answered. Clients of topics only wait. */
  #mustHaveRoom(): void {
    const { maxRequests } = this.#limits;
    if (this.#running - this.#hub.readers <= maxRequests) return;
    const text = `the gateway answers ${maxRequests} requests, which is its limit`;
    throw new HttpError(503, text, { 'retry-after': '1' });
  }

  #fail(request: IncomingMessage, reply: Answer, error: unknown): void {
    const { status, headers, body, isUnexpected } = httpFailure(error);
    if (isUnexpected) this.#log.error({ err: error }, 'a request failed');
    if (reply.sent) {
      reply.raw.destroy();
      return;
    }
    // An unread body would be parsed as the next request.
    if (!request.complete) reply.header('connection', 'close');
    reply.code(status).headers(headers).header('content-type', 'application/json').send(body);
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const startedAt = performance.now();
    socket.on('error', () => socket.destroy());
    let exchange: Exchange | null = null;
    this.#running++;
    try {
      if (this.#stopping.signal.aborted) {
        throw new HttpError(503, STOPPING, { 'retry-after': '1' });
      }
      this.#mustHaveRoom();
      const none = null as unknown as Answer;
      exchange = await this.#dispatcher.admit(request, none, goneSignal(request.socket));
      const handler = await this.#dispatcher.upgrade(exchange, socket, head);
      this.#note(request, `${handler}-socket`, 101, startedAt, exchange);
    } catch (error) {
      const { status, headers, body } = httpFailure(error);
      const lines = Object.entries({
        ...headers,
        'content-type': 'application/json',
        'content-length': String(Buffer.byteLength(body)),
        connection: 'close',
      }).map(([name, value]) => `${name}: ${value}\r\n`);
      const head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}`;
      if (socket.writable) endConnection(socket, systemScheduler, `${head}\r\n${body}`);
      else socket.destroy();
      this.#note(request, 'socket', status, startedAt, exchange);
    } finally {
      this.#running--;
    }
  }

  #note(
    request: IncomingMessage,
    handler: string,
    status: number,
    startedAt: number,
    exchange: Exchange | null,
  ): void {
    this.#observer.note({
      method: request.method ?? '',
      path: (request.url ?? '').split('?')[0]!.slice(0, 500),
      handler,
      status,
      ms: performance.now() - startedAt,
      client: exchange?.clientAddress ?? request.socket.remoteAddress ?? '',
      account: exchange?.identity.name ?? '',
      traceparent: exchange?.traceparent ?? '',
    });
  }
}

function baseRule(options: GatewayOptions, limits: GatewayLimits) {
  const { rateLimit, authDefault = 'none' } = options;
  return {
    auth: authDefault,
    scopes: [],
    rateLimit:
      rateLimit === undefined
        ? null
        : { burst: Math.max(1, Math.ceil(rateLimit.perSecond)), ...rateLimit },
    maxBodyBytes: limits.maxBodyBytes,
    timeoutMs: limits.timeoutMs,
    bodyTimeoutMs: limits.bodyTimeoutMs,
    webhooks: [],
  };
}

/** A client that would speak HTTP/2 where the server does too; curl's --http2 asks so. */
function wantsHttp2(request: IncomingMessage): boolean {
  const hasBody =
    Number(request.headers['content-length'] ?? 0) > 0 ||
    request.headers['transfer-encoding'] !== undefined;
  return !hasBody && (request.headers.upgrade ?? '').trim().toLowerCase() === 'h2c';
}

/** RFC 9110, 7.8: a server may ignore an upgrade and answer the request as it is. */
function answerAsHttp1(server: HttpServer, request: IncomingMessage, socket: Duplex): void {
  const response = new ServerResponse(request);
  // Node's parser has left this connection.
  response.shouldKeepAlive = false;
  socket.on('error', () => socket.destroy());
  try {
    response.assignSocket(socket as Socket);
  } catch {
    // It still has an answer that Node gives without asking: to a request without Host, or with another Expect.
    socket.destroy();
    return;
  }
  response.once('finish', () => endConnection(socket, systemScheduler));
  // As Node's server does: a client that ends its side has left.
  socket.once('end', () => socket.destroy()).resume();
  server.emit('request', request, response);
}
