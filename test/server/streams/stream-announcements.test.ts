/** New streams are told on the shard channel `__streams@<db>__`, to who listens there and nobody else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RespSession } from '../../helpers/resp-session.ts';
import { runServer } from '../running-server.ts';

const CHANNEL = '__streams@0__';

test('every way in which a stream comes into being is announced once, with its key', async () => {
  await using running = await runServer();
  await using listener = await RespSession.open(running.port, { protocol: 3 });
  await using writer = await RespSession.open(running.port);
  listener.socket.write(`*2\r\n$10\r\nSSUBSCRIBE\r\n$${CHANNEL.length}\r\n${CHANNEL}\r\n`);
  await listener.nextPush();
  const commands = [
    'XADD added * f v',
    'XADD added * f v',
    'SET text 1',
    'XGROUP CREATE made g $ MKSTREAM',
    'COPY added copied',
    'RENAME copied renamed',
    'RENAME text other',
    'DEL added',
    'XADD added * f v',
    'SELECT 1',
    'XADD elsewhere * f v',
    'MOVE elsewhere 0',
  ];
  for (const command of commands) await writer.call(...command.split(' '));
  const told: string[] = [];
  for (let i = 0; i < 6; i++) {
    const push = (await listener.nextPush()).toString();
    told.push(push.split('\r\n').at(-2) as string);
  }
  assert.deepEqual(told, ['added', 'made', 'copied', 'renamed', 'added', 'elsewhere']);
});

test('subscribers of patterns receive nothing of it', async () => {
  await using running = await runServer();
  await using listener = await RespSession.open(running.port, { protocol: 3 });
  await using shard = await RespSession.open(running.port, { protocol: 3 });
  await using writer = await RespSession.open(running.port);
  listener.socket.write('*2\r\n$10\r\nPSUBSCRIBE\r\n$1\r\n*\r\n');
  await listener.nextPush();
  shard.socket.write(`*2\r\n$10\r\nSSUBSCRIBE\r\n$${CHANNEL.length}\r\n${CHANNEL}\r\n`);
  await shard.nextPush();
  await writer.call('XADD', 's', '*', 'f', 'v');
  await shard.nextPush();
  await writer.call('PUBLISH', 'after', 'x');
  assert.match((await listener.nextPush()).toString(), /after/);
});

test('a connection that listens and writes gets its reply whole, then the word', async () => {
  await using running = await runServer();
  await using session = await RespSession.open(running.port, { protocol: 3 });
  session.socket.write(`*2\r\n$10\r\nSSUBSCRIBE\r\n$${CHANNEL.length}\r\n${CHANNEL}\r\n`);
  await session.nextPush();
  await session.call('MULTI');
  await session.call('XADD', 'a', '1-1', 'f', 'v');
  await session.call('XADD', 'b', '1-1', 'f', 'v');
  const reply = (await session.call('EXEC')).toString();
  assert.equal(reply, '*2\r\n$3\r\n1-1\r\n$3\r\n1-1\r\n');
  for (const key of ['a', 'b']) {
    assert.equal((await session.nextPush()).toString().split('\r\n').at(-2), key);
  }
});
