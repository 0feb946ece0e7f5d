/** The options of a proxy, their defaults and checks. */
import type { Broker } from '../broker/broker.ts';
import { checkOptions, invalid, type OptionTable } from '../client/option-table.ts';
import type { AuthenticationOptions } from '../gateway/access/authentication.ts';
import { checkRateLimit, checkTexts } from '../gateway/access/rules.ts';
import { PROXY_LIMITS, rowsOf } from '../gateway/limits.ts';
import { isAddress, isServiceName } from '../registry/record.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../rpc/context.ts';
import type { Scheduler } from '../util/time/scheduler.ts';

export type ProxyProtocol = 'auto' | 'mucp' | 'grpc' | 'http';

export interface ProxyOptions {
  /** host:port, `:port` for this machine's loopback. Default `127.0.0.1:8081`. */
  readonly address?: string;
  /** Which protocols are accepted. Default `auto`: all, recognised by their first bytes. */
  readonly protocol?: ProxyProtocol;
  /** Where every call goes: `host:port` of a node or of another proxy, or the name of one service. */
  readonly endpoint?: string;
  /** Services that may be called: `go.micro.srv.*`. Default all. */
  readonly allow?: readonly string[];
  readonly broker?: string | Broker;
  readonly registry?: string | Registry;
  readonly transport?: string;
  readonly selector?: string;
  readonly auth?: AuthenticationOptions;
  /**
   * `Micro-*` and `Rivulet-*` metadata that callers may send, for callers that are services of your own:
   * `micro-account`, `micro-from-service`. Default none: an account is that of a key or token.
   */
  readonly trustedMetadata?: readonly string[];
  /** For a call whose client gave no deadline. Default 30 000. */
  readonly timeoutMs?: number;
  /** Calls at once; more are refused. Default 10 000. */
  readonly maxConcurrentCalls?: number;
  /** Further nodes that a call with one reply is sent to where the first provably ran nothing. Default 1. */
  readonly retries?: number;
  /** Proxies that a call may pass. Default 8. */
  readonly maxHops?: number;
  /** Until a node must have accepted a connection. Default 5000. */
  readonly dialTimeoutMs?: number;
  /** Connections to nodes that are kept open. Default 1000. */
  readonly maxChannels?: number;
  /** Between two readings of the whole registry, beside its watch. Default 600 000. */
  readonly refreshMs?: number;
  /** Largest message that is taken from a caller over gRPC or HTTP. Default 16 MiB. */
  readonly maxMessageBytes?: number;
  /** Calls with a wrong or missing credential of one address. Default 20 a second, 200 at once. */
  readonly wrongKeyLimit?: { readonly perSecond: number; readonly burst?: number };
  /** Callers whose wrong keys are counted. Default 100 000. */
  readonly maxRateClients?: number;
  /** How long `stop` waits for calls. Default 30 000. */
  readonly drainTimeoutMs?: number;
  readonly log?: Log;
  readonly scheduler?: Scheduler;
}

const any = { kind: 'other', check() {} } as const;
const PROTOCOLS = ['auto', 'mucp', 'grpc', 'http'];

const TABLE: OptionTable = {
  address: { kind: 'text' },
  protocol: {
    kind: 'other',
    check(value, name) {
      if (!PROTOCOLS.includes(value as string)) throw invalid(`${name} is ${PROTOCOLS.join(', ')}`);
    },
  },
  endpoint: { kind: 'text' },
  allow: any,
  broker: any,
  registry: any,
  transport: any,
  selector: any,
  auth: any,
  trustedMetadata: { kind: 'other', check: checkTexts },
  ...rowsOf(PROXY_LIMITS),
  wrongKeyLimit: { kind: 'other', check: (value) => checkRateLimit(value as never) },
  log: any,
  scheduler: any,
};

/** Where every call goes; null where each says it by its service. */
export type Destination = { readonly address: string } | { readonly service: string } | null;

export function checkProxyOptions(options: ProxyOptions): Destination {
  checkOptions(TABLE, options);
  for (const pattern of options.allow ?? []) {
    if (typeof pattern !== 'string' || !/^[\w.-]+\*?$|^\*$/.test(pattern)) {
      throw invalid(
        `allow ${JSON.stringify(pattern)}: write a name, or the beginning of names with *`,
      );
    }
  }
  const { endpoint } = options;
  if (endpoint === undefined) return null;
  const place = endpoint.replace(/^(grpc|http|mucp):\/\//, '');
  if (isAddress(place)) return { address: place };
  if (isServiceName(place) && !place.includes(':')) return { service: place };
  throw invalid(
    `endpoint ${JSON.stringify(endpoint)} is neither host:port nor the name of a service`,
  );
}

/** The node metadata by which calls reach an address: what the scheme of the endpoint says. */
export function schemeOf(endpoint: string | undefined): 'grpc' | 'http' | 'mucp' {
  const scheme = /^(grpc|http|mucp):\/\//.exec(endpoint ?? '')?.[1];
  return (scheme as 'grpc' | 'http' | undefined) ?? 'mucp';
}

/** Whether a name passes; a pattern with `*` is the beginning of names. */
export function isAllowed(service: string, allow: readonly string[] | undefined): boolean {
  if (allow === undefined) return true;
  return allow.some((pattern) =>
    pattern.endsWith('*') ? service.startsWith(pattern.slice(0, -1)) : service === pattern,
  );
}
