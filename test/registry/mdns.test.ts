/** The registry suite on mDNS over the loopback interface, and the bytes that Go's reader wants. */
import assert from 'node:assert/strict';
import { createSocket, Socket } from 'node:dgram';
import { after, before, describe, type TestContext, test } from 'node:test';
import { deflateSync, inflateSync } from 'node:zlib';
import { encode, type Packet } from 'dns-packet';
import makeMdns, { type MulticastDNS } from 'multicast-dns';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { MdnsRegistry, mdnsRegistryFrom } from '../../src/registry/mdns/mdns.ts';
import { packetOf } from '../../src/registry/mdns/mdns-record.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';

const runner = { describe, test, before, after };
const LOOPBACK = '127.0.0.1';

registryConformance({
  name: 'mdns',
  runner,
  factory: async () => {
    const port = await freeUdpPort();
    const foreign = await socketOn(port);
    let number = 0;
    return {
      open: async () => new MdnsRegistry({ interface: LOOPBACK, port, onWarning: () => {} }),
      kill: (registry) => registry.close(),
      writeForeign: async (service, bytes) => {
        const name = `foreign-${number++}.${service}.micro`;
        for (const text of [deflateSync(bytes).toString('hex'), bytes.toString().slice(0, 255)]) {
          foreign.respond([
            { type: 'PTR', name: `${service}.micro`, data: name },
            { type: 'SRV', name, data: { port: 1, target: LOOPBACK } },
            { type: 'TXT', name, ttl: 120, data: text.match(/.{1,255}/gs) ?? [''] },
          ]);
        }
      },
      shortestTtlMs: 1000,
      [Symbol.asyncDispose]: () => ended(foreign),
    };
  },
});

test('an answer repeats the question and has the records that go-micro reads', async () => {
  const port = await freeUdpPort();
  await using registry = new MdnsRegistry({ interface: LOOPBACK, port });
  const record = recordOf('go.micro.api.userservices', 'go.micro.api.userservices-1', {
    endpoints: Array.from({ length: 30 }, (_, index) => ({
      name: `UserSrv.Method${index}`,
      request: { name: `R${index}`, type: `R${index}`, values: [] },
      response: null,
      metadata: {},
    })),
  });
  await registry.register(record, { ttlMs: 120_000 });
  const socket = await socketOn(port);
  try {
    const packet = await answerTo(socket, 'go.micro.api.userservices.micro');
    assert.equal(packet.id, 0);
    assert.equal((packet as { flag_aa?: boolean }).flag_aa, true);
    assert.deepEqual(
      packet.questions?.map(({ name, type }) => [name, type]),
      [['go.micro.api.userservices.micro', 'PTR']],
    );
    const instance = 'go.micro.api.userservices-1.go.micro.api.userservices.micro';
    const [ptr, srv, a, txt] = packet.answers ?? [];
    assert.deepEqual([ptr?.type, ptr?.type === 'PTR' && ptr.data], ['PTR', instance]);
    assert.ok(srv?.type === 'SRV' && srv.name === instance && srv.data.port === 40001);
    assert.ok(a?.type === 'A' && a.name === srv.data.target && a.data === '10.0.0.5');
    assert.ok(txt?.type === 'TXT' && txt.name === instance);
    const pieces = txt.data as Buffer[];
    assert.ok(pieces.length > 1 && pieces.slice(0, -1).every(({ length }) => length === 255));
    const json = JSON.parse(
      inflateSync(Buffer.from(pieces.map(String).join(''), 'hex')).toString(),
    );
    assert.deepEqual(Object.keys(json), ['Service', 'Version', 'Endpoints', 'Metadata']);
    assert.equal(json.Endpoints.length, 30);

    const directory = await answerTo(socket, '_services.micro');
    const [listed, port9999, nowhere] = directory.answers ?? [];
    assert.ok(listed?.type === 'PTR');
    assert.equal(listed.data, 'go.micro.api.userservices._services.micro');
    assert.ok(port9999?.type === 'SRV' && port9999.data.port === 9999);
    assert.ok(nowhere?.type === 'A' && nowhere.data === '0.0.0.0');

    const farewell = new Promise<Packet>((resolve) => socket.once('response', resolve));
    await registry.deregister(record);
    assert.ok((await farewell).answers?.every((answer) => (answer as { ttl: number }).ttl === 0));
  } finally {
    await ended(socket);
  }
});

test("an answer to the port of the question alone arrives, as go-micro's do, though programs share 5353", async () => {
  const port = await freeUdpPort();
  await using registry = new MdnsRegistry({ interface: LOOPBACK, port });
  await registry.getService('any');
  // Bound last, so what is sent to the port alone comes here.
  const sharer = await socketOn(port);
  const record = recordOf('alone', 'alone-1');
  const { answers } = packetOf(record, record.nodes[0] as never, 120_000, 'micro');
  sharer.on('query', (packet, from) => {
    const [question] = packet.questions ?? [];
    if (question?.name === 'alone.micro') {
      sharer.respond({ questions: [question], answers } as never, from);
    }
  });
  try {
    const [found] = await registry.getService('alone');
    assert.equal(found?.nodes[0]?.id, 'alone-1');
  } finally {
    await ended(sharer);
  }
});

test('ids that DNS cannot carry, IPv6 and host names arrive as they were', async () => {
  const port = await freeUdpPort();
  await using writer = new MdnsRegistry({ interface: LOOPBACK, port });
  await using reader = new MdnsRegistry({ interface: LOOPBACK, port });
  const events = reader.watch('odd')[Symbol.asyncIterator]();
  await reader.getService('odd');
  for (const [id, address] of [
    ['x'.repeat(64), '10.0.0.5:40001'],
    ['a..b', '[::1]:40001'],
    [`${'long.'.repeat(60)}end`, 'users.example.com:40001'],
    ['größe/ü', '[fe80::1]:1'],
  ] as const) {
    const base = recordOf('odd', id);
    const record = { ...base, nodes: [{ id, address, metadata: {} }] };
    await writer.register(record, { ttlMs: 60_000 });
    const { value } = await events.next();
    assert.deepEqual(value?.service.nodes[0], {
      ...record.nodes[0],
      metadata: Object.create(null),
    });
    const [found] = await reader.getService('odd');
    assert.equal(found?.nodes.find((each) => each.id === id)?.address, address);
  }
  const long = recordOf(`${'x'.repeat(64)}.y`, 'n');
  await assert.rejects(writer.register(long, { ttlMs: 1000 }), { code: 'INVALID_ARGUMENT' });
});

test('a record that is too long for a datagram goes without what go-micro calls without', () => {
  const random = (index: number) =>
    Array.from({ length: 40 }, (_, at) => ((index * 7919 + at * 104_729) ** 2).toString(36)).join(
      '',
    );
  const endpoints = Array.from({ length: 300 }, (_, index) => ({
    name: `S.M${index}`,
    request: { name: random(index), type: random(index + 1), values: [] },
    response: null,
    metadata: {},
  }));
  const record = recordOf('big', 'n', { endpoints });
  const node = record.nodes[0] as ServiceRecord['nodes'][0];
  const { answers } = packetOf(record, node, 1000, 'micro');
  const txt = answers.find(({ type }) => type === 'TXT');
  assert.ok(txt?.type === 'TXT');
  const json = JSON.parse(
    inflateSync(Buffer.from((txt.data as string[]).join(''), 'hex')).toString(),
  );
  assert.equal(json.Endpoints.length, 300);
  assert.equal(json.Endpoints[0].request, null);
});

test('a bomb and garbage on the port end nothing', async () => {
  const port = await freeUdpPort();
  await using registry = new MdnsRegistry({ interface: LOOPBACK, port, onWarning: () => {} });
  await registry.register(recordOf('good', 'n'), { ttlMs: 60_000 });
  const socket = await socketOn(port);
  try {
    const name = 'bomb.good.micro';
    const bomb = deflateSync(Buffer.alloc(20 * 1024 * 1024, 0x20)).toString('hex');
    socket.respond([
      { type: 'SRV', name, data: { port: 1, target: LOOPBACK } },
      { type: 'TXT', name, ttl: 120, data: bomb.match(/.{1,255}/g) ?? [] },
    ]);
    const raw = createSocket('udp4');
    for (const bytes of ['', 'x', '\u0000'.repeat(12), '\uffff'.repeat(500)]) {
      await new Promise((resolve) => raw.send(Buffer.from(bytes), port, LOOPBACK, resolve));
    }
    raw.close();
    const [found] = await registry.getService('good');
    assert.deepEqual(
      found?.nodes.map(({ id }) => id),
      ['n'],
    );
  } finally {
    await ended(socket);
  }
});

test('a question from port 0, to which nothing can be sent, ends nothing', async (t) => {
  const port = await freeUdpPort();
  const receive = whatIsBound(t);
  await using registry = new MdnsRegistry({ interface: LOOPBACK, port });
  await registry.register(recordOf('good', 'n'), { ttlMs: 60_000 });
  // What a peer may write into a datagram by itself: a question whose answer it wants for itself.
  receive(directQuestions(['good.micro']), 0);
  const socket = await socketOn(port);
  try {
    assert.equal((await answerTo(socket, 'good.micro')).questions?.[0]?.name, 'good.micro');
  } finally {
    await ended(socket);
  }
});

test('a packet of a thousand questions costs no more answers than a program asks for', async (t) => {
  const port = await freeUdpPort();
  const receive = whatIsBound(t);
  let sent = 0;
  // Nothing leaves: a thousand datagrams at once would be more than the system holds.
  t.mock.method(Socket.prototype, 'send', (...args: unknown[]) => {
    sent++;
    (args.at(-1) as (error: Error | null) => void)(null);
  });
  await using registry = new MdnsRegistry({ interface: LOOPBACK, port });
  const ids = Array.from({ length: 1000 }, (_, index) => `n${index}`);
  const nodes = ids.map((id) => ({ id, address: '10.0.0.5:40001', metadata: {} }));
  await registry.register(recordOf('many', '', { nodes }), { ttlMs: 60_000 });
  // Each answer leaves twice: for all, and for the sender.
  for (const [questions, answers] of [
    [ids.map(() => 'n0.many.micro'), 2],
    [ids.map((id) => `${id}.many.micro`), 32],
  ] as const) {
    sent = 0;
    receive(directQuestions(questions), 1);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(sent, answers);
  }
});

test('addresses that cannot be meant are refused', () => {
  for (const bad of ['nowhere', '127.0.0.1:0', '127.0.0.1:70000', ':']) {
    assert.throws(() => mdnsRegistryFrom(bad), { code: 'INVALID_ARGUMENT' });
  }
});

function recordOf(name: string, id: string, changes: Partial<ServiceRecord> = {}): ServiceRecord {
  return {
    name,
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address: '10.0.0.5:40001', metadata: { protocol: 'mucp' } }],
    ...changes,
  };
}

/** Questions whose sender wants the answers for itself. */
function directQuestions(names: readonly string[]): Buffer {
  const bytes = encode({
    type: 'query',
    questions: names.map((name) => ({ name, type: 'PTR', class: 'IN' })),
  });
  // The class of each, with its top bit set.
  for (let at = bytes.indexOf('\0\x0c\0\x01'); at >= 0; at = bytes.indexOf('\0\x0c\0\x01', at)) {
    bytes[at + 2] = 0x80;
  }
  return bytes;
}

/** Gives a datagram to the first socket that is bound from now on, from any port of this machine. */
function whatIsBound(t: TestContext): (bytes: Buffer, port: number) => void {
  let bound: Socket | undefined;
  const { bind } = Socket.prototype;
  t.mock.method(Socket.prototype, 'bind', function (this: Socket, ...args: unknown[]) {
    bound ??= this;
    return (bind as (...all: unknown[]) => Socket).apply(this, args);
  });
  return (bytes, port) => {
    const from = { address: LOOPBACK, family: 'IPv4', port, size: bytes.length };
    bound?.emit('message', bytes, from);
  };
}

/** The first response to a question that has answers. */
function answerTo(socket: MulticastDNS, name: string): Promise<Packet> {
  return new Promise((resolve) => {
    const receive = (packet: Packet) => {
      if (packet.questions?.[0]?.name !== name) return;
      socket.off('response', receive);
      resolve(packet);
    };
    socket.on('response', receive);
    socket.query([{ name, type: 'PTR', class: 'IN' }]);
  });
}

async function socketOn(port: number): Promise<MulticastDNS> {
  const socket = makeMdns({ interface: LOOPBACK, bind: '0.0.0.0', port });
  await new Promise<void>((resolve) => socket.once('ready', resolve));
  return socket;
}

function ended(socket: MulticastDNS): Promise<void> {
  return new Promise((resolve) => socket.destroy(() => resolve()));
}

/** A UDP port that nothing uses now. */
async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, LOOPBACK, resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}
