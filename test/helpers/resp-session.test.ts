/**
 * The bare RESP session of the tests, tried on bytes and on a real redis-server.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import { startRedis } from './redis-server.ts';
import { missing } from './requirements.ts';
import { RespSession, replyEnd } from './resp-session.ts';

const REPLIES = [
  '+OK\r\n',
  '-ERR no\r\n',
  ':-12\r\n',
  '$-1\r\n',
  '*-1\r\n',
  '$5\r\na\r\nbc\r\n',
  '*3\r\n:1\r\n*0\r\n*1\r\n$0\r\n\r\n',
  '%1\r\n+a\r\n*1\r\n_\r\n',
  '~2\r\n#t\r\n,1.5\r\n',
  '=7\r\ntxt:abc\r\n',
  '|1\r\n+ttl\r\n:1\r\n+x\r\n',
  '>2\r\n+a\r\n+b\r\n',
];

test('the end of a reply is found wherever it is cut', () => {
  for (const reply of REPLIES) {
    const bytes = Buffer.from(`${reply}+next\r\n`);
    assert.equal(replyEnd(bytes, 0), reply.length, JSON.stringify(reply));
    for (let cut = 0; cut < reply.length; cut++) {
      assert.equal(replyEnd(bytes.subarray(0, cut), 0), -1, JSON.stringify(reply.slice(0, cut)));
    }
  }
  assert.throws(() => replyEnd(Buffer.from('HTTP/1.1 200 OK\r\n'), 0), /not a RESP reply/);
});

test('a session returns exact bytes and keeps pushes apart', {
  skip: missing('redis-server'),
}, async () => {
  await using redis = await startRedis();
  await using session = await RespSession.open(redis.port, { protocol: 3 });
  assert.equal(await session.text('SET', 'k', Buffer.from([0, 13, 10, 255])), '+OK\r\n');
  assert.equal(await session.text('GET', 'k'), '$4\r\n\0\r\n\xff\r\n');
  assert.deepEqual(
    (await session.pipeline([['INCR', 'n'], ['XRANGE', 'none', '-', '+'], ['NOSUCH']])).map(String),
    [':1\r\n', '*0\r\n', "-ERR unknown command 'NOSUCH', with args beginning with: \r\n"],
  );
  await assert.rejects(
    (await RespSession.open(redis.port, { timeoutMs: 50 })).call('BLPOP', 'none', 0),
    /no reply to BLPOP none 0 within 50 ms/,
  );
  assert.equal(
    String(await session.callOrPush('SUBSCRIBE', 'c')),
    '>3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n',
  );
  const big = 'x'.repeat(3_000_000);
  assert.equal(await session.text('SET', 'big', big), '+OK\r\n');
  assert.equal((await session.call('GET', 'big')).length, big.length + 12);
  const end = session.call('DEBUG', 'SLEEP', '0').catch(() => undefined);
  await redis.stop();
  await end;
  await session.closed;
  await assert.rejects(session.call('PING'), /closed/);
});

test('what never comes is named: a reply, a push, and what waits behind them', async () => {
  await using silent = await silentServer();
  const session = await RespSession.open(silent.port, { timeoutMs: 50 });
  const waiting = [session.call('GET', 'a'), session.call('GET', 'b')];
  const [first, second] = (await Promise.allSettled(waiting)) as PromiseRejectedResult[];
  assert.match(String(first?.reason), /no reply to GET a within 50 ms/);
  assert.match(String(second?.reason), /nothing came for GET a, before the reply to GET b/);
  const listener = await RespSession.open(silent.port, { timeoutMs: 50 });
  await assert.rejects(listener.nextPush('what s says'), /no reply to what s says within 50 ms/);
  await assert.rejects(listener.nextPush(), /nothing came for what s says/);
  const ended = await RespSession.open(silent.port);
  const push = ended.nextPush();
  await Promise.all([ended.close(), assert.rejects(push, /closed before the reply to a push/)]);
});

/** Takes connections and says nothing. */
async function silentServer(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((socket) => socket.on('error', () => {}).resume());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
