/** `micro health SERVICE` and `micro stats SERVICE`: what each node says of itself. */
import { Command } from 'commander';
import {
  askNodes,
  healthOf,
  healthText,
  type NodeReport,
  nodesText,
} from '../../service/describe-service.ts';
import { outputOf, type RegistryFlags, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { EXIT } from '../exit-code.ts';
import { printable } from '../printing/output.ts';
import { onServices } from '../service-calls.ts';
import { timeout } from '../values.ts';
import { servicesOf } from './get.ts';

interface Flags extends RegistryFlags {
  readonly timeout: string;
}

export function healthCommand(): Command {
  const command = nodeCommand('health', 'ask each node of a service whether it is well', health);
  return withExamples(command, [
    {
      line: 'micro health go.micro.srv.greeter --registry broker',
      says: 'exit code 1 when a node is not well',
    },
  ]);
}

export function statsCommand(): Command {
  const command = nodeCommand('stats', 'memory, threads and requests of each node', stats);
  return withExamples(command, [
    { line: 'micro stats go.micro.srv.greeter --registry broker', says: 'a row for each node' },
  ]);
}

function nodeCommand(
  name: string,
  description: string,
  run: (service: string, flags: Flags) => Promise<void>,
): Command {
  const command = new Command(name)
    .description(description)
    .argument('<service>')
    .option('-t, --timeout <time>', 'how long a node may take', '5s');
  return withRegistry(command).action(run);
}

async function health(service: string, flags: Flags): Promise<void> {
  const reports = await ask(service, 'Debug.Health', flags);
  await show(flags, reports, () => healthText(service, reports));
  if (reports.some((report) => healthOf(report) !== 'ok')) process.exitCode = EXIT.failed;
}

async function stats(service: string, flags: Flags): Promise<void> {
  const reports = await ask(service, 'Debug.Stats', flags);
  const title = 'node\t\taddress:port\t\tstarted\tuptime\tmemory\tthreads\tgc';
  const row = ({ id, address, answer, error }: NodeReport) => {
    if (answer === null) return [id, address, error ?? ''].map(printable).join('\t\t');
    const { started, uptime, memory, threads, gc } = answer;
    const facts = [time(started), seconds(uptime), megabytes(memory), threads, gc];
    const texts = facts.map((fact) => printable(String(fact ?? '-')));
    return `${printable(id)}\t\t${printable(address)}\t\t${texts.join('\t')}`;
  };
  await show(flags, reports, () => nodesText(service, reports, title, row));
}

async function ask(service: string, endpoint: string, flags: Flags): Promise<NodeReport[]> {
  const timeoutMs = timeout(flags.timeout);
  const records = await servicesOf(service, flags);
  return onServices(flags, timeoutMs, ({ client }) =>
    askNodes(records, (address) => {
      const options = { address, timeoutMs, contentType: 'application/json' };
      return client.call(service, endpoint, Buffer.from('{}'), options);
    }),
  );
}

async function show(flags: Flags, reports: readonly NodeReport[], text: () => string) {
  const output = outputOf(flags);
  if (flags.json) await output.value(reports);
  else await output.line(text());
}

function time(seconds: unknown): string | null {
  const ms = Number(seconds) * 1000;
  return ms > 0 ? new Date(ms).toISOString() : null;
}

function seconds(value: unknown): string | null {
  return value === undefined ? null : `${Number(value)}s`;
}

function megabytes(bytes: unknown): string | null {
  return bytes === undefined ? null : `${(Number(bytes) / 1024 / 1024).toFixed(2)}mb`;
}
