/**
 * Clients that listen or respond when rights change, and clients that came while a password was set.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { freePort } from '../../helpers/free-port.ts';
import type { Argument, RespSession } from '../../helpers/resp-session.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { until } from '../../helpers/until.ts';
import { runServer } from '../running-server.ts';

/** Whether the server has ended this connection by the time it answers others. */
async function isEnded(session: RespSession, other: RespSession): Promise<boolean> {
  let ended = false;
  session.closed.then(() => {
    ended = true;
  });
  for (let n = 0; n < 20; n++) await other.call('PING');
  return ended;
}

const LISTENING: [string, Argument[]][] = [
  ['channel', ['SUBSCRIBE', 'news']],
  ['pattern', ['PSUBSCRIBE', 'news']],
  ['shard channel', ['SSUBSCRIBE', 'news']],
  ['topic', ['RESPOND', 'news']],
];

test('a listener of any kind is ended when its user may not listen any more, and only then', async () => {
  for (const [kind, command] of LISTENING) {
    for (const [rule, ends] of [
      [['resetchannels'], true],
      [['resetchannels', '&other'], true],
      [['resetchannels', '&news'], false],
      [['allchannels'], false],
      [['+get'], false],
      [['resetchannels', '(&news +subscribe)'], false],
    ] as const) {
      await using running = await runServer();
      await using admin = await running.connect();
      await admin.call('ACL', 'SETUSER', 'u', 'on', 'nopass', '+@all', '~*', '&news');
      await using listener = await running.connect(3);
      await listener.call('AUTH', 'u', 'x');
      await listener.callOrPush(...command);
      assert.equal(await admin.text('ACL', 'SETUSER', 'u', ...rule), '+OK\r\n');
      assert.equal(await isEnded(listener, admin), ends, `${kind}, ${rule.join(' ')}`);
    }
  }
});

test('a reader that waits and may not read any more is refused when there is something, and takes nothing', async () => {
  for (const [rule, says] of [
    [['resetkeys'], /^-NOPERM No permissions to access a key/],
    [['-xread', '-xreadgroup'], /^-NOPERM User u has no permissions to run/],
    [['resetkeys', '~s'], /secret/],
  ] as const) {
    for (const command of [
      ['XREAD', 'BLOCK', '0', 'STREAMS', 's', '$'],
      ['XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', '0', 'STREAMS', 's', '>'],
    ]) {
      await using running = await runServer();
      await using admin = await running.connect();
      await admin.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
      await admin.call('ACL', 'SETUSER', 'u', 'on', 'nopass', '+@all', '~*');
      await using reader = await running.connect();
      await reader.call('AUTH', 'u', 'x');
      const read = reader.text(...command);
      await until(async () => /blocked_clients:1/.test(await admin.text('INFO', 'clients')));
      await admin.call('ACL', 'SETUSER', 'u', ...rule);
      await admin.call('XADD', 's', '*', 'f', 'secret');
      assert.match(await read, says);
      const taken = command[0] === 'XREADGROUP' && rule.length === 2 && rule[1] === '~s';
      assert.match(await admin.text('XPENDING', 's', 'g'), taken ? /^\*4\r\n:1/ : /^\*4\r\n:0/);
      assert.match(await reader.text('PING'), /PONG/);
    }
  }
});

test('a client that takes its own right to listen is answered, then ended', async () => {
  await using running = await runServer();
  await using self = await running.connect(3);
  await self.callOrPush('SSUBSCRIBE', 'news');
  assert.equal(await self.text('ACL', 'SETUSER', 'default', 'resetchannels'), '+OK\r\n');
  await self.closed;
});

test('a client that connected while a password was set is served once there is none', async () => {
  await using running = await runServer({ requirepass: 'secret' });
  await using between = await running.connect();
  assert.match(await between.text('PING'), /^-NOAUTH/);
  await using admin = await running.connect();
  await admin.call('AUTH', 'secret');
  await admin.call('CONFIG', 'SET', 'requirepass', '');
  assert.equal(await between.text('PING'), '+PONG\r\n');
  assert.match(await between.text('HELLO', 2), /^\*14/);
  // More than a client may send that has yet to log in.
  assert.equal(await between.text('SET', 'a', 'x'.repeat(50_000)), '+OK\r\n');
  await admin.call('CONFIG', 'SET', 'requirepass', 'again');
  assert.match(await between.text('PING'), /^-NOAUTH/);
  assert.equal(await admin.text('PING'), '+PONG\r\n');
});

test('a connection in its TLS handshake takes the place of a client', {
  skip: spawnSync('openssl', ['version']).status !== 0 && 'needs openssl',
}, async () => {
  await using place = temporaryDirectory('tls');
  const [key, cert] = [join(place.path, 'key.pem'), join(place.path, 'cert.pem')];
  const parameters = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x';
  execFileSync('openssl', ['req', ...parameters.split(' '), '-keyout', key, '-out', cert], {
    stdio: 'pipe',
  });
  const port = await freePort();
  await using running = await runServer({
    'tls-port': String(port),
    'tls-cert-file': cert,
    'tls-key-file': key,
    'tls-auth-clients': 'no',
    maxclients: '5',
  });
  const { state } = running.server;
  const silent = Array.from({ length: 20 }, () => connectSocket({ port, host: '127.0.0.1' }));
  for (const socket of silent) socket.on('error', () => {}).resume();
  await until(() => state.statistics.rejectedConnections >= 15);
  assert.equal(state.handshaking.size, 5);
  await using refused = await running.connect();
  assert.match(await refused.next().then(String, String), /max number of clients|closed/);
  for (const socket of silent) socket.destroy();
  await until(() => state.handshaking.size === 0);
  const client = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false });
  client.write('PING\r\n');
  assert.equal(String((await once(client, 'data'))[0]), '+PONG\r\n');
  assert.equal(state.handshaking.size, 0);
  assert.equal(state.connections.size, 1);
  client.destroy();
});
