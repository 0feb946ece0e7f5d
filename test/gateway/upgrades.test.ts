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
