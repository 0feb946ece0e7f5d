/**
 * The client's options: every wait, queue and retry has a limit here.
 */
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { RivuletError } from '../errors.ts';

export interface ReconnectOptions {
  /** First wait, in milliseconds. @default 50 */
  readonly minMs?: number;
  /** Longest wait, in milliseconds. @default 5000 */
  readonly maxMs?: number;
  /** Each wait is this times the one before. @default 2 */
  readonly factor?: number;
  /** Waits a random time between half and the whole of it, so that clients do not come in step. @default true */
  readonly jitter?: boolean;
}

export interface ClientOptions {
  /** @default '127.0.0.1' */
  readonly host?: string;
  /** @default 7488 */
  readonly port?: number;
  /** A Unix socket, in place of host and port. */
  readonly path?: string;
  readonly username?: string;
  readonly password?: string;
  /** Database number. @default 0 */
  readonly db?: number;
  /** RESP version. Subscriptions need 3. @default 3 */
  readonly protocol?: 2 | 3;
  /** CLIENT SETNAME. */
  readonly name?: string;
  /** true: the system's certificate authorities; or Node's TLS options. */
  readonly tls?: boolean | TlsOptions;
  /** false: a lost connection is the end of the client. */
  readonly reconnect?: ReconnectOptions | false;
  /** How long connecting, with its handshake, may take, in milliseconds. @default 10000 */
  readonly connectTimeoutMs?: number;
  /**
   * How long a reply may take, in milliseconds; then the connection is given up, because replies
   * come in order and the next ones would be late as well. A blocking command may take as much
   * longer as it asks to block. 0 = for ever. @default 30000
   */
  readonly timeoutMs?: number;
  /** Commands sent and not yet answered; further ones wait. @default 16384 */
  readonly maxInFlight?: number;
  /** Commands waiting to be sent; further ones are refused (LIMIT_EXCEEDED). @default 262144 */
  readonly maxWaiting?: number;
  /** Connections for blocking commands; further blocking commands are refused. @default 256 */
  readonly maxBlocking?: number;
}

export interface ResolvedOptions {
  readonly host: string;
  readonly port: number;
  readonly path: string | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly protocol: 2 | 3;
  readonly name: string | undefined;
  readonly tls: TlsOptions | undefined;
  readonly reconnect: Required<ReconnectOptions> | undefined;
  readonly connectTimeoutMs: number;
  readonly timeoutMs: number;
  readonly maxInFlight: number;
  readonly maxWaiting: number;
  readonly maxBlocking: number;
}

export function resolveOptions(options: ClientOptions): ResolvedOptions {
  const reconnect = {
    minMs: 50,
    maxMs: 5_000,
    factor: 2,
    jitter: true,
    ...(options.reconnect || {}),
  };
  const resolved: ResolvedOptions = {
    host: options.host ?? '127.0.0.1',
    port: options.port ?? 7488,
    path: options.path,
    username: options.username,
    password: options.password,
    db: options.db ?? 0,
    protocol: options.protocol ?? 3,
    name: options.name,
    tls: options.tls === true ? {} : options.tls || undefined,
    reconnect: options.reconnect === false ? undefined : reconnect,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    timeoutMs: options.timeoutMs ?? 30_000,
    maxInFlight: options.maxInFlight ?? 16_384,
    maxWaiting: options.maxWaiting ?? 262_144,
    maxBlocking: options.maxBlocking ?? 256,
  };
  check(Number.isInteger(resolved.port) && resolved.port > 0 && resolved.port < 65_536, 'port');
  check(Number.isInteger(resolved.db) && resolved.db >= 0, 'db');
  check(resolved.protocol === 2 || resolved.protocol === 3, 'protocol');
  check(resolved.connectTimeoutMs > 0, 'connectTimeoutMs');
  check(resolved.timeoutMs >= 0, 'timeoutMs');
  check(resolved.maxInFlight >= 1, 'maxInFlight');
  check(resolved.maxWaiting >= 0, 'maxWaiting');
  check(resolved.maxBlocking >= 1, 'maxBlocking');
  check(reconnect.minMs > 0 && reconnect.maxMs >= reconnect.minMs, 'reconnect.minMs, maxMs');
  check(reconnect.factor >= 1, 'reconnect.factor');
  return resolved;
}

function check(isGood: boolean, name: string): void {
  if (!isGood) throw new RivuletError('INVALID_ARGUMENT', `client option ${name} is out of range`);
}

/** Options from `redis://user:password@host:port/db`, `rediss://` for TLS, `unix:///path`. */
export function optionsFromUrl(text: string): ClientOptions {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['redis:', 'rediss:', 'unix:'].includes(url.protocol)) {
    throw new RivuletError(
      'UNKNOWN_SCHEME',
      `not a redis://, rediss:// or unix:// address: ${text}`,
    );
  }
  const credentials = {
    ...(url.username ? { username: decodeURIComponent(url.username) } : {}),
    ...(url.password ? { password: decodeURIComponent(url.password) } : {}),
  };
  if (url.protocol === 'unix:') return { ...credentials, path: url.pathname };
  return {
    ...credentials,
    ...(url.hostname ? { host: url.hostname.replace(/^\[|\]$/g, '') } : {}),
    ...(url.port ? { port: Number(url.port) } : {}),
    ...(url.pathname.length > 1 ? { db: Number(url.pathname.slice(1)) } : {}),
    ...(url.protocol === 'rediss:' ? { tls: true } : {}),
  };
}

/** The wait before reconnection number `attempt` (0 is the first), in milliseconds. `fraction` is random in [0, 1). */
export function reconnectDelay(
  options: Required<ReconnectOptions>,
  attempt: number,
  fraction: number,
): number {
  const whole = Math.min(options.maxMs, options.minMs * options.factor ** attempt);
  return options.jitter ? whole / 2 + (whole / 2) * fraction : whole;
}
