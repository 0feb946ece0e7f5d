/** The udp transport against datagrams that no peer of ours sends. */
import assert from 'node:assert/strict';
import { Socket } from 'node:dgram';
import { test } from 'node:test';
import { NO_METADATA } from '../../src/transport/transport.ts';
import { UdpTransport } from '../../src/transport/udp/udp.ts';
import { encodeDatagram, TYPE } from '../../src/transport/udp/udp-datagram.ts';

test('a request from port 0, to which nothing can be sent, reaches no handler and ends nothing', async (t) => {
  let bound: Socket | undefined;
  const { bind } = Socket.prototype;
  t.mock.method(Socket.prototype, 'bind', function (this: Socket, ...args: unknown[]) {
    bound ??= this;
    return (bind as (...all: unknown[]) => Socket).apply(this, args);
  });
  const ports: string[] = [];
  const listener = await new UdpTransport().listen({
    address: '127.0.0.1:0',
    handler(call) {
      ports.push(call.peer.address);
      call.reply({ contentType: call.contentType, metadata: NO_METADATA, body: Buffer.from('{}') });
    },
  });
  try {
    const head = { service: 's', endpoint: 'T.Echo', contentType: 'application/json' };
    const body = Buffer.from('1');
    for (const [port, id] of [
      [0, '0000000000000001'],
      [1, '0000000000000002'],
    ] as const) {
      const bytes = encodeDatagram({ type: TYPE.request, id, head, body });
      bound?.emit('message', bytes, { address: '127.0.0.1', family: 'IPv4', port, size: 1 });
    }
    assert.deepEqual(ports, ['127.0.0.1:1']);
  } finally {
    await listener.close();
  }
});
