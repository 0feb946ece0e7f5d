/**
 * `micro call SERVICE ENDPOINT [JSON]`: one unary call, its reply printed as JSON.
 *
 * The request leaves and the reply is printed as the text that they are, so no number loses a digit.
 * Exit codes: 0 for a reply, 1 for a call that failed, 2 for a command line that cannot be run.
 */
import { parseArgs } from 'node:util';
import { Codecs } from '../codec/by-content-type.ts';
import type { Codec } from '../codec/codec.ts';
import { RivuletError } from '../errors.ts';
import { openRegistry } from '../registry/open-registry.ts';
import { Client } from '../rpc/client.ts';
import { isEndpoint } from '../rpc/contract.ts';
import { ServiceError } from '../rpc/service-error.ts';
import { RegistrySelector } from '../selector/registry-selector.ts';
import { strategyByName } from '../selector/strategies.ts';
import { TcpTransport } from '../transport/tcp.ts';
import { systemScheduler } from '../util/system-scheduler.ts';
import { indentJson } from './indent-json.ts';

interface CallRequest {
  readonly service: string;
  readonly endpoint: string;
  readonly body: string;
  readonly registry: string;
  readonly address: string | undefined;
  readonly metadata: Record<string, string>;
  readonly timeoutMs: number;
  readonly output: 'json' | 'raw';
}

const MAX_STDIN = 16 * 1024 * 1024;

export async function callCommand(args: readonly string[]): Promise<void> {
  let request: CallRequest | null;
  try {
    request = await readRequest(args);
  } catch (error) {
    process.stderr.write(`micro: ${(error as Error).message}; micro call --help tells more\n`);
    process.exitCode = 2;
    return;
  }
  if (request === null) {
    console.log(HELP);
    return;
  }
  try {
    const reply = await call(request);
    process.stdout.write(request.output === 'raw' ? reply : `${indentJson(textOf(reply))}\n`);
  } catch (error) {
    process.stderr.write(`micro: ${explained(error, request)}\n`);
    process.exitCode = 1;
  }
}

async function readRequest(args: readonly string[]): Promise<CallRequest | null> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      output: { type: 'string', short: 'o', default: 'json' },
      metadata: { type: 'string', multiple: true },
      address: { type: 'string' },
      registry: { type: 'string' },
      timeout: { type: 'string', default: '5s' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return null;
  const [service, endpoint, json = '{}', ...more] = positionals;
  if (service === undefined || endpoint === undefined || more.length > 0) {
    throw new Error("usage: micro call SERVICE ENDPOINT ['JSON']");
  }
  if (!isEndpoint(endpoint)) {
    throw new Error(`${JSON.stringify(endpoint)} is no endpoint: write Struct.Method`);
  }
  const { output } = values;
  if (output !== 'json' && output !== 'raw') throw new Error('--output is json or raw');
  const body = json === '-' ? await readStdin() : json;
  try {
    JSON.parse(body);
  } catch (error) {
    throw new Error(`the request is not JSON: ${(error as Error).message}`);
  }
  return {
    service,
    endpoint,
    body,
    registry: values.registry ?? environmentRegistry(),
    address: values.address,
    metadata: metadataOf(values.metadata ?? []),
    timeoutMs: milliseconds(values.timeout),
    output,
  };
}

/** go-micro's variables: MICRO_REGISTRY names it, MICRO_REGISTRY_ADDRESS says where. */
function environmentRegistry(): string {
  const { MICRO_REGISTRY: name = 'mdns', MICRO_REGISTRY_ADDRESS: address } = process.env;
  return address === undefined || name.includes(':') ? name : `${name}://${address}`;
}

function metadataOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)];
      throw new Error(`--metadata ${JSON.stringify(pair)}: write name=value`);
    }),
  );
}

/** `500ms`, `5s`, `1m`; a bare number is milliseconds. */
function milliseconds(text: string): number {
  const [, number, unit = 'ms'] = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text) ?? [];
  const ms = Number(number) * { ms: 1, s: 1000, m: 60_000 }[unit as 'ms' | 's' | 'm'];
  if (ms > 0 && ms < 2 ** 31) return ms;
  throw new Error(`--timeout ${JSON.stringify(text)}: write 500ms, 5s or 1m`);
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    size += chunk.length;
    if (size > MAX_STDIN) throw new Error(`standard input has more than ${MAX_STDIN} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** JSON as text, unread. */
const jsonText: Codec = {
  name: 'json',
  contentTypes: ['application/json'],
  encode: (value) => value as Uint8Array,
  decode: (bytes) => bytes,
};

async function call(request: CallRequest): Promise<Uint8Array> {
  const { service, endpoint, address, metadata, timeoutMs } = request;
  const registry = await openRegistry(address === undefined ? request.registry : 'memory');
  const client = new Client({
    selector: new RegistrySelector(registry, { strategy: strategyByName('random')! }),
    transports: [new TcpTransport(systemScheduler)],
    codecs: new Codecs([jsonText]),
  });
  try {
    return await client.call<Uint8Array>(service, endpoint, Buffer.from(request.body), {
      metadata,
      timeoutMs,
      ...(address === undefined ? {} : { address }),
    });
  } finally {
    await client.close();
    await registry.close();
  }
}

/** A handler that returned nothing has an empty reply. */
function textOf(reply: Uint8Array): string {
  return reply.length === 0 ? 'null' : Buffer.from(reply).toString('utf8');
}

function explained(
  error: unknown,
  { service, endpoint, registry, address, timeoutMs }: CallRequest,
) {
  if (!(error instanceof RivuletError))
    return error instanceof Error ? error.message : String(error);
  const detail = error instanceof ServiceError ? error.detail : error.message;
  const status = error instanceof ServiceError ? error.status : error.microCode;
  const advice: Partial<Record<typeof error.code, string>> = {
    SERVICE_NOT_FOUND: `is ${service} running, and in the registry ${registry}? --registry names another, --address calls a node without one`,
    UNKNOWN_SCHEME: 'name another with --registry or MICRO_REGISTRY, or call a node by --address',
    METHOD_NOT_FOUND: 'an endpoint is Struct.Method, in the letters of the contract',
    CONNECTION_FAILED: `nothing answers at ${address ?? 'the address in the registry'}: is the service running there?`,
    TIMEOUT: `it had ${timeoutMs} ms; --timeout gives it more`,
    UNSUPPORTED: 'micro call makes calls with one request and one reply',
  };
  const hint = advice[error.code];
  return `${service} ${endpoint}: ${detail} (${error.code}, ${status})${hint === undefined ? '' : `; ${hint}`}`;
}

const HELP = `Usage: micro call SERVICE ENDPOINT ['JSON' | -] [--name value ...]

Calls an endpoint and prints its reply. The request is JSON, {} when there is none; - reads it from
standard input.

  micro call go.micro.api.orderservice OrderSrv.GetOrder '{"id":1}'

  --output json|raw   indented (default), or the bytes of the reply as they came
  --metadata k=v      metadata of the call; may be given more than once
  --registry URL      where services are looked for (default MICRO_REGISTRY, else mdns)
  --address HOST:PORT calls this node and asks no registry
  --timeout TIME      500ms, 5s, 1m (default 5s)

Exit codes: 0 for a reply, 1 when the call failed, 2 when the command line cannot be run.`;
