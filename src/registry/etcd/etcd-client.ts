/**
 * A client of etcd: unary calls, keep-alives and one watch at a time, over several endpoints.
 *
 * Invariants: every call ends within `timeoutMs`; an endpoint that cannot be reached is followed by
 * the next one, each at most once per call; a token that etcd does not know any longer is asked for
 * again once per call; every failure is a RivuletError: REGISTRY_UNAVAILABLE where etcd cannot be
 * reached or has no leader. Deadlines go by the system's clock, because grpc-js counts them on it.
 * Cost: one HTTP/2 connection per endpoint in use.
 */
import * as grpc from '@grpc/grpc-js';
import { RivuletError } from '../../errors.ts';
import { systemScheduler as clock } from '../../util/time/system-scheduler.ts';
import { type EtcdMethod, type EtcdMethods, etcdCodec } from './etcd-messages.ts';

export interface EtcdClientOptions {
  /** host:port of each member. */
  readonly endpoints: readonly string[];
  readonly username?: string;
  readonly password?: string;
  /** Certificates (PEM): with them, or with an empty object, the connection is TLS. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
  /** How long one call may take. Default 5000. */
  readonly timeoutMs?: number;
}

/** A page of 200 records of at most 1 MiB each fits. */
const MAX_RESPONSE_BYTES = 256 * 1024 * 1024;

export class EtcdClient {
  readonly #options: EtcdClientOptions;
  readonly #timeoutMs: number;
  readonly #clients: (grpc.Client | null)[];
  #active = 0;
  #token: Promise<string> | null = null;
  #isClosed = false;

  constructor(options: EtcdClientOptions) {
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#clients = options.endpoints.map(() => null);
  }

  /** One request, one response. */
  async call<M extends EtcdMethod>(
    method: M,
    request: EtcdMethods[M][0],
  ): Promise<EtcdMethods[M][1]> {
    const end = clock.now() + this.#timeoutMs;
    let last: unknown = null;
    let renewed = false;
    for (let tries = 0; tries < this.#clients.length; ) {
      if (this.#isClosed) throw closed();
      const index = this.#active;
      // The last endpoint may use all the time that is left, an earlier one its share of it.
      const share = Math.max(1, (end - clock.now()) / (this.#clients.length - tries));
      try {
        return await this.#once(index, method, request, clock.now() + share);
      } catch (error) {
        last = error;
        if (!renewed && this.#options.username !== undefined && isUnknownToken(error)) {
          renewed = true;
          this.#token = null;
          continue;
        }
        if (!isUnreachable(error)) break;
        if (this.#active === index) this.#active = (index + 1) % this.#clients.length;
        tries++;
      }
    }
    throw this.#errorFrom(last);
  }

  /**
   * A watch of a range from a revision on. `onResponse` receives every response; the returned
   * function ends the watch; `onEnd` is called once, whatever ended it.
   */
  async watch(
    request: EtcdMethods['Watch/Watch'][0],
    onResponse: (response: EtcdMethods['Watch/Watch'][1]) => void,
    onEnd: (error: Error) => void,
  ): Promise<() => void> {
    if (this.#isClosed) throw closed();
    const metadata = await this.#metadata(this.#active, clock.now() + this.#timeoutMs).catch(
      (error) => {
        throw this.#errorFrom(error);
      },
    );
    // etcd ends the watch of a member that lost its leader only where a client asks for it.
    metadata.set('hasleader', 'true');
    if (this.#isClosed) throw closed();
    const { path, encode, decode } = etcdCodec('Watch/Watch');
    const stream = this.#client(this.#active).makeBidiStreamRequest(path, encode, decode, metadata);
    let isOver = false;
    const over = (error: unknown) => {
      if (isOver) return;
      isOver = true;
      onEnd(this.#errorFrom(error));
    };
    stream.on('data', (response: object) => onResponse(response as EtcdMethods['Watch/Watch'][1]));
    stream.on('error', over);
    stream.on('end', () => over(null));
    stream.write(request);
    return () => stream.cancel();
  }

  /** Renews a lease; resolves to the seconds that it has now: 0 for a lease that is gone. */
  async keepAlive(id: string): Promise<number> {
    const { TTL } = await this.call('Lease/LeaseKeepAlive', { ID: id });
    return Number(TTL);
  }

  /** The next endpoint takes over: the watch on this one was cut. */
  rotate(): void {
    this.#active = (this.#active + 1) % this.#clients.length;
  }

  close(): void {
    this.#isClosed = true;
    for (const client of this.#clients) client?.close();
  }

  async #once<M extends EtcdMethod>(
    index: number,
    method: M,
    request: EtcdMethods[M][0],
    deadline: number,
  ): Promise<EtcdMethods[M][1]> {
    const metadata = await this.#metadata(index, deadline);
    if (this.#isClosed) throw closed();
    return this.#send(index, method, request, deadline, metadata);
  }

  #send<M extends EtcdMethod>(
    index: number,
    method: M,
    request: EtcdMethods[M][0],
    deadline: number,
    metadata: grpc.Metadata,
  ): Promise<EtcdMethods[M][1]> {
    const { path, encode, decode } = etcdCodec(method);
    const client = this.#client(index);
    return new Promise((resolve, reject) => {
      if (method !== 'Lease/LeaseKeepAlive') {
        client.makeUnaryRequest(
          path,
          encode,
          decode,
          request,
          metadata,
          { deadline },
          (error, value) => (error === null ? resolve(value as EtcdMethods[M][1]) : reject(error)),
        );
        return;
      }
      // A keep-alive is a stream of requests and responses; one of each is enough.
      const stream = client.makeBidiStreamRequest(path, encode, decode, metadata, { deadline });
      stream.once('data', (value: object) => {
        resolve(value as EtcdMethods[M][1]);
        stream.cancel();
      });
      stream.on('error', reject);
      stream.on('end', () => reject(new Error('etcd ended the keep-alive without a response')));
      stream.write(request);
      stream.end();
    });
  }

  async #metadata(index: number, deadline: number): Promise<grpc.Metadata> {
    const metadata = new grpc.Metadata();
    const { username, password = '' } = this.#options;
    if (username === undefined) return metadata;
    this.#token ??= this.#authenticate(index, username, password, deadline);
    const asked = this.#token;
    try {
      const token = await asked;
      if (token !== '') metadata.set('token', token);
    } catch (error) {
      if (this.#token === asked) this.#token = null;
      throw error;
    }
    return metadata;
  }

  async #authenticate(
    index: number,
    name: string,
    password: string,
    deadline: number,
  ): Promise<string> {
    try {
      const request = { name, password };
      const none = new grpc.Metadata();
      return (await this.#send(index, 'Auth/Authenticate', request, deadline, none)).token;
    } catch (error) {
      // As etcd's own client does: a cluster without authentication needs no token.
      if (/authentication is not enabled/.test(textOf(error))) return '';
      throw error;
    }
  }

  #client(index: number): grpc.Client {
    let client = this.#clients[index] ?? null;
    if (client === null) {
      const { tls, endpoints } = this.#options;
      const credentials =
        tls === undefined
          ? grpc.credentials.createInsecure()
          : grpc.credentials.createSsl(tls.ca ?? null, tls.key ?? null, tls.cert ?? null);
      client = new grpc.Client(endpoints[index] as string, credentials, {
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.min_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2000,
        // etcd ends connections that ask more often than each 5 s.
        'grpc.keepalive_time_ms': 10_000,
        'grpc.keepalive_timeout_ms': 3000,
        'grpc.max_receive_message_length': MAX_RESPONSE_BYTES,
        // Registries of one process are separate: a closed one must not end another's connection.
        'grpc.use_local_subchannel_pool': 1,
      });
      this.#clients[index] = client;
    }
    return client;
  }

  #errorFrom(cause: unknown): RivuletError {
    if (cause instanceof RivuletError) return cause;
    const text = textOf(cause) || 'etcd ended the stream';
    const code = (cause as Partial<grpc.ServiceError> | null)?.code;
    if (code === grpc.status.PERMISSION_DENIED) {
      const advice = 'give the user a role that may read and write the prefix /micro/registry/';
      return new RivuletError('PERMISSION_DENIED', `etcd: ${text}; ${advice}`, { cause });
    }
    if (
      code === grpc.status.UNAUTHENTICATED ||
      /authentication failed|user name is empty|invalid auth/.test(text)
    ) {
      const advice = 'write etcd://user:password@host:port';
      return new RivuletError('AUTHENTICATION_FAILED', `etcd: ${text}; ${advice}`, { cause });
    }
    if (code === grpc.status.INVALID_ARGUMENT || code === grpc.status.NOT_FOUND) {
      const kind = code === grpc.status.NOT_FOUND ? 'NOT_FOUND' : 'INVALID_ARGUMENT';
      return new RivuletError(kind, `etcd: ${text}`, { cause });
    }
    const endpoints = this.#options.endpoints.join(', ');
    const message = `etcd at ${endpoints} gave no answer: ${text}`;
    return new RivuletError('REGISTRY_UNAVAILABLE', message, { cause });
  }
}

function isUnreachable(error: unknown): boolean {
  const code = (error as Partial<grpc.ServiceError> | null)?.code;
  return (
    code === grpc.status.UNAVAILABLE ||
    code === grpc.status.DEADLINE_EXCEEDED ||
    code === grpc.status.CANCELLED ||
    code === grpc.status.UNKNOWN ||
    code === grpc.status.INTERNAL
  );
}

/** The token ended with its server, or users were switched on after the last call. */
function isUnknownToken(error: unknown): boolean {
  return /invalid auth token|old revision|auth token is not provided|user name is empty/.test(
    textOf(error),
  );
}

function textOf(error: unknown): string {
  if (error === null || error === undefined) return '';
  const { details, message } = error as Partial<grpc.ServiceError>;
  return details || message || String(error);
}

function closed(): RivuletError {
  return new RivuletError('CLOSED', 'the registry is closed; open another one');
}
