/** What other programs, other clients and an emptied server do to the redis adapter, on a real server. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { FaultyProxy } from '../../src/conformance/index.ts';
import {
  collect,
  eventually,
  message,
  numbers,
  publishAll,
  quiet,
  Seen,
  text,
} from '../../src/conformance/world.ts';
import { makeCertificates, missingOpenssl } from '../helpers/certificates.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { runPoison } from './poison.ts';

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

  test('frames of other programs on the channels of requests are ignored', async () => {
    await using broker = await openBroker(url);
    await broker.respond('framed', (request) => request);
    await broker.request('framed', message('x'));
    const channels = (await client.pubsub('CHANNELS', 'rivulet:*')) as string[];
    assert.ok(channels.length >= 2);
    const head = (json: string) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(json.length);
      return Buffer.concat([length, Buffer.from(json)]);
    };
    for (const channel of channels) {
      for (const frame of [
        '',
        'short',
        head('{}'),
        head('null'),
        head('{"headers":7}'),
        head('{"headers":{"rivulet-request":1}}'),
      ]) {
        await client.publish(channel, frame);
      }
    }
    assert.equal(text(await broker.request('framed', message('still'))), 'still');
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
      await broker.publish('flushed.later', message(`${round}2`), { delayMs: 20, id: 'x' });
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
    for (const options of [{ id: 'x' }, { id: 'y', delayMs: 100 }]) {
      await broker.publish('forget', message('old'), options);
      assert.equal((await broker.publish('forget', message('old'), options)).duplicate, true);
    }
    await broker.publish('forget.dead', message('dead'), { id: 'x' });
    await broker.deleteTopic('forget');
    for (const options of [{ id: 'x' }, { id: 'y', delayMs: 100 }]) {
      assert.equal((await broker.publish('forget', message('new'), options)).duplicate, false);
    }
    const { seen } = await collect(broker, 'forget', EARLIEST);
    assert.deepEqual([...(await seen.count(2))], ['new', 'new']);
    assert.equal((await broker.publish('forget.dead', message('x'), { id: 'x' })).duplicate, true);
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
        if (index % 3 === 0) return broker.publish('kinds', message(each), { id: `id${each}` });
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
    assert.ok(most <= 2, `${most} were in hand`);
    const began = performance.now();
    await broker.publish('many.t7', message('3'));
    await seen.count(91);
    assert.ok(
      performance.now() - began < 900,
      'one that comes while all is quiet is noticed at once',
    );
  });

  test('two members of an ordered group share the topics of a pattern, and nobody is deaf', async () => {
    await using one = await openBroker(url);
    await using two = await openBroker(url);
    for (const topic of ['lead.a', 'lead.b', 'lead.c']) await one.publish(topic, message('0'));
    const options = { ...EARLIEST, ordered: 'strictly' } as const;
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
        ordered: 'strictly',
      });
    }
    const topics = [...new Set(pairs.map(([topic]) => topic))];
    for (const topic of topics) {
      await broker.publish(topic, message(topic), { id: 'x' });
      await broker.publish(topic, message(topic), { id: 'y', delayMs: 30 });
    }
    await seen.count(2 * pairs.length);
    const wanted = pairs.flatMap(([topic, group]) => [`${group} ${topic}`, `${group} ${topic}`]);
    assert.deepEqual([...seen.items].sort(), wanted.sort());
  });

  test('a request that is made while the inbox reconnects gets its reply', async () => {
    await using proxy = await FaultyProxy.start(server.port);
    await using responder = await openBroker(url);
    await using caller = await openBroker(`redis://127.0.0.1:${proxy.port}`, {
      reconnect: { minMs: 300, maxMs: 300, factor: 1, jitter: false },
    });
    let handled = 0;
    await responder.respond('again', (request) => {
      handled++;
      return request;
    });
    await caller.request('again', message('warm'));
    // The inbox alone: its connection is the one that says SUBSCRIBE.
    for (let times = 0; times < 3; times++) {
      const list = String(await client.call('CLIENT', 'LIST', 'TYPE', 'pubsub'));
      const inbox = list
        .split('\n')
        .find(
          (line) =>
            line.includes(':requests') &&
            line.includes(` sub=1 `) &&
            line.includes(caller.options.clientName),
        );
      await client.call('CLIENT', 'KILL', 'ID', /id=(\d+)/.exec(inbox ?? '')?.[1] ?? '');
      await quiet(20);
      assert.equal(text(await caller.request('again', message('now'), { timeoutMs: 5000 })), 'now');
    }
    assert.equal(handled, 4);
  });

  test('replies of 40 MiB come, and disturb no other request', async () => {
    await using broker = await openBroker(url);
    const large = 40 * 1024 * 1024;
    await broker.respond('sized', ({ body }) => ({
      headers: { a: 'b' },
      body: new Uint8Array(Number(Buffer.from(body).toString())).fill(7),
    }));
    const sizes = [large, 5, large, 100_000, 5];
    const replies = await Promise.all(
      sizes.map((size) => broker.request('sized', message(String(size)), { timeoutMs: 20_000 })),
    );
    assert.deepEqual(
      replies.map(({ body }) => body.length),
      sizes,
    );
    assert.deepEqual(replies[0]?.headers, { a: 'b' });
    assert.equal((await client.keys('rivulet:frame:*')).length, 0, 'none stays stored');
  });

  test('a poison message that ends its process is a dead letter after its attempts, and no other is', async () => {
    await using broker = await openBroker(url);
    await publishAll(broker, 'poison', ['poison', 'a', 'b', 'c', 'd']);
    const lines = await runPoison(url, 'poison', broker);
    assert.deepEqual(lines.poison, ['poison 1', 'poison 2', 'poison 3']);
    assert.deepEqual(lines.others, ['a 1', 'b 1', 'c 1', 'd 1']);
  });

  test('addresses that cannot be are refused, and none of their parts is shown', async () => {
    const wrong = [
      `redis://ann:secret@127.0.0.1:${server.port}/cret`,
      `redis://ann:se/cret@127.0.0.1:${server.port}`,
      `redis://ann:sec%zzret@127.0.0.1:${server.port}`,
      'redis://ann:secret@127.0.0.1:99999',
      `redis://ann:secret@127.0.0.1:${server.port}?db=cret`,
      `redis://127.0.0.1:${server.port}/99`,
      `redis://127.0.0.1:${server.port}/-1`,
      `redis://127.0.0.1:${server.port}/1e3`,
    ];
    for (const address of wrong) {
      await assert.rejects(openBroker(address), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'INVALID_ARGUMENT', address);
        assert.doesNotMatch(inspect(error, { depth: 9 }), /cret|ann/, address);
        return true;
      });
    }
    await using broker = await openBroker(`${url}/5`);
    await broker.publish('five', message('x'));
    assert.equal(await client.exists('five'), 0);
    await using guarded = await startRedis({ args: ['--requirepass', 'another'] });
    const locked = `redis://:hidden-word@127.0.0.1:${guarded.port}`;
    await assert.rejects(openBroker(locked), (error) => {
      assert.doesNotMatch(inspect(error, { depth: 9 }), /hidden-word/);
      return true;
    });
  });

  test('a body over the limit of the server is an error of its own message', async () => {
    await using own = await startRedis({ args: ['--proto-max-bulk-len', '1mb'] });
    await using broker = await openBroker(`redis://127.0.0.1:${own.port}`);
    const [small, large, after] = await Promise.allSettled([
      broker.publish('limit', message('small')),
      broker.publish('limit', { headers: {}, body: new Uint8Array(2 * 1024 * 1024) }),
      broker.publish('limit', message('after')),
    ]);
    assert.equal(small.status, 'fulfilled');
    assert.equal(after.status, 'fulfilled');
    assert.equal(large.status === 'rejected' && large.reason.code, 'BODY_TOO_LARGE');
  });

  test('TLS: served by a certificate of the authority that was given, refused at once by another', {
    skip: missingOpenssl,
  }, async () => {
    await using directory = temporaryDirectory('certificates');
    const { ca, cert, key, caText, otherCaText } = makeCertificates(directory.path);
    await using guarded = await startRedis({ args: ['--tls-port', '0'] }).catch(() => startRedis());
    const admin = new Redis(guarded.port);
    for (const [name, value] of [
      ['tls-cert-file', cert],
      ['tls-key-file', key],
      ['tls-ca-cert-file', ca],
      ['tls-auth-clients', 'no'],
    ] as const) {
      await admin.config('SET', name, value);
    }
    const port = guarded.port + 1 > 65_000 ? guarded.port - 1 : guarded.port + 1;
    await admin.config('SET', 'tls-port', String(port));
    admin.disconnect();
    const address = `rediss://127.0.0.1:${port}`;
    await using broker = await openBroker(address, { client: { tls: { ca: caText } } });
    const { seen } = await collect(broker, 'tls', EARLIEST);
    await broker.publish('tls', message('x'));
    await seen.count(1);
    const began = performance.now();
    for (const trusted of [otherCaText, undefined]) {
      const options = trusted === undefined ? {} : { tls: { ca: trusted } };
      await assert.rejects(openBroker(address, { client: options }), {
        code: 'CONNECTION_FAILED',
        message: /certificate/,
      });
    }
    assert.ok(performance.now() - began < 5000, 'not tried again and again');
  });
});
