/** Runs consumers one after the other, each ended by the message `poison`, until that is a dead letter. */
import { fork } from 'node:child_process';
import type { Broker } from '../../src/broker/broker.ts';
import { collect, Seen } from '../../src/conformance/world.ts';

export interface PoisonRun {
  /** "text attempt" of each hand-over. */
  readonly poison: readonly string[];
  /** Sorted. */
  readonly others: readonly string[];
}

const MOST_RUNS = 8;
const WAIT_MS = 40_000;

/** The topic holds `poison`, a, b, c, d. Resolves once all of these have had their end. */
export async function runPoison(
  url: string,
  topic: string,
  broker: Broker,
  mode = '',
): Promise<PoisonRun> {
  const lines = new Seen<string>();
  const options = { group: 'dead', from: 'earliest' } as const;
  const dead = await collect(broker, `${topic}.dead`, options);
  const ended = Promise.all([
    dead.seen.until((all) => all.includes('poison'), 'dead letter', WAIT_MS),
    lines.until(
      (all) => ['a', 'b', 'c', 'd'].every((each) => all.some((line) => line.startsWith(each))),
      'the others',
      WAIT_MS,
    ),
  ]);
  ended.catch(() => {});
  let isOver = false;
  let kill = () => {};
  const running = (async () => {
    for (let runs = 0; runs < MOST_RUNS && !isOver; runs++) {
      const child = fork(new URL('./poison-peer.js', import.meta.url), [url, topic, mode], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      });
      kill = () => child.kill('SIGKILL');
      child.on('message', (line) => lines.add(String(line)));
      await new Promise((resolve) => child.once('exit', resolve));
    }
  })();
  try {
    await ended;
  } finally {
    isOver = true;
    kill();
    await running;
  }
  return {
    poison: lines.items.filter((line) => line.startsWith('poison')),
    others: lines.items.filter((line) => !line.startsWith('poison')).sort(),
  };
}
