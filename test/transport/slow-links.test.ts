/**
 * Replies that take long on their way: a slow link is no dead one, and a node that stops lets what it
 * answered arrive.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import type { ServiceNode } from '../../src/registry/registry.ts';
import { GrpcTransport } from '../../src/transport/grpc/grpc.ts';
import { MucpTransport } from '../../src/transport/mucp/mucp.ts';
import { FramedSocket } from '../../src/transport/tcp/framed-socket.ts';
import { TcpTransport } from '../../src/transport/tcp/tcp.ts';
import { Frame, FrameWriter } from '../../src/transport/tcp/tcp-frame.ts';
import { NO_METADATA, type Transport } from '../../src/transport/transport.ts';
import { WebSocketTransport } from '../../src/transport/websocket.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { until } from '../helpers/until.ts';
import { outgoing } from './wires.ts';

const BODY = 8 * 1024 * 1024;
const DROP_BYTES = 32 * 1024;
const DROP_MS = 100;
/** So many drops, which takes longer than a silent peer or a stopped node is waited for; then no limit. */
const DROPS = 45;

const CARRIERS: readonly (readonly [string, () => Transport])[] = [
  ['tcp', () => new TcpTransport()],
  ['ws', () => new WebSocketTransport()],
  ['grpc', () => new GrpcTransport({ maxMessageBytes: BODY })],
  ['http', () => new MucpTransport()],
];

/** A proxy that passes what the node answers drop by drop. */
async function slowLink(address: string) {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const node = connect(Number(address.split(':')[1]), '127.0.0.1');
    for (const socket of [client, node]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    client.pipe(node);
    void drip(node, client);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

async function drip(from: Socket, to: Socket): Promise<void> {
  let drops = 0;
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length; at += DROP_BYTES) {
        const drop = chunk.subarray(at, at + DROP_BYTES);
        to.write(drop);
        // What greets and what acknowledges is small, and is not delayed.
        if (drop.length < 1024 || drops++ >= DROPS) continue;
        await new Promise((next) => setTimeout(next, DROP_MS));
      }
    }
    to.end();
  } catch {
    to.destroy();
  }
}

test('a peer that reads slowly keeps its connection, one that reads nothing loses it', async () => {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const peer = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [socket] = (await once(server, 'connection')) as [Socket];
  let lost: Error | null = null;
  const owner = {
    load: 0,
    onFrame() {
      for (let reply = 0; reply < 4; reply++) {
        frames.writer.begin(Frame.REPLY, 1);
        frames.writer.end(Buffer.alloc(BODY));
      }
    },
    onClosed(error: Error) {
      lost = error;
    },
  };
  const options = { pausesWhenFull: true, stalledAfterMs: 3000 };
  const frames = new FramedSocket(socket, 'the test', owner, systemScheduler, options);
  const writer = new FrameWriter();
  writer.begin(Frame.CANCEL, 1);
  writer.end();
  peer.pause();
  for (const chunk of writer.take()) peer.write(chunk);
  await until(() => frames.isFull);
  for (let drop = 0; drop < 2 * DROPS; drop++) {
    await new Promise((next) => setTimeout(next, DROP_MS / 2));
    peer.read(8 * DROP_BYTES) ?? peer.read();
  }
  assert.equal(lost, null);
  assert.ok(frames.isFull, 'the peer has yet to read the rest');
  await until(() => lost !== null);
  assert.match(String(lost), /has read nothing for 3000 ms/);
  peer.destroy();
  server.close();
});

for (const [name, make] of CARRIERS) {
  test(`${name}: a reply that is on its way while its node stops arrives whole over a slow link`, async () => {
    let answered = () => {};
    const isAnswered = new Promise<void>((resolve) => {
      answered = resolve;
    });
    const listener = await make().listen({
      address: '127.0.0.1:0',
      nodeId: 'node',
      methods: () => ({ kind: 'unary', isProto: false }),
      handler(call) {
        const { contentType } = call;
        call.reply({ contentType, metadata: NO_METADATA, body: Buffer.alloc(BODY, 7) });
        answered();
      },
    });
    const link = await slowLink(listener.address);
    const metadata: Record<string, string> = { ...listener.metadata };
    for (const [key, value] of Object.entries(metadata)) {
      if (value === listener.address) metadata[key] = link.address;
    }
    const node: ServiceNode = { id: 'node', address: link.address, metadata };
    const channel = await make().dial(node);
    const reply = channel.request(outgoing('Test.Echo', 'x', { timeoutMs: 120_000 }));
    await Promise.race([isAnswered, reply]);
    const closed = listener.close(120_000);
    const { body } = await reply;
    assert.deepEqual([body.length, body[0], body[BODY - 1]], [BODY, 7, 7]);
    await channel.close();
    await closed;
    link.close();
  });
}
