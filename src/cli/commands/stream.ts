/** `micro stream SERVICE ENDPOINT [JSON]`: a streaming call; prints each reply as it comes. */
import { Command } from 'commander';
import { streamKind } from '../../gateway/routing/directory.ts';
import { isEndpoint } from '../../rpc/contract.ts';
import { indentJson } from '../../util/indent-json.ts';
import { outputOf, type RegistryFlags, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { endedEarly, interrupted } from '../interrupt.ts';
import { printableLines } from '../printing/output.ts';
import { onServices } from '../service-calls.ts';
import { body, count, headers, isJson, timeout } from '../values.ts';

interface Flags extends RegistryFlags {
  readonly metadata: string[];
  readonly address?: string;
  readonly timeout?: string;
  readonly count?: string;
}

export function streamCommand(): Command {
  const command = new Command('stream')
    .description('call a streaming endpoint and print its replies')
    .argument('<service>')
    .argument('<endpoint>', 'Struct.Method')
    .argument('[request]', 'JSON; - reads it from standard input', '{}')
    .option(
      '--metadata <name=value>',
      'metadata of the call; may be given more than once',
      collect,
      [],
    )
    .option('--address <host:port>', 'call this node and ask no registry')
    .option('-t, --timeout <time>', 'end the call after this time')
    .option('-n, --count <n>', 'end the call after n replies');
  withRegistry(command).action(stream);
  return withExamples(command, [
    {
      line: `micro stream go.micro.srv.greeter Say.Count '{"to":3}' --registry broker`,
      says: 'one JSON value for each reply',
    },
  ]);
}

async function stream(service: string, endpoint: string, text: string, flags: Flags) {
  if (!isEndpoint(endpoint)) {
    throw usage(`${JSON.stringify(endpoint)} is no endpoint: write Struct.Method`);
  }
  const request = await body(text);
  if (!isJson(request)) throw usage('the request is not JSON');
  const most = flags.count === undefined ? Number.POSITIVE_INFINITY : count(flags.count, '--count');
  const output = outputOf(flags);
  const signal = interrupted();
  const options = {
    metadata: headers(flags.metadata),
    signal,
    contentType: 'application/json',
    ...(flags.address === undefined ? {} : { address: flags.address }),
    ...(flags.timeout === undefined ? {} : { timeoutMs: timeout(flags.timeout) }),
  };
  await onServices(flags, 5000, async ({ client, registry }) => {
    const records = flags.address === undefined ? await (await registry()).getService(service) : [];
    const known = records
      .flatMap(({ endpoints }) => endpoints)
      .find(({ name }) => name === endpoint);
    const kind = streamKind(known ?? null) ?? (flags.address === undefined ? null : 'serverStream');
    if (known !== undefined && kind === null) {
      throw usage(`${endpoint} has one reply: micro call ${service} ${endpoint}`);
    }
    const how = kind ?? 'serverStream';
    const input = how === 'serverStream' ? request : single(request);
    let printed = 0;
    try {
      for await (const reply of client.stream(how, service, endpoint, input, options)) {
        const reading = Buffer.from(reply).toString() || 'null';
        const text = flags.json ? reading.replace(/[\r\n]+/g, ' ') : indentJson(reading);
        await output.line(printableLines(text));
        if (++printed >= most) break;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    endedEarly(signal);
  });
}

async function* single(request: Uint8Array): AsyncGenerator<Uint8Array> {
  yield request;
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}
