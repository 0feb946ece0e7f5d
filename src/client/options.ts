/**
 * The client's options: every wait, queue and retry has a limit here.
 */
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { RivuletError } from '../errors.ts';
import {
  checkOptions,
  count,
  given,
  invalid,
  LONGEST_TIMEOUT_MS,
  type OptionRow,
  type OptionTable,
  shown,
  timeout,
} from './option-table.ts';

export interface ReconnectOptions {
  /** First wait, in milliseconds. @default 50 */
  readonly minMs?: number;
  /** Longest wait, in milliseconds. @default 5000 */
  readonly maxMs?: number;
  /** Each wait is this times the one before. @default 2 */
  readonly factor?: number;
  /** Waits a random time between half and the whole of it, so that clients do not reconnect at the same moment. @default true */
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
  /** How long connecting, with its handshake, may take, in milliseconds. 0 = for ever. @default 10000 */
  readonly connectTimeoutMs?: number;
  /**
   * How long a reply may take, in milliseconds; then the connection is closed, because replies
   * come in order and the next ones would be late too. A blocking command may take longer by the
   * time for which it blocks. 0 = for ever. @default 30000
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
  checkOptions(table, options);
  const reconnect = {
    minMs: 50,
    maxMs: 5_000,
    factor: 2,
    jitter: true,
    ...given(options.reconnect || {}),
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
    connectTimeoutMs: limitOf(options.connectTimeoutMs ?? 10_000),
    timeoutMs: limitOf(options.timeoutMs ?? 30_000),
    maxInFlight: options.maxInFlight ?? 16_384,
    maxWaiting: options.maxWaiting ?? 262_144,
    maxBlocking: options.maxBlocking ?? 256,
  };
  if (reconnect.minMs > reconnect.maxMs) throw invalid('reconnect: minMs is above maxMs');
  return resolved;
}

/** A timer of more than 24.8 days would fire at once: such a time, and Infinity, mean no limit. */
function limitOf(ms: number): number {
  return ms > LONGEST_TIMEOUT_MS ? 0 : ms;
}

const anyTime: OptionRow = {
  kind: 'other',
  check(value, name) {
    if (typeof value !== 'number' || !(value >= 0)) {
      throw invalid(`${name} must be a number of ms, 0 or more, not ${shown(value)}`);
    }
  },
};

const table: OptionTable = {
  host: { kind: 'text' },
  port: count(1, 65_535),
  path: { kind: 'text' },
  username: { kind: 'text' },
  password: { kind: 'text' },
  db: count(0, 2 ** 31 - 1),
  protocol: {
    kind: 'other',
    check(value, name) {
      if (value !== 2 && value !== 3) throw invalid(`${name} is 2 or 3, not ${shown(value)}`);
    },
  },
  name: { kind: 'text' },
  tls: {
    kind: 'other',
    check(value, name) {
      if (typeof value !== 'boolean' && (typeof value !== 'object' || value === null)) {
        throw invalid(`${name} is true, false or Node's TLS options, not ${shown(value)}`);
      }
    },
  },
  reconnect: {
    kind: 'other',
    check(value, name) {
      if (value !== false) checkOptions(reconnectTable, value, `${name}.`);
    },
  },
  connectTimeoutMs: anyTime,
  timeoutMs: anyTime,
  maxInFlight: count(1, 2 ** 31 - 1),
  maxWaiting: count(0, 2 ** 31 - 1),
  maxBlocking: count(1, 2 ** 31 - 1),
};

const reconnectTable: OptionTable = {
  minMs: timeout(1),
  maxMs: timeout(1),
  factor: { kind: 'number', min: 1, max: 1000, integer: false, unit: '' },
  jitter: { kind: 'boolean' },
};

/** Options from `redis://user:password@host:port/db`, `rediss://` for TLS, `unix:///path`. */
export function optionsFromUrl(text: string): ClientOptions {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['redis:', 'rediss:', 'unix:'].includes(url.protocol)) {
    throw new RivuletError('UNKNOWN_SCHEME', 'not a redis://, rediss:// or unix:// address');
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
