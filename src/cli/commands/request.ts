/** `micro request TOPIC [BODY]`: asks the responders of a topic, and prints what they answer. */
import { Command } from 'commander';
import { type BrokerFlags, onBroker, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { messageForm, printMessage } from '../printing/message-text.ts';
import { body, headers, isJson, timeout } from '../values.ts';

interface Flags extends BrokerFlags {
  readonly header: string[];
  readonly timeout: string;
  readonly many?: boolean;
}

export function requestCommand(): Command {
  const command = new Command('request')
    .description('send a request to the responders of a topic and print the reply')
    .argument('<topic>')
    .argument('[body]', 'the body; - reads it from standard input', '{}')
    .option('-H, --header <name: value>', 'a header; may be given more than once', collect, [])
    .option('-t, --timeout <time>', 'how long to wait: 500ms, 5s, 1m', '5s')
    .option('--many', 'print every reply of a responder that sends several');
  withBroker(command).action(request);
  return withExamples(command, [
    { line: `micro request echo '{"id":1}'`, says: 'one request, one reply' },
    { line: `micro request echo hello --timeout 2s --json`, says: 'the reply with its headers' },
  ]);
}

async function request(topic: string, argument: string, flags: Flags): Promise<void> {
  const timeoutMs = timeout(flags.timeout);
  const bytes = await body(argument);
  const given = headers(flags.header);
  const type = isJson(bytes) ? { 'Content-Type': 'application/json' } : {};
  const message = { headers: { ...type, ...given }, body: bytes };
  const output = outputOf(flags);
  // The bytes of a responder in a pipe, and nothing that moves the cursor of a terminal.
  const form = flags.json
    ? messageForm({ json: true })
    : output.isTerminal
      ? messageForm({ format: '%b\\n' })
      : 'raw';
  await onBroker(flags, async (broker) => {
    const replies = flags.many
      ? broker.requestMany(topic, message, { timeoutMs })
      : [await broker.request(topic, message, { timeoutMs })];
    for await (const reply of replies) {
      await printMessage(output, { topic, id: '', publishedAt: null, message: reply }, form);
    }
  });
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}
