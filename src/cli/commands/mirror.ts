/**
 * `micro mirror --from URL --to URL`: topics of one broker, copied to another, with their ids.
 *
 * Between stream servers (Rivulet, Redis) entries are copied field by field under their own ids; to and
 * from other brokers they are published under a number that the target remembers. Invariants: stopped and
 * started again it goes on where it was and adds nothing twice; a target that holds other entries than
 * the source is reported, never mixed; an end in good order means that the source has nothing more. Cost:
 * one page of entries in memory.
 */
import { Command } from 'commander';
import { withoutPassword } from '../../broker/addresses.ts';
import type { Broker, Delivery } from '../../broker/broker.ts';
import { openBroker } from '../../broker/open-broker.ts';
import { compilePattern } from '../../broker/topics/topics.ts';
import type { Client } from '../../client/client.ts';
import { ReplyError } from '../../client/reply.ts';
import { isFoundByRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { CommandFailure, notFound, usage } from '../exit-code.ts';
import { endedEarly, interrupted } from '../interrupt.ts';
import { Output } from '../printing/output.ts';
import { Progress } from '../printing/progress.ts';
import { factsOf, isStreamServer, openStreamServer, orNull } from '../stream-server.ts';
import { timeout } from '../values.ts';

interface Flags {
  readonly from: string;
  readonly to: string;
  readonly topics: string;
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly wait: string;
  readonly giveUp: string;
}

interface Copied {
  readonly topic: string;
  /** The name as the source's server has it; names need not be text. */
  readonly key: Buffer;
  copied: number;
  /** Last id copied; null where the brokers have no common ids. */
  lastId: string | null;
}

const PAGE = 500;
const POLL_MS = 500;
const GROUP = 'micro-mirror';

export function mirrorCommand(): Command {
  const command = new Command('mirror')
    .description('copy topics from one broker to another, and go on where it was stopped')
    .requiredOption('--from <url>', 'the broker that has the topics')
    .requiredOption('--to <url>', 'the broker that gets them')
    .option('--topics <pattern>', 'which topics: orders, orders.*, orders.> (default all)', '>')
    .option('-F, --follow', 'go on with what comes, until Ctrl-C')
    .option('--wait <time>', 'between other brokers: end when no message came for this time', '2s')
    .option(
      '--give-up <time>',
      'between other brokers: fail when nothing could be copied for this time',
      '1m',
    )
    .option('--json', 'print JSON')
    .action(mirror);
  return withExamples(command, [
    {
      line: 'micro mirror --from "$MICRO_BROKER" --to rivulet://127.0.0.1:7488/1 --topics orders --json',
      says: 'copy one topic to another database, ids included; run it again to go on',
    },
  ]);
}

async function mirror(flags: Flags): Promise<void> {
  if (flags.from === flags.to) throw usage('--from and --to are the same broker');
  for (const address of [flags.from, flags.to]) {
    if (isFoundByRegistry(address)) {
      throw usage(`${withoutPassword(address)}: an http:// broker stores nothing to mirror`);
    }
  }
  const waits = {
    waitMs: timeout(flags.wait, '--wait'),
    giveUpMs: timeout(flags.giveUp, '--give-up'),
  };
  const interrupt = interrupted();
  const progress = new Progress('mirroring');
  const areStreams = isStreamServer(flags.from) && isStreamServer(flags.to);
  const copied = areStreams
    ? await mirrorStreams(flags, interrupt, progress)
    : await mirrorMessages(flags, waits, interrupt, progress);
  progress.end();
  if (copied.length === 0) throw notFound(`no topic of the source matches ${flags.topics}`);
  const rows = copied.map(({ key: _, ...row }) => row);
  await new Output(flags.json === true).rows(rows, [
    { title: 'topic', of: (row) => row.topic },
    { title: 'copied', of: (row) => row.copied, right: true },
    { title: 'up to', of: (row) => row.lastId },
  ]);
  if (!flags.follow) endedEarly(interrupt);
}

async function mirrorStreams(
  flags: Flags,
  interrupt: AbortSignal,
  progress: Progress,
): Promise<Copied[]> {
  const source = await openStreamServer(flags.from, 'micro mirror');
  const target = await openStreamServer(flags.to, 'micro mirror').catch(async (error) => {
    await source.close();
    throw error;
  });
  try {
    const found = new Map<string, Copied>();
    do {
      const topics = await topicsOf(source, flags.topics);
      const total = await lengthOf(source, topics);
      for (const key of topics) {
        const name = key.toString('latin1');
        const topic = key.toString();
        const row = found.get(name) ?? { topic, key, copied: 0, lastId: null };
        found.set(name, row);
        await copyStream(source, target, row, interrupt, () => {
          const done = [...found.values()].reduce((sum, each) => sum + each.copied, 0);
          progress.show(done, flags.follow ? 0 : total, 'entries');
        });
      }
      if (flags.follow && !interrupt.aborted) await paused(interrupt);
    } while (flags.follow && !interrupt.aborted);
    return [...found.values()];
  } finally {
    await Promise.all([source.close(), target.close()]);
  }
}

async function topicsOf(client: Client, pattern: string): Promise<Buffer[]> {
  const matches = compilePattern(pattern);
  // A scan may name a key twice.
  const topics = new Map<string, Buffer>();
  for (let cursor = '0'; ; ) {
    const page = await client.call('SCAN', cursor, 'TYPE', 'stream', 'COUNT', 1000);
    const [next, keys] = page as [Buffer, Buffer[]];
    for (const key of keys) if (matches(key.toString())) topics.set(key.toString('latin1'), key);
    cursor = next.toString();
    if (cursor === '0') return [...topics.values()].sort(Buffer.compare);
  }
}

async function lengthOf(client: Client, topics: readonly Buffer[]): Promise<number> {
  const lengths = await client.pipeline(topics.map((topic) => ['XLEN', topic]));
  return lengths.reduce<number>((sum, length) => sum + Number(length), 0);
}

async function copyStream(
  source: Client,
  target: Client,
  row: Copied,
  interrupt: AbortSignal,
  show: () => void,
): Promise<void> {
  const { key } = row;
  let after = await lastIdOf(target, key);
  if (after !== null) await mustShare(source, target, row, after);
  while (!interrupt.aborted) {
    const start = after === null ? '-' : `(${after}`;
    const page = await source.call('XRANGE', key, start, '+', 'COUNT', PAGE);
    const entries = page as [Buffer, Buffer[]][];
    if (entries.length === 0) return;
    const replies = await target.pipeline(
      entries.map(([id, fields]) => ['XADD', key, id, ...fields]),
    );
    const wrong = replies.find((reply) => reply instanceof ReplyError) as ReplyError | undefined;
    if (wrong !== undefined) throw wrong;
    after = (entries.at(-1) as [Buffer, Buffer[]])[0].toString();
    row.copied += entries.length;
    row.lastId = after;
    show();
    if (entries.length < PAGE) return;
  }
}

async function lastIdOf(client: Client, key: Buffer): Promise<string | null> {
  const facts = await orNull(client.call('XINFO', 'STREAM', key));
  const id = facts === null ? null : String(factsOf(facts)['last-generated-id']);
  return id === '0-0' ? null : id;
}

/** What the target ends with must be the source's, or have been removed there. */
async function mustShare(
  source: Client,
  target: Client,
  { topic, key }: Copied,
  id: string,
): Promise<void> {
  const at = async (client: Client) =>
    ((await client.call('XRANGE', key, id, id)) as [Buffer, Buffer[]][])[0]?.[1] ?? null;
  const [mine, theirs] = [await at(source), await at(target)];
  const isShared =
    mine === null ? await wasRemoved(source, key, id) : theirs === null || sameFields(mine, theirs);
  if (isShared) return;
  throw new CommandFailure(
    `topic ${topic}: the target ends with ${id}, which is not the source's entry; mirror to a topic that holds nothing else`,
  );
}

/** Whether the stream can have had an entry of this id, which it does not have now. */
async function wasRemoved(client: Client, key: Buffer, id: string): Promise<boolean> {
  const reply = await orNull(client.call('XINFO', 'STREAM', key));
  if (reply === null) return false;
  const facts = factsOf(reply);
  if (isBefore(String(facts['last-generated-id']), id)) return false;
  const deleted = facts['max-deleted-entry-id'];
  // A server before Redis 7 does not say what was removed.
  if (deleted === undefined) return true;
  if (Number(facts['entries-added']) === Number(facts.length)) return false;
  if (!isBefore(String(deleted), id)) return true;
  const first = facts['first-entry'] as readonly Buffer[] | null;
  return first === null || isBefore(id, String(first[0]));
}

function sameFields(a: readonly Buffer[], b: readonly Buffer[]): boolean {
  return a.length === b.length && a.every((field, index) => field.equals(b[index] as Buffer));
}

function isBefore(a: string, b: string): boolean {
  const [[ma, sa], [mb, sb]] = [a, b].map((id) => id.split('-').map(BigInt)) as [
    bigint[],
    bigint[],
  ];
  return (ma as bigint) < (mb as bigint) || (ma === mb && (sa as bigint) < (sb as bigint));
}

/** Through the brokers' own subscribe and publish: the source's group keeps the place. */
async function mirrorMessages(
  flags: Flags,
  { waitMs, giveUpMs }: { readonly waitMs: number; readonly giveUpMs: number },
  interrupt: AbortSignal,
  progress: Progress,
): Promise<Copied[]> {
  const source = await openBroker(flags.from);
  const target = await openBroker(flags.to).catch(async (error) => {
    await source.disconnect();
    throw error;
  });
  try {
    const matches = compilePattern(flags.topics);
    const found: Copied[] = [];
    for await (const { topic } of source.topics()) {
      if (matches(topic)) {
        found.push({ topic, key: Buffer.from(topic), copied: 0, lastId: null });
      }
    }
    let failure: unknown = null;
    source.on('handlerError', ({ error }) => {
      failure = error;
    });
    const ends = new AbortController();
    interrupt.addEventListener('abort', () => ends.abort(), { once: true });
    let timer: NodeJS.Timeout | undefined;
    let copiedAt = performance.now();
    let givenUp: Error | null = null;
    const giveUp = (error: unknown) => {
      givenUp = error instanceof Error ? error : new CommandFailure(String(error));
      ends.abort();
    };
    const restart = () => {
      clearTimeout(timer);
      if (!flags.follow) timer = setTimeout(() => void look().catch(giveUp), waitMs);
    };
    // A pause is no end: a target that is slow or away leaves messages in the source's group.
    const look = async () => {
      if ((await leftIn(source, found)) === 0) ends.abort();
      else if (performance.now() - copiedAt < giveUpMs) restart();
      else giveUp(failure ?? new CommandFailure(`nothing could be copied for ${giveUpMs} ms`));
    };
    restart();
    const subscribers = await Promise.all(
      found.map((row) =>
        source.subscribe(
          row.topic,
          async ({ id, message }: Delivery) => {
            const dedup =
              target.capabilities.dedup === null ? {} : { dedupId: `${row.topic} ${id}` };
            await target.publish(row.topic, message, dedup);
            row.copied++;
            row.lastId = id;
            copiedAt = performance.now();
            restart();
            progress.show(
              found.reduce((sum, each) => sum + each.copied, 0),
              0,
              'messages',
            );
          },
          { group: GROUP, from: 'earliest', ordered: 'strict', deadLetter: false },
        ),
      ),
    );
    if (!ends.signal.aborted) {
      await new Promise<void>((resolve) => {
        ends.signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    clearTimeout(timer);
    await Promise.all(subscribers.map((each) => each.unsubscribe()));
    if (givenUp !== null) throw givenUp;
    return found;
  } finally {
    await Promise.all([source.disconnect(), target.disconnect()]);
  }
}

/** Messages that the group has not had, or not settled; 0 where the broker does not know. */
async function leftIn(source: Broker, rows: readonly Copied[]): Promise<number> {
  const names = new Set(rows.map(({ topic }) => topic));
  let left = 0;
  for await (const { topic, groups } of source.topics()) {
    const group = groups.find(({ name }) => name === GROUP);
    if (names.has(topic) && group !== undefined) left += (group.lag ?? 0) + group.pending;
  }
  return left;
}

function paused(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, POLL_MS);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
