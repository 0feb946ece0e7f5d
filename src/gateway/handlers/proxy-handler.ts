/**
 * The http and web handlers: requests passed on to an HTTP server found by its service name.
 *
 * Invariants: bodies flow in both directions without being gathered; hop-by-hop headers stay here; a
 * client that leaves ends the request to the backend, and a backend that dies before its answer is 502,
 * in the middle of it a cut connection and never a short answer that looks whole; WebSockets and other
 * upgrades are spliced byte for byte once the backend has agreed, and only then. Cost: two sockets and no
 * copy.
 */
import { lookup } from 'node:dns';
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { BlockList, isIP, isIPv6, type LookupFunction } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { splitAddress } from '../../registry/record.ts';
import type { ServiceNode } from '../../registry/registry.ts';
import type { Outcome, Selector } from '../../selector/selector.ts';
import type { Rule } from '../access/rules.ts';
import type { Answer } from '../answer.ts';
import type { Exchange } from '../exchange.ts';
import { endToEnd, forwardedFor, headersOfClient } from '../forwarding.ts';
import { HttpError } from '../http-error.ts';
import { passBody } from './pass-body.ts';

/** What of an exchange the handler uses, so that a server without fastify can pass requests on too. */
export interface Forwarded
  extends Pick<Exchange, 'request' | 'method' | 'host' | 'traceparent' | 'signal'> {
  /** Default: what a client says of a proxy in front is dropped. */
  readonly trustsProxy?: boolean;
  readonly rule: Pick<Rule, 'maxBodyBytes' | 'timeoutMs'>;
  readonly reply: Pick<Answer, 'getHeaders' | 'hijack' | 'raw' | 'sent'>;
  /** What of the client's header goes on to the backend. */
  readonly toBackend?: HeaderFilter;
  /** What of the backend's header goes on to the client. */
  readonly toClient?: HeaderFilter;
}

/** The values that go on, of a header by its name in small letters; none removes it. */
export type HeaderFilter = (name: string, values: string[]) => string[];

export interface Backend {
  readonly service: string;
  /** The part of the path that is cut before it is passed on; empty where none is. */
  readonly cut: string;
}

const SOCKETS = 256;
/**
 * How long a connection without a request is kept: shorter than servers keep theirs (Node 5 s), because one
 * that is closed just as a request leaves on it has answered nothing.
 */
const FREE_MS = 1000;
/** Methods that may be sent again (RFC 9110, 9.2.2). */
const IDEMPOTENT = /^(GET|HEAD|OPTIONS|PUT|DELETE)$/;

export class ProxyHandler {
  readonly #selector: Selector;
  /** Upgraded connections, which the HTTP server does not count any more. */
  readonly #spliced = new Set<Duplex>();
  readonly #agent: Agent;

  constructor(selector: Selector, maxSockets = SOCKETS) {
    this.#selector = selector;
    this.#agent = new Agent({
      keepAlive: true,
      maxSockets,
      maxFreeSockets: maxSockets,
      timeout: FREE_MS,
    });
  }

  close(): void {
    this.cut();
    this.#agent.destroy();
  }

  /** Ends upgraded connections, which end by themselves only when client or backend want it. */
  cut(): void {
    for (const socket of this.#spliced) socket.destroy();
  }

  async handle(exchange: Forwarded, backend: Backend): Promise<void> {
    const { request, method } = exchange;
    const hasBody =
      request.headers['transfer-encoding'] !== undefined ||
      Number(request.headers['content-length'] ?? 0) > 0;
    const mayRepeat = IDEMPOTENT.test(method) && !hasBody;
    if (!(await this.#attempt(exchange, backend, mayRepeat))) {
      await this.#attempt(exchange, backend, false);
    }
  }

  /** False where the server closed a connection of the pool as the request left, and it may be repeated. */
  async #attempt(exchange: Forwarded, backend: Backend, mayRepeat: boolean): Promise<boolean> {
    const { request, reply, rule } = exchange;
    const node = await this.#node(backend.service);
    const mark = this.#marker(backend.service, node, exchange);
    let stop = () => {};
    let outgoing: ClientRequest | null = null;
    try {
      outgoing = this.#open(exchange, backend, node, { agent: this.#agent });
      stop = endWith(exchange, outgoing);
      const sending = passBody(request, outgoing, rule.maxBodyBytes);
      // The answer may come before the request has been sent whole.
      sending.catch(() => outgoing?.destroy());
      const response = await responseOf(outgoing, sending, backend.service);
      stop();
      stop = abortWith(exchange, outgoing);
      mark(null);
      reply.hijack();
      const kept = Object.fromEntries(filtered(endToEnd(response), exchange.toClient));
      const headers = { ...reply.getHeaders(), ...kept };
      reply.raw.writeHead(response.statusCode ?? 502, headers as Record<string, string[]>);
      await passBody(response, reply.raw);
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const isStale =
        outgoing?.reusedSocket === true && (code === 'ECONNRESET' || code === 'EPIPE');
      if (isStale && mayRepeat && !reply.sent && !exchange.signal.aborted) {
        mark(null);
        return false;
      }
      mark(error);
      if (!reply.sent) throw failed(backend.service, error);
      reply.raw.destroy();
      return true;
    } finally {
      stop();
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
      const outgoing = this.#open(exchange, backend, node, { agent: false });
      stop = endWith(exchange, outgoing);
      outgoing.end();
      const { response, upstream, rest } = await upgradeOf(outgoing);
      stop();
      mark(null);
      if (upstream === null) {
        const kept = filtered(endToEnd(response), exchange.toClient);
        socket.write(headOf(response, [...plain(kept), ['Connection', 'close']]));
        await pipeline(response, socket).catch(() => socket.destroy());
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
      else if (signal.aborted || error instanceof HttpError) result = 'none';
      else if ((error as Error).message === 'timeout') result = 'timeout';
      this.#selector.mark(service, node, { result });
    };
  }

  #open(
    exchange: Forwarded,
    { service, cut }: Backend,
    node: ServiceNode,
    { agent }: { readonly agent: Agent | false },
  ): ClientRequest {
    const { request, method, traceparent } = exchange;
    const { host, port } = addressOf(node, service);
    const headers: Record<string, string | string[]> = Object.fromEntries(
      filtered(headersOfClient(exchange), exchange.toBackend),
    );
    headers.host = node.address;
    headers['x-forwarded-for'] = forwardedFor(exchange);
    headers['x-forwarded-host'] ??= exchange.host;
    headers['x-forwarded-proto'] ??= 'encrypted' in request.socket ? 'https' : 'http';
    if (traceparent !== '') headers.traceparent = traceparent;
    if (cut !== '') headers['x-micro-web-base-path'] = cut;
    const { upgrade } = request.headers;
    if (agent === false && upgrade !== undefined) {
      // What follows the head of an upgrade is of the new protocol, and no body.
      delete headers['content-length'];
      Object.assign(headers, { connection: 'Upgrade', upgrade });
    } else if (request.headers['transfer-encoding'] !== undefined) {
      headers['transfer-encoding'] = 'chunked';
    }
    const path = cutPath(request.url ?? '/', cut);
    return httpRequest({ agent, host, port, method, path, headers, lookup: lookUp });
  }
}

/** Ends a request that has no answer in time, or whose client leaves. Returns what stops that. */
function endWith(exchange: Forwarded, outgoing: ClientRequest): () => void {
  const late = () => outgoing.destroy(new Error('timeout'));
  const timer = setTimeout(late, exchange.rule.timeoutMs);
  const stop = abortWith(exchange, outgoing);
  return () => {
    clearTimeout(timer);
    stop();
  };
}

function abortWith({ signal }: Forwarded, outgoing: ClientRequest): () => void {
  const abort = () => outgoing.destroy();
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  return () => signal.removeEventListener('abort', abort);
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

function* filtered(
  headers: Iterable<readonly [string, string[]]>,
  filter: HeaderFilter | undefined,
): Iterable<[string, string[]]> {
  for (const [name, values] of headers) {
    const kept = filter === undefined ? values : filter(name.toLowerCase(), values);
    if (kept.length > 0) yield [name, kept];
  }
}

function* plain(headers: Iterable<[string, string[]]>): Iterable<[string, string]> {
  for (const [name, values] of headers) for (const value of values) yield [name, value];
}

function* rawPairs({ rawHeaders }: IncomingMessage): Iterable<[string, string]> {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    yield [rawHeaders[i] as string, rawHeaders[i + 1] as string];
  }
}

/**
 * Where clouds keep secrets: link-local addresses and the addresses of metadata services that are not, in
 * every form of writing and behind every name.
 *
 * `check` of a mapped IPv4 address looks at the IPv4 rules.
 */
const FORBIDDEN = new BlockList();
FORBIDDEN.addSubnet('169.254.0.0', 16, 'ipv4');
FORBIDDEN.addSubnet('fe80::', 10, 'ipv6');
// Amazon's over IPv6, Alibaba's, Azure's.
FORBIDDEN.addAddress('fd00:ec2::254', 'ipv6');
FORBIDDEN.addAddress('100.100.100.200', 'ipv4');
FORBIDDEN.addAddress('168.63.129.16', 'ipv4');

function isForbidden(host: string): boolean {
  const address = host.replace(/%.*$/, '');
  return FORBIDDEN.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** Only host:port of a record, never a forbidden address. */
function addressOf(node: ServiceNode, service: string): { host: string; port: number } {
  const address = splitAddress(node.address);
  if (address === null || (isIP(address.host) !== 0 && isForbidden(address.host))) {
    throw new HttpError(502, `${service} has an address that requests are not passed to`);
  }
  return address;
}

/** A name may resolve to a forbidden address, and so may a number that is no IP address in text. */
const lookUp: LookupFunction = (name, options, callback) => {
  lookup(name, options, (error, address, family) => {
    const found = Array.isArray(address) ? address.map((each) => each.address) : [address];
    if (error === null && found.some((each) => isForbidden(String(each)))) {
      callback(new HttpError(502, `${name} is an address that requests are not passed to`), '', 0);
    } else callback(error, address as string, family);
  });
};

function cutPath(url: string, cut: string): string {
  const rest = cut !== '' && url.startsWith(cut) ? url.slice(cut.length) : url;
  return rest.startsWith('/') ? rest : `/${rest}`;
}

function responseOf(
  outgoing: ClientRequest,
  sending: Promise<void>,
  service: string,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // More than one error may come: one without a listener would end the process.
    outgoing.once('response', resolve).on('error', reject);
    // The client did not ask for an upgrade.
    outgoing.once('upgrade', (_response, socket) => {
      socket.destroy();
      reject(new HttpError(502, `${service} changed the protocol`));
    });
    sending.catch((error) => {
      if (error instanceof HttpError) reject(error);
    });
  });
}

function failed(service: string, error: unknown): unknown {
  if (error instanceof HttpError) return error;
  const { message, code } = error as NodeJS.ErrnoException;
  if (message === 'timeout') return new HttpError(504, `${service} did not answer in time`);
  return new HttpError(
    502,
    `${service} could not be reached: ${code ?? 'it ended the connection'}`,
  );
}
