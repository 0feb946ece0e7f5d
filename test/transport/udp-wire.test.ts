/** The udp transport against datagrams that no peer of ours sends. */
import assert from 'node:assert/strict';
import { createSocket, Socket } from 'node:dgram';
import { test } from 'node:test';
import { RivuletError } from '../../src/errors.ts';
import { CallError, NO_METADATA } from '../../src/transport/transport.ts';
import { UdpTransport } from '../../src/transport/udp/udp.ts';
import {
  type DatagramHead,
  decodeDatagram,
  encodeDatagram,
  TYPE,
} from '../../src/transport/udp/udp-datagram.ts';
import { randomOf } from '../helpers/seed.ts';
import { outgoing } from './wires.ts';

/** A node that answers each request with what `answer` makes of its id, and a channel to it. */
async function answering(answer: (id: string) => Buffer) {
  const socket = createSocket('udp4');
  await new Promise<void>((bound) => socket.bind(0, '127.0.0.1', bound));
  socket.on('message', (bytes, from) => {
    const id = decodeDatagram(bytes)?.id;
    if (id !== undefined) socket.send(answer(id), from.port, from.address);
  });
  const address = `127.0.0.1:${socket.address().port}`;
  const channel = await new UdpTransport().dial({ id: 'n', address, metadata: {} });
  return {
    channel,
    async close() {
      await channel.close();
      socket.close();
    },
  };
}

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

test('whatever a node says of a failure is a failure with a known code, and ends no process', async () => {
  const failures: unknown[] = [
    null,
    {},
    [],
    'text',
    7,
    { code: {}, id: null, status: '500', detail: ['a'], name: { a: 1 }, metadata: 'm', sent: 7 },
    { code: '__proto__', status: -1, name: '', contentType: 5 },
    { code: 'NOT_FOUND', id: 'x', status: 404, detail: 'd', name: 'N', sent: 'no' },
  ];
  let failure: unknown;
  const node = await answering((id) => {
    const head = { failure } as DatagramHead;
    return encodeDatagram({ type: TYPE.failure, id, head, body: Buffer.alloc(0) });
  });
  const errors: CallError[] = [];
  for (failure of failures) {
    await node.channel.request(outgoing('Test.Echo', 'x')).catch((error) => errors.push(error));
  }
  assert.equal(errors.length, failures.length);
  for (const error of errors) assert.ok(error instanceof CallError, String(error));
  const { metadata, ...strange } = errors[5]?.failure ?? {};
  assert.deepEqual(
    [metadata, strange],
    [
      undefined,
      {
        code: 'RESPONDER_FAILED',
        id: '',
        status: 500,
        detail: 'the peer gave no reason',
        name: undefined,
        contentType: undefined,
        sent: 'maybe',
      },
    ],
  );
  assert.deepEqual(
    [errors[7]?.code, errors[7]?.sent, errors[7]?.failure.name],
    ['NOT_FOUND', 'no', 'N'],
  );
  await node.close();
});

test('answers with any bytes changed end their call, and no process', async (t) => {
  const random = randomOf(t);
  const head = { failure: { code: 'NOT_FOUND', id: 'x', status: 404, detail: 'd' } as const };
  const node = await answering((id) => {
    const type = random.below(2) === 0 ? TYPE.reply : TYPE.failure;
    const bytes = encodeDatagram({ type, id, head, body: Buffer.from('body') });
    // Behind the id, which the caller knows its call by.
    for (let changes = random.below(4); changes > 0; changes--) {
      bytes[13 + random.below(bytes.length - 13)] = random.below(256);
    }
    return random.below(8) === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes;
  });
  const calls = Array.from({ length: 1000 }, () =>
    node.channel.request(outgoing('Test.Echo', 'x', { timeoutMs: 2000 })).catch((error) => error),
  );
  for (const ended of await Promise.all(calls)) {
    assert.ok(ended instanceof RivuletError || ended.body instanceof Uint8Array, String(ended));
  }
  await node.close();
});
