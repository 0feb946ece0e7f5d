/**
 * `micro group info|pending|claim|ack|release|reset`: a group, its consumers, and the messages that
 * were delivered and not acknowledged.
 */
import { Command } from 'commander';
import type { PendingEntry } from '../../broker/broker.ts';
import { decodeMessage } from '../../broker/message/entry.ts';
import type { Client } from '../../client/client.ts';
import type { Reply } from '../../client/reply.ts';
import { type BrokerFlags, brokerAddress, onBroker, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { notFound, usage } from '../exit-code.ts';
import { messageForm, printMessage } from '../printing/message-text.ts';
import { factsOf, isStreamServer, onStreamServer, orNull, timeOfId } from '../stream-server.ts';
import { count, duration, position } from '../values.ts';
import { findTopic } from './topic.ts';

const PAGE = 1000;

export function groupCommand(): Command {
  const command = new Command('group').description('look at a group and its pending messages');
  const sub = (name: string) => withBroker(command.command(name));
  const named = (each: Command) => each.argument('<topic>').argument('<group>');
  const info = named(sub('info').description('consumers, pending, lag and policy')).action(
    groupInfo,
  );
  withExamples(info, [{ line: 'micro group info orders billing', says: 'what there is to know' }]);
  const pending = named(sub('pending').description('messages delivered and not acknowledged'))
    .option('--consumer <name>', 'of this consumer')
    .option('--min-idle <time>', 'delivered at least this long ago: 30s, 5m')
    .option('-n, --limit <n>', 'at most n of them', '100')
    .action(groupPending);
  withExamples(pending, [
    { line: 'micro group pending orders billing', says: 'ids, consumers, idle times, attempts' },
    { line: 'micro group pending orders billing --min-idle 1m --json', says: 'what is late' },
  ]);
  const claim = named(sub('claim').description('take pending messages over, and print them'))
    .argument('[ids...]', 'default: the oldest')
    .option('--consumer <name>', 'the consumer that takes them', 'micro')
    .option('--min-idle <time>', 'only what was delivered at least this long ago')
    .option('-n, --limit <n>', 'at most n of them', '100')
    .action(groupClaim);
  withExamples(claim, [
    {
      line: 'micro group claim orders billing --min-idle 1ms --limit 1',
      says: 'take the oldest late message; ack or release it afterwards',
    },
  ]);
  const ack = named(sub('ack').description('acknowledge messages: the group is done with them'))
    .argument('<ids...>')
    .action(groupAck);
  withExamples(ack, [
    { line: 'micro group ack orders billing 1700000000000-0', says: 'done by hand' },
  ]);
  const release = named(sub('release').description('give messages back, for any consumer, at once'))
    .argument('<ids...>')
    .action(groupRelease);
  withExamples(release, [
    { line: 'micro group release orders billing 1700000000001-0', says: 'deliver it again' },
  ]);
  const reset = named(sub('reset').description('move a group; what is pending is forgotten'))
    .requiredOption('--to <position>', 'earliest, new, an id, a time, or 1h for an hour ago')
    .action(groupReset);
  withExamples(reset, [
    { line: 'micro group reset orders billing --to new', says: 'skip everything that is there' },
  ]);
  return command;
}

async function groupInfo(topic: string, group: string, flags: BrokerFlags): Promise<void> {
  const found = await onBroker(flags, (broker) => findTopic(broker, topic));
  const facts = found.groups.find(({ name }) => name === group);
  if (facts === undefined) throw noGroup(topic, group);
  const address = brokerAddress(flags);
  const more = isStreamServer(address) ? await streamGroup(address, topic, group) : null;
  const output = outputOf(flags);
  const { consumers = [], ...about } = more ?? {};
  if (flags.json) return output.value({ topic, ...facts, ...more });
  await output.facts({ topic, group, pending: facts.pending, lag: facts.lag, ...about });
  if (consumers.length === 0) return;
  await output.line('');
  await output.rows(consumers, [
    { title: 'consumer', of: (each) => each.name },
    { title: 'pending', of: (each) => each.pending, right: true },
    { title: 'idle ms', of: (each) => each.idleMs, right: true },
  ]);
}

async function streamGroup(address: string, topic: string, group: string) {
  return onStreamServer(address, 'micro group info', async (client) => {
    const rows = (await orNull(client.call('XINFO', 'CONSUMERS', topic, group))) as Reply[] | null;
    const consumers = (rows ?? []).map((row) => {
      const { name, pending, idle } = factsOf(row);
      return { name: String(name), pending: Number(pending), idleMs: Number(idle) };
    });
    const policy = await client.call('XGROUP', 'GETPOLICY', topic, group).catch(() => null);
    return { policy: policy === null ? null : policyText(policy), consumers };
  });
}

function policyText(policy: Reply): string {
  return Object.entries(factsOf(policy))
    .map(([name, value]) => `${name}=${value === null ? 'none' : String(value)}`)
    .join(' ');
}

interface PendingFlags extends BrokerFlags {
  readonly consumer?: string;
  readonly minIdle?: string;
  readonly limit: string;
}

async function groupPending(topic: string, group: string, flags: PendingFlags): Promise<void> {
  const limit = count(flags.limit, '--limit', 1, 10_000_000);
  const query = {
    ...(flags.consumer === undefined ? {} : { consumer: flags.consumer }),
    ...(flags.minIdle === undefined ? {} : { minIdleMs: duration(flags.minIdle, '--min-idle') }),
  };
  const found: PendingEntry[] = [];
  await onBroker(flags, async (broker) => {
    while (found.length < limit) {
      const size = Math.min(PAGE, limit - found.length);
      const last = found.at(-1);
      const after = last === undefined ? {} : { after: last.id };
      const page = await broker.pending(topic, group, { ...query, limit: size, ...after });
      found.push(...page);
      if (page.length < size) break;
    }
  });
  await outputOf(flags).rows(found, [
    { title: 'id', of: ({ id }) => id },
    { title: 'consumer', of: ({ consumer }) => consumer || null },
    { title: 'idle ms', of: ({ idleMs }) => idleMs, right: true },
    { title: 'attempts', of: ({ attempts }) => attempts, right: true },
  ]);
}

interface ClaimFlags extends BrokerFlags {
  readonly consumer: string;
  readonly minIdle?: string;
  readonly limit: string;
}

async function groupClaim(
  topic: string,
  group: string,
  ids: string[],
  flags: ClaimFlags,
): Promise<void> {
  const idle = flags.minIdle === undefined ? 0 : Math.ceil(duration(flags.minIdle, '--min-idle'));
  const limit = count(flags.limit, '--limit', 1, 10_000);
  checkIds(ids);
  const output = outputOf(flags);
  const form = messageForm(flags.json ? { json: true } : {});
  await onStreamServer(brokerAddress(flags), 'micro group claim', async (client) => {
    const claimer = [topic, group, flags.consumer, idle] as const;
    const reply = await ofGroup(
      topic,
      group,
      ids.length > 0
        ? client.call('XCLAIM', ...claimer, ...ids)
        : client.call('XAUTOCLAIM', ...claimer, '-', 'COUNT', limit),
    );
    const entries = (ids.length > 0 ? reply : (reply as Reply[])[1]) as [Buffer, Buffer[]][];
    for (const entry of entries) {
      // A message that was deleted meanwhile.
      if (entry === null) continue;
      const id = entry[0].toString();
      const message = decodeMessage(entry[1]);
      await printMessage(output, { topic, id, publishedAt: timeOfId(id), message }, form);
    }
    output.note(`${entries.length} claimed for consumer ${flags.consumer}`);
  });
}

async function groupAck(topic: string, group: string, ids: string[], flags: BrokerFlags) {
  checkIds(ids);
  await settleByHand(topic, group, flags, 'micro group ack', 'acknowledged', (client) =>
    client.call('XACK', topic, group, ...ids),
  );
}

async function groupRelease(topic: string, group: string, ids: string[], flags: BrokerFlags) {
  checkIds(ids);
  await settleByHand(topic, group, flags, 'micro group release', 'released', (client) =>
    client.call('XNACK', topic, group, 'SILENT', 'IDS', ids.length, ...ids),
  );
}

async function settleByHand(
  topic: string,
  group: string,
  flags: BrokerFlags,
  what: string,
  done: string,
  settle: (client: Client) => Promise<Reply>,
): Promise<void> {
  const number = await onStreamServer(brokerAddress(flags), what, async (client) =>
    Number(await ofGroup(topic, group, settle(client))),
  );
  if (number === 0) throw notFound('none of these ids is pending in the group');
  await outputOf(flags).facts({ topic, group, [done]: number });
}

async function groupReset(topic: string, group: string, flags: BrokerFlags & { to: string }) {
  const to = position(flags.to, Date.now(), '--to');
  await onBroker(flags, (broker) => broker.replay(topic, group, to));
  await outputOf(flags).facts({ topic, group, to: flags.to });
}

async function ofGroup(topic: string, group: string, work: Promise<Reply>): Promise<Reply> {
  const reply = await orNull(work);
  if (reply === null) throw noGroup(topic, group);
  return reply;
}

function noGroup(topic: string, group: string) {
  return notFound(
    `topic ${topic} has no group ${JSON.stringify(group)}; micro list groups ${topic} names them`,
  );
}

function checkIds(ids: readonly string[]): void {
  const wrong = ids.find((id) => !/^\d+-\d+$/.test(id));
  if (wrong !== undefined) {
    throw usage(`${JSON.stringify(wrong)} is no id: write one like 1700000000000-0`);
  }
}
