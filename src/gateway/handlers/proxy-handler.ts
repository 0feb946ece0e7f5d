/**
 * The http and web handlers: requests passed on to an HTTP server found by its service name.
 *
 * Invariants: bodies flow in both directions without being gathered, short requests excepted; hop-by-hop
 * headers stay here; a client that leaves ends the request to the backend, and a backend that dies before
 * its answer is 502, in the middle of it a cut connection and never a short answer that looks whole;
 * WebSockets and other upgrades are spliced byte for byte once the backend has agreed, and only then. Cost:
 * undici's for requests, two sockets and no copy for upgrades.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Agent } from 'undici';
import type { ServiceNode } from '../../registry/registry.ts';
import type { Outcome, Selector } from '../../selector/selector.ts';
import { endConnection } from '../../transport/end-connection.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { readBody } from '../exchange.ts';
import { endToEnd, forwardedFor, headersOfClient } from '../forwarding.ts';
import { HttpError } from '../http-error.ts';
import { GATEWAY_LIMITS, type GatewayLimits, resolveLimits } from '../limits.ts';
import { addressOf, connectTo, lookUp } from './backend-address.ts';
import { BackendAnswer } from './backend-answer.ts';
import { type Forwarded, filtered } from './forwarded.ts';

export type { Forwarded, HeaderFilter } from './forwarded.ts';

export interface Backend {
  readonly service: string;
  /** The part of the path that is cut before it is passed on; empty where none is. */
  readonly cut: string;
}

/**
 * By default an idle connection is kept shorter than servers keep theirs (Node 5 s), because one that is closed
 * just as a request leaves on it has answered nothing.
 */
export type ProxyHandlerLimits = Pick<
  GatewayLimits,
  'maxBackendSockets' | 'backendIdleMs' | 'stalledMs'
>;

/** Methods that may be sent again (RFC 9110, 9.2.2). */
const IDEMPOTENT = /^(GET|HEAD|OPTIONS|PUT|DELETE)$/;
/** A body of at most this many bytes is passed on in one piece with its head. */
const SHORT_BODY = 16 * 1024;

export class ProxyHandler {
  readonly #selector: Selector;
  /** Upgraded connections, which the HTTP server does not count any more. */
  readonly #spliced = new Set<Duplex>();
  readonly #agent: Agent;
  readonly #stalledMs: number;

  constructor(selector: Selector, limits: ProxyHandlerLimits = resolveLimits(GATEWAY_LIMITS, {})) {
    const { maxBackendSockets, backendIdleMs, stalledMs } = limits;
    this.#selector = selector;
    this.#stalledMs = stalledMs;
    this.#agent = new Agent({
      connections: maxBackendSockets,
      pipelining: 1,
      keepAliveTimeout: backendIdleMs,
      keepAliveMaxTimeout: backendIdleMs,
      // The rule's own time ends a request.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: connectTo,
    });
  }

  close(): void {
    this.cut();
    void this.#agent.destroy();
  }

  /** Ends upgraded connections, which end by themselves only when client or backend want it. */
  cut(): void {
    for (const socket of this.#spliced) socket.destroy();
  }

  async handle(exchange: Forwarded, backend: Backend): Promise<void> {
    const { request, method, rule } = exchange;
    const isChunked = request.headers['transfer-encoding'] !== undefined;
    const length = Number(request.headers['content-length'] ?? 0);
    if (length > rule.maxBodyBytes) throw tooLarge(rule.maxBodyBytes);
    let body: Buffer | AsyncIterable<Buffer> | null = null;
    if (isChunked || length > SHORT_BODY) body = limited(request, rule.maxBodyBytes);
    else if (length > 0) body = await readBody(request, rule.maxBodyBytes, rule.timeoutMs);
    const mayRepeat = body === null && IDEMPOTENT.test(method);
    if (await this.#attempt(exchange, backend, body, mayRepeat)) return;
    await this.#attempt(exchange, backend, body, false);
  }

  /** False where the server closed a connection of the pool as the request left, and it may be repeated. */
  async #attempt(
    exchange: Forwarded,
    backend: Backend,
    body: Buffer | AsyncIterable<Buffer> | null,
    mayRepeat: boolean,
  ): Promise<boolean> {
    const { request, reply, method, signal } = exchange;
    const { service } = backend;
    const node = await this.#node(service);
    const mark = this.#marker(service, node, exchange);
    let forget = () => {};
    try {
      const { origin } = addressOf(node, service);
      const headers = headersFor(exchange, backend, node);
      await new Promise<void>((resolve, reject) => {
        const answer = new BackendAnswer({
          exchange,
          service,
          stalledMs: this.#stalledMs,
          answered: () => mark(null),
          ended: (error) => (error === null ? resolve() : reject(error)),
        });
        forget = onAbort(signal, () => answer.abort(new Error('the client has left')));
        const path = cutPath(request.url ?? '/', backend.cut);
        const options = { origin, path, method: method as 'GET', headers };
        // It takes any body that can be iterated, and its types do not say so.
        this.#agent.dispatch({ ...options, body: body as Buffer | null }, answer);
      });
      // What is left of a body that the server did not want would be taken for the next request.
      if (!request.complete) request.resume();
      return true;
    } catch (error) {
      if (mayRepeat && isStale(error) && !reply.sent && !signal.aborted) {
        mark(null);
        return false;
      }
      mark(error);
      if (!reply.sent) throw failed(service, error);
      reply.raw.destroy();
      return true;
    } finally {
      forget();
    }
  }

  /**
   * Splices an upgrade once the backend has agreed to it. Another answer is passed on and the connection
   * ends: what the client sends behind it would reach the backend past every rule.
   */
  async upgrade(
    exchange: Forwarded,
    socket: Duplex,
    head: Buffer,
    backend: Backend,
  ): Promise<void> {
    const node = await this.#node(backend.service);
    const mark = this.#marker(backend.service, node, exchange);
    let stop = () => {};
    try {
      const outgoing = openUpgrade(exchange, backend, node);
      stop = endWith(exchange, outgoing);
      outgoing.end();
      const { response, upstream, rest } = await upgradeOf(outgoing);
      stop();
      mark(null);
      if (upstream === null) {
        const kept = filtered(endToEnd(response), exchange.toClient);
        socket.write(headOf(response, [...plain(kept), ['Connection', 'close']]));
        (socket as Socket).setTimeout(this.#stalledMs, () => socket.destroy());
        await pipeline(response, socket, { end: false }).then(
          () => endConnection(socket, systemScheduler),
          () => socket.destroy(),
        );
        return;
      }
      if (response.statusCode !== 101 || socket.destroyed) {
        upstream.destroy();
        throw new HttpError(502, `${backend.service} changed the protocol`);
      }
      const pairs = [...rawPairs(response)].map(([name, value]): [string, string[]] => [
        name,
        [value],
      ]);
      socket.write(headOf(response, plain(filtered(pairs, exchange.toClient))));
      this.#splice(socket, upstream, head, rest);
    } catch (error) {
      mark(error);
      throw failed(backend.service, error);
    } finally {
      stop();
    }
  }

  #splice(socket: Duplex, upstream: Duplex, head: Buffer, rest: Buffer): void {
    socket.write(rest);
    upstream.write(head);
    this.#spliced.add(socket);
    const end = () => {
      this.#spliced.delete(socket);
      socket.destroy();
      upstream.destroy();
    };
    socket.on('error', end).on('close', end).pipe(upstream);
    upstream.on('error', end).on('close', end).pipe(socket);
  }

  async #node(service: string): Promise<ServiceNode> {
    const next = await this.#selector.select(service);
    return next();
  }

  /** Says once how the request to the node ended; of a client that left it says nothing of the node. */
  #marker(service: string, node: ServiceNode, { signal }: Forwarded): (error: unknown) => void {
    let isMarked = false;
    return (error) => {
      if (isMarked) return;
      isMarked = true;
      let result: Outcome['result'] = 'unreachable';
      if (error === null) result = 'ok';
      else if (error instanceof HttpError && error.status === 504) result = 'timeout';
      else if (signal.aborted || error instanceof HttpError) result = 'none';
      this.#selector.mark(service, node, { result });
    };
  }
}

/** What goes to the backend in the client's name. */
function headersFor(
  exchange: Forwarded,
  { cut }: Backend,
  node: ServiceNode,
): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = Object.fromEntries(
    filtered(headersOfClient(exchange), exchange.toBackend),
  );
  headers.host = node.address;
  headers['x-forwarded-for'] = forwardedFor(exchange);
  headers['x-forwarded-host'] ??= exchange.host;
  headers['x-forwarded-proto'] ??= 'encrypted' in exchange.request.socket ? 'https' : 'http';
  if (exchange.traceparent !== '') headers.traceparent = exchange.traceparent;
  if (cut !== '') headers['x-micro-web-base-path'] = cut;
  // Of several equal lengths, which Node takes, one.
  const length = headers['content-length'];
  if (Array.isArray(length)) headers['content-length'] = length[0] as string;
  return headers;
}

function openUpgrade(exchange: Forwarded, backend: Backend, node: ServiceNode): ClientRequest {
  const { request, method } = exchange;
  const { host, port } = addressOf(node, backend.service);
  const headers = headersFor(exchange, backend, node);
  // What follows the head of an upgrade is of the new protocol, and no body.
  delete headers['content-length'];
  Object.assign(headers, { connection: 'Upgrade', upgrade: request.headers.upgrade });
  const path = cutPath(request.url ?? '/', backend.cut);
  return httpRequest({ agent: false, host, port, method, path, headers, lookup: lookUp });
}

/** The body as it comes; the request stays whole when its reader leaves. */
async function* limited(request: IncomingMessage, maxBytes: number): AsyncGenerator<Buffer> {
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += (chunk as Buffer).length;
    if (size > maxBytes) throw tooLarge(maxBytes);
    yield chunk as Buffer;
  }
}

function tooLarge(maxBytes: number): HttpError {
  return new HttpError(413, `the body has more than ${maxBytes} bytes`);
}

/** Whether the connection had answered before, and ended without a sign of this request. */
function isStale(error: unknown): boolean {
  const { code, socket } = error as { code?: string; socket?: { bytesRead?: number } };
  if (code === 'ECONNRESET' || code === 'EPIPE') return true;
  return code === 'UND_ERR_SOCKET' && (socket?.bytesRead ?? 0) > 0;
}

/** Ends an upgrade that has no answer in time, or whose client leaves. Returns what stops that. */
function endWith(exchange: Forwarded, outgoing: ClientRequest): () => void {
  const late = () => outgoing.destroy(new HttpError(504, 'the server did not answer in time'));
  const timer = setTimeout(late, exchange.rule.timeoutMs);
  const forget = onAbort(exchange.signal, () => outgoing.destroy());
  return () => {
    clearTimeout(timer);
    forget();
  };
}

interface Upgraded {
  readonly response: IncomingMessage;
  /** Null where the backend answered and changed nothing. */
  readonly upstream: Duplex | null;
  readonly rest: Buffer;
}

function upgradeOf(outgoing: ClientRequest): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    outgoing.on('error', reject);
    outgoing.once('upgrade', (response, upstream, rest) => {
      upstream.on('error', () => upstream.destroy());
      resolve({ response, upstream, rest });
    });
    outgoing.once('response', (response) => {
      resolve({ response, upstream: null, rest: Buffer.alloc(0) });
    });
  });
}

/** The head of an answer as text; Node's parser has let no line end into it. */
function headOf(
  { statusCode = 502, statusMessage = '' }: IncomingMessage,
  headers: Iterable<readonly [string, string]>,
): Buffer {
  const lines = [...headers].map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`HTTP/1.1 ${statusCode} ${statusMessage}\r\n${lines.join('')}\r\n`, 'latin1');
}

function* plain(headers: Iterable<[string, string[]]>): Iterable<[string, string]> {
  for (const [name, values] of headers) for (const value of values) yield [name, value];
}

function* rawPairs({ rawHeaders }: IncomingMessage): Iterable<[string, string]> {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    yield [rawHeaders[i] as string, rawHeaders[i + 1] as string];
  }
}

function cutPath(url: string, cut: string): string {
  const rest = cut !== '' && url.startsWith(cut) ? url.slice(cut.length) : url;
  return rest.startsWith('/') ? rest : `/${rest}`;
}

function failed(service: string, error: unknown): unknown {
  if (error instanceof HttpError) return error;
  const { code, cause } = error as NodeJS.ErrnoException & { cause?: unknown };
  if (cause instanceof HttpError) return cause;
  if (code === 'UND_ERR_INVALID_ARG') {
    return new HttpError(400, 'the request holds what cannot be passed on');
  }
  const why = code?.startsWith('UND_ERR_') ? (WHY[code] ?? 'its answer is no HTTP/1.1') : code;
  return new HttpError(502, `${service} could not be reached: ${why ?? 'it ended the connection'}`);
}

/** Codes of the HTTP client in words; codes of the system, like ECONNREFUSED, say what they mean. */
const WHY: Readonly<Record<string, string>> = {
  UND_ERR_SOCKET: 'it ended the connection',
  UND_ERR_HEADERS_OVERFLOW: 'the headers of its answer are too long',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'its answer is not as long as it said',
};
