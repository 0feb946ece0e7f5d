/**
 * A console: pages and API over one source, on a port that the caller has.
 *
 *   request -> host check -> origin check -> account -> route -> source
 *
 * Invariants: nothing is read or done for a request before the three checks have passed; an error ends one
 * request and no other; after `close` every stream and timer has ended.
 * Cost: closed, one sample of 20 numbers a second.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Audit } from '../broker/audit.ts';
import { RivuletError } from '../errors.ts';
import { Actions } from './actions/actions.ts';
import type { Root } from './api-types.ts';
import { checkOrigin, HostCheck, isLoopback } from './http/guard.ts';
import { inTime } from './http/in-time.ts';
import { Live } from './http/live.ts';
import { hinted, RawReply, readJson, send, sendError, sendJson } from './http/reply.ts';
import { type Call, MethodError, Router } from './http/router.ts';
import { Sessions } from './http/sessions.ts';
import { StaticFiles } from './http/static-files.ts';
import type { Account, Users } from './http/users.ts';
import { SpanTable } from './journey/span-table.ts';
import type { ProtoTypes } from './messages/proto-types.ts';
import { actionRoutes } from './routes/actions.ts';
import { deadRoutes } from './routes/dead.ts';
import { entryRoutes } from './routes/entries.ts';
import { journeyRoutes } from './routes/journey.ts';
import { openApi } from './routes/openapi.ts';
import { Reading } from './routes/reading.ts';
import { serverRoutes } from './routes/server.ts';
import { dropNode, serviceRoutes } from './routes/services.ts';
import { topicRoutes } from './routes/topics.ts';
import { watchKinds } from './routes/watches.ts';
import { workflowRoutes } from './routes/workflows.ts';
import type { Services } from './services/services.ts';
import type { ConsoleSource, Viewer } from './sources/source.ts';
import { workflowActions } from './workflows/workflow-actions.ts';
import { WorkflowView } from './workflows/workflow-view.ts';

const SAMPLE_MS = 1000;

const API = '/console/api/v1/';

export interface ConsoleSetup {
  readonly source: ConsoleSource;
  readonly users: Users;
  readonly services?: Services | null;
  readonly version: string;
  /** Address that the port is bound to. */
  readonly host: string;
  readonly port: number;
  /** Further names by which it may be reached. */
  readonly consoleHost?: readonly string[];
  readonly isSecure?: boolean;
  readonly isReadOnly?: boolean;
  readonly traceUrl?: string | null;
  /** Paths that only admins see. */
  readonly mask?: readonly string[];
  readonly protos?: ProtoTypes | null;
  /** Called with a sentence that belongs into the log. */
  readonly report?: (text: string) => void;
}

export class Console {
  readonly #setup: ConsoleSetup;
  readonly #hosts: HostCheck;
  readonly #sessions: Sessions;
  readonly #files = new StaticFiles();
  readonly #router = new Router();
  readonly #live: Live;
  readonly #reading: Reading;
  readonly #actions: Actions;
  readonly #workflows: WorkflowView | null;
  readonly #spans: SpanTable | null;
  /** What is done beside the API is in the same audit. */
  readonly audit: Audit;
  readonly #timer: NodeJS.Timeout;

  constructor(setup: ConsoleSetup) {
    this.#setup = setup;
    const { source } = setup;
    const reading = new Reading(setup.mask ?? [], setup.protos ?? null);
    this.#reading = reading;
    this.audit = new Audit({
      append: (entry) => source.appendAudit(entry),
      uniqueName: randomUUID,
      report: setup.report ?? (() => {}),
    });
    const { audit } = this;
    const services = setup.services ?? null;
    const workflows =
      services === null || !source.capabilities.workflows
        ? null
        : new WorkflowView(() => services.broker());
    this.#workflows = workflows;
    const isReadOnly = setup.isReadOnly === true;
    this.#actions = new Actions({
      source,
      reading,
      isReadOnly,
      audit,
      more: [
        ...(services === null ? [] : [dropNode(services)]),
        ...(workflows === null ? [] : workflowActions(workflows)),
      ],
    });
    serviceRoutes(this.#router, { services, audit, isReadOnly });
    this.#hosts = new HostCheck(setup.host, setup.consoleHost);
    this.#sessions = new Sessions(setup.users, setup.port, setup.isSecure === true);
    this.#live = new Live(watchKinds(source, reading, this.#actions, services, workflows), () =>
      source.looked?.(),
    );
    this.#router.add('GET', '', ({ account, viewer }) => this.#root(account, viewer));
    this.#router.add('GET', 'live', (call) => this.#live.open(call));
    topicRoutes(this.#router, source);
    entryRoutes(this.#router, source, reading);
    deadRoutes(this.#router, source, reading);
    actionRoutes(this.#router, source, this.#actions);
    serverRoutes(this.#router, source);
    workflowRoutes(this.#router, workflows, reading);
    this.#spans = source.capabilities.spans ? new SpanTable(source) : null;
    journeyRoutes(this.#router, source, reading, workflows, this.#spans);
    this.#router.add('GET', 'openapi.json', () => openApi(this.#router, setup.version));
    this.#timer = setInterval(() => {
      source.sample?.();
      this.#actions.prune();
    }, SAMPLE_MS);
    this.#timer.unref();
  }

  /** Live streams that are open. */
  get streams(): number {
    return this.#live.size;
  }

  acceptsHost(host: string | undefined): boolean {
    return this.#hosts.accepts(host);
  }

  /** The account of a request beside the API, after the check of its origin. Rejects as the API does. */
  async admit(request: IncomingMessage): Promise<{ account: Account; viewer: Viewer }> {
    checkOrigin(request, this.#setup.isSecure === true);
    const address = request.socket.remoteAddress ?? '';
    const account = await this.#accountOf(request, address);
    return { account, viewer: account.viewer(address) };
  }

  /** True: the request was one of the console's, and is answered. */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const path = (request.url ?? '/').split('?', 1)[0]!;
    if (path !== '/' && path !== '/console' && !path.startsWith('/console/')) return false;
    response.on('error', () => {});
    this.#answer(request, response, path).catch((error: unknown) => {
      // Part of the answer has gone: what it would have been can only be broken off.
      if (response.headersSent) response.destroy();
      else sendError(response, error, headersOf(error));
    });
    return true;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#live.close();
    this.#spans?.close();
    await this.#actions.close();
    await this.#setup.source.close();
    this.#setup.users.close();
    await this.#workflows?.close();
    await this.#setup.services?.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    // Node reads the first of two; a server in front may have read the other.
    const { host = [] } = request.headersDistinct;
    if (host.length !== 1 || !this.#hosts.accepts(host[0])) {
      refuseHost(response);
      return;
    }
    if (path === '/' || path === '/console') {
      send(response, 302, '', { location: '/console/' });
      return;
    }
    if (!path.startsWith(API)) {
      this.#files.answer(request, response, path.slice('/console/'.length));
      return;
    }
    checkOrigin(request, this.#setup.isSecure === true);
    const address = request.socket.remoteAddress ?? '';
    const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET');
    const rest = path.slice(API.length);
    if (rest === 'session') return this.#session(request, response, method, address);
    const account = await this.#accountOf(request, address);
    const { handler, params } = this.#router.find(method, rest);
    const body = method === 'POST' ? await readJson(request) : undefined;
    const query = new URL(request.url ?? '/', 'http://console').searchParams;
    const viewer = account.viewer(address);
    const call: Call = { request, response, params, query, account, viewer, body };
    const value = await inTime(Promise.resolve(handler(call)));
    if (value instanceof RawReply) send(response, value.status, value.body, value.headers);
    else if (value !== undefined) sendJson(response, 200, value);
  }

  async #session(
    request: IncomingMessage,
    response: ServerResponse,
    method: string,
    address: string,
  ): Promise<void> {
    if (method === 'DELETE') {
      send(response, 204, '', { 'set-cookie': this.#sessions.end(request) });
      return;
    }
    if (method !== 'POST') throw new MethodError(['POST', 'DELETE']);
    const { users } = this.#setup;
    if (!users.canLogin) throw new RivuletError('UNSUPPORTED', 'this console has no users');
    const body = await readJson(request);
    const { user, password } = (body ?? {}) as Record<string, unknown>;
    if (typeof user !== 'string' || typeof password !== 'string') {
      throw new RivuletError('INVALID_ARGUMENT', 'a login is {"user": "...", "password": "..."}');
    }
    const [account, cookie] = await this.#sessions.open(user || 'default', password, address);
    sendJson(response, 200, this.#root(account, account.viewer(address)), { 'set-cookie': cookie });
  }

  async #accountOf(request: IncomingMessage, address: string): Promise<Account> {
    const { open } = this.#setup.users;
    const isLocal = isLoopback(address);
    if (open !== null && !isLocal && !this.#setup.users.asksElsewhere) {
      throw hinted(
        'PERMISSION_DENIED',
        'a console without a password answers on this machine only',
        "Set a password for the user 'default' (requirepass, or ACL SETUSER), or open it here.",
      );
    }
    const account = await this.#sessions.accountOf(request, address);
    if (account !== null) return account;
    if (open !== null && isLocal) return open;
    throw new RivuletError('AUTHENTICATION_FAILED', 'log in first');
  }

  #root(account: Account, viewer: Viewer): Root {
    const { source, users, services, version, isReadOnly, traceUrl } = this.#setup;
    return {
      version,
      user: account.name,
      login: users.canLogin,
      roles: account.roles,
      readOnly: isReadOnly === true,
      broker: { kind: source.kind, address: source.address },
      registry: services?.registryName ?? null,
      capabilities: source.capabilities,
      verbs: this.#actions.verbs(viewer, account.roles),
      masked: this.#reading.masksFor(account).paths,
      traceUrl: traceUrl ?? null,
      now: Date.now(),
    };
  }
}

function headersOf(error: unknown): Record<string, string> {
  if (error instanceof MethodError) return { allow: error.allow };
  const isLogin = error instanceof RivuletError && error.code === 'AUTHENTICATION_FAILED';
  // No `WWW-Authenticate: Basic`: the browser's own window would come before the page's form.
  return isLogin ? { 'www-authenticate': 'Bearer realm="rivulet"' } : {};
}

export function refuseHost(response: ServerResponse): void {
  sendJson(response, 421, {
    code: 'PERMISSION_DENIED',
    message: 'this console is not known by that name',
    hint: 'Open it as localhost or 127.0.0.1, or allow the name with --console-host.',
  });
}
