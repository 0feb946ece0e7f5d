/**
 * The dispatch loop over real sockets: order, errors, protocols, blocking, limits, login.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { allCommands } from '../../../src/server/commands/index.ts';
import type { RespSession } from '../../helpers/resp-session.ts';
import { until } from '../../helpers/until.ts';
import { runServer } from '../running-server.ts';

/** Sends bytes and returns everything until the server closes the connection. */
async function untilClosed(port: number, bytes: string | Buffer): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => {});
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString('latin1');
}

test('commands of one connection are answered in order, with the errors of Redis', async () => {
  await using running = await runServer();
  await using session = await running.connect();
  const replies = await session.pipeline([
    ['PING'],
    ['foo', 'a', 'b b'],
    ['get'],
    ['client', 'foo'],
    ['client', 'id', '3'],
    ['client'],
    ['select', '99'],
    ['ping', 'x'],
  ]);
  assert.deepEqual(
    replies.map((reply) => reply.toString('latin1')),
    [
      '+PONG\r\n',
      "-ERR unknown command 'foo', with args beginning with: 'a' 'b b' \r\n",
      "-ERR wrong number of arguments for 'get' command\r\n",
      "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n",
      "-ERR wrong number of arguments for 'client|id' command\r\n",
      "-ERR wrong number of arguments for 'client' command\r\n",
      '-ERR DB index is out of range\r\n',
      '$1\r\nx\r\n',
    ],
  );
});

test('an unknown command shows 128 bytes of its arguments, byte for byte', async () => {
  await using running = await runServer();
  await using session = await running.connect();
  assert.equal(
    await session.text('foo', 'a'.repeat(200), 'b'),
    `-ERR unknown command 'foo', with args beginning with: '${'a'.repeat(128)}' \r\n`,
  );
  assert.equal(
    await session.text('f\n', Buffer.from([0xff, 0xfe])),
    "-ERR unknown command 'f ', with args beginning with: '\xff\xfe' \r\n",
  );
});

test('a protocol error is answered, then the connection ends', async () => {
  await using running = await runServer();
  assert.equal(
    await untilClosed(running.port, '*1\r\n$4\r\nPING\r\n*1\r\nx\r\n*1\r\n$4\r\nPING\r\n'),
    "+PONG\r\n-ERR Protocol error: expected '$', got 'x'\r\n",
  );
  assert.equal(await untilClosed(running.port, 'POST / HTTP/1.1\r\nHost: x\r\n\r\n'), '');
  assert.equal(await untilClosed(running.port, 'PING\r\nQUIT\r\nPING\r\n'), '+PONG\r\n+OK\r\n');
});

test('a client that sends a pipeline and ends its side gets every reply', async () => {
  await using running = await runServer();
  const count = 30_000;
  const socket = connect({ port: running.port, host: '127.0.0.1', allowHalfOpen: true });
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.end(`PING ${'x'.repeat(100)}\r\n`.repeat(count));
  await once(socket, 'end');
  socket.end();
  assert.equal(received, count * 108);
});

test('HELLO changes the protocol, names the client and describes the server', async () => {
  await using running = await runServer();
  await using session = await running.connect();
  assert.equal(await session.text('HELLO', '4'), '-NOPROTO unsupported protocol version\r\n');
  assert.equal(
    await session.text('HELLO', 'x'),
    '-ERR Protocol version is not an integer or out of range\r\n',
  );
  assert.equal(
    await session.text('HELLO', '3', 'foo'),
    "-ERR Syntax error in HELLO option 'foo'\r\n",
  );
  const hello = await session.text('HELLO', '3', 'SETNAME', 'me');
  assert.match(hello, /^%7\r\n\$6\r\nserver\r\n\$5\r\nredis\r\n.*proto\r\n:3\r\n/s);
  assert.equal(await session.text('CLIENT', 'GETNAME'), '$2\r\nme\r\n');
  assert.equal(await session.text('GET', 'nothing'), '_\r\n');
  assert.equal(await session.text('RESET'), '+RESET\r\n');
  assert.equal(await session.text('GET', 'nothing'), '$-1\r\n');
});

test('without the password only logging in is possible', async () => {
  await using running = await runServer({ requirepass: 'secret' });
  await using session = await running.connect();
  assert.equal(await session.text('PING'), '-NOAUTH Authentication required.\r\n');
  assert.match(await session.text('HELLO', '3'), /^-NOAUTH HELLO must be called/);
  assert.equal(
    await session.text('AUTH', 'wrong'),
    '-WRONGPASS invalid username-password pair or user is disabled.\r\n',
  );
  assert.equal(await session.text('AUTH', 'secret'), '+OK\r\n');
  assert.equal(await session.text('PING'), '+PONG\r\n');
  await using other = await running.connect();
  assert.match(await other.text('HELLO', '3', 'AUTH', 'default', 'secret'), /^%7/);
  assert.equal(
    await untilClosed(running.port, '*11\r\n'),
    '-ERR Protocol error: unauthenticated multibulk length\r\n',
  );
});

test('users may run what their rules allow, and refusals are logged', async () => {
  await using running = await runServer({}, [['bob', 'on', '>p', '~a*', '+get', '+acl|whoami']]);
  await using session = await running.connect();
  assert.equal(await session.text('AUTH', 'bob', 'p'), '+OK\r\n');
  assert.equal(await session.text('ACL', 'WHOAMI'), '$3\r\nbob\r\n');
  assert.equal(await session.text('GET', 'a1'), '$-1\r\n');
  assert.equal(
    await session.text('SET', 'a1', 'x'),
    "-NOPERM User bob has no permissions to run the 'set' command\r\n",
  );
  assert.equal(await session.text('GET', 'b'), '-NOPERM No permissions to access a key\r\n');
  await using admin = await running.connect();
  assert.match(
    await admin.text('ACL', 'LOG', '1'),
    /reason\r\n\$3\r\nkey\r\n.*object\r\n\$1\r\nb\r\n/s,
  );
  assert.equal(await admin.text('ACL', 'DELUSER', 'bob'), ':1\r\n');
  await session.closed;
});

test('a blocked client is served in its turn, and goes on with what it sent meanwhile', async () => {
  await using running = await runServer();
  await using reader = await running.connect();
  await using writer = await running.connect();
  const replies = reader.pipeline([
    ['XREAD', 'BLOCK', '0', 'STREAMS', 's', '$'],
    ['PING', 'after'],
  ]);
  await isBlocked(writer);
  await writer.call('XADD', 's', '5-1', 'f', 'v');
  const [read, after] = (await replies).map(String);
  assert.equal(
    read,
    '*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n',
  );
  assert.equal(after, '$5\r\nafter\r\n');
});

test('a blocked client is released by its timeout, by CLIENT UNBLOCK, and forgotten when it goes', async () => {
  await using running = await runServer();
  await using reader = await running.connect();
  await using other = await running.connect();
  assert.equal(await reader.text('XREAD', 'BLOCK', '20', 'STREAMS', 's', '$'), '*-1\r\n');
  const id = Number((await reader.text('CLIENT', 'ID')).slice(1));
  for (const [mode, expected] of [
    ['TIMEOUT', '*-1\r\n'],
    ['ERROR', '-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n'],
  ] as const) {
    const reply = reader.text('XREAD', 'BLOCK', '0', 'STREAMS', 's', '$');
    await isBlocked(other);
    assert.equal(await other.text('CLIENT', 'UNBLOCK', id, mode), ':1\r\n');
    assert.equal(await reply, expected);
  }
  reader.call('XREAD', 'BLOCK', '0', 'STREAMS', 's', '$').catch(() => {});
  await isBlocked(other);
  await reader.close();
  await until(async () => !/blocked_clients:[1-9]/.test(await other.text('INFO', 'clients')));
  assert.equal(running.server.state.engine.blocked.size, 0);
});

async function isBlocked(observer: RespSession): Promise<void> {
  await until(async () => /blocked_clients:1/.test(await observer.text('INFO', 'clients')));
}

test('CLIENT REPLY OFF and SKIP silence what they should', async () => {
  await using running = await runServer();
  await using session = await running.connect();
  const reply = session.next();
  session.socket.write('CLIENT REPLY SKIP\r\nPING one\r\nPING two\r\n');
  assert.equal((await reply).toString(), '$3\r\ntwo\r\n');
  const on = session.next();
  session.socket.write('CLIENT REPLY OFF\r\nPING\r\nfoo\r\nGET\r\nCLIENT REPLY ON\r\n');
  assert.equal((await on).toString(), '+OK\r\n');
  assert.equal(await session.text('PING'), '+PONG\r\n');
});

test('CLIENT PAUSE holds back writes until it ends, in order', async () => {
  await using running = await runServer();
  await using session = await running.connect();
  await using other = await running.connect();
  assert.equal(await session.text('CLIENT', 'PAUSE', '100000', 'WRITE'), '+OK\r\n');
  assert.equal(await other.text('GET', 'k'), '$-1\r\n');
  const replies = other.pipeline([
    ['SET', 'k', 'v'],
    ['GET', 'k'],
  ]);
  assert.equal(await session.text('GET', 'k'), '$-1\r\n');
  assert.equal(await session.text('CLIENT', 'UNPAUSE'), '+OK\r\n');
  assert.deepEqual((await replies).map(String), ['+OK\r\n', '$1\r\nv\r\n']);
});

test('a connection with endless input does not keep the others waiting', async () => {
  await using running = await runServer();
  const busy = connect({ port: running.port, host: '127.0.0.1' });
  busy.on('error', () => {});
  const load = Buffer.from('INFO everything\r\n'.repeat(20_000));
  busy.write(load);
  busy.resume();
  await once(busy, 'data');
  await using session = await running.connect();
  const started = performance.now();
  await session.call('PING');
  const waited = performance.now() - started;
  busy.destroy();
  assert.ok(waited < 5000, `waited ${waited} ms`);
});

test('more than maxclients are turned away', async () => {
  await using running = await runServer({ maxclients: '2' });
  await using first = await running.connect();
  await using second = await running.connect();
  await Promise.all([first.call('PING'), second.call('PING')]);
  assert.equal(await untilClosed(running.port, ''), '-ERR max number of clients reached\r\n');
});

test('idle clients are closed after `timeout` seconds, waiting ones are not', async () => {
  await using running = await runServer({ timeout: '1' });
  await using idle = await running.connect();
  await using waiting = await running.connect();
  waiting.call('XREAD', 'BLOCK', '0', 'STREAMS', 's', '$').catch(() => {});
  await idle.closed;
  const clients = [...running.server.state.connections.values()];
  assert.deepEqual(
    clients.map((client) => client.blocked),
    [true],
  );
});

test('above maxmemory writes are refused and reads go on', async () => {
  await using running = await runServer();
  await using session = await running.connect();
  await session.call('SET', 'k', 'v');
  assert.equal(await session.text('CONFIG', 'SET', 'maxmemory', '1mb'), '+OK\r\n');
  assert.equal(
    await session.text('XADD', 's', '*', 'f', 'v'),
    "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
  );
  assert.equal(await session.text('GET', 'k'), '$1\r\nv\r\n');
  await session.call('MULTI');
  assert.match(await session.text('SET', 'a', 'b'), /^-OOM/);
  assert.match(await session.text('EXEC'), /^-EXECABORT/);
  assert.equal(await session.text('CONFIG', 'SET', 'maxmemory', '0'), '+OK\r\n');
  assert.equal(await session.text('SET', 'a', 'b'), '+OK\r\n');
});

test('slow commands are kept, cut short, and counted', async () => {
  await using running = await runServer({
    'slowlog-log-slower-than': '0',
    'enable-debug-command': 'yes',
  });
  await using session = await running.connect();
  await session.call('DEBUG', 'SLEEP', '0.01');
  await session.call('GET', 'fast');
  const slowlog = await session.text('SLOWLOG', 'GET');
  assert.match(slowlog, /\$3\r\nGET\r\n\$4\r\nfast\r\n/, 'a threshold of 0 keeps every command');
  assert.match(slowlog, /\$5\r\nDEBUG\r\n\$5\r\nSLEEP\r\n\$4\r\n0\.01\r\n/);
  const stats = await session.text('INFO', 'commandstats');
  assert.match(stats, /cmdstat_debug:calls=1,usec=\d{5,}/);
});

test('a command that fails in itself answers an error and the server goes on', async () => {
  const echo = allCommands.find(({ name }) => name === 'echo');
  assert.ok(echo?.run);
  const { run } = echo;
  echo.run = () => {
    throw new Error('a bug');
  };
  try {
    await using running = await runServer();
    await using session = await running.connect();
    assert.equal(await session.text('ECHO', 'x'), '-ERR internal error: a bug\r\n');
    assert.equal(await session.text('PING'), '+PONG\r\n');
    assert.ok(running.lines.some(({ message }) => message.includes('a bug')));
  } finally {
    echo.run = run;
  }
});
