/**
 * `micro subscribe TOPIC`: prints messages as they come, until --count, --wait or Ctrl-C.
 *
 * Invariant: a message of a group is acknowledged after it was printed, and at most --count messages
 * are; so nothing that was not shown is lost to the group.
 */
import { Command } from 'commander';
import type { Broker, Delivery, Subscriber } from '../../broker/broker.ts';
import { type BrokerFlags, onBroker, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { EXIT } from '../exit-code.ts';
import { aborted, endedEarly, interrupted } from '../interrupt.ts';
import { FORMAT_LETTERS, messageForm, printMessage } from '../printing/message-text.ts';
import { count, position, timeout } from '../values.ts';

interface Flags extends BrokerFlags {
  readonly group?: string;
  readonly from?: string;
  readonly count?: string;
  readonly wait?: string;
  readonly raw?: boolean;
  readonly format?: string;
}

export function subscribeCommand(): Command {
  const command = new Command('subscribe')
    .description('print the messages of a topic as they come')
    .argument('<topic>', 'a topic, or a pattern: orders.* and orders.>')
    .option('-g, --group <name>', 'share the messages with the other consumers of this group')
    .option(
      '-f, --from <position>',
      'earliest, new (default), an id, a time, or 1h for an hour ago',
    )
    .option('-n, --count <n>', 'end after n messages')
    .option(
      '--wait <time>',
      'end when no message came for this time; exit code 5 if fewer than --count',
    )
    .option('--raw', 'print the bodies only, each with a line end')
    .option('--format <text>', FORMAT_LETTERS);
  withBroker(command).action(subscribe);
  return withExamples(command, [
    {
      line: 'micro subscribe orders --from earliest --count 2',
      says: 'the two oldest messages of a topic',
    },
    {
      line: 'micro subscribe orders --group billing --from earliest --count 1 --json',
      says: 'take one message for a group, as JSON',
    },
    {
      line: `micro subscribe orders --from earliest --wait 1s --format '%i %b\\n'`,
      says: 'everything that is there, in a form of your own',
    },
  ]);
}

async function subscribe(topic: string, flags: Flags): Promise<void> {
  const form = messageForm(flags);
  const most = flags.count === undefined ? Number.POSITIVE_INFINITY : count(flags.count, '--count');
  const waitMs = flags.wait === undefined ? null : timeout(flags.wait, '--wait');
  const from = flags.from === undefined ? 'new' : position(flags.from, Date.now());
  const output = outputOf(flags);
  const interrupt = interrupted();
  let printed = 0;
  await onBroker(flags, async (broker: Broker) => {
    const ends = new AbortController();
    const end = () => ends.abort();
    interrupt.addEventListener('abort', end, { once: true });
    let timer: NodeJS.Timeout | undefined;
    const restart = () => {
      clearTimeout(timer);
      if (waitMs !== null) timer = setTimeout(end, waitMs);
    };
    let open!: (subscriber: Subscriber) => void;
    const opened = new Promise<Subscriber>((resolve) => {
      open = resolve;
    });
    const handler = async (delivery: Delivery) => {
      printed++;
      restart();
      const { id, publishedAt, attempt, message } = delivery;
      const shown = { topic: delivery.topic, id, publishedAt, attempt, message };
      await printMessage(output, shown, form);
      // Stop reading before room is made for the next message: it would count as delivered.
      if (printed >= most) {
        void (await opened).unsubscribe();
        end();
      }
      await delivery.ack();
    };
    restart();
    const options = {
      from,
      ack: 'manual' as const,
      ...(flags.group === undefined ? {} : { group: flags.group }),
      ...(most === Number.POSITIVE_INFINITY ? {} : { maxInFlight: 1 }),
    };
    const subscriber = await broker.subscribe(topic, handler, options);
    open(subscriber);
    await aborted(ends.signal);
    clearTimeout(timer);
    await subscriber.unsubscribe();
  });
  if (most === Number.POSITIVE_INFINITY || printed >= most) return;
  endedEarly(interrupt);
  if (!interrupt.aborted) {
    output.note(`micro: ${printed} of ${most} messages came; the last wait was longer than --wait`);
    process.exitCode = EXIT.timeout;
  }
}
