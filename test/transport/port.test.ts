/** One port for every protocol: what opens it, and what is closed with a reason or after a time. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { GrpcTransport } from '../../src/transport/grpc/grpc.ts';
import { MucpTransport } from '../../src/transport/mucp/mucp.ts';
import { FIRST_BYTES_MS, listenOnPort } from '../../src/transport/port.ts';
import { TcpTransport } from '../../src/transport/tcp/tcp.ts';
import type { IncomingCall, Listener, ListenOptions } from '../../src/transport/transport.ts';
import { WebSocketTransport } from '../../src/transport/websocket.ts';
import type { Scheduler } from '../../src/util/time/scheduler.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { makeCertificates, missingOpenssl } from '../helpers/certificates.ts';
import { closed } from '../helpers/closed.ts';
import { until } from '../helpers/until.ts';

async function listen(more: Partial<ListenOptions> = {}, scheduler?: Scheduler) {
  const calls: IncomingCall[] = [];
  const all = [
    new TcpTransport(),
    new GrpcTransport(),
    new WebSocketTransport(),
    new MucpTransport(),
  ];
  const options: ListenOptions = {
    address: '127.0.0.1:0',
    handler(call) {
      calls.push(call);
      const { contentType, body, metadata } = call;
      if (call.endpoint === 'A.B') {
        call.reply({ contentType, metadata, body: body as Uint8Array });
      }
    },
    ...more,
  };
  const listener = await listenOnPort(all, options, scheduler ?? systemScheduler);
  return { ...listener, calls };
}

function dial({ address }: Pick<Listener, 'address'>): Socket {
  const [host = '', port] = address.split(':');
  const socket = connect(Number(port), host);
  socket.on('error', () => {});
  return socket;
}

/** Everything that the port sends until it closes the connection. */
async function answer(socket: Socket, bytes: string | Uint8Array): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const end = closed(socket);
  if (bytes.length > 0) socket.write(bytes);
  await end;
  return Buffer.concat(chunks).toString('latin1');
}

function post(headers: readonly string[], body = '{}'): string {
  const all = ['Host: x', 'Content-Type: application/json', 'Connection: close', ...headers];
  return `POST / HTTP/1.1\r\n${all.join('\r\n')}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** A scheduler whose long timers fire at once: a wait of ten seconds without ten seconds. */
function impatient(): { scheduler: Scheduler; waits: number[] } {
  const waits: number[] = [];
  const scheduler: Scheduler = {
    ...systemScheduler,
    now: () => systemScheduler.now(),
    monotonic: () => systemScheduler.monotonic(),
    uniqueName: () => systemScheduler.uniqueName(),
    fraction: () => systemScheduler.fraction(),
    after(ms, run, keepsAlive) {
      waits.push(ms);
      return systemScheduler.after(ms === FIRST_BYTES_MS ? 100 : ms, run, keepsAlive);
    },
  };
  return { scheduler, waits };
}

test('a connection that says nothing, one byte, or half a preface is closed after ten seconds', async () => {
  const { scheduler, waits } = impatient();
  const port = await listen({}, scheduler);
  for (const bytes of ['', 'P', 'R', 'RVL', 'PRI * HT', 'POS']) {
    assert.equal(await answer(dial(port), bytes), '');
  }
  assert.deepEqual(
    waits.filter((ms) => ms === FIRST_BYTES_MS),
    Array(6).fill(10_000),
  );
  await port.close();
});

test('what no protocol knows is closed at once, and the port goes on', async () => {
  const port = await listen();
  const random = Uint8Array.from({ length: 64 }, (_, index) => (index * 37 + 129) & 0xff);
  for (const bytes of ['*1\r\n$4\r\nPING\r\n', 'SSH-2.0-OpenSSH\r\n', '\0\0\0\0', random]) {
    assert.equal(await answer(dial(port), bytes), '');
  }
  assert.match(await answer(dial(port), post(['Micro-Endpoint: A.B'])), /^HTTP\/1\.1 200 OK/);
  await port.close();
});

test('TLS to a plain port is refused with an alert, plain HTTP to a TLS port with the reason', {
  skip: missingOpenssl,
}, async () => {
  const port = await listen();
  const [host = '', at] = port.address.split(':');
  const client = connectTls({ host, port: Number(at), rejectUnauthorized: false });
  const [error] = (await once(client, 'error')) as [Error & { code: string }];
  assert.match(error.code, /ALERT|VERSION|SSL/);
  await port.close();
  const directory = mkdtempSync(join(tmpdir(), 'rivulet-port-'));
  const made = makeCertificates(directory);
  const tls = { cert: readFileSync(made.cert), key: readFileSync(made.key) };
  const safe = await listen({ tls });
  const text = await answer(dial(safe), post(['Micro-Endpoint: A.B']));
  assert.match(text, /^HTTP\/1\.1 400 Bad Request[\s\S]*this port takes TLS only/);
  assert.match(await answer(dial(safe), 'RVL1'), /TLS only/);
  assert.equal(safe.calls.length, 0);
  await safe.close();
  rmSync(directory, { recursive: true });
});

test('HTTP/0.9, an unknown method and broken headers are answered with 400, GET with 405', async () => {
  const port = await listen();
  assert.match(await answer(dial(port), 'GET /\r\n\r\n'), /^HTTP\/1\.1 4(00|26)/);
  assert.match(await answer(dial(port), 'BREW / HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400/);
  assert.match(
    await answer(dial(port), 'POST / HTTP/1.1\r\nBad Header\r\n\r\n'),
    /^HTTP\/1\.1 400/,
  );
  assert.match(
    await answer(dial(port), 'POST / HTTP/1.1\r\nHost: a\rb\r\n\r\n'),
    /^HTTP\/1\.1 400/,
  );
  const twice =
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n';
  assert.match(await answer(dial(port), twice), /^HTTP\/1\.1 400/);
  const deleted = 'DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  assert.match(await answer(dial(port), deleted), /^HTTP\/1\.1 405[\s\S]*Allow: POST/);
  assert.equal(port.calls.length, 0);
  await port.close();
});

test('65 KiB of headers and 2000 names of headers end the connection, not the port', async () => {
  const port = await listen();
  const wide = post([`X-Wide: ${'x'.repeat(65 * 1024)}`, 'Micro-Endpoint: A.B']);
  assert.match(await answer(dial(port), wide), /^HTTP\/1\.1 431/);
  const names = Array.from({ length: 2000 }, (_, n) => `X-${n}: 1`);
  const many = await answer(dial(port), post(['Micro-Endpoint: A.B', ...names]));
  assert.match(many, /^HTTP\/1\.1 (200|431)/);
  // The parser keeps at most a thousand and one block of 32.
  const kept = Object.keys(port.calls[0]?.metadata ?? {}).length;
  assert.ok(kept <= 1032, `${kept} names were kept`);
  assert.match(await answer(dial(port), post(['Micro-Endpoint: A.B'])), /^HTTP\/1\.1 200/);
  await port.close();
});

test('mucp reads the X- forms, only Method or only Endpoint, and echoes the id', async () => {
  const port = await listen();
  for (const headers of [
    ['Micro-Endpoint: A.B', 'Micro-Id: 7'],
    ['Micro-Method: A.B', 'Micro-ID: 7'],
    ['X-Micro-Endpoint: A.B', 'X-Micro-Id: 7', 'X-Micro-Service: some.service'],
    ['X-Micro-Method: A.B', 'Micro-Id: 7'],
  ]) {
    const text = await answer(dial(port), post([...headers, 'X-Tenant: a'], '{"n":1}'));
    assert.match(text, /^HTTP\/1\.1 200 OK[\s\S]*Micro-Id: 7[\s\S]*\r\n\r\n\{"n":1\}$/);
    assert.match(text, /Content-Type: application\/json/);
    assert.match(text, /X-Tenant: a/);
  }
  const none = await answer(dial(port), post([]));
  assert.match(none, /^HTTP\/1\.1 200 OK[\s\S]*Micro-Error: \{"id":"go\.micro\.server","code":400/);
  await port.close();
});

test('a Timeout that is no number of nanoseconds is refused, and one that has passed is a timeout', async () => {
  const port = await listen();
  const error = async (timeout: string) => {
    const text = await answer(dial(port), post(['Micro-Endpoint: A.B', `Timeout: ${timeout}`]));
    return JSON.parse(/Micro-Error: (.*)\r\n/.exec(text)?.[1] ?? '{}');
  };
  for (const timeout of ['abc', '1e9', '0x10', '1.5', String(2n ** 64n), '9'.repeat(100)]) {
    assert.equal((await error(timeout)).code, 400, timeout);
  }
  for (const timeout of ['-1', '0', '-99999999999999']) {
    assert.equal((await error(timeout)).code, 408, timeout);
  }
  assert.equal(port.calls.length, 0);
  assert.deepEqual(await error('2500000000'), {});
  assert.equal(port.calls.at(-1)?.timeoutMs, 2500);
  assert.deepEqual(await error(String(2n ** 63n - 1n)), {});
  assert.equal(port.calls.at(-1)?.timeoutMs, null, 'longer than a timer: no deadline');
  await port.close();
});

test('a body beyond 16 MiB, a truncated gzip and an unknown compression are refused', async () => {
  const port = await listen();
  const head = 'POST / HTTP/1.1\r\nHost: x\r\nMicro-Endpoint: A.B\r\nConnection: close\r\n';
  const socket = dial(port);
  socket.write(`${head}Content-Length: ${17 * 1024 * 1024}\r\n\r\n`);
  const large = await answer(socket, Buffer.alloc(17 * 1024 * 1024));
  assert.match(large, /^HTTP\/1\.1 200[\s\S]*"code":413/);
  const { gzipSync } = await import('node:zlib');
  const send = (encoding: string, body: Buffer) => {
    const lines = `${head}Content-Encoding: ${encoding}\r\nContent-Length: ${body.length}\r\n\r\n`;
    return answer(dial(port), Buffer.concat([Buffer.from(lines), body]));
  };
  const zipped = gzipSync('{"n":1}');
  assert.match(await send('gzip', zipped), /\{"n":1\}$/);
  assert.match(await send('gzip', zipped.subarray(0, -6)), /"code":400/);
  assert.match(await send('gzip', gzipSync(Buffer.alloc(20 * 1024 * 1024))), /"code":413/);
  assert.match(await send('constructor', zipped), /"code":501/);
  assert.equal(port.calls.length, 1);
  await port.close();
});

test('a caller that closes its connection cancels its call, and two calls on one are answered in order', async () => {
  const port = await listen();
  const socket = dial(port);
  socket.write(post(['Micro-Endpoint: A.Hang']).replace('Connection: close\r\n', ''));
  await until(() => port.calls.length > 0);
  const left = new Promise((resolve) => port.calls[0]?.onCancel(resolve));
  socket.destroy();
  await left;
  const first = post(['Micro-Endpoint: A.B', 'Micro-Id: 1'], '1').replace(
    'Connection: close\r\n',
    '',
  );
  const text = await answer(dial(port), first + post(['Micro-Endpoint: A.B', 'Micro-Id: 2'], '2'));
  assert.deepEqual(text.match(/Micro-Id: \d/g), ['Micro-Id: 1', 'Micro-Id: 2']);
  await port.close();
});

test('a WebSocket that is refused ends its connection, whether its client ends its side or not', async () => {
  const port = await listen();
  const [host = '', number] = port.address.split(':');
  const upgrade = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n';
  for (const [header, status] of [
    ['Origin: https://x.example\r\n', 403],
    ['Sec-WebSocket-Protocol: other\r\n', 400],
  ] as const) {
    const socket = connect({ host, port: Number(number), allowHalfOpen: true });
    let text = '';
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        text += chunk;
      });
    socket.write(`${upgrade}${header}\r\n`);
    await once(socket, 'end');
    assert.match(text, new RegExp(`^HTTP/1.1 ${status} `));
    // A connection that the port has closed answers with a reset.
    const writing = setInterval(() => socket.write('x'), 50);
    await until(() => socket.closed, 'the connection is closed');
    clearInterval(writing);
  }
  await port.close();
});
