/**
 * What a reader takes again after its connection broke: only what no other consumer has claimed since.
 *
 * The proxy holds the claim back until another consumer has the message. It finds commands by their
 * names in the bytes, which these clients send in one piece.
 */
import assert from 'node:assert/strict';
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/client.ts';
import { message, Seen, text } from '../../src/conformance/case-context.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';

for (const scheme of ['rivulet', 'redis']) {
  test(`${scheme}: what another consumer claims while a reader recovers stays that consumer's`, async () => {
    await using server = await startRivulet();
    await using client = await connect({ port: server.port });
    const topic = 'orders';
    const claims = new Seen<string>();
    await using proxy = await startInterceptor(server.port, {
      loses: (reply) => claims.length === 0 && reply.includes('precious'),
      async before(request) {
        if (claims.length > 0 || !request.includes('XCLAIM')) return;
        const [[id]] = (await client.call('XPENDING', topic, 'g', '-', '+', 1)) as [[Buffer]];
        const claim = ['XCLAIM', topic, 'g', 'other', 0, id, 'JUSTID', 'RETRYCOUNT', 2] as const;
        await client.call(...claim);
        claims.add(String(id));
      },
    });
    await using broker = await openBroker(`${scheme}://127.0.0.1:${proxy.port}`, {
      reconnect: { minMs: 5, maxMs: 50, factor: 2, jitter: false },
      publishTimeoutMs: 60_000,
    });
    const seen = new Seen<string>();
    const options = { group: 'g', from: 'earliest', ackWaitMs: 60_000 } as const;
    await broker.subscribe(topic, (delivery) => seen.add(text(delivery)), options);
    await using publisher = await openBroker(`${scheme}://127.0.0.1:${server.port}`);
    await publisher.publish(topic, message('precious'));
    const [id] = await claims.count(1);
    await publisher.publish(topic, message('next'));
    assert.deepEqual(await seen.count(1), ['next']);
    const [row] = (await client.call('XPENDING', topic, 'g', id as string, id as string, 1)) as [
      [Buffer, Buffer, number, number],
    ];
    assert.deepEqual([String(row[1]), row[3]], ['other', 2]);
  });
}

interface Interception {
  /** The reply is not passed on, and all connections are reset. */
  loses(reply: Buffer): boolean;
  /** Awaited before a request is passed on. */
  before(request: Buffer): Promise<void>;
}

async function startInterceptor(target: number, { loses, before }: Interception) {
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  };
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const proxy = createServer((client) => {
    const upstream = connectSocket(target, '127.0.0.1');
    keep(client);
    keep(upstream);
    let passed = Promise.resolve();
    client.on('data', (request) => {
      passed = passed
        .then(() => before(request))
        .then(() => {
          upstream.write(request);
        });
    });
    upstream.on('data', (reply) => {
      if (loses(reply)) cut();
      else client.write(reply);
    });
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return {
    port: (proxy.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => proxy.close(() => resolve()));
      cut();
      await closed;
    },
  };
}
