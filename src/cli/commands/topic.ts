/** `micro topic info|tail|replay|trim`: one topic, looked at and changed. */
import { Command } from 'commander';
import type { Broker, TopicInfo } from '../../broker/broker.ts';
import { type BrokerFlags, brokerAddress, onBroker, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { notFound, usage } from '../exit-code.ts';
import { aborted, interrupted } from '../interrupt.ts';
import { FORMAT_LETTERS, messageForm, printMessage } from '../printing/message-text.ts';
import {
  factsOf,
  isStreamServer,
  lastEntries,
  onStreamServer,
  orNull,
  timeOfId,
} from '../stream-server.ts';
import { count, duration, position } from '../values.ts';

interface TailFlags extends BrokerFlags {
  readonly lines: string;
  readonly follow?: boolean;
  readonly raw?: boolean;
  readonly format?: string;
}

interface TrimFlags extends BrokerFlags {
  readonly maxLength?: string;
  readonly olderThan?: string;
  readonly before?: string;
}

export function topicCommand(): Command {
  const command = new Command('topic').description('look at one topic, replay or trim it');
  const info = withBroker(command.command('info'))
    .description('length, oldest and newest message, groups')
    .argument('<topic>')
    .action(topicInfo);
  withExamples(info, [{ line: 'micro topic info orders', says: 'what there is to know' }]);
  const tail = withBroker(command.command('tail'))
    .description('the last messages, and with --follow those that come')
    .argument('<topic>')
    .option('-n, --lines <n>', 'how many', '10')
    .option('-F, --follow', 'go on with what comes')
    .option('--raw', 'print the bodies only, each with a line end')
    .option('--format <text>', FORMAT_LETTERS)
    .action(topicTail);
  withExamples(tail, [
    { line: 'micro topic tail orders -n 2', says: 'the two newest messages' },
    { line: 'micro topic tail orders --json', says: 'the last ten, one JSON object a line' },
  ]);
  const replay = withBroker(command.command('replay'))
    .description('let a group read again everything after a position')
    .argument('<topic>')
    .argument('<group>')
    .requiredOption('-f, --from <position>', 'earliest, new, an id, a time, or 1h for an hour ago')
    .action(topicReplay);
  withExamples(replay, [
    { line: 'micro topic replay orders billing --from 1h', says: 'the last hour once more' },
  ]);
  const trim = withBroker(command.command('trim'))
    .description('delete the oldest messages of a topic')
    .argument('<topic>')
    .option('--max-length <n>', 'keep the newest n')
    .option('--older-than <time>', 'delete what is older: 7d, 12h')
    .option('--before <id>', 'delete what is before this id')
    .action(topicTrim);
  withExamples(trim, [
    { line: 'micro topic trim orders --older-than 7d', says: 'keep a week' },
    { line: 'micro topic trim orders --max-length 1000', says: 'keep the newest thousand' },
  ]);
  return command;
}

/** What the broker says of a topic. Throws where it has none of that name. */
export async function findTopic(broker: Broker, topic: string): Promise<TopicInfo> {
  for await (const each of broker.topics()) if (each.topic === topic) return each;
  throw notFound(
    `the broker has no topic ${JSON.stringify(topic)}; micro list topics names those that there are`,
  );
}

async function topicInfo(topic: string, flags: BrokerFlags): Promise<void> {
  const address = brokerAddress(flags);
  const found = await onBroker(flags, (broker) => findTopic(broker, topic));
  const stream = isStreamServer(address) ? await streamFacts(address, topic) : null;
  const output = outputOf(flags);
  if (flags.json) return output.value({ ...found, ...stream });
  await output.facts({ topic, messages: found.length, ...stream });
  if (found.groups.length === 0) return;
  await output.line('');
  await output.rows(found.groups, [
    { title: 'group', of: ({ name }) => name },
    { title: 'pending', of: ({ pending }) => pending, right: true },
    { title: 'lag', of: ({ lag }) => lag, right: true },
  ]);
}

async function streamFacts(address: string, topic: string) {
  return onStreamServer(address, 'micro topic info', async (client) => {
    const reply = await orNull(client.call('XINFO', 'STREAM', topic));
    if (reply === null) return {};
    const facts = factsOf(reply);
    const idOf = (name: string) => {
      const [id] = (facts[name] as Buffer[] | null) ?? [];
      return id === undefined ? null : String(id);
    };
    const oldest = idOf('first-entry');
    const newest = idOf('last-entry');
    return {
      oldest: withTime(oldest),
      newest: withTime(newest),
      added: Number(facts['entries-added'] ?? 0),
    };
  });
}

function withTime(id: string | null): string | null {
  const time = id === null ? null : timeOfId(id);
  return time === null ? id : `${id} ${time.toISOString()}`;
}

async function topicTail(topic: string, flags: TailFlags): Promise<void> {
  const form = messageForm(flags);
  const lines = count(flags.lines, '--lines', 0, 1_000_000);
  const output = outputOf(flags);
  const address = brokerAddress(flags);
  if (!flags.follow) {
    return onStreamServer(address, 'micro topic tail without --follow', async (client) => {
      const entries = lines === 0 ? [] : await lastEntries(client, topic, lines);
      if (entries.length === 0 && Number(await client.call('EXISTS', topic)) === 0) {
        throw notFound(`the broker has no topic ${JSON.stringify(topic)}`);
      }
      for (const { id, message } of entries) {
        await printMessage(output, { topic, id, publishedAt: timeOfId(id), message }, form);
      }
    });
  }
  const from = await followFrom(address, topic, lines);
  const interrupt = interrupted();
  await onBroker(flags, async (broker) => {
    const subscriber = await broker.subscribe(
      topic,
      ({ id, publishedAt, message }) =>
        printMessage(output, { topic, id, publishedAt, message }, form),
      { from },
    );
    await aborted(interrupt);
    await subscriber.unsubscribe();
  });
}

/** The position before the last `lines` messages; on brokers without ids, the end. */
async function followFrom(address: string, topic: string, lines: number) {
  if (!isStreamServer(address) || lines === 0) return 'new';
  return onStreamServer(address, 'micro topic tail', async (client) => {
    const entries = await lastEntries(client, topic, lines + 1);
    if (entries.length <= lines) return 'earliest';
    return { id: entries[0]!.id };
  });
}

async function topicReplay(
  topic: string,
  group: string,
  flags: BrokerFlags & { from: string },
): Promise<void> {
  const from = position(flags.from, Date.now());
  await onBroker(flags, (broker) => broker.replay(topic, group, from));
  await outputOf(flags).facts({ topic, group, from: flags.from });
}

async function topicTrim(topic: string, flags: TrimFlags): Promise<void> {
  const { maxLength, olderThan, before } = flags;
  if ([maxLength, olderThan, before].filter((each) => each !== undefined).length !== 1) {
    throw usage('give one of --max-length, --older-than and --before');
  }
  const limit =
    maxLength !== undefined
      ? ['MAXLEN', count(maxLength, '--max-length', 0)]
      : ['MINID', olderThan === undefined ? idOf(before as string) : ageLimit(olderThan)];
  const deleted = await onStreamServer(brokerAddress(flags), 'micro topic trim', async (client) => {
    if (Number(await client.call('EXISTS', topic)) === 0) {
      throw notFound(`the broker has no topic ${JSON.stringify(topic)}`);
    }
    return Number(await client.call('XTRIM', topic, ...(limit as [string, string | number])));
  });
  await outputOf(flags).facts({ topic, deleted });
}

function ageLimit(text: string): string {
  return `${Math.max(0, Math.floor(Date.now() - duration(text, '--older-than')))}-0`;
}

function idOf(text: string): string {
  if (/^\d+(-\d+)?$/.test(text)) return text;
  throw usage(`--before ${JSON.stringify(text)}: write an id like 1700000000000-0`);
}
