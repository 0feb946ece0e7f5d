/** `micro register service JSON` and `micro deregister service JSON`: records written by hand. */
import { Command } from 'commander';
import { recordByHand } from '../../registry/record.ts';
import type { Registry, ServiceRecord } from '../../registry/registry.ts';
import { onRegistry, outputOf, type RegistryFlags, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { body, duration } from '../values.ts';

const RECORD = `'{"name":"go.micro.srv.old","version":"1","nodes":[{"id":"old-1","address":"127.0.0.1:9000"}]}'`;

export function registerCommand(): Command {
  const command = new Command('register').description(
    'add a service that cannot register by itself',
  );
  const service = withRegistry(command.command('service'))
    .description('add the nodes of a record')
    .argument('<record>', 'JSON in go-micro’s form; - reads it from standard input')
    .option('--ttl <time>', 'how long it stays unless it is registered again', '24h')
    .action(async (text: string, flags: RegistryFlags & { ttl: string }) => {
      const ttlMs = duration(flags.ttl, '--ttl');
      await change(text, flags, (registry, record) => registry.register(record, { ttlMs }));
    });
  withExamples(service, [
    {
      line: `micro register service ${RECORD} --registry broker`,
      says: 'a node of another program',
    },
  ]);
  return command;
}

export function deregisterCommand(): Command {
  const command = new Command('deregister').description('remove nodes of a service');
  const service = withRegistry(command.command('service'))
    .description('remove the nodes of a record')
    .argument('<record>', 'JSON in go-micro’s form; - reads it from standard input')
    .action((text: string, flags: RegistryFlags) =>
      change(text, flags, (registry, record) => registry.deregister(record)),
    );
  withExamples(service, [
    {
      line: `micro deregister service ${RECORD} --registry broker`,
      says: 'the same node, removed',
    },
  ]);
  return command;
}

async function change(
  text: string,
  flags: RegistryFlags,
  work: (registry: Registry, record: ServiceRecord) => Promise<void>,
): Promise<void> {
  const record = recordByHand((await body(text)).toString());
  await onRegistry(flags, (registry) => work(registry, record));
  await outputOf(flags).line(flags.json ? 'true' : 'ok');
}
