/** What the transport suite does not ask: hostile metadata, text beyond ASCII, and TLS that refuses. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { RivuletError } from '../../src/errors.ts';
import { GrpcTransport } from '../../src/transport/grpc/grpc.ts';
import { MucpTransport } from '../../src/transport/mucp/mucp.ts';
import { TcpTransport, type TransportSetup } from '../../src/transport/tcp/tcp.ts';
import type { TlsOptions } from '../../src/transport/tls.ts';
import type { Transport } from '../../src/transport/transport.ts';
import { WebSocketTransport } from '../../src/transport/websocket.ts';
import { makeCertificates, missingOpenssl } from '../helpers/certificates.ts';
import { openWire, outgoing, text } from './wires.ts';

const directory = mkdtempSync(join(tmpdir(), 'rivulet-transports-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const secure = missingOpenssl ? undefined : tlsOf(directory);

interface Carrier {
  readonly name: string;
  readonly make: (setup?: TransportSetup) => Transport;
}

const CARRIERS: readonly Carrier[] = [
  { name: 'tcp', make: (setup) => new TcpTransport(setup) },
  { name: 'grpc', make: (setup) => new GrpcTransport(setup) },
  { name: 'ws', make: (setup) => new WebSocketTransport(setup) },
  { name: 'http', make: (setup) => new MucpTransport(setup) },
];

for (const { name, make } of CARRIERS) {
  test(`${name}: a unary call carries body, content type and metadata both ways`, async () => {
    await using wire = await openWire(make());
    const metadata = { 'x-sent': 'Grüße, 世界', authorization: 'Bearer a', __proto__x: 'y' };
    const reply = await wire.channel.request(outgoing('Test.Echo', 'hello', { metadata }));
    assert.equal(text(reply.body), 'hello');
    assert.equal(reply.contentType, 'application/octet-stream');
    assert.equal(reply.metadata['x-got'], 'Grüße, 世界');
    const [call] = wire.calls;
    assert.equal(call?.service, 'test.service');
    assert.equal(call?.metadata.authorization, 'Bearer a');
    assert.match(call?.peer.address ?? '', /^127\.0\.0\.1:\d+$/);
    assert.ok((call?.timeoutMs ?? 0) > 9000 && (call?.timeoutMs ?? 0) <= 10_000);
  });

  if (name !== 'http') {
    test(`${name}: what a handler leaves unread of a stream does not hold its caller`, async () => {
      await using wire = await openWire(make());
      const call = wire.channel.call(outgoing('Test.Deaf', null));
      let sent = 0;
      const most = 40;
      const sending = (async () => {
        for (; sent < most; sent++) await call.send(Buffer.alloc(64 * 1024));
      })();
      const { messages } = await wire.called(0);
      await messages.next();
      // The window is full: nothing is sent in a while.
      for (let before = -1; before !== sent; ) {
        before = sent;
        for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
      }
      assert.ok(sent < most, 'the handler reads one message');
      await messages.return?.();
      await sending;
      call.cancel();
    });
  }

  test(`${name}: a failure arrives with code, id, status, detail, name and data`, async () => {
    await using wire = await openWire(make());
    const failing = wire.channel.request(outgoing('Test.Hang', 'x'));
    const failure = {
      code: 'VALIDATION_FAILED',
      id: 'the.service',
      status: 422,
      detail: 'no "name"\nat line 2: ü',
      name: 'BadName',
      body: Buffer.from('{"line":2}'),
      contentType: 'application/json',
    } as const;
    (await wire.called(0)).fail(failure);
    const error = await failing.catch((thrown) => thrown);
    const { body, contentType: _type, ...rest } = error.failure;
    assert.equal(text(body), '{"line":2}');
    assert.equal(rest.sent, 'maybe');
    for (const key of ['code', 'id', 'status', 'detail', 'name'] as const) {
      assert.equal(rest[key], failure[key]);
    }
    const refused = wire.channel.request(outgoing('Test.None', 'x'));
    await assert.rejects(refused, { code: 'METHOD_NOT_FOUND', sent: 'no' });
  });

  test(`${name}: metadata with control characters or the wire's own names cannot change the message`, async () => {
    await using wire = await openWire(make());
    const metadata = {
      'content-length': '1',
      'transfer-encoding': 'chunked',
      'grpc-timeout': '1n',
      timeout: '1',
      host: 'evil',
      te: 'x',
      connection: 'close',
    };
    const reply = await wire.channel.request(outgoing('Test.Echo', 'whole', { metadata }));
    assert.equal(text(reply.body), 'whole');
    const split = { 'x-sent': 'a\r\nContent-Length: 0' };
    const outcome = await wire.channel
      .request(outgoing('Test.Echo', 'x', { metadata: split }))
      .catch((error) => error);
    // Our own framing carries any text; HTTP refuses what it cannot.
    if (outcome instanceof Error) {
      assert.ok(outcome instanceof RivuletError);
      assert.deepEqual([outcome.code, outcome.sent], ['INVALID_ARGUMENT', 'no']);
    } else assert.equal(outcome.metadata['x-got'], split['x-sent']);
  });

  test(`${name}: with TLS calls work, and without the certificate they do not`, {
    skip: missingOpenssl,
  }, async () => {
    const { server, client, otherCa } = secure as Secure;
    await using wire = await openWire(make({ tls: client }), {
      tls: { ...server, requireClientCertificate: true },
    });
    assert.equal(wire.node.metadata['rivulet.tls'], 'true');
    const reply = await wire.channel.request(outgoing('Test.Echo', 'secret'));
    assert.equal(text(reply.body), 'secret');
    const { 'rivulet.tls': _tls, ...plain } = wire.node.metadata;
    // A record that says nothing of TLS does not make a client with certificates speak without it.
    const again = await make({ tls: client }).dial({ ...wire.node, metadata: plain });
    assert.equal(text((await again.request(outgoing('Test.Echo', 'x'))).body), 'x');
    await again.close();
    const { cert: _cert, key: _key, ...nameless } = client;
    for (const tls of [nameless, { ...client, ca: otherCa }, { ...client, servername: 'other' }]) {
      const outcome = make({ tls })
        .dial(wire.node)
        .then((channel) =>
          channel.request(outgoing('Test.Echo', 'x')).finally(() => channel.close()),
        );
      const error = await outcome.catch((thrown) => thrown);
      assert.ok(error instanceof RivuletError);
      // A client of TLS 1.3 may learn only after its first bytes that its certificate is not taken.
      assert.ok(['CONNECTION_FAILED', 'RESPONDER_LOST'].includes(error.code), error.message);
    }
    assert.equal(wire.calls.length, 2);
  });
}

interface Secure {
  readonly server: TlsOptions;
  readonly client: TlsOptions;
  readonly otherCa: string;
}

function tlsOf(where: string): Secure {
  const made = makeCertificates(where);
  const pair = { cert: readFileSync(made.cert), key: readFileSync(made.key), ca: made.caText };
  return { server: pair, client: pair, otherCa: made.otherCaText };
}
