/**
 * go-micro's addresses of `micro web`, beside the console: `/`, `/services`, `/service/NAME`, `/client`,
 * `/rpc`, `/favicon.ico`.
 *
 * Programs that ask for JSON get go-micro's JSON; a person is led to the page of the console that shows the
 * same. Invariants: host, origin and account are checked as for the console's API; a call needs the role
 * `operate` and is in the audit; a call to an address of the caller's choice needs the role `admin`. Cost:
 * that of the registry or the call.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Audit } from '../../broker/audit.ts';
import { RivuletError } from '../../errors.ts';
import { rpcEnvelope } from '../../gateway/handlers/rpc-handler.ts';
import { httpFailure } from '../../gateway/http-error.ts';
import { isEndpoint } from '../../rpc/contract.ts';
import { apiError, readBytes, send, sendError, sendJson } from '../http/reply.ts';
import { MethodError } from '../http/router.ts';
import type { Account } from '../http/users.ts';
import { mayCall, QUIET } from '../routes/services.ts';
import type { Services } from '../services/services.ts';
import type { Viewer } from '../sources/source.ts';
import { isAppName } from './app-names.ts';
import { appsPage } from './apps-page.ts';
import type { WebApps } from './web-apps.ts';

const LONGEST_MS = 25_000;
const DEFAULT_MS = 5000;

export interface Admitted {
  readonly account: Account;
  readonly viewer: Viewer;
}

export interface MicroPagesSetup {
  readonly acceptsHost: (host: string | undefined) => boolean;
  /** The account of a request, after the check of its origin. Rejects as the API does. */
  readonly admit: (request: IncomingMessage) => Promise<Admitted>;
  readonly refuseHost: (response: ServerResponse) => void;
  readonly services: Services;
  readonly audit: Audit;
  readonly isReadOnly: boolean;
  readonly apps: WebApps | null;
  /** The beginning of the names of web apps. */
  readonly namespace: string;
}

export class MicroPages {
  readonly #setup: MicroPagesSetup;

  constructor(setup: MicroPagesSetup) {
    this.#setup = setup;
  }

  /** True: the request was for one of these addresses, and is answered. */
  answer(request: IncomingMessage, response: ServerResponse): boolean {
    const path = (request.url ?? '/').split('?', 1)[0] as string;
    const page = this.#pageOf(path);
    if (page === null) return false;
    response.on('error', () => {});
    if (!this.#setup.acceptsHost(request.headers.host)) {
      this.#setup.refuseHost(response);
      return true;
    }
    page(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else if (error instanceof MethodError) {
        sendJson(response, 405, apiError(error), { allow: error.allow });
      } else sendError(response, error);
    });
    return true;
  }

  #pageOf(
    path: string,
  ): ((request: IncomingMessage, response: ServerResponse) => Promise<void>) | null {
    if (path === '/' && this.#setup.apps !== null) return (...each) => this.#home(...each);
    if (path === '/services') return (...each) => this.#services(...each);
    if (path === '/client') return (request, response) => lead(request, response, 'services');
    if (path === '/rpc') return (...each) => this.#rpc(...each);
    if (path === '/favicon.ico') return async (_request, response) => send(response, 204, '', {});
    const [, part] = /^\/service\/([^/]+)$/.exec(path) ?? [];
    return part === undefined ? null : (...each) => this.#service(...each, part);
  }

  /** Web apps as links. */
  async #home(request: IncomingMessage, response: ServerResponse): Promise<void> {
    readsOnly(request);
    const { services, apps, namespace } = this.#setup;
    const prefix = `${namespace}.`;
    try {
      await this.#reader(request);
    } catch {
      // The console asks for the login, and says what is missing.
      return lead(request, response, '');
    }
    const names = (await services.list())
      .map(({ name }) => (name.startsWith(prefix) ? name.slice(prefix.length) : ''))
      .filter(isAppName);
    const host = request.headers.host ?? '';
    const links = names.map((name) => ({
      name,
      url: apps?.mode === 'subdomain' ? `http://${name.toLowerCase()}.${host}/` : `/${name}/`,
    }));
    send(response, 200, appsPage(links), { 'content-type': 'text/html; charset=utf-8' });
  }

  async #services(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!wantsJson(request)) return lead(request, response, 'services');
    readsOnly(request);
    await this.#reader(request);
    sendJson(response, 200, { services: await this.#setup.services.all() });
  }

  async #service(request: IncomingMessage, response: ServerResponse, part: string): Promise<void> {
    if (!wantsJson(request)) return lead(request, response, `services/${part}`);
    readsOnly(request);
    await this.#reader(request);
    sendJson(response, 200, { services: await this.#setup.services.records(decoded(part)) });
  }

  async #reader(request: IncomingMessage): Promise<Admitted> {
    const admitted = await this.#setup.admit(request);
    if (admitted.viewer.seesAll) return admitted;
    const text = 'services are shown to users who may read every topic';
    throw new RivuletError('PERMISSION_DENIED', text);
  }

  async #rpc(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'POST') throw new MethodError(['POST']);
    const { services, audit, isReadOnly } = this.#setup;
    const { account, viewer } = await this.#reader(request);
    const call = rpcEnvelope('json', await readBytes(request));
    const { service, endpoint, address } = call;
    if (!isEndpoint(endpoint) || (address !== undefined && typeof address !== 'string')) {
      throw new RivuletError('INVALID_ARGUMENT', 'endpoint is Struct.Method, address host:port');
    }
    await mayCall({ services, account, isReadOnly, service, endpoint, address });
    const options = {
      timeoutMs: timeoutOf(request),
      ...(address === undefined ? {} : { address }),
    };
    const work = () => services.callBytes(service, endpoint, Buffer.from(call.request), options);
    const action = {
      user: viewer.user,
      address: viewer.address,
      verb: 'service.call',
      target: `${service} ${endpoint}`,
      count: 1,
      reason: '',
    };
    try {
      const reply = await (QUIET.has(endpoint) ? work() : audit.record(action, work));
      const body = reply.length === 0 ? '{}' : reply;
      send(response, 200, body, { 'content-type': 'application/json' });
    } catch (error) {
      const { status, body, headers } = httpFailure(error);
      send(response, status, body, { ...headers, 'content-type': 'application/json' });
    }
  }
}

/** A part of a path; as it is where its escapes are none. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** go-micro's header, in seconds. */
function timeoutOf({ headers }: IncomingMessage): number {
  const seconds = Number(headers.timeout);
  return seconds > 0 ? Math.min(seconds * 1000, LONGEST_MS) : DEFAULT_MS;
}

/** go-micro looks at the content type of the request, other programs say what they accept. */
function wantsJson({ headers }: IncomingMessage): boolean {
  return [headers['content-type'], headers.accept].some((each) =>
    (each ?? '').startsWith('application/json'),
  );
}

async function lead(request: IncomingMessage, response: ServerResponse, to: string): Promise<void> {
  readsOnly(request);
  send(response, 302, '', { location: `/console/${to}` });
}

function readsOnly({ method = 'GET' }: IncomingMessage): void {
  if (method !== 'GET' && method !== 'HEAD') throw new MethodError(['GET', 'HEAD']);
}
