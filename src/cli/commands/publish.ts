/** `micro publish TOPIC [BODY]`: one message, or many. Prints go-micro's `ok`, or the receipts as JSON. */
import { Command } from 'commander';
import type { Broker, Receipt } from '../../broker/broker.ts';
import type { Message } from '../../broker/message/message.ts';
import type { PublishOptions } from '../../broker/options/options.ts';
import { type BrokerFlags, onBroker, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { notFound, usage } from '../exit-code.ts';
import { Progress } from '../printing/progress.ts';
import { body, count, duration, headers, isJson, stdinLines } from '../values.ts';

interface Flags extends BrokerFlags {
  readonly header: string[];
  readonly key?: string;
  readonly dedupId?: string;
  readonly delay?: string;
  readonly maxLength?: string;
  readonly lines?: boolean;
  readonly count?: string;
}

const BATCH = 500;

export function publishCommand(): Command {
  const command = new Command('publish')
    .description('publish a message to a topic')
    .argument('<topic>')
    .argument('[body]', 'the body, JSON or any text; - reads it from standard input', '-')
    .option('-H, --header <name: value>', 'a header; may be given more than once', collect, [])
    .option('-k, --key <key>', 'messages of one key keep their order')
    .option('--dedup-id <id>', 'publish once: a second message with this id is dropped')
    .option('--delay <time>', 'deliver it so much later: 500ms, 5s, 1m, 2h')
    .option('--max-length <n>', 'trim the topic to about n messages')
    .option('--lines', 'each line of standard input is a message')
    .option('-n, --count <n>', 'publish it n times');
  withBroker(command).action(publish);
  return withExamples(command, [
    { line: `micro publish orders '{"id":1}'`, says: 'publish one message' },
    { line: `echo '{"id":2}' | micro publish orders -`, says: 'read the body from standard input' },
    {
      line: `printf 'a\\nb\\n' | micro publish letters - --lines`,
      says: 'one message for each line',
    },
    {
      line: `micro publish orders '{"id":3}' --key customer-7 --header 'Tenant: blue' --dedup-id order-3 --json`,
      says: 'with a key, a header and an id that makes it exactly one',
    },
  ]);
}

async function publish(topic: string, argument: string, flags: Flags): Promise<void> {
  const times = flags.count === undefined ? 1 : count(flags.count, '--count');
  if (flags.lines && (argument !== '-' || flags.count !== undefined)) {
    throw usage('--lines reads standard input: give no body and no --count');
  }
  if (flags.dedupId !== undefined && (flags.lines || times > 1)) {
    throw usage('--dedup-id makes one message the only one of its id: publish one at a time');
  }
  const options: PublishOptions = {
    ...(flags.dedupId === undefined ? {} : { dedupId: flags.dedupId }),
    ...(flags.delay === undefined ? {} : { delayMs: duration(flags.delay, '--delay') }),
    ...(flags.maxLength === undefined ? {} : { maxLength: count(flags.maxLength, '--max-length') }),
  };
  const output = outputOf(flags);
  const given = headers(flags.header);
  const message = (bytes: Buffer): Message => ({
    headers: { ...(isJson(bytes) ? { 'Content-Type': 'application/json' } : {}), ...given },
    body: bytes,
    ...(flags.key === undefined ? {} : { key: flags.key }),
  });
  const source = flags.lines ? lines(message) : repeated(message(await body(argument)), times);
  await onBroker(flags, async (broker) => {
    if (!broker.capabilities.persistent) await mustBeRead(broker, topic);
    const progress = new Progress(`publishing to ${topic}`);
    let done = 0;
    for await (const batch of batches(source)) {
      const receipts = await store(broker, topic, batch, options);
      done += batch.length;
      progress.show(done, flags.lines ? 0 : times, 'messages');
      if (!flags.json) continue;
      for (const { id, duplicate } of receipts) await output.item({ topic, id, duplicate });
    }
    progress.end();
  });
  if (!flags.json) await output.line('ok');
}

/** What no subscriber takes now is lost where nothing is stored. */
async function mustBeRead(broker: Broker, topic: string): Promise<void> {
  if (broker.name !== 'http') return;
  for await (const each of broker.topics()) if (each.topic === topic) return;
  throw notFound(
    `no subscriber of ${topic} is in the registry, and an http:// broker stores nothing; --registry names another`,
  );
}

function store(broker: Broker, topic: string, batch: Message[], options: PublishOptions) {
  if (batch.length > 1) return broker.publishBatch(topic, batch, options);
  return broker.publish(topic, batch[0] as Message, options).then((one): Receipt[] => [one]);
}

async function* lines(message: (bytes: Buffer) => Message): AsyncGenerator<Message> {
  for await (const line of stdinLines()) yield message(line);
}

async function* repeated(message: Message, times: number): AsyncGenerator<Message> {
  for (let i = 0; i < times; i++) yield message;
}

/** A batch is stored when it is full, or when its input pauses: `tail -f | micro publish` is live. */
async function* batches(source: AsyncGenerator<Message>): AsyncGenerator<Message[]> {
  let next = source.next();
  for (;;) {
    const first = await next;
    if (first.done) return;
    const batch = [first.value];
    let isOver = false;
    while (batch.length < BATCH) {
      next = source.next();
      const more = await Promise.race([next, paused()]);
      if (more === null) break;
      if (more.done) {
        isOver = true;
        break;
      }
      batch.push(more.value);
    }
    if (batch.length === BATCH) next = source.next();
    yield batch;
    if (isOver) return;
  }
}

function paused(): Promise<null> {
  return new Promise((resolve) => setImmediate(() => resolve(null)));
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}
