/** Upgrades: an offer of HTTP/2 is ignored, and a WebSocket whose client is gone is closed. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { until } from '../helpers/until.ts';
import { gatewayFixture } from './fixture.ts';

test('a request that offers h2c is answered as HTTP/1.1', async () => {
  await using fixture = await gatewayFixture();
  const { hostname, port } = new URL(fixture.url);
  const socket = connect(Number(port), hostname);
  socket.write(
    'GET /_/healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n',
  );
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  await once(socket, 'end');
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(text, /\r\n\r\nok\n$/);
});

test('a call that offers h2c reaches its service and is counted as answered', async () => {
  await using fixture = await gatewayFixture();
  const { hostname, port } = new URL(fixture.url);
  const socket = connect(Number(port), hostname);
  socket.write(
    'GET /learning/hi?name=ann HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  );
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  await once(socket, 'end');
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(text, /"name":"ann"/);
  assert.equal(fixture.gateway.running, 0);
});

const HANDSHAKE =
  'Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n';

test('a refused upgrade ends its connection, whether its client ends its side or not', async () => {
  await using fixture = await gatewayFixture();
  const { hostname, port } = new URL(fixture.url);
  for (const lines of [
    `GET /_/nothing HTTP/1.1\r\n${HANDSHAKE}`,
    `GET /learning/hi HTTP/1.1\r\n${HANDSHAKE}`,
    'GET /_/healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  ]) {
    const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
    let text = '';
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        text += chunk;
      });
    socket.write(lines);
    await once(socket, 'end');
    assert.match(text, /^HTTP\/1\.1 [24]00 |^HTTP\/1\.1 404 /);
    // A connection that the gateway has closed answers with a reset.
    const writing = setInterval(() => socket.write('x'), 50);
    await until(() => socket.closed, 'the connection is closed');
    clearInterval(writing);
  }
});

test('an upgrade that is sent before earlier requests are answered ends its connection, and no more', async () => {
  await using fixture = await gatewayFixture({ topics: ['news'] });
  const { hostname, port } = new URL(fixture.url);
  const first = 'GET /learning/slow HTTP/1.1\r\nHost: a\r\n\r\n';
  for (const second of [
    'GET /_/healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
    `GET /_/nothing HTTP/1.1\r\n${HANDSHAKE}`,
    `GET /_/topics/news HTTP/1.1\r\n${HANDSHAKE}`,
  ]) {
    const socket = connect(Number(port), hostname).on('error', () => {});
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.write(first + second);
    await once(socket, 'close');
    assert.equal(text, '');
    await until(() => fixture.gateway.running === 0, 'the call ends');
  }
  // Node answers this one itself.
  const refused = connect(Number(port), hostname)
    .on('error', () => {})
    .resume();
  refused.write(
    'GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\nGET /_/healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  );
  await once(refused, 'close');
  // One that comes after the answer is as good as the first of a connection.
  const socket = connect(Number(port), hostname);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.write('GET /_/healthz HTTP/1.1\r\nHost: a\r\n\r\n');
  await until(() => text.endsWith('ok\n'));
  socket.write(`GET /_/topics/news HTTP/1.1\r\n${HANDSHAKE}`);
  await until(() => text.includes('HTTP/1.1 101 '));
  socket.destroy();
});

test('a client that reads nothing of its replies is disconnected, also where it goes on to send', async () => {
  await using fixture = await gatewayFixture({ stalledMs: 300 });
  const { hostname, port } = new URL(fixture.url);
  const socket = connect(Number(port), hostname).on('error', () => {});
  socket.write(`GET /learning/chat HTTP/1.1\r\n${HANDSHAKE}`);
  await once(socket, 'readable');
  assert.match(String(socket.read()), /^HTTP\/1\.1 101 /);
  const send = (text: string) => {
    const head = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32BE(text.length, 6);
    socket.write(Buffer.concat([head, Buffer.from(text)]));
  };
  // More than both systems keep of a connection: each is a reply.
  for (let i = 0; i < 24; i++) send(`"${'x'.repeat(1_000_000)}"`);
  const sending = setInterval(() => send('{}'), 50);
  await until(() => fixture.gateway.running === 1);
  await until(() => fixture.gateway.running === 0, 'the call ends');
  clearInterval(sending);
  socket.destroy();
});

test('a WebSocket client that answers no ping is disconnected, one that does stays', async () => {
  await using fixture = await gatewayFixture({ topics: ['news'], pingMs: 500 });
  const url = `${fixture.url.replace('http', 'ws')}/_/topics/news`;
  const silent = new WebSocket(url, { autoPong: false });
  const lively = new WebSocket(url);
  await Promise.all([once(silent, 'open'), once(lively, 'open')]);
  let pings = 0;
  lively.on('ping', () => {
    pings++;
  });
  await once(silent, 'close');
  await until(() => pings >= 3);
  assert.equal(lively.readyState, WebSocket.OPEN);
  lively.close();
  await once(lively, 'close');
});
