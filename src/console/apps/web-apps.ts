/**
 * Web apps behind the console's port: requests passed on to the services `go.micro.web.NAME`.
 *
 *   --apps subdomain   shop.localhost:8082/cart  ->  go.micro.web.shop  /cart
 *   --apps path        localhost:8082/shop/cart  ->  go.micro.web.shop  /cart, X-Micro-Web-Base-Path: /shop
 *
 * Invariants: the session of the console reaches no app, and no app sets it; an app cannot take pages of
 * another one by a service worker; a host that is neither the console's nor an app's before it is 421; an
 * app that is not registered is 404, one that cannot be reached 502, one that is late 504. What is passed
 * on, and how, is gateway/handlers/proxy-handler.ts. Cost: two sockets, no copy.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import {
  type Backend,
  type Forwarded,
  ProxyHandler,
} from '../../gateway/handlers/proxy-handler.ts';
import { httpFailure } from '../../gateway/http-error.ts';
import type { Selector } from '../../selector/selector.ts';
import { endConnection } from '../../transport/end-connection.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { type AppsMode, appOfHost, appOfPath } from './app-names.ts';

const COOKIE = /^(?:__Host-)?rivulet_console_/;
const MAX_BODY_BYTES = 100 * 1024 * 1024;

export interface WebAppsSetup {
  readonly mode: AppsMode;
  /** The beginning of the services' names: `go.micro.web`. */
  readonly namespace: string;
  readonly selector: Selector;
  /** Until the answer of an app must have begun. */
  readonly timeoutMs: number;
  /** Whether a host is one of the console's own. */
  readonly acceptsHost: (host: string | undefined) => boolean;
}

export class WebApps {
  readonly #setup: WebAppsSetup;
  readonly #proxy: ProxyHandler;

  constructor(setup: WebAppsSetup) {
    this.#setup = setup;
    this.#proxy = new ProxyHandler(setup.selector);
  }

  get mode(): AppsMode {
    return this.#setup.mode;
  }

  close(): void {
    this.#proxy.close();
  }

  /** Null where the request is for no app. */
  backendOf({ headers, url = '/' }: IncomingMessage): Backend | null {
    const { mode, namespace, acceptsHost } = this.#setup;
    if (mode === 'path') {
      const name = acceptsHost(headers.host) ? appOfPath(url) : null;
      return name === null ? null : { service: `${namespace}.${name}`, cut: `/${name}` };
    }
    const app = appOfHost(headers.host ?? '');
    if (app === null || !acceptsHost(app.parent)) return null;
    return { service: `${namespace}.${app.name}`, cut: '' };
  }

  async answer(
    request: IncomingMessage,
    response: ServerResponse,
    backend: Backend,
  ): Promise<void> {
    const [exchange, ended] = this.#exchangeOf(request, response);
    try {
      await this.#proxy.handle(exchange, backend);
    } catch (error) {
      if (response.headersSent || response.destroyed) response.destroy();
      else {
        const { status, body, headers } = httpFailure(error);
        response.writeHead(status, { ...headers, ...TEXT });
        response.end(body);
      }
    } finally {
      ended();
    }
  }

  async upgrade(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    backend: Backend,
  ): Promise<void> {
    const [exchange, ended] = this.#exchangeOf(request, null, socket);
    try {
      await this.#proxy.upgrade(exchange, socket, head, backend);
    } catch (error) {
      endUpgrade(socket, httpFailure(error).status);
    } finally {
      ended();
    }
  }

  /** The request as the handler takes it, and what ends its watching. */
  #exchangeOf(
    request: IncomingMessage,
    response: ServerResponse | null,
    socket: Duplex = request.socket,
  ): [Forwarded, () => void] {
    const gone = new AbortController();
    const leave = () => gone.abort();
    const watched = response ?? socket;
    watched.once('close', leave);
    const reply = {
      getHeaders: () => ({}),
      hijack: () => reply,
      raw: response,
      get sent() {
        return response?.headersSent === true;
      },
    };
    const { traceparent } = request.headers;
    const exchange = {
      request,
      reply: reply as unknown as Forwarded['reply'],
      method: request.method ?? 'GET',
      host: request.headers.host ?? '',
      traceparent: typeof traceparent === 'string' ? traceparent : '',
      signal: gone.signal,
      rule: { maxBodyBytes: MAX_BODY_BYTES, timeoutMs: this.#setup.timeoutMs },
      toBackend,
      toClient,
    };
    return [exchange, () => watched.off('close', leave)];
  }
}

const TEXT = {
  'content-type': 'application/json',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
};

/** Ends a request for an upgrade, and its connection, with a status; nothing behind its head is looked at. */
export function endUpgrade(socket: Duplex, status: number): void {
  const answer = `HTTP/1.1 ${status} \r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
  endConnection(socket, systemScheduler, answer);
}

function toBackend(name: string, values: string[]): string[] {
  if (name !== 'cookie') return values;
  return values
    .map((value) =>
      value
        .split(/; */)
        .filter((each) => !COOKIE.test(each))
        .join('; '),
    )
    .filter((value) => value !== '');
}

function toClient(name: string, values: string[]): string[] {
  if (name === 'service-worker-allowed') return [];
  if (name !== 'set-cookie') return values;
  return values.filter((value) => !COOKIE.test(value.trimStart()));
}
