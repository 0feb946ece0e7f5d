/**
 * The client against a real redis-server, and against sockets that misbehave.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { type Client, connect } from '../../src/client/client.ts';
import { optionsFromUrl } from '../../src/client/options.ts';
import { pairsOf, type Reply, ReplyError } from '../../src/client/reply.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { until } from '../helpers/until.ts';

const skip = missing('redis-server');

/** A server that answers what `answer` says, so that failures can be staged. */
async function stage(answer: (text: string, socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk) => answer(String(chunk), socket));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const isHello = (text: string) => text.includes('HELLO') || text.includes('$2\r\nID\r\n');

for (const protocol of [2, 3] as const) {
  test(`calls of one turn are answered each with its own reply, RESP${protocol}`, {
    skip,
  }, async () => {
    await using redis = await startRedis();
    await using client = await connect({ port: redis.port, protocol, db: 3, name: 'tester' });
    const ids = await Promise.all(
      Array.from({ length: 2_000 }, (_, i) => client.call('XADD', 's', `${i + 1}-0`, 'n', i)),
    );
    assert.deepEqual(
      ids.map(String),
      Array.from({ length: 2_000 }, (_, i) => `${i + 1}-0`),
    );
    assert.equal(String(await client.call('CLIENT', 'GETNAME')), 'tester');
    assert.match(String(await client.call('CLIENT', 'INFO')), / db=3 /);
    const [[key, entries]] = pairsOf(await client.call('XREAD', 'COUNT', 1, 'STREAMS', 's', '5-0'));
    assert.equal(String(key), 's');
    assert.deepEqual(entries, [[Buffer.from('6-0'), [Buffer.from('n'), Buffer.from('5')]]]);
    await assert.rejects(client.call('INCR', 's'), (error) => {
      assert.ok(error instanceof ReplyError);
      assert.equal(error.prefix, 'WRONGTYPE');
      return true;
    });
  });

  test(`a blocking read does not hold up other calls, RESP${protocol}`, { skip }, async () => {
    await using redis = await startRedis();
    await using client = await connect({ port: redis.port, protocol });
    const read = client.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$');
    await blocked(client, 1);
    await client.call('XADD', 's', '1-1', 'a', 'b');
    const [[, entries]] = pairsOf(await read);
    assert.equal(String((entries as Reply[][])[0][0]), '1-1');
    assert.equal(await client.call('XREAD', 'BLOCK', 1, 'STREAMS', 's', '$'), null);
  });
}

/** Resolves once the server says that so many clients are blocked. */
async function blocked(client: Client, count: number): Promise<void> {
  for (;;) {
    const info = String(await client.call('INFO', 'clients'));
    if (info.includes(`blocked_clients:${count}\r\n`)) return;
  }
}

test('an aborted blocking read is unblocked and its connection serves the next', {
  skip,
}, async () => {
  await using redis = await startRedis();
  await using client = await connect({ port: redis.port });
  const stop = new AbortController();
  const read = client.send(['XREAD', 'BLOCK', 0, 'STREAMS', 's', '$'], { signal: stop.signal });
  await blocked(client, 1);
  stop.abort(new Error('enough'));
  await assert.rejects(read, (error: Error) => {
    assert.equal((error as { code?: string }).code, 'ABORTED');
    assert.equal((error.cause as Error).message, 'enough');
    return true;
  });
  await blocked(client, 0);
  const next = client.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$');
  await blocked(client, 1);
  await client.call('XADD', 's', '*', 'a', 'b');
  assert.notEqual(await next, null);
  assert.equal(
    String(await client.call('CLIENT', 'LIST'))
      .trim()
      .split('\n').length,
    2,
  );
});

test('a pipeline returns every reply and a transaction is all or nothing', { skip }, async () => {
  await using redis = await startRedis();
  await using client = await connect({ port: redis.port });
  const [ok, error, value] = await client.pipeline([
    ['SET', 'k', 'v'],
    ['INCR', 'k'],
    ['GET', 'k'],
  ]);
  assert.deepEqual([ok, String(value)], ['OK', 'v']);
  assert.ok(error instanceof ReplyError);
  assert.deepEqual(
    await client.transaction([
      ['SET', 'n', 1],
      ['INCR', 'n'],
    ]),
    ['OK', 2],
  );
  await assert.rejects(client.transaction([['SET', 'n', 5], ['NOSUCH']]), (failed: Error) => {
    assert.match(failed.message, /^EXECABORT/);
    assert.match((failed.cause as Error).message, /unknown command/);
    return true;
  });
  assert.equal(String(await client.call('GET', 'n')), '2');
});

test('subscriptions arrive as push events and outlive the connection', { skip }, async () => {
  await using redis = await startRedis();
  await using client = await connect({ port: redis.port, reconnect: { minMs: 1 } });
  await using other = await connect({ port: redis.port, protocol: 2 });
  await Promise.all([client.call('SUBSCRIBE', 'a', 'b'), client.call('PSUBSCRIBE', 'p*')]);
  assert.equal(String(await client.call('PING')), 'PONG');
  const message = async (channel: string, text: string) => {
    const seen = once(client, 'push');
    assert.equal(await other.call('PUBLISH', channel, text), 1);
    const [kind, items] = await seen;
    return [kind, ...items].map(String);
  };
  assert.deepEqual(await message('b', 'hello'), ['message', 'b', 'hello']);
  const again = once(client, 'reconnect');
  await other.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
  await again;
  await client.call('PING');
  assert.deepEqual(await message('pq', 'hi'), ['pmessage', 'p*', 'pq', 'hi']);
  await client.call('UNSUBSCRIBE');
  assert.equal(await other.call('PUBLISH', 'a', 'x'), 0);
  await assert.rejects(other.call('SUBSCRIBE', 'a'), { code: 'UNSUPPORTED' });
});

test('a lost connection keeps what was not sent yet and comes back', {
  skip,
}, async () => {
  await using redis = await startRedis();
  await using client = await connect({ port: redis.port, reconnect: { minMs: 5 } });
  const lost = once(client, 'disconnect');
  const killer = await connect({ port: redis.port });
  await killer.call('CLIENT', 'KILL', 'SKIPME', 'yes');
  await lost;
  assert.equal(client.isConnected, false);
  assert.equal(String(await client.call('ECHO', 'later')), 'later');
  await killer.close();
  await assert.rejects(killer.call('PING'), { code: 'CLOSED' });
});

test('what was sent and not answered fails with its cause and is not sent twice', async () => {
  const seen: string[] = [];
  await using server = await stage((text, socket) => {
    if (isHello(text)) socket.write('%1\r\n+id\r\n:1\r\n');
    else if (seen.push(text) === 1) socket.destroy();
    else socket.write('+second\r\n');
  });
  await using client = await connect({ port: server.port, reconnect: { minMs: 1 } });
  const failed = client.call('XADD', 's', '*', 'a', 'b');
  await assert.rejects(failed, { code: 'CONNECTION_FAILED', message: /may or may not/ });
  assert.equal(await client.call('PING'), 'second');
  assert.equal(seen.length, 2);
});

test('a server that does not answer is given up after the timeout', async () => {
  await using server = await stage((text, socket) => {
    if (isHello(text)) socket.write('%1\r\n+id\r\n:1\r\n');
  });
  await using client = await connect({ port: server.port, timeoutMs: 80, reconnect: false });
  const startedAt = performance.now();
  await assert.rejects(client.call('PING'), { code: 'TIMEOUT' });
  assert.ok(performance.now() - startedAt >= 75);
  await assert.rejects(client.call('PING'), { code: 'CLOSED' });
});

test('a server that never greets, or is not there, fails connect', async () => {
  await using mute = await stage(() => {});
  await assert.rejects(connect({ port: mute.port, connectTimeoutMs: 50 }), { code: 'TIMEOUT' });
  await using babble = await stage((_, socket) => socket.write('SSH-2.0-x\r\n'));
  await assert.rejects(connect({ port: babble.port }), {
    code: 'CONNECTION_FAILED',
    message: /not RESP/,
  });
  await using gone = await stage(() => {});
  const { port } = gone;
  await gone[Symbol.asyncDispose]();
  await assert.rejects(connect({ port }), (error: Error) => {
    assert.equal((error as { code?: string }).code, 'CONNECTION_FAILED');
    assert.equal((error.cause as { code?: string }).code, 'ECONNREFUSED');
    return true;
  });
});

test('a wrong password is an error of its own', { skip }, async () => {
  await using redis = await startRedis({ args: ['--requirepass', 'secret'] });
  for (const protocol of [2, 3] as const) {
    const { port } = redis;
    await assert.rejects(connect({ port, protocol, password: 'x' }), {
      code: 'AUTHENTICATION_FAILED',
    });
    await using client = await connect({ port, protocol, password: 'secret' });
    assert.equal(await client.call('PING'), 'PONG');
  }
});

test('calls in flight and waiting are bounded, and an abandoned one is not sent', async () => {
  const seen: string[] = [];
  await using server = await stage((text, socket) => {
    if (isHello(text)) socket.write('%1\r\n+id\r\n:1\r\n');
    else seen.push(text);
  });
  const options = { port: server.port, maxInFlight: 2, maxWaiting: 2 };
  await using client = await connect(options);
  const stop = new AbortController();
  const calls = [
    client.call('A').catch((error) => error),
    client.call('B').catch((error) => error),
    client.send(['C'], { signal: stop.signal }).catch((error) => error),
    client.call('D').catch((error) => error),
  ];
  await assert.rejects(client.call('E'), { code: 'LIMIT_EXCEEDED' });
  assert.equal(client.pendingCalls, 4);
  stop.abort();
  assert.equal((await calls[2]).code, 'ABORTED');
  await until(() => seen.join('').length >= 20);
  for (const socket of server.sockets) socket.write('+1\r\n+2\r\n');
  assert.deepEqual(await Promise.all(calls.slice(0, 2)), ['1', '2']);
  await until(() => seen.join('').includes('D'));
  assert.ok(!seen.join('').includes('C'), 'an abandoned call that was waiting is never sent');
  client.destroy();
  assert.equal((await calls[3]).code, 'CLOSED');
});

test('a bad argument fails its own call and no other', { skip }, async () => {
  await using redis = await startRedis();
  await using client = await connect({ port: redis.port });
  const [before, bad, after] = await Promise.allSettled([
    client.call('ECHO', 'before'),
    client.call('ECHO', undefined as unknown as string),
    client.call('ECHO', 'after'),
  ]);
  assert.equal(bad.status === 'rejected' && bad.reason.code, 'INVALID_ARGUMENT');
  assert.deepEqual(
    [before, after].map((r) => r.status === 'fulfilled' && String(r.value)),
    ['before', 'after'],
  );
});

test('close waits for replies', { skip }, async () => {
  await using redis = await startRedis();
  const client = await connect({ port: redis.port });
  const replies = Array.from({ length: 100 }, () => client.call('INCR', 'n'));
  await client.close();
  assert.equal((await Promise.all(replies)).at(-1), 100);
});

test('an address says everything that connect needs', () => {
  assert.deepEqual(optionsFromUrl('redis://ann:p%40ss@example.org:7000/2'), {
    username: 'ann',
    password: 'p@ss',
    host: 'example.org',
    port: 7000,
    db: 2,
  });
  assert.deepEqual(optionsFromUrl('rediss://[::1]'), { host: '::1', tls: true });
  assert.deepEqual(optionsFromUrl('unix:///run/rivulet.sock'), { path: '/run/rivulet.sock' });
  assert.throws(() => optionsFromUrl('http://x'), { code: 'UNKNOWN_SCHEME' });
});
