/**
 * The commands that every bot has, with go-micro's words and texts.
 *
 * Invariant: a command is recognised by its first word, or, where it takes no words, by the whole text.
 * Cost: that of the registry or of the call.
 */
import { RivuletError } from '../../errors.ts';
import { recordByHand } from '../../registry/record.ts';
import type { Registry, ServiceRecord } from '../../registry/registry.ts';
import { isEndpoint } from '../../rpc/contract.ts';
import { askNodes, describeService, healthText } from '../../service/describe-service.ts';
import { indentJson } from '../../util/indent-json.ts';
import { type CommandLine, jsonText } from '../messages/command-line.ts';
import type { BotCommand, CommandContext } from './command.ts';

const REGISTRATION_MS = 24 * 3_600_000;
const LAWS = [
  '1. A robot may not injure a human being or, through inaction, allow a human being to come to harm.',
  '2. A robot must obey the orders given it by human beings except where such orders would conflict with the First Law.',
  '3. A robot must protect its own existence as long as such protection does not conflict with the First or Second Laws.',
];

export const BUILT_IN: readonly BotCommand[] = [
  first('call', '[service] [endpoint] [request]', 'Returns the response for a service call', call, {
    needsOperator: true,
    target: ({ words }) => [words[1]?.value, words[2]?.value].filter(Boolean).join(' '),
  }),
  first('deregister', 'service [definition]', 'Deregisters a service', deregister, {
    needsOperator: true,
    target: nameInRecord,
  }),
  first('echo', '[text]', 'Returns the [text]', async (line) =>
    line.words.length < 2 ? 'echo what?' : line.from(1),
  ),
  first('get', 'service [name]', 'Returns a registered service', get, {
    target: ({ words }) => words[2]?.value ?? '',
  }),
  first('health', '[service]', 'Returns health of a service', health, {
    target: ({ words }) => words[1]?.value ?? '',
  }),
  whole('hello', /^hello$/, 'Returns a greeting', async () => "hey what's up?"),
  whole('help', /^help$/, 'Displays help for all known commands', async (_line, { help }) =>
    ['\n', ...help()].join('\n'),
  ),
  first('list', 'services', 'Returns a list of registered services', list),
  whole('ping', /^ping$/, 'Returns pong', async () => 'pong'),
  first('register', 'service [definition]', 'Registers a service', register, {
    needsOperator: true,
    target: nameInRecord,
  }),
  whole(
    'the three laws',
    /^(the )?three laws( of robotics)?$/,
    'Returns the three laws of robotics',
    async () => `\n${LAWS.join('\n')}`,
  ),
  whole('time', /^time$/, 'Returns the server time', async (_line, { now }) => {
    return `Server time is: ${rfc1123(new Date(now()))}`;
  }),
];

type Run = BotCommand['run'];
type Rest = Partial<Pick<BotCommand, 'needsOperator' | 'target'>>;

function first(name: string, words: string, description: string, run: Run, rest: Rest = {}) {
  const matches = (line: CommandLine) => line.name === name;
  return command(name, `${name} ${words}`, description, run, { ...rest, matches });
}

function whole(name: string, pattern: RegExp, description: string, run: Run) {
  const matches = ({ text }: CommandLine) => pattern.test(text);
  return command(name, name, description, run, { matches });
}

function command(
  name: string,
  usage: string,
  description: string,
  run: Run,
  rest: Rest & Pick<BotCommand, 'matches'>,
): BotCommand {
  return { name, usage, description, needsOperator: false, target: () => '', run, ...rest };
}

async function list(line: CommandLine, { registry }: CommandContext): Promise<string> {
  const what = line.words[1]?.value;
  if (what === undefined) return 'list what?';
  if (what !== 'services') return 'unknown command...\nsupported commands: \nlist services';
  const services = await (await registry()).listServices();
  return [...new Set(services.map(({ name }) => name))].sort().join('\n') || 'no services';
}

async function get(line: CommandLine, { registry }: CommandContext): Promise<string> {
  const [, what, name] = line.values;
  if (what === undefined) return 'get what?';
  if (what !== 'service') return 'unknown command...\nsupported commands: \nget service [name]';
  if (name === undefined) return 'require service name';
  return (await recordsOf(name, await registry())).map(describeService).join('\n\n');
}

async function health(line: CommandLine, context: CommandContext): Promise<string> {
  const { client, signal, timeoutMs } = context;
  const service = line.words[1]?.value;
  if (service === undefined) return 'health of what?';
  const records = await recordsOf(service, await context.registry());
  // A node that is silent must leave time for the answer about the others.
  const options = { signal, timeoutMs: timeoutMs / 2, contentType: 'application/json' };
  const reports = await askNodes(records, (address) =>
    client.call(service, 'Debug.Health', Buffer.from('{}'), { ...options, address }),
  );
  return healthText(service, reports);
}

async function call(line: CommandLine, context: CommandContext): Promise<string> {
  const [, service, endpoint] = line.values;
  if (service === undefined) return 'call what?';
  if (endpoint === undefined || !isEndpoint(endpoint)) {
    throw new RivuletError('INVALID_ARGUMENT', 'require an endpoint: Struct.Method');
  }
  const request = jsonText(line.from(3) || '{}');
  if (request === null) throw new RivuletError('INVALID_ARGUMENT', 'the request is not JSON');
  const { client, signal, timeoutMs } = context;
  const options = { signal, timeoutMs, contentType: 'application/json' };
  const reply = await client.call(service, endpoint, Buffer.from(request), options);
  // A handler that returned nothing has an empty reply.
  return indentJson(Buffer.from(reply).toString() || 'null');
}

async function register(line: CommandLine, { registry }: CommandContext): Promise<string> {
  const record = recordOf(line, 'register');
  if (typeof record === 'string') return record;
  await (await registry()).register(record, { ttlMs: REGISTRATION_MS });
  return 'ok';
}

async function deregister(line: CommandLine, { registry }: CommandContext): Promise<string> {
  const record = recordOf(line, 'deregister');
  if (typeof record === 'string') return record;
  await (await registry()).deregister(record);
  return 'ok';
}

/** The record, or the answer to a command without one. */
function recordOf(line: CommandLine, name: string): ServiceRecord | string {
  const what = line.words[1]?.value;
  if (what === undefined) return `${name} what?`;
  if (what !== 'service') {
    return `unknown command...\nsupported commands: \n${name} service [definition]`;
  }
  const text = line.from(2);
  return text === '' ? 'require service definition' : recordByHand(jsonText(text) ?? text);
}

function nameInRecord(line: CommandLine): string {
  try {
    const { name } = recordByHand(jsonText(line.from(2)) ?? '');
    return name;
  } catch {
    return '';
  }
}

async function recordsOf(name: string, registry: Registry): Promise<ServiceRecord[]> {
  const records = await registry.getService(name);
  if (records.length > 0) return records;
  throw new RivuletError('SERVICE_NOT_FOUND', `no node of ${name} is in the registry`);
}

/** `Mon, 02 Jan 2006 15:04:05 UTC`: Go's RFC1123, in the zone of this machine. */
export function rfc1123(date: Date): string {
  const format = new Intl.DateTimeFormat('en-GB', {
    weekday: 'short',
    day: '2-digit',
    month: 'short',
    year: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
    timeZoneName: 'short',
  });
  const parts = Object.fromEntries(
    format.formatToParts(date).map(({ type, value }) => [type, value]),
  );
  const { weekday, day, month = '', year, hour, minute, second, timeZoneName } = parts;
  // English of Great Britain has four letters for one month.
  const name = month.slice(0, 3);
  return `${weekday}, ${day} ${name} ${year} ${hour}:${minute}:${second} ${timeZoneName}`;
}
