/**
 * The same random entries, trims and deletions here and in a real redis-server: node counts, lengths
 * and edges must agree after every step. Skipped where no redis-server is installed.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import type { NodeLimits } from '../../src/stream/block/node-limits.ts';
import { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { TrimRule, trim } from '../../src/stream/trim.ts';
import { Arguments } from '../../src/util/arguments.ts';
import { Random } from '../../src/util/random.ts';
import { seedNamed } from '../helpers/seed.ts';

const installed = spawnSync('redis-server', ['--version']).status === 0;
const seed = seedNamed('redis layout');

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** Texts at the edges of every listpack encoding. */
const TEXTS = [
  ...[
    '0',
    '-0',
    '00',
    '-1',
    '-',
    '+1',
    '1.0',
    ' 1',
    '',
    '127',
    '128',
    '4095',
    '4096',
    '-4096',
    '-4097',
  ],
  ...['32767', '32768', '-32768', '-32769', '8388607', '8388608', '-8388608', '-8388609'],
  ...['2147483647', '2147483648', '-2147483648', '-2147483649', '9223372036854775807'],
  ...[
    '9223372036854775808',
    '-9223372036854775808',
    '-9223372036854775809',
    '18446744073709551615',
  ],
  ...['12345678901234567890', '99999999999999999999', '000000000000000000001', '9007199254740993'],
  ...[62, 63, 64, 122, 123, 124, 125, 126, 127, 128].map((length) => 'x'.repeat(length)),
];

function randomText(random: Random, large: boolean): string {
  if (random.chance(0.3)) return random.pick(TEXTS);
  if (random.chance(0.3)) return String(random.below(2 ** random.below(32)) * random.pick([1, -1]));
  if (large && random.chance(0.02)) {
    return 'y'.repeat(
      random.pick([4093, 4094, 4095, 4096, 16_377, 16_378, 16_379, 16_380, 70_000]),
    );
  }
  return 'v'.repeat(random.below(random.pick([10, 100, 300])));
}

function randomPairs(random: Random, large: boolean): string[] {
  const pairs: string[] = [];
  const schema = random.below(3);
  const count = schema === 2 ? 1 + random.below(5) : 1 + schema;
  for (let i = 0; i < count; i++) {
    pairs.push(schema === 2 ? randomText(random, false) : `field${i}`, randomText(random, large));
  }
  return pairs;
}

/** Moves to an id after the last one: near, far, or over the edge of a half. */
function nextId(random: Random, id: StreamId): void {
  const last = id.clone();
  const kind = random.below(20);
  if (kind < 12) id.increment();
  else if (kind < 16) id.set(id.msHi, (id.msLo + 1 + random.below(200)) >>> 0, 0, 0);
  else if (kind < 17) id.set(id.msHi, id.msLo, id.seqHi, 0xffff_fff0);
  else if (kind < 18)
    id.set(id.msHi, id.msLo, Math.min(2 ** 31, id.seqHi + random.below(2 ** 30)), random.uint32());
  else id.set(id.msHi + random.below(2), random.uint32(), random.below(3), random.uint32());
  if (id.compare(last) <= 0) id.copy(last).increment();
}

describe('node layout beside a real redis-server', {
  skip: !installed && 'no redis-server',
}, () => {
  let server: ChildProcess;
  let redis: Redis;

  before(async () => {
    const port = await freePort();
    const args = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
    ];
    server = spawn('redis-server', args, { stdio: 'ignore' });
    redis = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 50 });
    redis.on('error', () => {});
    await redis.ping();
  });

  after(async () => {
    redis?.disconnect();
    server?.kill();
    if (server?.exitCode === null) await once(server, 'exit');
  });

  async function compare(stream: Stream, key: string, what: string): Promise<void> {
    const info = (await redis.call('XINFO', 'STREAM', key)) as unknown[];
    const theirs: Record<string, unknown> = {};
    for (let i = 0; i < info.length; i += 2) theirs[info[i] as string] = info[i + 1];
    const ours: Record<string, unknown> = {
      length: stream.length,
      'radix-tree-keys': stream.radixTreeKeys,
      'radix-tree-nodes': stream.radixTreeNodes,
      'last-generated-id': stream.lastId.toString(),
      'max-deleted-entry-id': stream.maxDeletedId.toString(),
      'entries-added': stream.entriesAdded,
      'recorded-first-entry-id': stream.firstId.toString(),
    };
    for (const name of Object.keys(ours)) {
      assert.equal(ours[name], theirs[name], `${name} after ${what} (RIVULET_SEED=${seed})`);
    }
  }

  for (const [limits, large] of [
    [{ maxEntries: 100, maxBytes: 4096 }, false],
    [{ maxEntries: 7, maxBytes: 0 }, true],
    [{ maxEntries: 0, maxBytes: 300 }, true],
    [{ maxEntries: 0, maxBytes: 40_000 }, false],
  ] as [NodeLimits, boolean][]) {
    test(`limits ${JSON.stringify(limits)}, seed ${seed}`, async () => {
      const random = new Random(seed + limits.maxEntries * 31 + limits.maxBytes);
      await redis.config('SET', 'stream-node-max-entries', limits.maxEntries);
      await redis.config('SET', 'stream-node-max-bytes', limits.maxBytes);
      for (let round = 0; round < 3; round++) {
        const key = `s${round}`;
        await redis.del(key);
        const stream = new Stream(limits);
        const ids: string[] = [];
        const id = new StreamId(0, random.uint32(), 0, 1);
        for (let step = 0; step < 40; step++) {
          const pipeline = redis.pipeline();
          const appends = random.below(limits.maxBytes > 10_000 ? 150 : 40);
          for (let i = 0; i < appends; i++) {
            nextId(random, id);
            const pairs = randomPairs(random, large);
            stream.append(id, Arguments.of(...pairs), 0, pairs.length);
            pipeline.call('XADD', key, id.toString(), ...pairs);
            ids.push(id.toString());
          }
          for (const [error] of (await pipeline.exec()) ?? []) assert.equal(error, null);
          if (ids.length === 0) continue;
          await compare(stream, key, `${appends} appends`);
          if (random.chance(0.5)) {
            const gone = Array.from({ length: random.below(30) + 1 }, () => {
              const last = Math.min(ids.length, 200);
              return random.chance(0.7)
                ? ids[ids.length - 1 - random.below(last)]
                : random.pick(ids);
            });
            const theirs = await redis.xdel(key, ...gone);
            let ours = 0;
            for (const text of gone) if (stream.remove(StreamId.parse(text) as StreamId)) ours++;
            assert.equal(ours, theirs, `XDEL ${gone} (RIVULET_SEED=${seed})`);
            await compare(stream, key, 'XDEL');
          }
          if (random.chance(0.6)) {
            const rule = new TrimRule();
            const text: string[] = [];
            rule.approximate = random.chance(0.5);
            if (random.chance(0.5)) {
              rule.strategy = 'maxlen';
              rule.maxlen = random.below(stream.length + 5);
              text.push('MAXLEN', rule.approximate ? '~' : '=', String(rule.maxlen));
            } else {
              rule.strategy = 'minid';
              rule.minid.copy(StreamId.parse(random.pick(ids)) as StreamId);
              text.push('MINID', rule.approximate ? '~' : '=', rule.minid.toString());
            }
            if (rule.approximate) {
              rule.limit = random.chance(0.5) ? random.below(120) : 0;
              text.push('LIMIT', String(rule.limit));
            }
            const theirs = await redis.call('XTRIM', key, ...text);
            assert.equal(
              trim(stream, rule),
              theirs,
              `XTRIM ${text.join(' ')} (RIVULET_SEED=${seed})`,
            );
            await compare(stream, key, `XTRIM ${text.join(' ')}`);
          }
        }
        const entries = (await redis.xrange(key, '-', '+')) as [string, string[]][];
        assert.equal(entries.length, stream.length);
      }
    });
  }
});
