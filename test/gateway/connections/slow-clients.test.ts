/**
 * Clients that read slowly, over real sockets, on a clock that goes on only when the client has read.
 *
 * Invariant: the clock goes on by less than the limit each time the server could write more, and by far more than
 * the limit over a whole message, so that no speed of the machine changes what is seen.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import test from 'node:test';
import { type WebSocket, WebSocketServer } from 'ws';
import { keepAlive } from '../../../src/gateway/handlers/socket-liveness.ts';
import { closeWhenSent, sendTo, writeTo } from '../../../src/gateway/stalled.ts';
import { Timeouts } from '../../../src/util/time/timeouts.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { until } from '../../helpers/until.ts';

const STALLED_MS = 60_000;
/** More than both systems keep of a connection. */
const LENGTH = 24_000_000;
const HANDSHAKE =
  'Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n';

interface Side extends AsyncDisposable {
  readonly client: Socket;
  /** The server's end of the same connection. */
  readonly connection: Socket;
  readonly response: ServerResponse;
  readonly webSocket: WebSocket;
}

/** A client, paused, whose request or handshake has come. */
async function open(isWebSocket: boolean): Promise<Side> {
  const server: Server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').pause();
  client.on('error', () => {});
  client.write(`GET / HTTP/1.1\r\n${isWebSocket ? HANDSHAKE : 'Host: a\r\n\r\n'}`);
  const name = isWebSocket ? 'upgrade' : 'request';
  const [request, second, head] = await once(server, name);
  const sockets = new WebSocketServer({ noServer: true });
  const webSocket = await new Promise<WebSocket | null>((resolve) => {
    if (isWebSocket) sockets.handleUpgrade(request, second, head, resolve);
    else resolve(null);
  });
  webSocket?.on('error', () => {});
  return {
    client,
    connection: request.socket,
    response: second,
    webSocket: webSocket as WebSocket,
    async [Symbol.asyncDispose]() {
      client.destroy();
      webSocket?.terminate();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Reads until `isOver`; the clock goes on after each piece that the server could write. Returns the bytes. */
async function readSlowly(
  { client, connection }: Side,
  clock: VirtualScheduler,
  isOver: () => boolean,
): Promise<number> {
  let written = connection.bytesWritten;
  let read = 0;
  await until(
    async () => {
      read += (client.read() as Buffer | null)?.length ?? 0;
      if (connection.bytesWritten > written) await clock.advance(0.9 * STALLED_MS);
      written = connection.bytesWritten;
      return isOver() && read >= LENGTH;
    },
    () => `the message comes whole: ${read} bytes of it are here`,
  );
  return read;
}

for (const isWebSocket of [false, true]) {
  const what = isWebSocket ? 'message of a WebSocket' : 'part of an answer';
  const send = (side: Side, clock: VirtualScheduler) => {
    const waits = new Timeouts(clock);
    const text = 'x'.repeat(LENGTH);
    if (isWebSocket) return sendTo(side.webSocket, text, STALLED_MS, waits);
    return writeTo(side.response, text, STALLED_MS, waits);
  };

  test(`a client that reads a long ${what} slowly and steadily gets all of it`, async () => {
    await using side = await open(isWebSocket);
    const clock = new VirtualScheduler();
    let isSent = false;
    const sent = send(side, clock).then(() => {
      isSent = true;
    });
    await readSlowly(side, clock, () => isSent);
    await sent;
    assert.ok(clock.monotonic() > 10 * STALLED_MS, `only ${clock.monotonic()} ms have passed`);
    assert.equal(side.connection.destroyed, false);
  });

  test(`a client that stops reading in the middle of a long ${what} is disconnected`, async () => {
    await using side = await open(isWebSocket);
    const clock = new VirtualScheduler();
    const sent = send(side, clock);
    await until(() => side.connection.writableNeedDrain, 'both systems are full');
    await clock.advance(2 * STALLED_MS);
    await until(() => side.connection.destroyed, 'the connection is still there');
    await sent;
  });
}

test('a socket that is closed in the middle of a message closes behind it', async () => {
  await using side = await open(true);
  const clock = new VirtualScheduler();
  const { client, webSocket } = side;
  const sent = sendTo(webSocket, 'x'.repeat(LENGTH), STALLED_MS, new Timeouts(clock));
  closeWhenSent(webSocket, 1001, 'stopping');
  const parts: Buffer[] = [];
  client.on('data', (part) => parts.push(part)).resume();
  await sent;
  const end = () => Buffer.concat(parts.slice(-3)).subarray(-10).toString();
  await until(() => end().endsWith('stopping'), 'the close frame comes');
  assert.ok(Buffer.concat(parts).length > LENGTH);
});

test('a client that has much to read before a ping has more time to answer it', async (t) => {
  await using side = await open(true);
  const { client, connection, webSocket } = side;
  t.mock.timers.enable({ apis: ['setInterval'] });
  keepAlive(webSocket, connection, 1000);
  // What the systems of both sides take at once, so that no message is on its way.
  for (let i = 0; i < 10; i++) {
    await new Promise((resolve) => webSocket.send('x'.repeat(200_000), resolve));
    if (connection.writableLength > 0) break;
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(1000);
  await turn();
  t.mock.timers.tick(1000);
  await turn();
  assert.equal(connection.destroyed, false, 'it may have yet to read what is before the ping');
  for (let i = 0; i < 20; i++) {
    t.mock.timers.tick(1000);
    await turn();
  }
  await until(() => connection.destroyed, 'one that answers none is disconnected');
  client.destroy();
});
