/**
 * A child process that consumes, and ends itself on messages with a certain text.
 *
 * `runDoomed` is called by cases; the same file, run as a program, is the process. It writes a line
 * for each hand-over into a file before anything else happens, so that the line outlives the process.
 */
import { fork } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openBroker } from '../broker/open-broker.ts';
import type { SubscribeOptions } from '../broker/options/options.ts';
import { text } from './case-context.ts';

export interface Doom {
  readonly topic: string;
  readonly options: SubscribeOptions;
  /** On a message with this text the process ends itself. */
  readonly poison: string;
  /** `kill`: SIGKILL, at once. `exit`: process.exit after a turn of the event loop. */
  readonly how: 'kill' | 'exit';
  /** How long a handler of another message takes, ms; 0 = it returns at once. */
  readonly workMs: number;
  /** After this many successful hand-overs of other messages the process disconnects and ends. */
  readonly enough: number;
  /** Texts that earlier runs were handed: they do not count. */
  readonly known?: readonly string[];
  /** It does not leave before this many attempts of the poison, unless the poison is dead-lettered. */
  readonly poisonLeft: number;
}

export interface HandOver {
  readonly text: string;
  readonly attempt: number;
  /** The run of the process. */
  readonly run: number;
}

const RUN_MS = 20_000;

/**
 * Runs the process until it leaves by itself, at most `runs` times. Returns every hand-over of every
 * run, in order.
 */
export async function runDoomed(url: string, doom: Doom, runs: number): Promise<HandOver[]> {
  const directory = mkdtempSync(join(tmpdir(), 'rivulet-doomed-'));
  const file = join(directory, 'hand-overs');
  writeFileSync(file, '');
  const lines = () => readFileSync(file, 'utf8').split('\n').filter(Boolean);
  const seen: HandOver[] = [];
  try {
    for (let run = 0; run < runs; run++) {
      const before = lines().length;
      const enough = doom.enough - succeeded(seen, doom);
      // By its attempts: a hand-over that was not counted leaves it one more.
      const had = seen.filter((each) => each.text === doom.poison).map(({ attempt }) => attempt);
      const poisonLeft = doom.poisonLeft - Math.max(0, ...had);
      if (enough <= 0 && poisonLeft <= 0) break;
      const known = seen.map((each) => each.text);
      const code = await runOnce(url, { ...doom, known, enough, poisonLeft }, file);
      for (const line of lines().slice(before)) {
        const [attempt = '', ...words] = line.split(' ');
        seen.push({ text: words.join(' '), attempt: Number(attempt), run });
      }
      if (code === 0) break;
    }
    return seen;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** How many other messages were handed over; each counts once. */
function succeeded(seen: readonly HandOver[], { poison }: Doom): number {
  return new Set(seen.map((each) => each.text).filter((each) => each !== poison)).size;
}

function runOnce(url: string, doom: Doom, file: string): Promise<number | null> {
  const child = fork(fileURLToPath(import.meta.url), [url, JSON.stringify(doom), file], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      kill();
      reject(new Error(`the process has neither ended nor got its messages within ${RUN_MS} ms`));
    }, RUN_MS);
    child.once('exit', (code) => {
      clearTimeout(timer);
      process.off('exit', kill);
      resolve(code);
    });
  });
}

async function main(url: string, doom: Doom, file: string): Promise<void> {
  const { topic, options, poison, how, workMs, enough, poisonLeft, known = [] } = doom;
  const broker = await openBroker(url);
  const names = new Set<string>();
  let running = 0;
  let deadLettered = false;
  const leaveWhenDone = () => {
    if (names.size < enough || running > 0) return;
    // The poison has attempts left, which end this process too.
    if (poisonLeft > 0 && !deadLettered) return;
    setTimeout(() => void broker.disconnect().then(() => process.exit(0)), 300);
  };
  broker.on('deadLettered', () => {
    deadLettered = true;
    leaveWhenDone();
  });
  await broker.subscribe(
    topic,
    async (delivery) => {
      const name = text(delivery);
      appendFileSync(file, `${delivery.attempt} ${name}\n`);
      if (name === poison) {
        if (how === 'kill') process.kill(process.pid, 'SIGKILL');
        await new Promise((resolve) => setImmediate(resolve));
        process.exit(1);
      }
      if (!known.includes(name)) names.add(name);
      running++;
      if (workMs > 0) await new Promise((resolve) => setTimeout(resolve, workMs));
      running--;
      setTimeout(leaveWhenDone, 100);
    },
    options,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [url = '', doom = '{}', file = ''] = process.argv.slice(2);
  void main(url, JSON.parse(doom), file);
}
