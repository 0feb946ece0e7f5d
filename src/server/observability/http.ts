/**
 * The HTTP listener: /healthz, /readyz, /metrics and a plain status page.
 *
 *   /healthz  200 while the process lives
 *   /readyz   200 when it serves; 503 with the reason while it recovers, stops, cannot write to its
 *             disk, or its loop is stuck
 *   /metrics  Prometheus's text format (metrics.ts)
 *   the rest  goes to the handler that was mounted (the console), where there is one
 *
 * Invariants: one scrape runs at a time, and every request that comes meanwhile gets its text; connections
 * and the requests that wait on one of them are bounded; a connection whose client does not read is closed;
 * a request that fails ends no process.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { BackgroundFailures } from '../background-failures.ts';
import { openFiles } from '../file-descriptors.ts';
import type { ServerState } from '../server-state.ts';
import type { Health } from './health.ts';
import { infoText } from './info-sections.ts';
import type { Logger } from './logger.ts';
import { metricsText } from './metrics.ts';

/**
 * Connections at a time, at most a quarter of the limit of open files; further ones are closed at once. A
 * page of the console keeps one open.
 */
export const HTTP_CONNECTIONS = 256;
/** A client has this long to read an answer; then its connection is closed. */
const STALLED_MS = 30_000;
/** Requests that may wait for their answers on one connection. */
const PIPELINED = 16;

/** The loop is stuck when it was late by this much within the last ten seconds. */
const STUCK_MS = 2000;
const WINDOW_MS = 5000;

/** Answers a request and returns true, or leaves it. */
export type HttpHandler = (request: IncomingMessage, response: ServerResponse) => boolean;

export class HttpListener {
  readonly address: string;
  readonly host: string;
  readonly port: number;
  /** Connections that it may have at a time. */
  readonly connections: number;
  readonly #server: Server;
  readonly #health: Health;
  readonly #delay: IntervalHistogram;
  readonly #window: NodeJS.Timeout;
  readonly #stalledMs: number;
  #previousMax = 0;
  #state: ServerState | null = null;
  readonly #failures: BackgroundFailures;
  #handler: HttpHandler | null = null;
  /** The scrape that runs. */
  #scrape: Promise<Buffer> | null = null;
  /** Requests not answered yet; Infinity = it will be closed. */
  readonly #unanswered = new WeakMap<Socket, number>();

  private constructor(
    server: Server,
    host: string,
    health: Health,
    log: Logger,
    stalledMs: number,
  ) {
    this.#server = server;
    this.#stalledMs = stalledMs;
    this.#health = health;
    this.#failures = new BackgroundFailures(log, () => performance.now());
    const limit = openFiles()?.limit ?? Number.POSITIVE_INFINITY;
    this.connections = Math.min(HTTP_CONNECTIONS, Math.floor(limit / 4));
    server.maxConnections = this.connections;
    this.host = host;
    this.port = (server.address() as AddressInfo).port;
    this.address = `http://${host.includes(':') ? `[${host}]` : host}:${this.port}`;
    this.#delay = monitorEventLoopDelay({ resolution: 20 });
    this.#delay.enable();
    this.#window = setInterval(() => {
      this.#previousMax = this.#delay.max;
      this.#delay.reset();
    }, WINDOW_MS);
    this.#window.unref();
    server.on('request', (request, response) => this.#request(request, response));
    server.on('error', (error) => this.#failures.note('the HTTP listener', error));
  }

  /** Rejects with a sentence. */
  static async open(
    host: string,
    port: number,
    health: Health,
    log: Logger,
    stalledMs = STALLED_MS,
  ): Promise<HttpListener> {
    const server = createServer({ keepAliveTimeout: 5000, requestTimeout: 10_000 });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const why = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message;
        reject(new Error(`can't listen on http://${host}:${port}: ${why}`));
      });
      server.listen(port, host, resolve);
    });
    return new HttpListener(server, host, health, log, stalledMs);
  }

  /** The server is ready: from now on metrics are served. */
  serve(state: ServerState): void {
    this.#state = state;
  }

  /** Requests that this handler answers go to it; it comes from a floor above. */
  mount(handler: HttpHandler): void {
    this.#handler = handler;
  }

  /** The server stops: load balancers should look elsewhere. */
  drain(): void {
    this.#health.reason = 'shutting down';
  }

  async close(): Promise<void> {
    clearInterval(this.#window);
    this.#delay.disable();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Why the server should not be sent work; null = it should. */
  get unready(): string | null {
    if (this.#health.reason !== null) return this.#health.reason;
    const refusal = this.#state?.engine.journal.refusal ?? null;
    if (refusal !== null) return `the disk refuses writes: ${refusal}`;
    const stalledSince = this.#state?.persistence.status.stalledSince ?? 0;
    if (stalledSince !== 0) {
      return `the disk has not answered since ${new Date(stalledSince).toISOString()}`;
    }
    const late = Math.max(this.#previousMax, this.#delay.max) / 1e6;
    if (late > STUCK_MS) return `the event loop was stuck for ${Math.round(late)} ms`;
    return null;
  }

  #request(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const unanswered = (this.#unanswered.get(socket) ?? 0) + 1;
    if (unanswered === Number.POSITIVE_INFINITY) return;
    response.on('error', () => {});
    if (unanswered > PIPELINED) {
      this.#unanswered.set(socket, Number.POSITIVE_INFINITY);
      const text = `at most ${PIPELINED} requests may wait on one connection\n`;
      this.#send(response, 503, text, { connection: 'close' });
      return;
    }
    this.#unanswered.set(socket, unanswered);
    response.once('close', () => {
      this.#unanswered.set(socket, (this.#unanswered.get(socket) ?? 1) - 1);
    });
    try {
      this.#answer(request, response);
    } catch (error) {
      this.#fail(response, error as Error);
    }
  }

  #fail(response: ServerResponse, error: Error): void {
    this.#failures.note('answering an HTTP request', error);
    if (response.headersSent) response.destroy();
    else this.#send(response, 500, `${error.message}\n`);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    if (this.#handler?.(request, response)) return;
    request.resume();
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      this.#send(response, 405, 'only GET is answered here\n', { allow: 'GET, HEAD' });
      return;
    }
    const path = (request.url ?? '/').split('?')[0];
    if (path === '/healthz') {
      this.#send(response, 200, 'ok\n');
    } else if (path === '/readyz') {
      const reason = this.unready;
      this.#send(response, reason === null ? 200 : 503, `${reason ?? 'ready'}\n`);
    } else if (path === '/metrics') {
      this.#metrics(response);
    } else if (path === '/') {
      this.#statusPage(response);
    } else {
      this.#send(response, 404, 'not found: try /healthz, /readyz or /metrics\n');
    }
  }

  #metrics(response: ServerResponse): void {
    if (this.#state === null) {
      this.#send(response, 503, `${this.unready}\n`);
      return;
    }
    const { durableWaiters } = this.#state;
    this.#scrape ??= this.#startScrape(this.#state);
    const headers = { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' };
    this.#scrape.then(
      async (text) => {
        if (await durableWaiters.wait()) this.#send(response, 200, text, headers);
        else this.#send(response, 503, NOT_SAFE);
      },
      (error: Error) => this.#fail(response, error),
    );
  }

  async #startScrape(state: ServerState): Promise<Buffer> {
    try {
      return Buffer.from(await metricsText(state, this.#delay, this.unready === null));
    } finally {
      this.#scrape = null;
    }
  }

  /** A client that does not read its answer would keep its place for ever. */
  #send(
    response: ServerResponse,
    status: number,
    body: string | Buffer,
    headers: Record<string, string> = {},
  ): void {
    if (response.destroyed) return;
    response.writeHead(status, {
      'content-type': 'text/plain; charset=utf-8',
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
      ...headers,
    });
    const { socket } = response.req;
    const timer = setTimeout(() => socket.destroy(), this.#stalledMs);
    timer.unref();
    response.once('close', () => clearTimeout(timer));
    response.end(body);
  }

  #statusPage(response: ServerResponse): void {
    const state = this.#state;
    const reason = this.unready;
    const info = state === null ? '' : infoText(state, ['server', 'clients', 'memory', 'keyspace']);
    const body = `<!doctype html><meta charset="utf-8"><title>Rivulet</title>
<style>body{font:14px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}</style>
<h1>Rivulet</h1>
<p>${escapeHtml(reason === null ? 'Ready.' : `Not ready: ${reason}.`)}</p>
<p><a href="/healthz">/healthz</a> <a href="/readyz">/readyz</a> <a href="/metrics">/metrics</a></p>
<pre>${escapeHtml(info)}</pre>
`;
    const type = { 'content-type': 'text/html; charset=utf-8' };
    if (state === null) this.#send(response, 200, body, type);
    else {
      state.durableWaiters.wait().then((durable) => {
        if (durable) this.#send(response, 200, body, type);
        else this.#send(response, 503, NOT_SAFE);
      });
    }
  }
}

const NOT_SAFE =
  'the disk has not taken the last changes for 5 s; nothing is shown before it has\n';

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
