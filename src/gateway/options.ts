/**
 * The options of a gateway, their defaults and checks.
 *
 * Invariant: an option that cannot be obeyed stops the start with INVALID_ARGUMENT.
 */
import type { Broker } from '../broker/broker.ts';
import { compilePattern } from '../broker/topics/topics.ts';
import { checkOptions, count, invalid, type OptionTable } from '../client/option-table.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../rpc/context.ts';
import type { Contract } from '../rpc/contract.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { type AnyWorkflow, isWorkflow } from '../workflow/workflow.ts';
import type { AuthenticationOptions } from './access/authentication.ts';
import { checkRateLimit, checkTexts, type RuleOptions } from './access/rules.ts';
import { GATEWAY_LIMITS, rowsOf } from './limits.ts';
import { type EventNames, RESOLVERS, type ResolverName } from './routing/names.ts';

export type GatewayHandler = 'meta' | 'rpc' | 'api' | 'http' | 'proxy' | 'web' | 'event';

const HANDLERS: readonly GatewayHandler[] = ['meta', 'rpc', 'api', 'http', 'proxy', 'web', 'event'];

export interface GatewayOptions {
  /** host:port, `:port` for this machine's loopback. Default `127.0.0.1:8080`. */
  readonly address?: string;
  /** Default go-micro's `go.micro`; `domain` takes the subdomain of the request. */
  readonly namespace?: string;
  /** Follows the namespace. Default `api`. */
  readonly type?: string;
  /** Default `meta`: endpoint metadata decides, else rpc. */
  readonly handler?: GatewayHandler;
  /** Default `micro`. */
  readonly resolver?: ResolverName;
  /** Serve `/rpc`. Default false. */
  readonly enableRpc?: boolean;
  /** Origins that browsers may call from; `*` is any, as go-micro's --enable_cors. Default none. */
  readonly cors?: readonly string[];
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCa?: string };
  readonly broker?: string | Broker;
  readonly registry?: string | Registry;
  readonly transport?: string;
  readonly selector?: string;
  /** Topics that clients may read over SSE and WebSocket: `news.>`. Default none. */
  readonly topics?: readonly string[];
  /**
   * Workflows that clients may start, signal and look at, at /_/workflows/NAME: definitions, names or
   * patterns. The input of a definition is validated before it is stored. Default none.
   */
  readonly workflows?: readonly (string | AnyWorkflow)[];
  readonly events?: {
    readonly names?: EventNames;
    readonly codec?: 'json' | 'protobuf';
    /** Default 1000. */
    readonly maxBatch?: number;
  };
  readonly auth?: AuthenticationOptions;
  /** `required`: every path needs a key or token, unless a rule says otherwise. Default none. */
  readonly authDefault?: 'none' | 'required';
  readonly rules?: readonly RuleOptions[];
  readonly rateLimit?: { readonly perSecond: number; readonly burst?: number };
  /** Default 104 857 600, go-micro's 100 MB. */
  readonly maxBodyBytes?: number;
  /** Until the answer of a call must be there. Default 30 000. */
  readonly timeoutMs?: number;
  /** Until a request's body must have come whole. Default 30 000. */
  readonly bodyTimeoutMs?: number;
  /** Until a request's headers must have come whole. Default 10 000. */
  readonly headersTimeoutMs?: number;
  /** Of a request's target and headers together. Default 16 384. */
  readonly maxHeaderBytes?: number;
  /** Fields of a query or a form. Default 1000. */
  readonly maxFields?: number;
  /** How long an idle connection of a client is kept. Default 72 000. */
  readonly keepAliveMs?: number;
  /** Of one message of a WebSocket; the rule of its path may ask for less. Default 16 777 216. */
  readonly maxSocketMessageBytes?: number;
  /** Between two pings of a WebSocket; one that answers none is disconnected. Default 30 000. */
  readonly pingMs?: number;
  /** Open connections; further ones are closed. Default 20 000. */
  readonly maxConnections?: number;
  /** Requests at once, streams of topics aside; further ones are answered with 503. Default 10 000. */
  readonly maxRequests?: number;
  /** How long a client may read nothing of what waits for it. Default 60 000. */
  readonly stalledMs?: number;
  /** Messages of a WebSocket that wait for the service of its call. Default 16. */
  readonly maxQueuedRequests?: number;
  /** Subscriptions of clients to topics. Default 20 000. */
  readonly maxSubscriptions?: number;
  /** Messages of a topic that are kept for clients that come back. Default 1000. */
  readonly maxRecentMessages?: number;
  /** Messages that wait for a client that does not read, before it is disconnected. Default 1000. */
  readonly maxQueuedMessages?: number;
  /** Bytes of such messages, for each topic; the newest is kept in any case. Default 16 777 216. */
  readonly maxRecentBytes?: number;
  /** Bytes of messages that wait for such a client; one is sent in any case. Default 67 108 864. */
  readonly maxQueuedBytes?: number;
  /** Subscriptions of the broker for ids from which clients resume. Default 1000. */
  readonly maxPastReaders?: number;
  /** How long a client may hold up others that read the past of a topic. Default 5000. */
  readonly slowReaderMs?: number;
  /** Until a position behind which no message comes is reported as a gap. Default 5000. */
  readonly resumeWaitMs?: number;
  /** Between two comments on an idle stream of server-sent events. Default 15 000. */
  readonly heartbeatMs?: number;
  /** Connections to one HTTP server behind the gateway. Default 256. */
  readonly maxBackendSockets?: number;
  /** How long an idle connection to such a server is kept. Default 1000. */
  readonly backendIdleMs?: number;
  /** Idempotency keys whose bodies are remembered. Default 10 000. */
  readonly maxIdempotencyKeys?: number;
  /** How long the stored event of a repeated key is read, to compare its body. Default 2000. */
  readonly repeatLookupMs?: number;
  /** Clients whose rates are remembered. Default 100 000. */
  readonly maxRateClients?: number;
  /** Between two readings of the whole registry, beside its watch. Default 600 000. */
  readonly refreshMs?: number;
  /** Until a node of a service must have accepted a connection. Default 5000. */
  readonly dialTimeoutMs?: number;
  /** Further nodes that a call is sent to where the first provably ran nothing. Default 1. */
  readonly retries?: number;
  /** Requests with a wrong key or token of one address. Default 20 a second, 200 at once. */
  readonly wrongKeyLimit?: { readonly perSecond: number; readonly burst?: number };
  /** How long `stop` waits for requests. Default 30 000. */
  readonly drainTimeoutMs?: number;
  /** Contracts whose schemas the documents and tools show. */
  readonly contracts?: readonly Contract[];
  /** Trust X-Forwarded-For of a proxy in front. Default false. */
  readonly trustProxy?: boolean;
  /** One line for each request. Default false. */
  readonly accessLog?: boolean;
  /** Serve tools for agents at /_/mcp. Default false. */
  readonly mcp?: boolean;
  readonly log?: Log;
  readonly scheduler?: Scheduler;
}

const text = { kind: 'text' } as const;
const any = { kind: 'other', check() {} } as const;
const yesNo = { kind: 'boolean' } as const;
const oneOf = (known: readonly string[]) => ({
  kind: 'other' as const,
  check(value: unknown, name: string) {
    if (!known.includes(value as string)) {
      throw invalid(`${name} is one of ${known.join(', ')}, not ${JSON.stringify(value)}`);
    }
  },
});

const texts = { kind: 'other', check: checkTexts } as const;
const list = {
  kind: 'other',
  check(value: unknown, name: string) {
    if (!Array.isArray(value)) throw invalid(`${name} must be a list`);
  },
} as const;

const TABLE: OptionTable = {
  address: text,
  namespace: text,
  type: text,
  handler: oneOf(HANDLERS),
  resolver: oneOf(RESOLVERS),
  enableRpc: yesNo,
  cors: texts,
  tls: any,
  broker: any,
  registry: any,
  transport: any,
  selector: any,
  topics: texts,
  workflows: list,
  events: any,
  auth: any,
  authDefault: oneOf(['none', 'required']),
  rules: list,
  rateLimit: { kind: 'other', check: (value) => checkRateLimit(value as never) },
  ...rowsOf(GATEWAY_LIMITS),
  wrongKeyLimit: { kind: 'other', check: (value) => checkRateLimit(value as never) },
  contracts: list,
  trustProxy: yesNo,
  accessLog: yesNo,
  mcp: yesNo,
  log: any,
  scheduler: any,
};

const EVENTS: OptionTable = {
  names: oneOf(['code', 'documented']),
  codec: oneOf(['json', 'protobuf']),
  maxBatch: count(1, 100_000),
};

export function checkGatewayOptions(options: GatewayOptions): void {
  checkOptions(TABLE, options);
  checkOptions(EVENTS, options.events ?? {}, 'events.');
  const { namespace = 'go.micro', type = 'api', workflows = [] } = options;
  for (const each of workflows) {
    if (isWorkflow(each)) continue;
    if (typeof each !== 'string') throw invalid('workflows is a list of definitions and names');
    compilePattern(each);
  }
  if (!/^[\w-]+(\.[\w-]+)*$/.test(namespace) || !/^([\w-]+)?$/.test(type)) {
    throw invalid('namespace is words with dots between, type one word');
  }
}

/** `:8080` is this machine only: a gateway that the network may reach names its address. */
export function listenAddress(address: string): { host: string; port: number } {
  const [, host = '', port = ''] = /^(.*):(\d{1,5})$/.exec(address) ?? [];
  const name = host.replace(/^\[|\]$/g, '');
  if (port === '' || Number(port) > 65_535 || /[\s/]/.test(name)) {
    throw invalid(`address ${JSON.stringify(address)} is no host:port`);
  }
  return { host: name === '' ? '127.0.0.1' : name, port: Number(port) };
}
