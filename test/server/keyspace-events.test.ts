/**
 * Keyspace notifications: the same commands to a real redis-server 7.0 and to Rivulet, the same
 * messages expected after each, in the same order.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { runServer } from './running-server.ts';

const COMMANDS = `
SET a 1
SET a 2 EX 100
SET a 3 KEEPTTL
SET a 3 NX
SETNX a 1
SETNX fresh 1
SETEX a 100 v
PSETEX a 100000 v
GETSET a w
GETEX a EX 100
GETEX a PERSIST
GETEX a PERSIST
GETEX a EXAT 1
GET a
MGET a b
INCR n
DECR n
INCRBY n 5
DECRBY n 7
APPEND n 1
APPEND new-one x
MSET a 1 b 2
MSETNX a 1 c 2
MSETNX c 1 d 2
GETDEL d
GETDEL d
DEL a b nothing
UNLINK c
EXPIRE n 100
EXPIRE nothing 100
EXPIRE n 200 NX
PERSIST n
PERSIST n
PEXPIREAT n 1
SET a 1
RENAME a b
RENAME b b
SET a 1
RENAME a b
RENAMENX b z
COPY z y
COPY z y
COPY z y REPLACE
COPY z y DB 1
MOVE z 2
TOUCH y
TYPE y
SELECT 3
SET in-three 1
SELECT 0
FLUSHALL
XADD s 1-1 f v
XADD s NOMKSTREAM 1-2 f v
XADD none NOMKSTREAM 1-2 f v
XADD s MAXLEN 1 1-3 f v
XADD s MAXLEN 10 1-4 f v
XTRIM s MAXLEN 10
XTRIM s MAXLEN 1
XDEL s 9-9
XDEL s 1-4
XDEL s 1-4
XSETID s 5-5
XGROUP CREATE s g 0
XGROUP CREATE s g 0
XGROUP CREATE made g $ MKSTREAM
XGROUP SETID s g 0
XGROUP CREATECONSUMER s g c
XGROUP CREATECONSUMER s g c
XADD s 6-1 f v
XREADGROUP GROUP g c STREAMS s >
XREADGROUP GROUP g other STREAMS s 0
XCLAIM s g third 0 6-1
XAUTOCLAIM s g fourth 0 0
XCLAIM s g third 0 6-1 LASTID 7-7
XACK s g 6-1
XGROUP DELCONSUMER s g c
XGROUP DELCONSUMER s g nobody
XGROUP DESTROY s g
XGROUP DESTROY s g
MULTI; SET a 1; XADD s 8-1 f v; DEL a; EXEC
SET short 1 PX 1
`;

/** What each command led to, as text. */
async function record(port: number, classes: string): Promise<string[]> {
  await using listener = await RespSession.open(port, { protocol: 3 });
  await using writer = await RespSession.open(port);
  await writer.call('CONFIG', 'SET', 'notify-keyspace-events', classes);
  await listener.call('HELLO', 3);
  listener.socket.write(
    '*2\r\n$10\r\nPSUBSCRIBE\r\n$6\r\n__key*\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nmark\r\n',
  );
  await listener.nextPush();
  await listener.nextPush();
  const told: string[] = [];
  for (const line of COMMANDS.trim().split('\n')) {
    for (const command of line.split('; ')) await writer.call(...command.split(' '));
    if (line.endsWith('PX 1')) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      await writer.call('GET', 'short');
    }
    await writer.call('PUBLISH', 'mark', '');
    const events: string[] = [];
    for (;;) {
      const [, , channel, message] = words(await listener.nextPush());
      if (channel === '') break;
      events.push(`${channel} ${message}`);
    }
    told.push(`${line}: ${events.join(', ')}`);
  }
  return told;
}

/** The bulk strings of a push; those of `message` are one fewer than those of `pmessage`. */
function words(push: Buffer): string[] {
  return push
    .toString('latin1')
    .split('\r\n')
    .filter((_, i) => i >= 2 && i % 2 === 0);
}

for (const classes of ['KEA', 'KEAn', 'K$', 'Eg', 'Ex', 'KEm']) {
  test(`notify-keyspace-events ${classes}: the events of Redis, in its order`, {
    skip: missing('redis-server'),
  }, async () => {
    await using redis = await startRedis();
    await using running = await runServer();
    const expected = await record(redis.port, classes);
    assert.ok(
      expected.some((line) => !line.endsWith(': ')),
      'at least one event is published',
    );
    assert.deepEqual(await record(running.port, classes), expected);
  });
}

test('events of a transaction come after its replies, on the connection that ran it, too', async () => {
  await using running = await runServer({ 'notify-keyspace-events': 'Kt' });
  const session = await running.connect(3);
  session.socket.write('*2\r\n$10\r\nPSUBSCRIBE\r\n$6\r\n__key*\r\n');
  await session.nextPush();
  const bytes: string[] = [];
  session.socket.on('data', (chunk) => bytes.push(chunk.toString('latin1')));
  await session.call('MULTI');
  await session.call('XADD', 's', '1-1', 'f', 'v');
  await session.call('XADD', 's', '1-2', 'f', 'v');
  assert.equal(await session.text('EXEC'), '*2\r\n$3\r\n1-1\r\n$3\r\n1-2\r\n');
  assert.match((await session.nextPush()).toString(), /__keyspace@0__:s\r\n\$4\r\nxadd/);
  assert.match((await session.nextPush()).toString(), /__keyspace@0__:s\r\n\$4\r\nxadd/);
  assert.match(bytes.join(''), /1-2\r\n>4/, 'pushes follow the reply');
});

test('switched off again, nothing is published', async () => {
  await using running = await runServer({ 'notify-keyspace-events': 'KEA' });
  const { engine } = running.server.state;
  assert.notEqual(engine.events, null);
  const session = await running.connect();
  await session.call('CONFIG', 'SET', 'notify-keyspace-events', '');
  assert.equal(engine.events, null);
});
