/** `micro list topics|groups|services|nodes|workflows`: what a broker and a registry hold. */
import { Command } from 'commander';
import type { TopicInfo } from '../../broker/broker.ts';
import {
  type BrokerFlags,
  onBroker,
  onRegistry,
  outputOf,
  type RegistryFlags,
  withBroker,
  withRegistry,
} from '../connect.ts';
import { withExamples } from '../examples.ts';
import { notFound } from '../exit-code.ts';
import { workflowList } from './workflow.ts';

export function listCommand(): Command {
  const command = new Command('list').description(
    'list topics, groups, services, nodes or workflows',
  );
  const topics = withBroker(command.command('topics'))
    .description('the topics of the broker, with their groups')
    .option('-q, --quiet', 'names only')
    .action(listTopics);
  withExamples(topics, [{ line: 'micro list topics', says: 'topics, messages, groups, lag' }]);
  const groups = withBroker(command.command('groups'))
    .description('the groups of a topic, or of all')
    .argument('[topic]')
    .action(listGroups);
  withExamples(groups, [{ line: 'micro list groups orders', says: 'the groups of one topic' }]);
  const services = withRegistry(command.command('services'))
    .description('the names of services in the registry')
    .action(listServices);
  withExamples(services, [
    { line: 'micro list services --registry broker', says: 'services that register in the broker' },
  ]);
  const nodes = withRegistry(command.command('nodes'))
    .description('the nodes of a service, or of all')
    .argument('[service]')
    .action(listNodes);
  withExamples(nodes, [
    { line: 'micro list nodes --registry broker --json', says: 'every node, as JSON' },
  ]);
  const flows = workflowList(command.command('workflows'));
  withExamples(flows, [
    { line: 'micro list workflows', says: 'every workflow, with its running and parked instances' },
  ]);
  return command;
}

/** Every topic of the broker, by name. */
async function topicsOf(flags: BrokerFlags): Promise<TopicInfo[]> {
  return onBroker(flags, async (broker) => {
    const found: TopicInfo[] = [];
    for await (const topic of broker.topics()) found.push(topic);
    return found.sort((a, b) => (a.topic < b.topic ? -1 : 1));
  });
}

async function listTopics(flags: BrokerFlags & { quiet?: boolean }): Promise<void> {
  const topics = await topicsOf(flags);
  const output = outputOf(flags);
  if (flags.quiet) {
    for (const { topic } of topics) await output.name(topic);
    return;
  }
  await output.rows(topics, [
    { title: 'topic', of: ({ topic }) => topic },
    { title: 'messages', of: ({ length }) => length, right: true },
    { title: 'groups', of: ({ groups }) => groups.length, right: true },
    { title: 'pending', of: ({ groups }) => sum(groups.map((g) => g.pending)), right: true },
    { title: 'largest lag', of: ({ groups }) => largestLag(groups), right: true },
  ]);
}

async function listGroups(topic: string | undefined, flags: BrokerFlags): Promise<void> {
  const topics = await topicsOf(flags);
  if (topic !== undefined && !topics.some((each) => each.topic === topic)) {
    throw notFound(
      `the broker has no topic ${JSON.stringify(topic)}; micro list topics names them`,
    );
  }
  const rows = topics
    .filter((each) => topic === undefined || each.topic === topic)
    .flatMap(({ topic: name, groups }) =>
      groups.map((group) => ({
        topic: name,
        group: group.name,
        pending: group.pending,
        lag: group.lag,
      })),
    );
  await outputOf(flags).rows(rows, [
    { title: 'topic', of: (row) => row.topic },
    { title: 'group', of: (row) => row.group },
    { title: 'pending', of: (row) => row.pending, right: true },
    { title: 'lag', of: (row) => row.lag, right: true },
  ]);
}

async function listServices(flags: RegistryFlags): Promise<void> {
  const services = await onRegistry(flags, (registry) => registry.listServices());
  const names = [...new Set(services.map(({ name }) => name))].sort();
  const output = outputOf(flags);
  if (flags.json) await output.value(names);
  else for (const name of names) await output.name(name);
}

async function listNodes(service: string | undefined, flags: RegistryFlags): Promise<void> {
  const records = await onRegistry(flags, async (registry, shown) => {
    const names =
      service === undefined
        ? [...new Set((await registry.listServices()).map(({ name }) => name))].sort()
        : [service];
    const found = await Promise.all(names.map((name) => registry.getService(name)));
    if (service !== undefined && found[0]!.length === 0) {
      throw notFound(`no node of ${service} is in the registry ${shown}`);
    }
    return found.flat();
  });
  const rows = records.flatMap(({ name, version, nodes }) =>
    nodes.map(({ id, address, metadata }) => ({ service: name, version, id, address, metadata })),
  );
  await outputOf(flags).rows(rows, [
    { title: 'service', of: (row) => row.service },
    { title: 'version', of: (row) => row.version },
    { title: 'id', of: (row) => row.id },
    { title: 'address', of: (row) => row.address },
  ]);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

/** Null where no group knows its lag. */
function largestLag(groups: TopicInfo['groups']): number | null {
  const known = groups.map(({ lag }) => lag).filter((lag) => lag !== null);
  return known.length === 0 ? null : Math.max(...known);
}
