/** gRPC's wire against peers of every kind: what is answered, and what ends the connection. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import { GrpcTransport } from '../../src/transport/grpc/grpc.ts';
import { frameOf, GrpcSplitter } from '../../src/transport/grpc/grpc-framing.ts';
import { GrpcDoor } from '../../src/transport/grpc/grpc-server.ts';
import { percentDecode, percentEncode } from '../../src/transport/grpc/grpc-status.ts';
import { listenOnPort } from '../../src/transport/port.ts';
import {
  type IncomingCall,
  type ListenOptions,
  NO_METADATA,
  type ServedMethod,
} from '../../src/transport/transport.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { until } from '../helpers/until.ts';

const METHODS: Readonly<Record<string, ServedMethod>> = {
  'Srv.Json': { kind: 'unary', isProto: false },
  'Srv.Proto': { kind: 'unary', isProto: true },
  'Srv.Sum': { kind: 'clientStream', isProto: true },
};

async function listen() {
  const calls: IncomingCall[] = [];
  const listener = await new GrpcTransport().listen({
    address: '127.0.0.1:0',
    methods: (endpoint) => METHODS[endpoint] ?? null,
    handler(call) {
      calls.push(call);
      const { contentType, body } = call;
      if (body !== null) call.reply({ contentType, metadata: NO_METADATA, body });
    },
  });
  return { ...listener, calls };
}

interface Answer {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly messages: readonly Uint8Array[];
  readonly code: number | undefined;
}

async function ask(
  session: ClientHttp2Session,
  path: string,
  body: Uint8Array,
  more: OutgoingHttpHeaders = {},
): Promise<Answer> {
  const head = {
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  const stream = session.request({ ...head, ...more }, { endStream: false });
  let headers: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  const messages: Uint8Array[] = [];
  const splitter = new GrpcSplitter(2 ** 30, 'identity', (each) => messages.push(each));
  stream.on('response', (given) => {
    headers = given;
  });
  stream.on('trailers', (given) => {
    trailers = given;
  });
  stream.on('data', (chunk: Buffer) => splitter.push(chunk));
  stream.on('error', () => {});
  stream.end(body);
  await new Promise((resolve) => stream.once('close', resolve));
  const last = Object.keys(trailers).length > 0 ? trailers : headers;
  return { headers, trailers: last, messages, code: stream.rstCode };
}

function framed(body: Uint8Array | string, flag = 0): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const frame = Buffer.concat(frameOf(bytes));
  frame[0] = flag;
  return frame;
}

test('every path whose last part and method are an endpoint reaches it, in the form it was sent', async () => {
  const port = await listen();
  const session = connectHttp2(`http://${port.address}`);
  const json = framed('{"id":1}');
  for (const path of ['/go.micro.srv.Srv/Json', '/package.v1.Srv/Json', '/Srv/Json']) {
    const { trailers, messages } = await ask(session, path, json);
    assert.equal(trailers['grpc-status'], '0', path);
    assert.equal(Buffer.from(messages[0] as Uint8Array).toString(), '{"id":1}');
  }
  assert.deepEqual(
    port.calls.map(({ service }) => service),
    ['go.micro.srv', 'package.v1', ''],
  );
  for (const path of ['/', '/Srv', '/a/b/c', '/Srv/', '//Json']) {
    const { trailers } = await ask(session, path, json);
    assert.equal(trailers['grpc-status'], '12', path);
  }
  session.close();
  await port.close();
});

test('the content type of messages follows the header, the method, and the first byte', async () => {
  const port = await listen();
  const session = connectHttp2(`http://${port.address}`);
  const cases: [string, string, OutgoingHttpHeaders, string][] = [
    ['Srv/Json', '{}', {}, 'application/json'],
    ['Srv/Json', '{}', { 'content-type': 'application/grpc+proto' }, 'application/json'],
    ['Srv/Proto', '\x08\x01', {}, 'application/protobuf'],
    ['Srv/Proto', '', {}, 'application/protobuf'],
    ['Srv/Proto', '{"id":1}', {}, 'application/json'],
    ['Srv/Proto', '\x08\x01', { 'content-type': 'application/grpc+proto' }, 'application/protobuf'],
    ['Srv/Proto', '{}', { 'content-type': 'application/grpc+json' }, 'application/json'],
    ['Srv/Proto', '{}', { 'x-content-type': 'application/json' }, 'application/json'],
    ['Srv/Json', 'x', { 'content-type': 'application/grpc+bytes' }, 'application/octet-stream'],
    [
      'Srv/Json',
      'x',
      { 'content-type': 'application/grpc+bytes', 'x-content-type': 'application/msgpack' },
      'application/msgpack',
    ],
  ];
  for (const [path, body, more, expected] of cases) {
    const { headers, trailers } = await ask(session, `/x.${path}`, framed(body), more);
    assert.equal(trailers['grpc-status'], '0');
    assert.equal(port.calls.at(-1)?.contentType, expected, JSON.stringify([path, body, more]));
    assert.equal(headers['content-type'], more['content-type'] ?? 'application/grpc');
  }
  session.close();
  await port.close();
});

test('what is no call of gRPC is answered as HTTP, with 405 and 415', async () => {
  const port = await listen();
  const session = connectHttp2(`http://${port.address}`);
  const get = await ask(session, '/x.Srv/Json', Buffer.alloc(0), { ':method': 'GET' });
  assert.equal(get.headers[':status'], 405);
  const web = await ask(session, '/x.Srv/Json', Buffer.alloc(0), { 'content-type': 'text/html' });
  assert.equal(web.headers[':status'], 415);
  assert.equal(port.calls.length, 0);
  session.close();
  await port.close();
});

test('bodies that are too large, cut off, doubled or missing are refused before a handler runs', async () => {
  const port = await listen();
  const session = connectHttp2(`http://${port.address}`);
  const status = async (path: string, body: Uint8Array, more: OutgoingHttpHeaders = {}) =>
    (await ask(session, path, body, more)).trailers['grpc-status'];
  const path = '/x.Srv/Json';
  const five = framed(Buffer.alloc(5 * 1024 * 1024));
  assert.equal(await status(path, five), '8');
  assert.equal(await status(path, framed('{"id":1}').subarray(0, 9)), '13');
  assert.equal(await status(path, Buffer.concat([framed('1'), framed('2')])), '13');
  assert.equal(await status(path, Buffer.alloc(0)), '13');
  const zipped = { 'grpc-encoding': 'gzip' };
  assert.equal(await status(path, framed(gzipSync('{"id":1}').subarray(0, 12), 1), zipped), '3');
  assert.equal(await status(path, framed(gzipSync(Buffer.alloc(5 * 1024 * 1024)), 1), zipped), '8');
  assert.equal(
    await status(path, framed('{}', 1)),
    '13',
    'a compressed message without an encoding',
  );
  assert.equal(await status(path, framed('{}', 7), zipped), '13');
  assert.equal(await status(path, framed('{}', 1), { 'grpc-encoding': 'snappy' }), '12');
  assert.equal(port.calls.length, 0);
  const unzipped = await ask(session, path, framed(gzipSync('{"id":1}'), 1), zipped);
  assert.equal(Buffer.from(unzipped.messages[0] as Uint8Array).toString(), '{"id":1}');
  const inflated = await ask(session, path, framed(deflateSync('{}'), 1), {
    'grpc-encoding': 'deflate',
  });
  assert.equal(inflated.trailers['grpc-status'], '0');
  session.close();
  await port.close();
});

test('deadlines are read in both forms, the earlier counts, and what is none is refused', async () => {
  const port = await listen();
  const session = connectHttp2(`http://${port.address}`);
  const timeout = async (more: OutgoingHttpHeaders) => {
    const { trailers } = await ask(session, '/x.Srv/Json', framed('{}'), more);
    return trailers['grpc-status'] === '0' ? port.calls.at(-1)?.timeoutMs : trailers['grpc-status'];
  };
  assert.equal(await timeout({}), null);
  assert.equal(await timeout({ 'grpc-timeout': '250m' }), 250);
  assert.equal(await timeout({ 'grpc-timeout': '2S' }), 2000);
  assert.equal(await timeout({ 'grpc-timeout': '3000000u' }), 3000);
  assert.equal(await timeout({ 'grpc-timeout': '99999999H' }), null);
  assert.equal(await timeout({ timeout: '1500000000' }), 1500);
  assert.equal(await timeout({ timeout: '1500000000', 'grpc-timeout': '1S' }), 1000);
  assert.equal(await timeout({ 'grpc-timeout': '0m' }), '4');
  assert.equal(await timeout({ timeout: '-5' }), '4');
  for (const bad of ['abc', '1', '-1S', '123456789S', '1e3m', '']) {
    assert.equal(await timeout({ 'grpc-timeout': bad }), '3', bad);
  }
  assert.equal(await timeout({ timeout: String(2n ** 64n) }), '3');
  session.close();
  await port.close();
});

test('messages are the same however their bytes are cut', () => {
  const bodies = ['', 'a', 'x'.repeat(70_000), '{"n":1}', 'é'.repeat(100)];
  const bytes = Buffer.concat(bodies.map((body) => framed(body)));
  for (const size of [1, 2, 3, 5, 7, 4096, bytes.length]) {
    const seen: string[] = [];
    const splitter = new GrpcSplitter(2 ** 20, 'identity', (body) => {
      seen.push(Buffer.from(body).toString());
    });
    for (let at = 0; at < bytes.length; at += size) splitter.push(bytes.subarray(at, at + size));
    assert.deepEqual(seen, bodies);
    assert.ok(splitter.isBetween);
  }
});

test('a status message is ASCII on the wire and the same text behind it', () => {
  for (const text of ['', 'plain', '100 % sure', 'Grüße\n世界 😀', '%41', '\u0000\u007f']) {
    assert.match(percentEncode(text), /^[ -~]*$/);
    assert.equal(percentDecode(percentEncode(text)), text);
  }
  assert.equal(percentDecode('50% off %zz %4'), '50% off %zz %4');
});

/** A peer that writes frames of HTTP/2 as it likes. */
class RawPeer {
  readonly socket: Socket;
  readonly closed: Promise<unknown>;

  constructor(address: string) {
    const [host = '', port] = address.split(':');
    this.socket = connect(Number(port), host);
    this.socket.on('error', () => {});
    // Answers are read, so that only the flood itself can end the connection.
    this.socket.resume();
    this.closed = new Promise((resolve) => this.socket.once('close', resolve));
    this.socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    this.frame(4, 0, 0, Buffer.alloc(0));
  }

  frame(type: number, flags: number, stream: number, payload: Uint8Array): boolean {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return this.socket.write(Buffer.concat([head, payload]));
  }

  /** Repeats until the connection ends; the number of rounds that were written. */
  async flood(round: (n: number) => void, most: number): Promise<number> {
    let isClosed = false;
    void this.closed.then(() => {
      isClosed = true;
    });
    for (let n = 0; n < most; n++) {
      if (isClosed) return n;
      round(n);
      if (n % 100 === 99) await new Promise(setImmediate);
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error('the connection is still open')), 10_000);
    });
    await Promise.race([this.closed, late]).finally(() => clearTimeout(timer));
    return most;
  }
}

/** The head of a call in HPACK, without compression. */
function callHead(): Buffer {
  const literal = (name: string, value: string) =>
    Buffer.concat([
      Buffer.from([0x00, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]);
  return Buffer.concat([
    literal(':method', 'POST'),
    literal(':scheme', 'http'),
    literal(':path', '/x.Srv/Sum'),
    literal(':authority', 'x'),
    literal('content-type', 'application/grpc'),
    literal('te', 'trailers'),
  ]);
}

test('rapid resets end the connection, cancel what they began, and leave the port open to others', async () => {
  const port = await listen();
  const peer = new RawPeer(port.address);
  const head = callHead();
  await peer.flood((n) => {
    const stream = 2 * n + 1;
    peer.frame(1, 4, stream, head);
    peer.frame(3, 0, stream, Buffer.from([0, 0, 0, 8]));
  }, 20_000);
  assert.ok(port.calls.length < 10_000, `${port.calls.length} calls were begun`);
  for (const call of port.calls) await new Promise((resolve) => call.onCancel(resolve));
  await mustServe(port.address);
  await port.close();
});

test('SETTINGS without end, CONTINUATION without end and frames of nothing end the connection', async () => {
  const port = await listen();
  const floods: ((peer: RawPeer) => (n: number) => void)[] = [
    (peer) => () => peer.frame(4, 0, 0, Buffer.from([0, 3, 0, 0, 0, 100])),
    (peer) => {
      peer.frame(1, 0, 1, callHead());
      return (n) =>
        peer.frame(
          9,
          0,
          1,
          Buffer.concat([
            Buffer.from([0x00, 0x08]),
            Buffer.from(`x-${String(n).padStart(6, '0')}`),
            Buffer.from([0x01, 0x61]),
          ]),
        );
    },
    (peer) => {
      peer.frame(1, 0, 1, callHead());
      return () => peer.frame(9, 0, 1, Buffer.alloc(0));
    },
  ];
  for (const flood of floods) {
    const peer = new RawPeer(port.address);
    await peer.flood(flood(peer), 20_000);
  }
  assert.equal(port.calls.length, 0);
  await mustServe(port.address);
  await port.close();
});

async function mustServe(address: string): Promise<void> {
  const session = connectHttp2(`http://${address}`);
  const { trailers } = await ask(session, '/x.Srv/Json', framed('{}'));
  assert.equal(trailers['grpc-status'], '0');
  session.close();
}

test('a peer that breaks the rules of HTTP/2 or answers nothing holds no connection', async () => {
  // Half a minute of the server is 150 ms here.
  const { after } = systemScheduler;
  const scheduler = Object.create(systemScheduler, {
    after: {
      value: (ms: number, run: () => void, keepsAlive?: boolean) =>
        after.call(systemScheduler, ms / 200, run, keepsAlive),
    },
  });
  const listener = await new GrpcTransport({ scheduler }).listen({
    address: '127.0.0.1:0',
    handler: () => {},
  });
  const port = Number(listener.address.split(':')[1]);
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  for (const bad of [
    [],
    // SETTINGS of five bytes, WINDOW_UPDATE of nothing, DATA and HEADERS of stream 0, an unasked CONTINUATION.
    [0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5],
    [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 1, 0, 0, 0, 0, 0, 0, 1],
    [0, 0, 1, 1, 4, 0, 0, 0, 0, 1],
    [0, 0, 1, 9, 4, 0, 0, 0, 1, 1],
  ]) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {}).resume();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write(Buffer.concat([preface, settings, Buffer.from(bad)]));
    await closed;
  }
  // One that answers stays.
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(session.destroyed, false);
  session.close();
  await listener.close();
});

test('what is held of a message grows with the bytes that came, whatever its head says', () => {
  const head = Buffer.alloc(6);
  head.writeUInt32BE(4 * 1024 * 1024, 1);
  const before = process.memoryUsage().arrayBuffers;
  const splitters = Array.from({ length: 200 }, () => {
    const splitter = new GrpcSplitter(4 * 1024 * 1024, 'identity', () => assert.fail('not whole'));
    splitter.push(head);
    assert.equal(splitter.isBetween, false);
    return splitter;
  });
  const held = process.memoryUsage().arrayBuffers - before;
  assert.ok(held < 100 * 1024 * 1024, `${splitters.length} heads hold ${held} bytes`);
});

test('a request that does not come whole ends at its deadline', async () => {
  const scheduler = new VirtualScheduler();
  let arrived = () => {};
  const reached = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const listener = await new GrpcTransport({ scheduler }).listen({
    address: '127.0.0.1:0',
    methods: (endpoint) => {
      arrived();
      return METHODS[endpoint] ?? null;
    },
    handler: () => assert.fail('the request is not whole'),
  });
  const session = connectHttp2(`http://${listener.address}`);
  const closed = once(session, 'close');
  const head = { ':method': 'POST', ':path': '/s.Srv/Json', 'content-type': 'application/grpc' };
  const stream = session.request({ ...head, 'grpc-timeout': '300m' }, { endStream: false });
  stream.on('error', () => {});
  let status: unknown;
  const answered = once(stream, 'response').then(([headers]) => {
    status = headers['grpc-status'];
  });
  stream.write(Buffer.from([0, 0, 0, 0, 9, 1]));
  await reached;
  await scheduler.advance(299);
  assert.equal(status, undefined);
  await scheduler.advance(2);
  await answered;
  assert.equal(status, '4', 'DEADLINE_EXCEEDED');
  session.destroy();
  await closed;
  await listener.close();
});

/** A listener whose sessions may hold `maxHeldBytes`; its handlers read nothing by themselves. */
async function holding(maxHeldBytes: number) {
  const calls: IncomingCall[] = [];
  const cancelled: string[] = [];
  const listener = await listenOnPort(
    [
      Object.assign(new GrpcTransport(), {
        door: (options: ListenOptions) =>
          new GrpcDoor(options, {
            scheduler: systemScheduler,
            maxMessageBytes: 100_000,
            maxHeldBytes,
            routes: () => null,
          }),
      }),
    ],
    {
      address: '127.0.0.1:0',
      methods: (endpoint) => ({
        kind: endpoint === 'Srv.Sum' ? 'unary' : 'bidi',
        isProto: false,
      }),
      handler(call) {
        calls.push(call);
        call.onCancel((reason) => cancelled.push(reason.code));
      },
    },
    systemScheduler,
  );
  const session = connectHttp2(`http://${listener.address}`);
  session.on('error', () => {});
  const statuses: unknown[] = [];
  return {
    calls,
    cancelled,
    statuses,
    /** A call that has sent `bytes` of a message of `whole` bytes. */
    open(endpoint: string, bytes: number, whole = bytes) {
      const stream = session.request(
        {
          ':method': 'POST',
          ':path': `/s.Srv/${endpoint}`,
          'content-type': 'application/grpc',
        },
        { endStream: false },
      );
      stream.on('error', () => {});
      stream.on('response', (headers) => statuses.push(headers['grpc-status']));
      const message = Buffer.alloc(5 + bytes);
      message.writeUInt32BE(whole, 1);
      stream.write(message);
      return stream;
    },
    async close() {
      const closed = once(session, 'close');
      session.destroy();
      await closed;
      await listener.close();
    },
  };
}

test('unread messages of all calls of a session have a bound, and what is read makes room', async () => {
  const s = await holding(300_000);
  for (let n = 0; n < 6; n++) s.open('Chat', 60_000);
  await until(() => s.cancelled.length === 2 && s.statuses.length === 2);
  assert.deepEqual(s.cancelled, ['LIMIT_EXCEEDED', 'LIMIT_EXCEEDED']);
  assert.deepEqual(s.statuses, ['8', '8'], 'RESOURCE_EXHAUSTED');
  assert.equal(s.calls.length, 6);
  // What is read makes room, and so does a call that ends unread.
  const [first, second] = s.calls as [IncomingCall, IncomingCall];
  assert.equal((await first.messages.next()).value.length, 60_000);
  const next = assert.rejects(first.messages.next());
  second.end(NO_METADATA);
  for (let n = 0; n < 2; n++) s.open('Chat', 60_000);
  await until(() => s.calls.length === 8);
  const last = s.calls[7] as IncomingCall;
  assert.equal((await last.messages.next()).value.length, 60_000);
  assert.equal(s.cancelled.length, 2);
  await s.close();
  await next;
});

test('requests that do not come whole count for their session too', async () => {
  const s = await holding(300_000);
  for (let n = 0; n < 6; n++) s.open('Sum', 60_000, 90_000);
  await until(() => s.statuses.length >= 2);
  assert.ok(s.statuses.every((status) => status === '8'));
  assert.equal(s.calls.length, 0);
  await s.close();
});

test('a stream that cannot be read on cancels its handler', async () => {
  const s = await holding(300_000);
  const stream = s.open('Chat', 10);
  await until(() => s.calls.length === 1);
  // Compressed, without a word of how.
  stream.write(Buffer.from([1, 0, 0, 0, 1, 1]));
  await until(() => s.cancelled.length === 1);
  assert.deepEqual(s.cancelled, ['PROTOCOL']);
  await s.close();
});
