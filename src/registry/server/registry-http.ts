/**
 * HTTP requests to the servers of a registry: JSON in and out, with a deadline and a bound on each reply.
 *
 * Invariants: a request ends within its `timeoutMs`; of several servers the next one is tried after a
 * failure of the connection or a reply of 5xx, each at most once per request; a failure is a
 * RivuletError that shows no credentials: REGISTRY_UNAVAILABLE where no server answers,
 * AUTHENTICATION_FAILED for 401, PERMISSION_DENIED for 403. Cost: kept connections, at most
 * `CONNECTIONS` to each server.
 */
import { Agent, request } from 'undici';
import { RivuletError } from '../../errors.ts';
import { firstAbort } from '../../util/time/on-abort.ts';

const CONNECTIONS = 16;
/** A longer reply is refused: it would fill the memory of the process. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024;

export interface RegistryHttpOptions {
  /** For error texts: `Consul`, `Eureka`. */
  readonly title: string;
  /** `http://host:port`, with the API's path where it has one; no trailing slash. */
  readonly servers: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  /** How long one request may take, in milliseconds. */
  readonly timeoutMs: number;
  /** Certificates (PEM) of TLS. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
}

export interface HttpReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

export interface HttpRequest {
  readonly body?: unknown;
  /** In place of the default; a query that waits for a change takes longer. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** A reply of 5xx is an answer, too: no other server is asked. */
  readonly takesErrors?: boolean;
}

export class RegistryHttp {
  readonly #options: RegistryHttpOptions;
  readonly #agent: Agent;
  #active = 0;
  #isClosed = false;

  constructor(options: RegistryHttpOptions) {
    this.#options = options;
    const { tls } = options;
    this.#agent = new Agent({
      connections: CONNECTIONS,
      pipelining: 1,
      ...(tls === undefined ? {} : { connect: { ...tls } }),
    });
  }

  /** Which of the servers answered last, or is asked next. */
  get active(): number {
    return this.#active;
  }

  /** The reply, whatever its status below 500, but for 401 and 403; with `takesErrors` beyond 499 too. */
  async send(method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, options: HttpRequest = {}) {
    const { servers, title } = this.#options;
    let last: unknown = null;
    for (let tries = 0; tries < servers.length; tries++) {
      if (this.#isClosed) {
        throw new RivuletError('CLOSED', 'the registry is closed; open another one');
      }
      const at = this.#active;
      try {
        const reply = await this.#once(servers[at] as string, method, path, options);
        if (reply.status < 500 || options.takesErrors) return this.#checked(reply);
        last = new Error(`status ${reply.status}: ${reply.text.slice(0, 200)}`);
      } catch (error) {
        if (options.signal?.aborted || this.#isClosed) throw error;
        if (error instanceof RivuletError) throw error;
        last = error;
      }
      if (this.#active === at) this.#active = (at + 1) % servers.length;
    }
    const reason = last instanceof Error ? last.message || last.name : String(last);
    const text = `${title} at ${servers.map(shown).join(', ')} cannot be reached: ${reason}`;
    throw new RivuletError('REGISTRY_UNAVAILABLE', text, { cause: last });
  }

  /** Ends the requests that run. */
  close(): void {
    this.#isClosed = true;
    void this.#agent.destroy().catch(() => {});
  }

  #checked(reply: HttpReply): HttpReply {
    const { title } = this.#options;
    const why = reply.text.slice(0, 200);
    if (reply.status === 401) {
      throw new RivuletError('AUTHENTICATION_FAILED', `${title} refuses the credentials: ${why}`);
    }
    if (reply.status === 403) {
      throw new RivuletError('PERMISSION_DENIED', `${title} refuses the request: ${why}`);
    }
    return reply;
  }

  async #once(
    server: string,
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: string,
    { body, timeoutMs = this.#options.timeoutMs, signal: given }: HttpRequest,
  ): Promise<HttpReply> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const { signal, end } = firstAbort(timeout, ...(given === undefined ? [] : [given]));
    try {
      return await this.#exchange(server, method, path, body, timeoutMs, signal);
    } finally {
      end();
    }
  }

  async #exchange(
    server: string,
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: string,
    body: unknown,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<HttpReply> {
    const reply = await request(`${server}${path}`, {
      method,
      dispatcher: this.#agent,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      signal,
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...this.#options.headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of reply.body) {
      size += chunk.length;
      if (size > MAX_REPLY_BYTES) {
        const text = `${this.#options.title} sent more than ${MAX_REPLY_BYTES} bytes to ${method} ${path}`;
        throw new RivuletError('LIMIT_EXCEEDED', text);
      }
      chunks.push(chunk as Buffer);
    }
    const text = Buffer.concat(chunks).toString();
    return { status: reply.statusCode, headers: reply.headers, text };
  }
}

/** What a reply holds as JSON. Where it is none, no registry answered. */
export function jsonOf(reply: HttpReply, what: string): unknown {
  try {
    return JSON.parse(reply.text);
  } catch (cause) {
    throw strangeReply(`${what} is not JSON`, cause);
  }
}

/** Another program has the registry's port: its reply is no empty list of services. */
export function strangeReply(what: string, cause?: unknown): RivuletError {
  const text = `${what}; is it the registry that listens there?`;
  return new RivuletError('REGISTRY_UNAVAILABLE', text, { cause });
}

/** An address without what may be a secret. */
function shown(server: string): string {
  return server.replace(/\/\/[^@/]*@/, '//');
}
