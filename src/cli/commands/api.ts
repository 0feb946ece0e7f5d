/**
 * `micro api`: the HTTP gateway, until SIGINT or SIGTERM, with go-micro's flags and variables.
 *
 * What flags cannot say (authentication, rules, webhooks) is in a JSON file, --config. Flags win.
 */
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import type { Gateway } from '../../gateway/gateway.ts';
import { GATEWAY_LIMITS } from '../../gateway/limits.ts';
import type { GatewayOptions } from '../../gateway/options.ts';
import type { Log } from '../../rpc/context.ts';
import type { RegistryFlags } from '../connect.ts';
import { LOCAL_BROKER, namedBroker, namedRegistry, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { aborted, interrupted } from '../interrupt.ts';
import { addLimits, limitsFrom } from '../limit-flags.ts';
import { commandLog } from '../log.ts';
import { count } from '../values.ts';

interface Flags extends RegistryFlags {
  readonly address?: string;
  readonly handler?: string;
  readonly namespace?: string;
  readonly type?: string;
  readonly resolver?: string;
  readonly enableRpc?: boolean;
  readonly enableCors?: boolean;
  readonly corsOrigins?: string;
  readonly enableTls?: boolean;
  readonly tlsCertFile?: string;
  readonly tlsKeyFile?: string;
  readonly tlsClientCaFile?: string;
  readonly topics?: string;
  readonly workflows?: string;
  readonly rateLimit?: string;
  readonly accessLog?: boolean;
  readonly mcp?: boolean;
  readonly config?: string;
  readonly enableAcme?: boolean;
  readonly maxBatch?: string;
  readonly wrongKeyLimit?: string;
}

export function apiCommand(): Command {
  const command = new Command('api').description('run the HTTP gateway: calls and durable events');
  const option = (flags: string, text: string, variable?: string) => {
    const made = new Option(flags, text);
    command.addOption(variable === undefined ? made : made.env(variable));
  };
  option('--address <host:port>', 'where to listen (default 127.0.0.1:8080)', 'MICRO_API_ADDRESS');
  option('--handler <name>', 'meta (default), rpc, api, event, http, web', 'MICRO_API_HANDLER');
  option('--namespace <name>', 'default go.micro; domain = the subdomain', 'MICRO_API_NAMESPACE');
  option('--type <name>', 'follows the namespace (default api)', 'MICRO_API_TYPE');
  option(
    '--resolver <name>',
    'micro (default), path, vpath, host, grpc, subdomain',
    'MICRO_API_RESOLVER',
  );
  option('--enable-rpc', 'serve /rpc: any service by its name', 'MICRO_API_ENABLE_RPC');
  option(
    '--enable-cors',
    'let pages of every origin call, without credentials',
    'MICRO_API_ENABLE_CORS',
  );
  option('--cors-origins <list>', 'let pages of these origins call, with credentials');
  option('--topics <patterns>', 'topics that clients may read at /_/topics/TOPIC: news.>,prices.*');
  option('--workflows <patterns>', 'workflows that clients may start and signal: order,refund.*');
  option('--rate-limit <n[:burst]>', 'requests a second of one client, and at once after a pause');
  option('--access-log', 'a line for each request');
  option('--mcp', 'serve endpoints as tools for agents at /_/mcp');
  option('--config <file>', 'JSON with further options: auth, rules, events; see docs/api.md');
  option('--enable-tls', 'serve HTTPS', 'MICRO_ENABLE_TLS');
  option('--tls-cert-file <file>', 'certificate', 'MICRO_TLS_CERT_FILE');
  option('--tls-key-file <file>', 'its key', 'MICRO_TLS_KEY_FILE');
  option(
    '--tls-client-ca-file <file>',
    'ask clients for certificates of this CA',
    'MICRO_TLS_CLIENT_CA_FILE',
  );
  command.addOption(new Option('--enable-acme').hideHelp());
  addLimits(command, GATEWAY_LIMITS);
  const limit = (flags: string, text: string) =>
    command.addOption(new Option(flags, text).helpGroup('Limits:'));
  limit('--max-batch <n>', 'events of one request (default 1000)');
  limit('--wrong-key-limit <n[:burst]>', 'wrong keys a second of one client (default 20:200)');
  withRegistry(command).action(api);
  return withExamples(command, [
    {
      line: 'micro api --address :8080 --broker "$MICRO_BROKER"',
      says: 'calls: /greeter/say/hello is go.micro.api.greeter Say.Hello',
      untilStopped: true,
    },
    {
      line: 'micro api --handler event --type evt --broker "$MICRO_BROKER"',
      says: 'events: POST /user/login is an event in the topic go.micro.evt.user',
      untilStopped: true,
    },
  ]);
}

async function api(flags: Flags): Promise<void> {
  const options = gatewayOptions(flags);
  const interrupt = interrupted();
  const { startGateway } = await import('../../gateway/gateway.ts');
  const log = commandLog();
  const gateway = await startGateway({ ...options, log });
  process.stdout.write(`${readyLine(gateway, options)}\n`);
  await aborted(interrupt);
  await gateway.stop();
}

export function readyLine({ url }: Gateway, options: GatewayOptions): string {
  const { handler = 'meta', namespace = 'go.micro', type = 'api' } = options;
  return `micro api ready on ${url} (handler ${handler}, namespace ${namespace}.${type}; pid ${process.pid})`;
}

/** Options of a file, and flags over them. */
function gatewayOptions(flags: Flags): GatewayOptions & { log?: Log } {
  if (flags.enableAcme) {
    throw usage('--enable-acme is not here: give --tls-cert-file and --tls-key-file');
  }
  const given = flags.config === undefined ? {} : readConfig(flags.config);
  const { address, namespace, type } = flags;
  const list = (text: string) => text.split(',').map((each) => each.trim());
  const needsBroker =
    (flags.handler ?? given.handler) === 'event' ||
    (flags.topics ?? given.topics ?? flags.workflows ?? given.workflows) !== undefined;
  const broker = namedBroker(flags) ?? given.broker ?? (needsBroker ? LOCAL_BROKER : undefined);
  const registry = namedRegistry(flags) ?? given.registry;
  return {
    ...given,
    ...(address === undefined ? {} : { address }),
    ...(namespace === undefined ? {} : { namespace }),
    ...(type === undefined ? {} : { type }),
    ...(flags.handler === undefined ? {} : { handler: flags.handler as never }),
    ...(flags.resolver === undefined ? {} : { resolver: flags.resolver as never }),
    ...(flags.enableRpc ? { enableRpc: true } : {}),
    ...(flags.accessLog ? { accessLog: true } : {}),
    ...(flags.mcp ? { mcp: true } : {}),
    ...(flags.enableCors ? { cors: ['*'] } : {}),
    ...(flags.corsOrigins === undefined ? {} : { cors: list(flags.corsOrigins) }),
    ...(flags.topics === undefined ? {} : { topics: list(flags.topics) }),
    ...(flags.workflows === undefined ? {} : { workflows: list(flags.workflows) }),
    ...(flags.rateLimit === undefined ? {} : { rateLimit: rate(flags.rateLimit, '--rate-limit') }),
    ...(flags.wrongKeyLimit === undefined
      ? {}
      : { wrongKeyLimit: rate(flags.wrongKeyLimit, '--wrong-key-limit') }),
    ...(flags.maxBatch === undefined
      ? {}
      : {
          events: { ...given.events, maxBatch: count(flags.maxBatch, '--max-batch', 1, 100_000) },
        }),
    ...limitsFrom(flags, GATEWAY_LIMITS),
    ...(flags.enableTls ? { tls: tlsOf(flags) } : {}),
    ...(broker === undefined ? {} : { broker }),
    ...(registry === undefined ? {} : { registry }),
  };
}

/** `10`, or `10:50` with a burst. */
function rate(text: string, flag: string): { perSecond: number; burst?: number } {
  const [perSecond = '', burst, ...more] = text.split(':');
  if (more.length > 0) throw usage(`${flag} ${JSON.stringify(text)}: write 10 or 10:50`);
  return {
    perSecond: count(perSecond, flag, 1, 1_000_000),
    ...(burst === undefined ? {} : { burst: count(burst, flag, 1) }),
  };
}

function tlsOf({ tlsCertFile, tlsKeyFile, tlsClientCaFile }: Flags) {
  if (tlsCertFile === undefined || tlsKeyFile === undefined) {
    throw usage('--enable-tls needs --tls-cert-file and --tls-key-file');
  }
  const clientCa = tlsClientCaFile === undefined ? {} : { clientCa: tlsClientCaFile };
  return { cert: tlsCertFile, key: tlsKeyFile, ...clientCa };
}

export function readConfig(file: string): GatewayOptions {
  try {
    const value = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
    throw new Error('it must be a JSON object');
  } catch (error) {
    throw usage(`--config ${file}: ${(error as Error).message}`);
  }
}
