/** Topics over WebSockets whose clients read slowly: what a stop leaves of their messages, and what these cost. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import test from 'node:test';
import { WebSocket } from 'ws';
import { until } from '../../helpers/until.ts';
import { gatewayFixture } from '../fixture.ts';

test('a stop closes the socket of a slow client behind the last message of its queue', async () => {
  await using own = await gatewayFixture({ topics: ['news.>'] });
  const client = new WebSocket(`ws://${own.gateway.address}/_/topics/news.slow`);
  const numbers: number[] = [];
  client.on('message', (text) => numbers.push(Number.parseInt(JSON.parse(String(text)).body, 10)));
  await once(client, 'open');
  client.pause();
  const quick = new WebSocket(`ws://${own.gateway.address}/_/topics/news.slow`);
  let seen = 0;
  quick.on('message', () => seen++);
  await once(quick, 'open');
  const count = 20;
  // More than both systems keep of a connection.
  const rest = 'x'.repeat(1_000_000);
  for (let i = 0; i < count; i++) {
    await own.broker.publish('news.slow', { body: `${i} ${rest}` });
  }
  await until(() => seen === count, 'the gateway has every message');
  const stopped = own.gateway.stop();
  const closed = once(client, 'close');
  client.resume();
  const [code] = await closed;
  assert.deepEqual([numbers, code], [Array.from({ length: count }, (_, i) => i), 1001]);
  await stopped;
});

test('clients of a long message share its text while it waits for them', async () => {
  await using own = await gatewayFixture({ topics: ['news.>'] });
  const [, port] = own.gateway.address.split(':');
  const clients: Socket[] = [];
  for (let i = 0; i < 10; i++) {
    const client = connect(Number(port), '127.0.0.1');
    client.write(
      'GET /_/topics/news.long HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    );
    const [head] = await once(client, 'data');
    assert.match(String(head), /^HTTP\/1\.1 101 /);
    client.once('data', () => client.pause());
    clients.push(client);
  }
  globalThis.gc?.();
  const before = process.memoryUsage().arrayBuffers;
  const length = 4_000_000;
  // Each character is six in the text, which is more than both systems keep of a connection.
  await own.broker.publish('news.long', { body: '\u0001'.repeat(length) });
  await until(() => clients.every((client) => client.isPaused()), 'the message is being sent');
  const held = () => {
    globalThis.gc?.();
    return process.memoryUsage().arrayBuffers - before;
  };
  await until(
    () => held() < 3 * 6 * length,
    () => `${held()} bytes are held`,
    20_000,
  );
  for (const client of clients) client.destroy();
});
