/**
 * `micro import redis://...`: keys and streams of a Redis server, with groups and pending lists.
 *
 * Each key travels as its DUMP and is restored under its name with its time to live. Invariants: a key
 * that is there already stays, unless --replace says otherwise, so that an import that was stopped goes
 * on; a type that this server does not have is counted and named, never lost in silence. Cost: one page
 * of keys in memory.
 */
import { Command } from 'commander';
import { withoutPassword } from '../../broker/addresses.ts';
import type { Client } from '../../client/client.ts';
import { type Reply, ReplyError } from '../../client/reply.ts';
import { type BrokerFlags, brokerAddress, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { EXIT, usage } from '../exit-code.ts';
import { Progress } from '../printing/progress.ts';
import { isStreamServer, openStreamServer } from '../stream-server.ts';

interface Flags extends BrokerFlags {
  readonly match: string;
  readonly replace?: boolean;
  readonly dryRun?: boolean;
}

interface Tally {
  imported: number;
  present: number;
  unsupported: number;
  failed: number;
  gone: number;
}

const PAGE = 100;
const SHOWN = 20;
const TYPES = new Set(['stream', 'string']);

export function importCommand(): Command {
  const command = new Command('import')
    .description('copy keys and streams of a Redis server, with groups and pending lists')
    .argument('<url>', 'redis://[user:password@]host:port[/database]')
    .option('--match <pattern>', 'keys that match, as in SCAN', '*')
    .option('--replace', 'overwrite keys that are there')
    .option('--dry-run', 'count, and change nothing');
  withBroker(command).action(importKeys);
  return withExamples(command, [
    {
      line: `micro import "$MICRO_BROKER" --broker rivulet://127.0.0.1:7488/2 --match 'orders*' --json`,
      says: 'streams whose name begins with orders, into another database',
    },
  ]);
}

async function importKeys(url: string, flags: Flags): Promise<void> {
  if (!isStreamServer(url)) {
    throw usage(`${withoutPassword(url)} is no redis:// address`);
  }
  const target = brokerAddress(flags);
  if (url === target) throw usage('the source is the target: --broker names another');
  const from = await openStreamServer(url, 'micro import');
  const to = await openStreamServer(target, 'micro import').catch(async (error) => {
    await from.close();
    throw error;
  });
  const output = outputOf(flags);
  const progress = new Progress('importing');
  const tally: Tally = { imported: 0, present: 0, unsupported: 0, failed: 0, gone: 0 };
  let noted = 0;
  const note = (text: string) => {
    if (++noted <= SHOWN) output.note(`micro: ${text}`);
  };
  try {
    const total = Number(await from.call('DBSIZE'));
    let seen = 0;
    for (let cursor = '0'; ; ) {
      const page = await from.call('SCAN', cursor, 'MATCH', flags.match, 'COUNT', PAGE);
      const [next, keys] = page as [Buffer, Buffer[]];
      await importPage(from, to, keys, flags, tally, note);
      seen += keys.length;
      progress.show(seen, flags.match === '*' ? total : 0, 'keys');
      cursor = next.toString();
      if (cursor === '0') break;
    }
  } finally {
    progress.end();
    await Promise.all([from.close(), to.close()]);
  }
  if (noted > SHOWN) output.note(`micro: and ${noted - SHOWN} more`);
  await output.facts({ ...tally, ...(flags.dryRun ? { dryRun: true } : {}) });
  if (tally.failed > 0 || tally.unsupported > 0) process.exitCode = EXIT.failed;
}

async function importPage(
  from: Client,
  to: Client,
  keys: readonly Buffer[],
  flags: Flags,
  tally: Tally,
  note: (text: string) => void,
): Promise<void> {
  if (keys.length === 0) return;
  const types = (await from.pipeline(keys.map((key) => ['TYPE', key]))).map(String);
  const wanted = keys.filter((key, index) => {
    const type = types[index] as string;
    if (TYPES.has(type)) return true;
    if (type === 'none') tally.gone++;
    else {
      tally.unsupported++;
      note(`${key} is a ${type}, which this server does not have`);
    }
    return false;
  });
  if (flags.dryRun) {
    tally.imported += wanted.length;
    return;
  }
  const dumps = await from.pipeline(
    wanted.flatMap((key) => [
      ['DUMP', key],
      ['PTTL', key],
    ]),
  );
  const commands: { key: Buffer; command: (string | Buffer | number)[] }[] = [];
  for (const [index, key] of wanted.entries()) {
    const [dump, ttl] = [dumps[2 * index] as Reply, Number(dumps[2 * index + 1])];
    if (!Buffer.isBuffer(dump)) {
      tally.gone++;
      continue;
    }
    const replace = flags.replace ? ['REPLACE'] : [];
    const ttlMs = Math.max(0, ttl);
    commands.push({ key, command: ['RESTORE', key, ttlMs, dump, ...replace] });
  }
  const replies = await to.pipeline(commands.map(({ command }) => command));
  for (const [index, reply] of replies.entries()) {
    const { key } = commands[index] as { key: Buffer };
    if (!(reply instanceof ReplyError)) tally.imported++;
    else if (reply.prefix === 'BUSYKEY') tally.present++;
    else {
      tally.failed++;
      note(`${key}: ${reply.message}`);
    }
  }
}
