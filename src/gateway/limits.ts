/**
 * The limits of a gateway and of a proxy: what each bounds, its default, what it may be.
 *
 * One table makes the checks of the options, the flags of the command line, and (by a test) what
 * docs/api.md says. Names that end in `Ms` are milliseconds; their flags take durations. Invariant: a limit
 * that is not given has its default. Cost: one object at the start.
 */
import { count, type NumberRow, timeout } from '../client/option-table.ts';

export interface Limit {
  readonly row: NumberRow;
  readonly default: number;
  /** For the help of its flag. */
  readonly says: string;
}

const MOST = 2 ** 31 - 1;

function limit(row: NumberRow, byDefault: number, says: string): Limit {
  return { row, default: byDefault, says };
}

export const GATEWAY_LIMITS = {
  maxBodyBytes: limit(count(0, MOST, 'bytes'), 104_857_600, 'bytes of the body of a request'),
  timeoutMs: limit(timeout(1), 30_000, 'until the answer of a call must be there'),
  bodyTimeoutMs: limit(timeout(1), 30_000, 'until the body of a request must have come whole'),
  headersTimeoutMs: limit(timeout(1), 10_000, 'until the headers must have come whole'),
  maxHeaderBytes: limit(count(1024, 2 ** 24, 'bytes'), 16_384, 'bytes of target and headers'),
  maxFields: limit(count(1, MOST), 1000, 'fields of a query or form'),
  keepAliveMs: limit(timeout(1), 72_000, 'how long an idle connection of a client is kept'),
  maxConnections: limit(count(1, MOST), 20_000, 'open connections; further ones are closed'),
  maxRequests: limit(count(1, MOST), 10_000, 'requests at once; further ones are 503'),
  stalledMs: limit(timeout(1), 60_000, 'how long a client may read nothing of what waits for it'),
  drainTimeoutMs: limit(timeout(0), 30_000, 'how long a stop waits for requests'),
  maxSocketMessageBytes: limit(count(1, MOST, 'bytes'), 16_777_216, 'bytes of a message'),
  pingMs: limit(timeout(1), 30_000, 'between two pings of a WebSocket'),
  maxQueuedRequests: limit(
    count(1, 1_000_000),
    16,
    'messages of a socket that wait for the service',
  ),
  heartbeatMs: limit(timeout(1), 15_000, 'between two comments on an idle stream of events'),
  maxSubscriptions: limit(count(0, MOST), 20_000, 'subscriptions of clients to topics'),
  maxRecentMessages: limit(count(0, 1_000_000), 1000, 'messages kept for clients that come back'),
  maxQueuedMessages: limit(
    count(1, 1_000_000),
    1000,
    'messages that wait for a client that does not read',
  ),
  maxRecentBytes: limit(
    count(0, MOST, 'bytes'),
    16_777_216,
    'bytes of such messages, for each topic; the newest is kept in any case',
  ),
  maxQueuedBytes: limit(
    count(1, MOST, 'bytes'),
    67_108_864,
    'bytes of messages that wait for such a client; one is sent in any case',
  ),
  maxPastReaders: limit(count(0, 1_000_000), 1000, 'subscriptions of the broker for the past'),
  slowReaderMs: limit(timeout(1), 5000, 'how long a client may hold up others in the past'),
  resumeWaitMs: limit(timeout(1), 5000, 'until a position without any message is called a gap'),
  maxIdempotencyKeys: limit(count(0, 10_000_000), 10_000, 'keys whose bodies are remembered'),
  repeatLookupMs: limit(timeout(1), 2000, 'how long the event of a repeated key is read'),
  maxRateClients: limit(count(1, 10_000_000), 100_000, 'clients whose rates are remembered'),
  retries: limit(count(0, 100), 1, 'further nodes for a call that provably ran nothing'),
  dialTimeoutMs: limit(timeout(1), 5000, 'until a node must have accepted a connection'),
  maxBackendSockets: limit(count(1, 65_535), 256, 'connections to one HTTP server behind'),
  backendIdleMs: limit(timeout(1), 1000, 'how long an idle connection to such a server is kept'),
  refreshMs: limit(timeout(1), 600_000, 'between two readings of the whole registry'),
} as const satisfies Readonly<Record<string, Limit>>;

export const PROXY_LIMITS = {
  timeoutMs: limit(timeout(1), 30_000, 'for a call whose client gave no deadline'),
  maxConcurrentCalls: limit(count(1, MOST), 10_000, 'calls at once; more are refused'),
  retries: limit(count(0, 100), 1, 'further nodes for a call that provably ran nothing'),
  maxHops: limit(count(1, 1000), 8, 'proxies that a call may pass'),
  dialTimeoutMs: limit(timeout(1), 5000, 'until a node must have accepted a connection'),
  maxChannels: limit(count(1, 1_000_000), 1000, 'connections to nodes that are kept open'),
  refreshMs: limit(timeout(1), 600_000, 'between two readings of the whole registry'),
  maxMessageBytes: limit(count(1, MOST, 'bytes'), 16_777_216, 'bytes of a message over HTTP, gRPC'),
  maxRateClients: limit(count(1, 10_000_000), 100_000, 'callers whose wrong keys are counted'),
  drainTimeoutMs: limit(timeout(0), 30_000, 'how long a stop waits for calls'),
} as const satisfies Readonly<Record<string, Limit>>;

export type GatewayLimits = { readonly [name in keyof typeof GATEWAY_LIMITS]: number };
export type ProxyLimits = { readonly [name in keyof typeof PROXY_LIMITS]: number };

/** Rows for the table of options. */
export function rowsOf<T extends Readonly<Record<string, Limit>>>(
  limits: T,
): { readonly [name in keyof T]: NumberRow } {
  return Object.fromEntries(
    Object.entries(limits).map(([name, { row }]) => [name, row]),
  ) as unknown as { readonly [name in keyof T]: NumberRow };
}

/** Every limit, given or default. */
export function resolveLimits<T extends Readonly<Record<string, Limit>>>(
  limits: T,
  given: { readonly [name in keyof T]?: number | undefined },
): { readonly [name in keyof T]: number } {
  const resolved: Record<string, number> = {};
  for (const name of Object.keys(limits)) {
    resolved[name] = given[name] ?? (limits[name] as Limit).default;
  }
  return resolved as { readonly [name in keyof T]: number };
}
