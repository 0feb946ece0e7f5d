/**
 * `micro call SERVICE ENDPOINT [JSON]`: one call with one reply, printed as JSON.
 *
 * The request leaves and the reply is printed as the text that they are, so no number loses a digit.
 */
import { Command, Option } from 'commander';
import { RivuletError } from '../../errors.ts';
import { isEndpoint } from '../../rpc/contract.ts';
import { ServiceError } from '../../rpc/service-error.ts';
import { indentJson } from '../../util/indent-json.ts';
import { outputOf, type RegistryFlags, registryAddress, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { CommandFailure, outcomeOf, usage } from '../exit-code.ts';
import { printableLines } from '../printing/output.ts';
import { onServices } from '../service-calls.ts';
import { body, headers, isJson, timeout } from '../values.ts';

interface Flags extends RegistryFlags {
  readonly output: 'json' | 'raw';
  readonly metadata: string[];
  readonly address?: string;
  readonly timeout: string;
}

export function callCommand(): Command {
  const command = new Command('call')
    .description('call an endpoint of a service and print its reply')
    .argument('<service>')
    .argument('<endpoint>', 'Struct.Method')
    .argument('[request]', 'JSON; - reads it from standard input', '{}')
    .addOption(
      new Option('-o, --output <form>', 'json: indented; raw: the bytes of the reply as they came')
        .choices(['json', 'raw'])
        .default('json'),
    )
    .option(
      '--metadata <name=value>',
      'metadata of the call; may be given more than once',
      collect,
      [],
    )
    .option('--address <host:port>', 'call this node and ask no registry')
    .option('-t, --timeout <time>', '500ms, 5s, 1m', '5s');
  withRegistry(command).action(call);
  return withExamples(command, [
    {
      line: `micro call go.micro.srv.greeter Say.Hello '{"name":"ann"}' --registry broker`,
      says: 'a service that registers in the broker',
    },
    {
      line: `echo '{"name":"bob"}' | micro call go.micro.srv.greeter Say.Hello - --registry broker --output raw`,
      says: 'the request from standard input, the reply as it comes',
    },
  ]);
}

async function call(service: string, endpoint: string, text: string, flags: Flags): Promise<void> {
  if (!isEndpoint(endpoint)) {
    throw usage(`${JSON.stringify(endpoint)} is no endpoint: write Struct.Method`);
  }
  const request = await body(text);
  if (!isJson(request)) throw usage('the request is not JSON');
  const timeoutMs = timeout(flags.timeout);
  const options = {
    metadata: headers(flags.metadata, '--metadata'),
    timeoutMs,
    contentType: 'application/json',
    ...(flags.address === undefined ? {} : { address: flags.address }),
  };
  try {
    const reply = await onServices(flags, timeoutMs, ({ client }) =>
      client.call(service, endpoint, request, options),
    );
    const output = outputOf(flags);
    if (flags.output === 'raw') await output.write(reply);
    // A handler that returned nothing has an empty reply.
    else await output.line(printableLines(indentJson(Buffer.from(reply).toString() || 'null')));
  } catch (error) {
    if (!(error instanceof RivuletError)) throw error;
    const text = explained(error, `${service} ${endpoint}`, flags, timeoutMs);
    throw new CommandFailure(text, outcomeOf(error).code);
  }
}

function explained(error: RivuletError, what: string, flags: Flags, timeoutMs: number): string {
  const isService = error instanceof ServiceError;
  const detail = isService ? error.detail : error.message;
  const status = isService ? error.status : error.microCode;
  const registry = flags.address === undefined ? registryAddress(flags) : '';
  const advice: Partial<Record<typeof error.code, string>> = {
    SERVICE_NOT_FOUND: `is it running, and in the registry ${registry}? --registry names another, --address calls a node without one`,
    UNKNOWN_SCHEME: 'name another with --registry or MICRO_REGISTRY, or call a node by --address',
    METHOD_NOT_FOUND: 'an endpoint is Struct.Method, in the letters of the contract',
    CONNECTION_FAILED: `nothing answers at ${flags.address ?? 'the address in the registry'}: is the service running there?`,
    TIMEOUT: `it had ${timeoutMs} ms; --timeout gives it more`,
    UNSUPPORTED:
      'micro call makes calls with one request and one reply; micro stream makes the others',
  };
  const hint = advice[error.code];
  return `${what}: ${detail} (${error.code}, ${status})${hint === undefined ? '' : `; ${hint}`}`;
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}
