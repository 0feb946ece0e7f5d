/**
 * A child process that consumes or responds, to be killed while it works.
 *
 * `startPeer` is called by cases; the same file, run as a program, is the peer. It sends its parent one
 * line for each message that it receives, and settles nothing.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { openBroker } from '../broker/open-broker.ts';
import { Seen } from './case-context.ts';

export interface Peer {
  /** One line for each message that it received. */
  readonly lines: Seen<string>;
  kill(): void;
}

/** `hold`: receives messages and settles none. `hang`: receives requests and never replies. */
export async function startPeer(
  url: string,
  role: 'hold' | 'hang',
  topic: string,
  group: string,
): Promise<Peer> {
  const child = fork(fileURLToPath(import.meta.url), [url, role, topic, group], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const lines = new Seen<string>();
  const ready = new Seen<string>();
  child.on('message', (line) => (line === 'ready' ? ready : lines).add(String(line)));
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  await ready.count(1);
  return { lines, kill };
}

async function main(url: string, role: string, topic: string, group: string): Promise<void> {
  const broker = await openBroker(url);
  const tell = (line: string) => process.send?.(line);
  if (role === 'hold') {
    await broker.subscribe(topic, (delivery) => tell(delivery.id), {
      group,
      ack: 'manual',
      ackWaitMs: 1000,
      concurrency: 100,
    });
  } else {
    await broker.respond(
      topic,
      () => {
        tell('request');
        return new Promise(() => {});
      },
      { group },
    );
  }
  tell('ready');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [url = '', role = '', topic = '', group = ''] = process.argv.slice(2);
  void main(url, role, topic, group);
}
