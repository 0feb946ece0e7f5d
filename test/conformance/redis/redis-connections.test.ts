/** Requests, addresses, limits and TLS of the redis adapter, on a real server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { collect, message, quiet, text } from '../../../src/conformance/case-context.ts';
import { FaultyProxy } from '../../../src/conformance/index.ts';
import { makeCertificates, missingOpenssl } from '../../helpers/certificates.ts';
import { ended, startChild } from '../../helpers/children.ts';
import { type RedisServer, startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { startRedisCluster } from './redis-fixture.ts';

const EARLIEST = { group: 'g', from: 'earliest' } as const;

describe("the redis adapter's connections", { skip: missing('redis-server') }, () => {
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

/** Opens a broker, and ends it when its input ends; then nothing is left that keeps the process. */
const USER = `
import { openBroker } from ${JSON.stringify(new URL('../../../src/broker/open-broker.js', import.meta.url))};
const broker = await openBroker(process.argv[1].split(','));
console.log('open');
process.stdin.on('end', () => broker.disconnect()).resume();
`;

test('a client of a cluster that ends while it asks for the slots does not keep its process', {
  skip: missing('redis-server', 'redis-cli'),
  timeout: 120_000,
}, async () => {
  await using cluster = await startRedisCluster(0);
  const child = startChild(
    process.execPath,
    ['--input-type=module', '-e', USER, cluster.urls.join(',')],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  await once(child.stdout as Readable, 'data');
  // The client asks each 5 s, and gets no answer then.
  await quiet(4500);
  await Promise.all(cluster.nodes.map((node) => node.ask('CLIENT', 'PAUSE', '2000', 'ALL')));
  await quiet(1000);
  child.stdin?.end();
  assert.equal(await ended(child), 0);
});
