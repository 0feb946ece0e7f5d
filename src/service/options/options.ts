/**
 * The options of a service: what each may be, its default, and its names outside of code.
 *
 * Holds: one row per option. Invariant: an option that reaches a service has passed its row, whether it
 * came from code, from the environment or from a flag; docs/services.md shows these rows, and a test
 * compares them. Cost: none after the start.
 */
import type { Broker } from '../../broker/broker.ts';
import {
  checkOptions,
  count,
  invalid,
  type OptionRow,
  type OptionTable,
  shown,
  timeout,
} from '../../client/option-table.ts';
import type { Codec } from '../../codec/codec.ts';
import { isServiceName } from '../../registry/record.ts';
import type { Registry } from '../../registry/registry.ts';
import type { Log } from '../../rpc/context.ts';
import { type PolicyOptions, policyTables } from '../../rpc/policies/policies.ts';
import type { ClientWrapper, ServerWrapper, SubscriberWrapper } from '../../rpc/wrappers.ts';
import type { Selector, Strategy } from '../../selector/selector.ts';
import { STRATEGY_NAMES } from '../../selector/strategies.ts';
import { checkTls, type TlsOptions } from '../../transport/tls.ts';
import type { Transport } from '../../transport/transport.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { LOG_LEVELS } from '../observation/stderr-log.ts';
import { text, words } from './setting-texts.ts';
import { readTraceShare, type TraceOptions, traceTable } from './trace-options.ts';

/** The nouns that a client needs, each a URL, a name or an instance. What was opened by URL or name is closed by its owner. */
export interface NounOptions {
  /** A URL, or a broker that is open and stays open. */
  readonly broker?: string | Broker;
  /**
   * `mdns`, `etcd://host:2379`, `broker`, `memory`, `static:...`, an instance, or several. Default: the
   * broker's own registry where there is a broker, else `mdns`.
   */
  readonly registry?: string | Registry | readonly (string | Registry)[];
  /** `random` (default), `round-robin`, `least-loaded`, `consistent-hash`, a Strategy or a Selector. */
  readonly selector?: string | Strategy | Selector;
  /**
   * How calls travel: `local` within this process, `tcp` from node to node, `broker` over the broker, and
   * `http` and `grpc` with go-micro's services and others, `ws` where only HTTP
   * gets through, `udp` for calls that may be lost; by name or instance, or several in order of preference. `auto` (default): the first that reaches the node.
   */
  readonly transport?: string | Transport | readonly (string | Transport)[];
  /**
   * Certificates: the port of a service takes TLS only, and calls to other nodes are always TLS.
   * Default: no TLS, except to nodes whose record asks for it.
   */
  readonly tls?: TlsOptions;
  /** `json` (default), another codec's name or content type, or an instance. */
  readonly codec?: string | Codec;
  readonly scheduler?: Scheduler;
}

export interface ClientSettings extends PolicyOptions {
  /** Until a call with one reply must have ended, retries included. Default 5 000. */
  readonly requestTimeoutMs?: number;
  /** Default 5 000. */
  readonly dialTimeoutMs?: number;
  /** Attempts after the first one, of calls that may be repeated. Default 1. */
  readonly retries?: number;
  /** Connections kept open. Default 100. */
  readonly poolSize?: number;
  /** How long a connection without calls is kept. Default 60 000. */
  readonly poolTtlMs?: number;
  /** Largest message that is sent or accepted. Default 16 777 216 less 64 KiB of head; 4 MiB over grpc. */
  readonly maxMessageBytes?: number;
  /** Calls of this process to itself copy their values, or share them. Default `copy`. */
  readonly local?: 'copy' | 'share';
  /** host:port to which every call goes, as MICRO_PROXY says; no call is then repeated. */
  readonly proxy?: string;
}

export interface ServiceOptions extends NounOptions, ClientSettings {
  /** Registry name. Default: the name of the first contract that it handles, else `go.micro.server`. */
  readonly name?: string;
  /** Default `latest`. */
  readonly version?: string;
  /** Unique name of this node. Default `<name>-<unique>`. */
  readonly id?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Where to listen. Default `:0`, a free port of the loopback interface. */
  readonly address?: string;
  /** host:port that is registered in place of the bound address. */
  readonly advertise?: string | undefined;
  /** Default 90 000. */
  readonly registerTtlMs?: number;
  /** Default 30 000, or a third of a shorter TTL. */
  readonly registerIntervalMs?: number;
  /** Runs before each registration; while it rejects, the service is not registered. */
  readonly registerCheck?: () => Promise<void> | void;
  /** Calls that run at once; more are refused. Default 10 000. */
  readonly maxConcurrentCalls?: number;
  /** How long `stop` waits for calls, streams and messages. Default 30 000. */
  readonly drainTimeoutMs?: number;
  /** Code around every call and message; the first of a list is the outermost. */
  readonly wrap?: {
    readonly client?: readonly ClientWrapper[];
    readonly server?: readonly ServerWrapper[];
    readonly subscriber?: readonly SubscriberWrapper[];
  };
  /**
   * Where the service and its handlers log: a Log such as pino's, or a level from which lines of JSON
   * go to standard error. Default: the last 1 000 records are kept for Debug.Log and written nowhere.
   */
  readonly log?: Log | 'debug' | 'info' | 'warn' | 'error';
  /** Logs every call that was handled, at `info`. Default false. */
  readonly accessLog?: boolean;
  /** host:port for /livez, /readyz, /healthz and /metrics over HTTP. Default: none. */
  readonly debugAddress?: string;
  /** Whether spans are stored in the stream `_rivulet.spans`, for the console. */
  readonly trace?: TraceOptions;
  /** `MICRO_*` variables. Default process.env; false reads none. */
  readonly environment?: Readonly<Record<string, string | undefined>> | false;
  /** Flags. Default the command line of the process; false reads none. */
  readonly args?: readonly string[] | false;
}

/** One option outside of code. */
export interface OutsideNames {
  readonly variable: string;
  readonly flag: string;
  /** Throws what is wrong with the text. */
  readonly parse: (text: string) => unknown;
}

export interface SettingRow {
  readonly row: OptionRow;
  /** Undefined where there is none, or where it depends on others. */
  readonly fallback?: unknown;
  readonly outside?: OutsideNames;
}

/** Metadata of a TCP frame goes beside the body. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024 - 64 * 1024;

const noun: OptionRow = { kind: 'other', check: checkNoun };

export const SETTINGS = {
  name: {
    row: { kind: 'text', check: checkName },
    fallback: 'go.micro.server',
    outside: { variable: 'MICRO_SERVER_NAME', flag: 'server_name', parse: text },
  },
  version: {
    row: { kind: 'text', check: checkWord },
    fallback: 'latest',
    outside: { variable: 'MICRO_SERVER_VERSION', flag: 'server_version', parse: text },
  },
  id: {
    row: { kind: 'text', check: checkWord },
    outside: { variable: 'MICRO_SERVER_ID', flag: 'server_id', parse: text },
  },
  metadata: {
    row: { kind: 'other', check: checkMetadata },
    fallback: {},
    outside: { variable: 'MICRO_SERVER_METADATA', flag: 'server_metadata', parse: words.pairs },
  },
  address: {
    row: { kind: 'text' },
    fallback: ':0',
    outside: { variable: 'MICRO_SERVER_ADDRESS', flag: 'server_address', parse: text },
  },
  advertise: {
    row: { kind: 'text' },
    outside: { variable: 'MICRO_SERVER_ADVERTISE', flag: 'server_advertise', parse: text },
  },
  registerTtlMs: {
    row: timeout(),
    fallback: 90_000,
    outside: { variable: 'MICRO_REGISTER_TTL', flag: 'register_ttl', parse: words.seconds },
  },
  registerIntervalMs: {
    row: timeout(),
    fallback: 30_000,
    outside: {
      variable: 'MICRO_REGISTER_INTERVAL',
      flag: 'register_interval',
      parse: words.seconds,
    },
  },
  registerCheck: { row: { kind: 'other', check: checkFunction } },
  maxConcurrentCalls: { row: count(1, 1_000_000), fallback: 10_000 },
  drainTimeoutMs: { row: timeout(0), fallback: 30_000 },
  broker: {
    row: noun,
    outside: { variable: 'MICRO_BROKER', flag: 'broker', parse: text },
  },
  registry: {
    row: noun,
    outside: { variable: 'MICRO_REGISTRY', flag: 'registry', parse: text },
  },
  selector: {
    row: noun,
    fallback: STRATEGY_NAMES[0],
    outside: { variable: 'MICRO_SELECTOR', flag: 'selector', parse: text },
  },
  transport: {
    row: noun,
    fallback: 'auto',
    outside: { variable: 'MICRO_TRANSPORT', flag: 'transport', parse: text },
  },
  codec: { row: noun, fallback: 'json' },
  tls: { row: { kind: 'other', check: checkTls } },
  requestTimeoutMs: {
    row: timeout(),
    fallback: 5000,
    outside: {
      variable: 'MICRO_CLIENT_REQUEST_TIMEOUT',
      flag: 'client_request_timeout',
      parse: words.duration,
    },
  },
  dialTimeoutMs: { row: timeout(), fallback: 5000 },
  retries: {
    row: count(0, 99),
    fallback: 1,
    outside: { variable: 'MICRO_CLIENT_RETRIES', flag: 'client_retries', parse: words.whole },
  },
  poolSize: {
    row: count(1, 100_000),
    fallback: 100,
    outside: { variable: 'MICRO_CLIENT_POOL_SIZE', flag: 'client_pool_size', parse: words.whole },
  },
  poolTtlMs: {
    row: timeout(),
    fallback: 60_000,
    outside: { variable: 'MICRO_CLIENT_POOL_TTL', flag: 'client_pool_ttl', parse: words.duration },
  },
  maxMessageBytes: { row: count(1, MAX_MESSAGE_BYTES, 'bytes'), fallback: MAX_MESSAGE_BYTES },
  local: { row: { kind: 'one of', values: ['copy', 'share'] }, fallback: 'copy' },
  retryBudget: { row: { kind: 'group', table: policyTables.retryBudget }, fallback: {} },
  breaker: { row: { kind: 'other', check: unlessFalse(policyTables.breaker) }, fallback: {} },
  bulkhead: { row: { kind: 'other', check: unlessFalse(policyTables.bulkhead) }, fallback: {} },
  proxy: {
    row: { kind: 'text' },
    outside: { variable: 'MICRO_PROXY', flag: 'proxy', parse: text },
  },
  wrap: {
    row: {
      kind: 'group',
      table: {
        client: { kind: 'other', check: checkFunctions },
        server: { kind: 'other', check: checkFunctions },
        subscriber: { kind: 'other', check: checkFunctions },
      },
    },
    fallback: {},
  },
  log: {
    row: { kind: 'other', check: checkLog },
    outside: { variable: 'MICRO_LOG_LEVEL', flag: 'log_level', parse: text },
  },
  accessLog: { row: { kind: 'boolean' }, fallback: false },
  debugAddress: {
    row: { kind: 'text' },
    outside: { variable: 'MICRO_DEBUG_ADDRESS', flag: 'debug_address', parse: text },
  },
  trace: {
    row: { kind: 'group', table: traceTable },
    fallback: {},
    outside: { variable: 'MICRO_TRACE_STORE', flag: 'trace_store', parse: readTraceShare },
  },
  scheduler: { row: noun },
  environment: { row: { kind: 'other', check: () => {} } },
  args: { row: { kind: 'other', check: () => {} } },
} as const satisfies Record<keyof ServiceOptions, SettingRow>;

export type SettingName = keyof typeof SETTINGS;

/** For checkOptions. */
export const serviceTable: OptionTable = Object.fromEntries(
  Object.entries(SETTINGS).map(([name, { row }]) => [name, row as OptionRow]),
);

function checkName(name: string): void {
  if (isServiceName(name)) return;
  throw invalid(
    `service name ${JSON.stringify(name.slice(0, 64))} must be 1 to 255 bytes without spaces, control characters or "/"`,
  );
}

function checkWord(value: string, name: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
  if (value !== '' && value.length <= 255 && !/[\s/\u0000-\u001f\u007f]/u.test(value)) return;
  throw invalid(`${name} has 1 to 255 characters without spaces, control characters and "/"`);
}

function checkMetadata(value: unknown, name: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${name} must be an object of texts, not ${shown(value)}`);
  }
  for (const [key, each] of Object.entries(value)) {
    if (typeof each === 'string') continue;
    throw invalid(`${name}: ${shown(key)} must be a string, not ${shown(each)}`);
  }
}

/** Names are looked up where the noun is opened. */
function checkNoun(value: unknown, name: string): void {
  const isGood =
    (typeof value === 'string' && value !== '') || (typeof value === 'object' && value !== null);
  if (!isGood) throw invalid(`${name} is a URL, a name or an instance, not ${shown(value)}`);
}

function unlessFalse(table: OptionTable): (value: unknown, name: string) => void {
  return (value, name) => {
    if (value !== false) checkOptions(table, value, `${name}.`);
  };
}

function checkLog(value: unknown, name: string): void {
  if ((LOG_LEVELS as readonly unknown[]).includes(value)) return;
  const isLog =
    typeof value === 'object' &&
    value !== null &&
    LOG_LEVELS.every((level) => typeof (value as Record<string, unknown>)[level] === 'function');
  if (!isLog)
    throw invalid(`${name} is one of ${LOG_LEVELS.join(', ')} or a Log with these methods`);
}

function checkFunction(value: unknown, name: string): void {
  if (typeof value !== 'function') throw invalid(`${name} must be a function, not ${shown(value)}`);
}

function checkFunctions(value: unknown, name: string): void {
  if (Array.isArray(value) && value.every((each) => typeof each === 'function')) return;
  throw invalid(`${name} must be an array of functions, not ${shown(value)}`);
}
