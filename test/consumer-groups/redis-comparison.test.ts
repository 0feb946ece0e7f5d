/**
 * The rules of groups against a real redis-server (7.0): the same random commands to both, the same
 * answers expected. Times pass differently on the two sides, so idle times are set and compared in
 * steps of a thousand seconds.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import {
  autoClaim,
  type ClaimSink,
  type Consumer,
  ConsumerGroup,
  claim,
  countFrom,
  idleOf,
  lagOf,
  readHistory,
  scanPending,
  UNKNOWN_READ,
  UNOWNED,
} from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Random } from '../../src/util/random.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { seedsOf } from '../helpers/seed.ts';
import { FakeStream } from './fake-stream.ts';

const STEP = 1_000_000;
const NOW = 1_000 * STEP;
const skip = missing('redis-server');

let server: RedisServer;
let redis: Redis;

before(async () => {
  if (skip) return;
  server = await startRedis();
  redis = new Redis({ port: server.port, host: server.host, protocol: 2 });
});

after(async () => {
  redis?.disconnect();
  await server?.[Symbol.asyncDispose]();
});

/** One stream and one group on both sides. */
class Pair {
  readonly key: string;
  readonly stream = new FakeStream();
  readonly group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), UNKNOWN_READ);

  constructor(key: string) {
    this.key = key;
  }

  call(command: string, ...args: (string | number)[]): Promise<unknown> {
    return redis.call(command, this.key, ...args.map(String));
  }

  async create(): Promise<void> {
    await redis.call('XGROUP', 'CREATE', this.key, 'g', '0', 'MKSTREAM');
    await redis.call('XGROUP', 'CREATECONSUMER', this.key, 'g', 'ann');
    await redis.call('XGROUP', 'CREATECONSUMER', this.key, 'g', 'bob');
    this.group.createConsumer(Buffer.from('ann'), NOW);
    this.group.createConsumer(Buffer.from('bob'), NOW);
  }

  consumer(name: string): Consumer {
    return this.group.findConsumer(name)!;
  }

  async add(id: StreamId): Promise<void> {
    this.stream.add(id);
    await this.call('XADD', `${id}`, 'f', 'v');
  }

  async delete(id: StreamId): Promise<void> {
    assert.equal(await this.call('XDEL', `${id}`), this.stream.delete(id) ? 1 : 0);
  }

  async read(name: string, count: number): Promise<void> {
    const ids = this.stream.after(this.group.lastId).slice(0, count);
    for (const id of ids) this.group.deliver(this.stream, id, this.consumer(name), NOW);
    const reply = (await redis.call(
      'XREADGROUP',
      'GROUP',
      'g',
      name,
      'COUNT',
      `${count}`,
      'STREAMS',
      this.key,
      '>',
    )) as [string, [string][]][] | null;
    assert.deepEqual(reply?.[0][1].map((entry) => entry[0]) ?? [], ids.map(String));
  }

  async history(name: string, from: StreamId, count: number): Promise<void> {
    const ours: [string, boolean][] = [];
    readHistory(this.group, this.stream, this.consumer(name), from, count, NOW, {
      delivered: (entry) => ours.push([`${entry.id}`, true]),
      missing: (id) => ours.push([`${id}`, false]),
    });
    const reply = (await redis.call(
      'XREADGROUP',
      'GROUP',
      'g',
      name,
      'COUNT',
      `${count}`,
      'STREAMS',
      this.key,
      `${from}`,
    )) as [string, [string, unknown][]][];
    const theirs = reply[0][1].map(([id, fields]) => [id, fields !== null]);
    assert.deepEqual(ours, theirs);
  }

  async acknowledge(id: StreamId): Promise<void> {
    assert.equal(this.group.acknowledge(id) ? 1 : 0, await this.call('XACK', 'g', `${id}`));
  }

  async claim(name: string, random: Random, ids: StreamId[]): Promise<void> {
    const minIdle = random.pick([0, STEP / 2, 2.5 * STEP]);
    const idle = random.below(5) * STEP;
    const retryCount = random.chance(0.3) ? random.below(9) : -1;
    const force = random.chance(0.3);
    const justId = random.chance(0.5);
    const ours: string[] = [];
    const options = { minIdle, time: NOW - idle, retryCount, force, justId };
    for (const id of ids) {
      claim(this.group, this.stream, this.consumer(name), id, options, NOW, listing(ours, []));
    }
    const flags = [force ? 'FORCE' : '', justId ? 'JUSTID' : ''].filter(Boolean);
    if (retryCount >= 0) flags.push('RETRYCOUNT', `${countFrom(retryCount)}`);
    const theirs = await this.call(
      'XCLAIM',
      'g',
      name,
      minIdle,
      ...ids.map(String),
      'IDLE',
      idle,
      ...flags,
    );
    assert.deepEqual(ours, idsOf(theirs));
  }

  async autoClaim(name: string, random: Random): Promise<void> {
    const options = {
      minIdle: random.pick([0, STEP / 2]),
      count: 1 + random.below(4),
      justId: random.chance(0.5),
    };
    const start = StreamId.of(random.below(60));
    const next = new StreamId();
    const ours: string[] = [];
    const deleted: string[] = [];
    autoClaim(
      this.group,
      this.stream,
      this.consumer(name),
      start,
      options,
      NOW,
      next,
      listing(ours, deleted),
    );
    const theirs = (await this.call(
      'XAUTOCLAIM',
      'g',
      name,
      options.minIdle,
      `${start}`,
      'COUNT',
      options.count,
      ...(options.justId ? ['JUSTID'] : []),
    )) as [string, unknown[], string[]];
    assert.deepEqual([`${next}`, ours, deleted], [theirs[0], idsOf(theirs[1]), theirs[2]]);
  }

  async setId(id: StreamId): Promise<void> {
    this.group.setId(id, UNKNOWN_READ);
    await redis.call('XGROUP', 'SETID', this.key, 'g', `${id}`);
  }

  async replaceConsumer(name: string): Promise<void> {
    const dropped = this.group.deleteConsumer(this.consumer(name));
    this.group.createConsumer(Buffer.from(name), NOW);
    assert.equal(await redis.call('XGROUP', 'DELCONSUMER', this.key, 'g', name), dropped);
    await redis.call('XGROUP', 'CREATECONSUMER', this.key, 'g', name);
  }

  /** The whole pending list, everybody's and one consumer's, and the summary. */
  async comparePending(random: Random): Promise<void> {
    const name = random.chance(0.5) ? random.pick(['ann', 'bob']) : null;
    const minIdle = random.pick([0, 0, STEP / 2, 2.5 * STEP]);
    const start = random.chance(0.5) ? StreamId.min() : StreamId.of(random.below(40));
    const end = random.chance(0.5) ? StreamId.max() : StreamId.of(20 + random.below(60));
    const count = 1 + random.below(50);
    const ours: unknown[] = [];
    scanPending(
      this.group,
      { start, end, count, consumer: name === null ? null : this.consumer(name), minIdle },
      NOW,
      (entry, idle) => {
        assert.equal(idle, idleOf(entry, NOW));
        assert.notEqual(entry.consumer, UNOWNED);
        const owner = this.group.consumerAt(entry.consumer)!.name.toString();
        ours.push([`${entry.id}`, owner, Math.round(idle / STEP), entry.count]);
      },
    );
    const theirs = (await this.call(
      'XPENDING',
      'g',
      'IDLE',
      minIdle,
      `${start}`,
      `${end}`,
      count,
      ...(name === null ? [] : [name]),
    )) as [string, string, number, number][];
    assert.deepEqual(
      ours,
      theirs.map(([id, owner, idle, n]) => [id, owner, Math.round(idle / STEP), n]),
    );
    await this.compareSummary();
  }

  async compareSummary(): Promise<void> {
    const { pending } = this.group;
    const id = new StreamId();
    const owners = this.group
      .consumers()
      .filter((consumer) => consumer.pendingCount > 0)
      .map((consumer) => [consumer.name.toString(), `${consumer.pendingCount}`]);
    const ours = [
      pending.size,
      pending.min(id) ? `${id}` : null,
      pending.max(id) ? `${id}` : null,
      pending.size > 0 ? owners : null,
    ];
    assert.deepEqual(ours, await this.call('XPENDING', 'g'));
  }

  /** [entries-read, lag] as redis-server gives them. */
  async position(): Promise<[number | null, number | null]> {
    const [reply] = (await redis.call('XINFO', 'GROUPS', this.key)) as unknown[][];
    const field = (name: string) => reply[reply.indexOf(name) + 1] as number | null;
    return [field('entries-read'), field('lag')];
  }
}

function listing(ids: string[], deleted: string[]): ClaimSink {
  return {
    claimed: (entry) => ids.push(`${entry.id}`),
    deleted: (id) => deleted.push(`${id}`),
  };
}

function idsOf(reply: unknown): string[] {
  return (reply as (string | [string])[]).map((entry) =>
    typeof entry === 'string' ? entry : entry[0],
  );
}

async function withSeed(
  seed: number,
  run: (random: Random, pair: Pair) => Promise<void>,
): Promise<void> {
  try {
    const pair = new Pair(`s${seed}`);
    await pair.create();
    await run(new Random(seed), pair);
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
  }
}

test('pending lists, claims and history reads are those of redis-server', { skip }, async (t) => {
  for (const seed of seedsOf(t, 12)) {
    await withSeed(seed, async (random, pair) => {
      let ms = 0;
      const someId = () => StreamId.of(1 + random.below(ms + 2));
      for (let step = 0; step < 120; step++) {
        const name = random.pick(['ann', 'bob']);
        const kind = random.below(24);
        if (kind < 5) await pair.add(StreamId.of(++ms));
        else if (kind < 7) await pair.delete(someId());
        else if (kind < 11) await pair.read(name, 1 + random.below(4));
        else if (kind < 13)
          await pair.history(name, StreamId.of(random.below(ms + 2)), 1 + random.below(5));
        else if (kind < 15) await pair.acknowledge(someId());
        else if (kind < 18) await pair.claim(name, random, [someId(), someId(), someId()]);
        else if (kind < 20) await pair.autoClaim(name, random);
        else if (kind < 21) await pair.setId(someId());
        else if (kind < 22 && random.chance(0.3)) await pair.replaceConsumer(name);
        await pair.comparePending(random);
      }
    });
  }
});

test('where our lag differs from that of redis-server 7.0, it is not ours that is wrong', {
  skip,
}, async (t) => {
  let equal = 0;
  let different = 0;
  for (const seed of seedsOf(t, 16)) {
    await withSeed(seed, async (random, pair) => {
      let ms = 0;
      let disturbed = false;
      for (let step = 0; step < 80; step++) {
        const kind = random.below(20);
        if (kind < 8) await pair.add(StreamId.of(++ms));
        else if (kind < 10 && pair.stream.length > 0) {
          await pair.delete(random.pick(pair.stream.ids).clone());
          disturbed = true;
        } else if (kind < 11) {
          const length = random.below(pair.stream.length + 1);
          disturbed ||= length < pair.stream.length;
          pair.stream.trim(length);
          await pair.call('XTRIM', 'MAXLEN', length);
        } else if (kind < 12) await pair.setId(StreamId.of(random.below(ms + 2)));
        else await pair.read('ann', 1 + random.below(3));
        const [theirRead, theirLag] = await pair.position();
        const ourRead = pair.group.entriesRead === UNKNOWN_READ ? null : pair.group.entriesRead;
        const ourLag = lagOf(pair.stream, pair.group);
        if (ourLag === theirLag && ourRead === theirRead) {
          equal++;
          continue;
        }
        different++;
        assert.ok(disturbed, `${ourRead} ${ourLag} <> ${theirRead} ${theirLag} without a deletion`);
        // 8.x gives up the count in one case where 7.0 went on: the last delivered entry was deleted.
        const truth = pair.stream.after(pair.group.lastId).length;
        if (ourLag !== null) assert.equal(ourLag, truth);
        if (ourLag !== null && ourLag !== theirLag) assert.notEqual(theirLag, truth);
      }
    });
  }
  assert.ok(equal > 3 * different, `${equal} answers equal, ${different} different`);
});
