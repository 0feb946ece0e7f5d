/** What other programs, other clients and an emptied server do to the redis adapter, on a real server. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import type { Broker, Delivery } from '../../../src/broker/broker.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import {
  collect,
  eventually,
  message,
  numbers,
  publishAll,
  quiet,
  Seen,
  text,
} from '../../../src/conformance/case-context.ts';
import { type RedisServer, startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';

const EARLIEST = { group: 'g', from: 'earliest' } as const;

describe('the redis adapter among others', { skip: missing('redis-server') }, () => {
  let server: RedisServer;
  let url: string;
  let client: Redis;

  before(async () => {
    server = await startRedis();
    url = `redis://127.0.0.1:${server.port}`;
    client = new Redis(url);
  });
  after(async () => {
    client?.disconnect();
    await server?.[Symbol.asyncDispose]();
  });

  const warningsOf = (broker: Broker): Seen<string> => {
    const seen = new Seen<string>();
    broker.on('warning', ({ error }) => seen.add(error.message));
    return seen;
  };

  test('a key of another type keeps no other topic of a pattern from being found', async () => {
    await client.set('odd.b', 'a string');
    await client.sadd('{rivulet}:topics', 'odd.b', 'odd.a');
    await using broker = await openBroker(url);
    const warnings = warningsOf(broker);
    await broker.publish('odd.a', message('a'));
    await broker.publish('odd.c', message('c'));
    const { seen } = await collect(broker, 'odd.>', EARLIEST);
    await broker.publish('odd.d', message('d'));
    assert.deepEqual([...(await seen.count(3))].sort(), ['a', 'c', 'd']);
    await warnings.until((all) => all.some((each) => /odd\.b/.test(each)), 'a warning');
  });

  test('a topic that becomes another key keeps no other topic of its subscriber from being read', async () => {
    await using broker = await openBroker(url);
    const warnings = warningsOf(broker);
    for (const topic of ['turn.a', 'turn.b', 'turn.c']) await broker.publish(topic, message(topic));
    for (const maxInFlight of [2, 20]) {
      const group = `g${maxInFlight}`;
      const { seen } = await collect(broker, 'turn.>', { group, from: 'earliest', maxInFlight });
      await seen.count(maxInFlight === 2 ? 3 : 2);
      if (maxInFlight === 2) {
        await client.del('turn.b');
        await client.set('turn.b', 'another program');
      }
      await warnings.until((all) => all.some((each) => /turn\.b/.test(each)), 'a warning');
      await broker.publish('turn.a', message('more'));
      await broker.publish('turn.c', message('more'));
      await seen.until((all) => all.filter((each) => each === 'more').length >= 2, 'more');
    }
  });

  test('what a dead consumer had fetched ahead has had no attempt, though it is idle for longer', async () => {
    const topic = 'fetched.ahead';
    await using broker = await openBroker(url);
    const options = { ...EARLIEST, ackWaitMs: 2000, retry: { attempts: 1 } } as const;
    await broker.subscribe(topic, () => {}, options).then((each) => each.unsubscribe());
    await publishAll(broker, topic, ['handled', 'ahead']);
    // A consumer with one handler, which has had the first one just now, and died.
    const dead = 'dead*1';
    await client.xreadgroup('GROUP', 'g', dead, 'COUNT', 2, 'STREAMS', topic, '>');
    const [, ahead] = (await client.xpending(topic, 'g', '-', '+', 2)) as [string][];
    await client.xclaim(topic, 'g', dead, 0, String(ahead?.[0]), 'IDLE', 100_000, 'JUSTID');
    const seen = new Seen<string>();
    const note = (each: Delivery) => seen.add(`${text(each)} ${each.attempt}`);
    await broker.subscribe(topic, note, options);
    await seen.count(1);
    assert.deepEqual(seen.items, ['ahead 1']);
  });

  test('a schedule that cannot be moved keeps no other from being moved, and comes when it can', async () => {
    await using broker = await openBroker(url);
    const warnings = warningsOf(broker);
    await client.set('late.a', 'a string');
    await broker.publish('late.a', message('a'), { delayMs: 50 });
    await client.set('{late.b}:schedule', 'a string');
    await client.sadd('{rivulet}:scheduled', 'late.b');
    const { seen } = await collect(broker, 'late.c', EARLIEST);
    await broker.publish('late.c', message('c'), { delayMs: 50 });
    await seen.count(1);
    await warnings.until(
      (all) => ['late.a', 'late.b'].every((topic) => all.some((each) => each.includes(topic))),
      'warnings',
    );
    await client.del('late.a');
    const late = await collect(broker, 'late.a', EARLIEST);
    assert.deepEqual([...(await late.seen.count(1))], ['a']);
  });

  test('what another program puts into a schedule or among deadlines stops nothing', async () => {
    await using broker = await openBroker(url);
    const dead = new Seen<string>();
    broker.on('deadLettered', ({ reason }) => dead.add(reason));
    await client.zadd('{mixed}:schedule', 1, 'no form of ours', 2, 'x|0|3,99,|abc');
    await client.sadd('{rivulet}:scheduled', 'mixed');
    const { seen } = await collect(broker, 'mixed', EARLIEST);
    await broker.publish('mixed', message('ours'), { delayMs: 50 });
    assert.deepEqual([...(await seen.count(1))], ['ours']);
    await dead.count(1);
    const letters = await collect(broker, 'mixed.dead', EARLIEST);
    assert.deepEqual([...(await letters.seen.count(2))].sort(), [
      'no form of ours',
      'x|0|3,99,|abc',
    ]);
    let attempts = 0;
    const again = new Seen<string>();
    await broker.subscribe(
      'mixed2',
      async (delivery) => {
        if (++attempts === 1) await delivery.nack({ delayMs: 100 });
        else again.add(text(delivery));
      },
      { ...EARLIEST, ack: 'auto' },
    );
    await client.zadd('{mixed2}:due:g', 1, 'no id', 2, '7-x');
    await broker.publish('mixed2', message('ours'));
    await again.count(1);
  });

  test('entries of other programs whose fields are named like ours are handed over', async () => {
    await using broker = await openBroker(url);
    const seen = new Seen<unknown>();
    await broker.subscribe('fields', (delivery) => seen.add(delivery.message.headers), EARLIEST);
    for (const value of ['{broken', '[1]', '{"a":1}', 'null']) {
      await client.xadd('fields', '*', 'headers', value, 'body', 'x');
    }
    await client.xadd('fields', '*', 'headers', '{"__proto__":"kept"}', 'body', 'x');
    await client.xadd('fields', '*', 'odd', '1');
    assert.deepEqual(
      JSON.stringify(await seen.count(6)),
      JSON.stringify([
        { headers: '{broken' },
        { headers: '[1]' },
        { headers: '{"a":1}' },
        { headers: 'null' },
        Object.fromEntries([['__proto__', 'kept']]),
        { odd: '1' },
      ]),
    );
  });

  test('after FLUSHALL delayed messages come and wildcards find what is published', async () => {
    await using own = await startRedis();
    await using broker = await openBroker(`redis://127.0.0.1:${own.port}`);
    const admin = new Redis(own.port);
    const { seen } = await collect(broker, 'flushed.>', EARLIEST);
    await broker.publish('flushed.now', message('0'));
    await broker.publish('flushed.later', message('1'), { delayMs: 20 });
    await seen.count(2);
    for (const round of ['a', 'b']) {
      await admin.flushall();
      await broker.publish('flushed.now', message(`${round}0`));
      await broker.publish('flushed.later', message(`${round}1`), { delayMs: 20 });
      await broker.publish('flushed.later', message(`${round}2`), { delayMs: 20, dedupId: 'x' });
      await seen.until((all) => [0, 1, 2].every((n) => all.includes(`${round}${n}`)), round);
    }
    admin.disconnect();
  });

  test('a topic that is deleted under a wildcard subscriber stays deleted, and is found when it is back', async () => {
    await using broker = await openBroker(url);
    for (const topic of ['wild.a', 'wild.b']) await broker.publish(topic, message(`${topic}0`));
    const { seen } = await collect(broker, 'wild.>', EARLIEST);
    await seen.count(2);
    await broker.deleteTopic('wild.a');
    await quiet(2500);
    assert.equal(await client.exists('wild.a'), 0);
    await broker.publish('wild.b', message('wild.b1'));
    await broker.publish('wild.a', message('wild.a1'));
    await seen.count(4);
    assert.deepEqual([...seen.items].sort(), ['wild.a0', 'wild.a1', 'wild.b0', 'wild.b1']);
  });

  test('a deleted topic forgets the ids of its messages, and a topic of its dead letters does not', async () => {
    await using broker = await openBroker(url);
    for (const options of [{ dedupId: 'x' }, { dedupId: 'y', delayMs: 100 }]) {
      await broker.publish('forget', message('old'), options);
      assert.equal((await broker.publish('forget', message('old'), options)).duplicate, true);
    }
    await broker.publish('forget.dead', message('dead'), { dedupId: 'x' });
    await broker.deleteTopic('forget');
    for (const options of [{ dedupId: 'x' }, { dedupId: 'y', delayMs: 100 }]) {
      assert.equal((await broker.publish('forget', message('new'), options)).duplicate, false);
    }
    const { seen } = await collect(broker, 'forget', EARLIEST);
    assert.deepEqual([...(await seen.count(2))], ['new', 'new']);
    assert.equal(
      (await broker.publish('forget.dead', message('x'), { dedupId: 'x' })).duplicate,
      true,
    );
    const keys = await client.keys('{forget}:ids*');
    assert.equal(keys.length, 2, 'two keys for any number of ids');
    for (const key of keys) assert.ok((await client.pttl(key)) > 0, 'and they end by themselves');
  });

  test('messages that are due at one time come in the order they were published', async () => {
    await using broker = await openBroker(url);
    const { seen } = await collect(broker, 'together', EARLIEST);
    const at = new Date(Date.now() + 600);
    for (const each of numbers(0, 30)) {
      await broker.publish('together', message(each), { deliverAt: at });
    }
    await broker.publishBatch(
      'together',
      numbers(30, 150).map((each) => message(each)),
      { deliverAt: at },
    );
    assert.deepEqual([...(await seen.count(150))], numbers(0, 150));
  });

  test('publishes of every kind are stored in the order of their calls, though the server forgot its scripts', async () => {
    await using broker = await openBroker(url);
    await broker.publish('kinds', message('warm'));
    await client.script('FLUSH');
    await Promise.all(
      numbers(0, 60).map((each, index) => {
        if (index % 3 === 0)
          return broker.publish('kinds', message(each), { dedupId: `id${each}` });
        if (index % 3 === 1) return broker.publish('kinds', message(each));
        return broker.publishBatch('kinds', [message(each), message(each)]);
      }),
    );
    const { seen } = await collect(broker, 'kinds', EARLIEST);
    await seen.count(81);
    assert.deepEqual([...new Set(seen.items)], ['warm', ...numbers(0, 60)]);
  });

  test('a pattern with more topics than room keeps its bound, and serves all of them', async () => {
    await using broker = await openBroker(url);
    const topics = numbers(0, 30).map((each) => `many.t${each}`);
    for (const topic of topics) await publishAll(broker, topic, ['0', '1']);
    let inHand = 0;
    let most = 0;
    const seen = new Seen<string>();
    const subscriber = await broker.subscribe(
      'many.>',
      async (delivery) => {
        most = Math.max(most, ++inHand, subscriber?.inFlight ?? 0);
        await quiet(2);
        inHand--;
        seen.add(`${delivery.topic} ${text(delivery)}`);
      },
      { ...EARLIEST, maxInFlight: 2, concurrency: 2 },
    );
    await seen.count(60);
    for (const topic of topics) await broker.publish(topic, message('2'));
    await seen.count(90);
    assert.equal(new Set(seen.items).size, 90);
    assert.ok(most <= 2, `${most} were in flight`);
    const began = performance.now();
    await broker.publish('many.t7', message('3'));
    await seen.count(91);
    assert.ok(
      performance.now() - began < 900,
      'one that comes while all is quiet is noticed at once',
    );
  });

  test('two members of an ordered group share the topics of a pattern, and each receives', async () => {
    await using one = await openBroker(url);
    await using two = await openBroker(url);
    for (const topic of ['lead.a', 'lead.b', 'lead.c']) await one.publish(topic, message('0'));
    const options = { ...EARLIEST, ordered: 'strict' } as const;
    const [first, second] = await Promise.all([
      collect(one, 'lead.>', options),
      collect(two, 'lead.>', options),
    ]);
    const both = () => first.seen.length + second.seen.length;
    await eventually('all three', () => both() === 3);
    for (const topic of ['lead.a', 'lead.b', 'lead.c', 'lead.d'])
      await two.publish(topic, message('1'));
    await eventually('all seven', () => both() === 7);
    await first.subscriber.unsubscribe();
    await two.publish('lead.a', message('2'));
    await eventually('all eight', () => both() === 8);
  });

  test('names that look like parts of others never meet', async () => {
    await using broker = await openBroker(url);
    const pairs = [
      ['c', 'a:b'],
      ['b:c', 'a'],
      ['rivulet:topics', 'g'],
      ['rivulet:scheduled', 'g'],
      ['n:due:g', 'g'],
      ['n', 'g'],
      ['n', 'due:g'],
      ['n', 'each:g'],
      ['n:schedule', 'g'],
      ['n.dead', 'g'],
    ] as const;
    const seen = new Seen<string>();
    for (const [topic, group] of pairs) {
      await broker.subscribe(topic, (delivery) => seen.add(`${group} ${text(delivery)}`), {
        group,
        from: 'earliest',
        ordered: 'strict',
      });
    }
    const topics = [...new Set(pairs.map(([topic]) => topic))];
    for (const topic of topics) {
      await broker.publish(topic, message(topic), { dedupId: 'x' });
      await broker.publish(topic, message(topic), { dedupId: 'y', delayMs: 30 });
    }
    await seen.count(2 * pairs.length);
    const wanted = pairs.flatMap(([topic, group]) => [`${group} ${topic}`, `${group} ${topic}`]);
    assert.deepEqual([...seen.items].sort(), wanted.sort());
  });

  test('a frame that names a key of another program reads and deletes nothing', async () => {
    await using broker = await openBroker(url);
    await client.set('not a frame', 'kept');
    await broker.respond('framed', () => ({ body: 'reply' }));
    const headers = { 'rivulet-stored-at': 'not a frame' };
    const head = Buffer.from(JSON.stringify({ headers }));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(head.length);
    const [channel = ''] = await client.pubsub('CHANNELS', 'rivulet:rpc:{framed}*');
    await client.publish(channel as string, Buffer.concat([length, head]));
    const reply = await broker.request('framed', { body: '', headers });
    assert.equal(reply.text(), 'reply');
    assert.equal(await client.get('not a frame'), 'kept');
  });
});
