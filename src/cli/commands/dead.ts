/** `micro dead list|show|redrive`: messages whose attempts are used up, and their way back. */
import { Command } from 'commander';
import { deadLetterHeaders } from '../../broker/message/message.ts';
import type { Client } from '../../client/client.ts';
import { type BrokerFlags, brokerAddress, onBroker, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { notFound, usage } from '../exit-code.ts';
import { messageForm, printMessage } from '../printing/message-text.ts';
import { type Entry, entriesOf, onStreamServer, timeOfId } from '../stream-server.ts';
import { count } from '../values.ts';

const SUFFIX = '.dead';

interface Flags extends BrokerFlags {
  readonly from?: string;
}

export function deadCommand(): Command {
  const command = new Command('dead').description('look at dead letters, and send them back');
  const sub = (name: string) => withBroker(command.command(name));
  const from = ['--from <topic>', 'where the dead letters are (default TOPIC.dead)'] as const;
  const list = sub('list')
    .description('topics with dead letters, or the dead letters of one topic')
    .argument('[topic]')
    .option(...from)
    .option('-n, --limit <n>', 'at most n of them', '100')
    .action(deadList);
  withExamples(list, [
    { line: 'micro dead list', says: 'topics that have dead letters' },
    { line: 'micro dead list payments', says: 'which, of which group, and why' },
  ]);
  const show = sub('show')
    .description('one dead letter with its headers and body')
    .argument('<topic>')
    .argument('[id]', 'default: the oldest')
    .option(...from)
    .action(deadShow);
  withExamples(show, [{ line: 'micro dead show payments --json', says: 'the oldest one, whole' }]);
  const redrive = sub('redrive')
    .description('send dead letters back to the group that could not handle them')
    .argument('<topic>')
    .option(...from)
    .option('-n, --limit <n>', 'at most n of them')
    .action(deadRedrive);
  withExamples(redrive, [
    { line: 'micro dead redrive payments --limit 1', says: 'try with one first' },
    { line: 'micro dead redrive payments', says: 'all of them' },
  ]);
  return command;
}

async function deadList(topic: string | undefined, flags: Flags & { limit: string }) {
  const limit = count(flags.limit, '--limit', 1, 1_000_000);
  const output = outputOf(flags);
  if (topic === undefined) {
    if (flags.from !== undefined) throw usage('--from belongs to one topic: name it');
    const rows = await topicsWithDead(flags);
    return output.rows(rows, [
      { title: 'topic', of: (row) => row.topic },
      { title: 'dead letters', of: (row) => row.count, right: true },
      { title: 'in', of: (row) => row.deadLetter },
    ]);
  }
  const rows = await onStreamServer(brokerAddress(flags), 'micro dead list TOPIC', async (client) =>
    (await entriesOf(client, deadTopic(topic, flags), '-', '+', limit)).map(describe),
  );
  await output.rows(rows, [
    { title: 'id', of: (row) => row.id },
    { title: 'group', of: (row) => row.group },
    { title: 'attempts', of: (row) => row.attempts, right: true },
    { title: 'died', of: (row) => row.time },
    { title: 'reason', of: (row) => row.reason?.slice(0, 80) },
  ]);
}

async function topicsWithDead(flags: BrokerFlags) {
  return onBroker(flags, async (broker) => {
    const rows: { topic: string; deadLetter: string; count: number }[] = [];
    for await (const { topic, length } of broker.topics()) {
      if (!topic.endsWith(SUFFIX) || length === 0) continue;
      rows.push({ topic: topic.slice(0, -SUFFIX.length), deadLetter: topic, count: length });
    }
    return rows.sort((a, b) => (a.topic < b.topic ? -1 : 1));
  });
}

function describe({ id, message }: Entry) {
  const headers = message.headers ?? {};
  const attempts = headers[deadLetterHeaders.attempts];
  return {
    id,
    origin: headers[deadLetterHeaders.id] ?? null,
    group: headers[deadLetterHeaders.group] ?? null,
    attempts: attempts === undefined ? null : Number(attempts),
    time: headers[deadLetterHeaders.time] ?? timeOfId(id)?.toISOString() ?? null,
    reason: headers[deadLetterHeaders.reason] ?? null,
  };
}

async function deadShow(topic: string, id: string | undefined, flags: Flags): Promise<void> {
  if (id !== undefined && !/^\d+-\d+$/.test(id)) {
    throw usage(`${JSON.stringify(id)} is no id: micro dead list ${topic} shows them`);
  }
  const dead = deadTopic(topic, flags);
  const entry = await onStreamServer(brokerAddress(flags), 'micro dead show', (client: Client) =>
    entriesOf(client, dead, id ?? '-', id ?? '+', 1),
  );
  const [found] = entry;
  if (found === undefined) {
    throw notFound(`${dead} holds ${id === undefined ? 'no dead letter' : `no message ${id}`}`);
  }
  const { json } = flags;
  const shown = { topic: dead, ...found, publishedAt: timeOfId(found.id) };
  await printMessage(outputOf(flags), shown, messageForm(json ? { json } : {}));
}

async function deadRedrive(topic: string, flags: Flags & { limit?: string }): Promise<void> {
  const options = {
    ...(flags.from === undefined ? {} : { from: flags.from }),
    ...(flags.limit === undefined ? {} : { limit: count(flags.limit, '--limit') }),
  };
  const redriven = await onBroker(flags, (broker) => broker.redrive(topic, options));
  await outputOf(flags).facts({ topic, redriven });
}

function deadTopic(topic: string, { from }: Flags): string {
  return from ?? `${topic}${SUFFIX}`;
}
