/**
 * Clients that send too much or read too little: memory stays bounded, the others are served.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { freemem } from 'node:os';
import { test } from 'node:test';
import { until } from '../helpers/until.ts';
import { runServer } from './running-server.ts';

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

test('a subscriber that does not read is cut off at its output limit', async () => {
  await using running = await runServer({
    'client-output-buffer-limit': 'pubsub 1mb 0 0',
  });
  const reader = await open(running.port);
  reader.write('SUBSCRIBE news\r\n');
  await once(reader, 'data');
  reader.pause();
  const closed = once(reader, 'close');
  await using publisher = await running.connect();
  const payload = 'x'.repeat(100_000);
  let receivers = ':1\r\n';
  let sent = 0;
  for (; receivers === ':1\r\n' && sent < 500; sent++) {
    receivers = await publisher.text('PUBLISH', 'news', payload);
  }
  assert.equal(receivers, ':0\r\n');
  assert.ok(sent < 200, `cut off after ${sent} messages`);
  reader.resume();
  await closed;
  assert.match(
    await publisher.text('INFO', 'stats'),
    /client_output_buffer_limit_disconnections:1/,
  );
});

test('a client that pipelines without reading is not served further, and holds a bounded amount', async () => {
  await using running = await runServer();
  await using other = await running.connect();
  await other.call('SET', 'big', 'x'.repeat(1024 * 1024));
  const greedy = await open(running.port);
  greedy.pause();
  greedy.write('GET big\r\n'.repeat(2000));
  const [client] = [...running.server.state.connections.values()].slice(-1);
  assert.ok(client);
  await until(() => client.outputSuspended);
  for (let i = 0; i < 50; i++) await other.call('PING');
  assert.ok(client.output.pending < 40 * 1024 * 1024, `${client.output.pending} bytes`);
  assert.ok(client.commands < 100, `${client.commands} commands`);
  // Once it reads, everything arrives.
  let received = 0;
  greedy.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  greedy.resume();
  const whole = 2000 * (1024 * 1024 + '$1048576\r\n\r\n'.length);
  await until(() => received >= whole);
  assert.equal(received, whole);
  greedy.destroy();
});

test('a query that never ends is cut off at the query buffer limit', async () => {
  await using running = await runServer({ 'client-query-buffer-limit': '1mb' });
  const socket = await open(running.port);
  const closed = once(socket, 'close');
  socket.write(`*2\r\n$3\r\nSET\r\n$100000000\r\n`);
  const piece = Buffer.alloc(256 * 1024);
  const timer = setInterval(() => socket.write(piece), 1);
  await closed;
  clearInterval(timer);
  await using session = await running.connect();
  assert.match(await session.text('INFO', 'stats'), /client_query_buffer_limit_disconnections:1/);
});

test('what a blocked client sends is read only up to a bound', async () => {
  await using running = await runServer();
  const socket = await open(running.port);
  socket.write('XREAD BLOCK 0 STREAMS s $\r\n');
  socket.write(Buffer.from('PING\r\n'.repeat(2_000_000)));
  await using session = await running.connect();
  const [client] = [...running.server.state.connections.values()];
  assert.ok(client);
  await until(() => client.inputWaiting >= 1024 * 1024);
  for (let i = 0; i < 50; i++) await session.call('PING');
  assert.ok(client.inputWaiting < 3 * 1024 * 1024, `${client.inputWaiting} bytes`);
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await session.call('XADD', 's', '1-1', 'f', 'v');
  await until(() => received >= 2_000_000 * 7);
  socket.destroy();
});

test('a thousand idle connections take little memory and slow no other client down', async () => {
  await using running = await runServer();
  const sockets = await Promise.all(Array.from({ length: 1000 }, () => open(running.port)));
  await using session = await running.connect();
  // A connection that the kernel has accepted waits in the listen queue until the server takes it.
  await until(async () => /connected_clients:1001\r\n/.test(await session.text('INFO', 'clients')));
  for (const client of running.server.state.connections.values()) {
    assert.ok(client.inputHeld === 0 && client.output.pending === 0);
  }
  const started = performance.now();
  for (let i = 0; i < 100; i++) await session.call('PING');
  assert.ok(performance.now() - started < 10_000);
  for (const socket of sockets) socket.destroy();
});

test('a key too long for a string is refused by name, for WATCH and in a transaction too', {
  skip: freemem() < 6 * 1024 ** 3 && 'it needs 6 GiB of free memory',
}, async () => {
  await using running = await runServer();
  const socket = await open(running.port);
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  const part = Buffer.alloc(16 * 1024 * 1024, 'k');
  const longest = 512 * 1024 * 1024;
  for (const [name, ...values] of [['WATCH'], ['SET', 'v']]) {
    const replies = text.split('\r\n').length;
    socket.write(`*${2 + values.length}\r\n$${name!.length}\r\n${name}\r\n$${longest}\r\n`);
    for (let sent = 0; sent < longest; sent += part.length) {
      if (!socket.write(part)) await once(socket, 'drain');
    }
    socket.write(values.map((value) => `\r\n$${value.length}\r\n${value}`).join(''));
    socket.write('\r\n');
    await until(() => text.split('\r\n').length !== replies);
  }
  assert.match(text, /^(-ERR a key is longer than 536869888 bytes\r\n){2}$/);
  socket.destroy();
});
