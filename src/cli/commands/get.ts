/** `micro get service NAME`: its versions, nodes and endpoints, in go-micro's form. */
import { Command } from 'commander';
import type { ServiceRecord } from '../../registry/registry.ts';
import { describeService } from '../../service/describe-service.ts';
import { onRegistry, outputOf, type RegistryFlags, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { notFound } from '../exit-code.ts';

export function getCommand(): Command {
  const command = new Command('get').description('show one service of the registry');
  const service = withRegistry(command.command('service'))
    .description('versions, nodes and endpoints of a service')
    .argument('<name>')
    .action(getService);
  withExamples(service, [
    { line: 'micro get service go.micro.srv.greeter --registry broker', says: 'for a person' },
    { line: 'micro get service go.micro.srv.greeter --registry broker --json', says: 'as JSON' },
  ]);
  return command;
}

async function getService(name: string, flags: RegistryFlags): Promise<void> {
  const records = await servicesOf(name, flags);
  const output = outputOf(flags);
  if (flags.json) await output.value(records);
  else await output.line(records.map((record) => describeService(record)).join('\n\n'));
}

/** Throws where no node of the service is registered. */
export async function servicesOf(name: string, flags: RegistryFlags): Promise<ServiceRecord[]> {
  return onRegistry(flags, async (registry, shown) => {
    const records = await registry.getService(name);
    if (records.length > 0) return records;
    throw notFound(
      `no node of ${name} is in the registry ${shown}; micro list services names them`,
    );
  });
}
