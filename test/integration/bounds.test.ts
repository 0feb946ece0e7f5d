/**
 * Memory stays bounded and other clients are served while some are slow, idle, lying or simply many.
 *
 * Bounds are generous, several times what is measured, so that only a leak or a stall exceeds them.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import { test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import { withLatency } from '../helpers/latency-probe.ts';
import { encodeCommand, RespSession } from '../helpers/resp-session.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { until } from '../helpers/until.ts';

const MB = 2 ** 20;
const MEMORY = { args: ['--appendonly', 'no'] };

function residentBytes(server: RivuletServer): number {
  return (
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1]) * 1024
  );
}

async function openSocket(port: number): Promise<Socket> {
  const socket = connectSocket({ port, host: '127.0.0.1' });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('error', () => {});
  return socket;
}

test('a reader that does not read costs no memory and delays no other client', async (t) => {
  await using server = await startRivulet(MEMORY);
  await using client = await connect({ port: server.port });
  await Promise.all(
    Array.from({ length: 1_000 }, () => client.call('XADD', 's', '*', 'f', 'x'.repeat(1_000))),
  );
  const before = residentBytes(server);
  const slow = await openSocket(server.port);
  slow.pause();
  const request = encodeCommand(['XRANGE', 's', '-', '+']);
  let highest = before;
  const { latency } = await withLatency(server.port, async () => {
    // 20 000 replies of a megabyte each: 20 GB if they were kept.
    for (let i = 0; i < 200; i++) {
      slow.write(Buffer.concat(Array.from({ length: 100 }, () => request)));
      await client.call('XADD', 's', 'MAXLEN', 1_000, '*', 'f', 'x'.repeat(1_000));
      await new Promise((resolve) => setTimeout(resolve, 5));
      highest = Math.max(highest, residentBytes(server));
    }
  });
  slow.destroy();
  t.diagnostic(
    `grew by ${Math.round((highest - before) / MB)} MB; p99 ${latency.p99.toFixed(1)} ms`,
  );
  assert.ok(highest - before < 400 * MB, `grew by ${Math.round((highest - before) / MB)} MB`);
  assert.ok(latency.p99 < 250, `p99 ${latency.p99} ms`);
});

test('a subscriber that does not read is cut off', async (t) => {
  await using server = await startRivulet(MEMORY);
  await using client = await connect({ port: server.port });
  const slow = await openSocket(server.port);
  const closed = new Promise((resolve) => slow.once('close', resolve));
  slow.write('SUBSCRIBE news\r\n');
  await new Promise((resolve) => slow.once('data', resolve));
  slow.pause();
  const before = residentBytes(server);
  let highest = before;
  let published = 0;
  const message = Buffer.alloc(100_000, 'm');
  while (Number(await client.call('PUBLISH', 'news', message)) > 0) {
    published++;
    highest = Math.max(highest, residentBytes(server));
    assert.ok(published < 5_000, '500 MB published and the subscriber is still there');
  }
  slow.resume();
  await closed;
  t.diagnostic(
    `cut off after ${published} messages; grew by ${Math.round((highest - before) / MB)} MB`,
  );
  assert.ok(highest - before < 300 * MB, `grew by ${Math.round((highest - before) / MB)} MB`);
});

test('a thousand idle connections cost little and delay no other client', async (t) => {
  await using server = await startRivulet(MEMORY);
  const rest = () => new Promise((resolve) => setTimeout(resolve, 500));
  // What a machine that does other work adds.
  const { latency: alone } = await withLatency(server.port, rest);
  const before = residentBytes(server);
  const sockets: Socket[] = [];
  for (let i = 0; i < 1_000; i += 100) {
    sockets.push(
      ...(await Promise.all(Array.from({ length: 100 }, () => openSocket(server.port)))),
    );
  }
  await using session = await RespSession.open(server.port);
  // A connection that the kernel has accepted waits in the listen queue until the server takes it.
  await until(async () => /connected_clients:1001\r\n/.test(await session.text('INFO', 'clients')));
  const grown = residentBytes(server) - before;
  const { latency } = await withLatency(server.port, rest);
  t.diagnostic(
    `${Math.round(grown / 1024 / 1_000)} KB a connection; p99 ${latency.p99.toFixed(1)} ms`,
  );
  assert.ok(grown < 100 * MB, `${grown} bytes`);
  assert.ok(
    latency.p99 < Math.max(50, 10 * alone.p99),
    `p99 ${latency.p99}, alone ${alone.p99} ms`,
  );
  for (const socket of sockets) socket.destroy();
  await until(async () => /connected_clients:1\r\n/.test(await session.text('INFO', 'clients')));
});

test('declared lengths allocate nothing, and those beyond the limit end the connection', async (t) => {
  await using server = await startRivulet(MEMORY);
  const before = residentBytes(server);
  const liars = await Promise.all(Array.from({ length: 50 }, () => openSocket(server.port)));
  for (const liar of liars) liar.write('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nonly a little');
  await using session = await RespSession.open(server.port);
  assert.equal(await session.text('PING'), '+PONG\r\n');
  await new Promise((resolve) => setTimeout(resolve, 200));
  const grown = residentBytes(server) - before;
  t.diagnostic(`grew by ${Math.round(grown / MB)} MB for 25 GB declared`);
  assert.ok(grown < 150 * MB, `${grown} bytes`);
  await using beyond = await RespSession.open(server.port);
  const reply = await beyond.callRaw(Buffer.from('*2\r\n$4\r\nECHO\r\n$1073741824\r\n'));
  assert.equal(String(reply), '-ERR Protocol error: invalid bulk length\r\n');
  await beyond.closed;
  for (const liar of liars) liar.destroy();
  assert.equal(await session.text('EXISTS', 'k'), ':0\r\n');
});

test('a hundred thousand streams', async (t) => {
  await using server = await startRivulet();
  await using client = await connect({ port: server.port });
  const before = residentBytes(server);
  const count = 100_000;
  const { latency } = await withLatency(server.port, async () => {
    for (let i = 0; i < count; i += 5_000) {
      await Promise.all(
        Array.from({ length: 5_000 }, (_, j) =>
          client.call('XADD', `s${i + j}`, '*', 'f', 'value'),
        ),
      );
    }
  });
  const grown = residentBytes(server) - before;
  t.diagnostic(
    `${Math.round(grown / count)} bytes a stream; p99 ${latency.p99.toFixed(1)} ms, max ${latency.max.toFixed(1)} ms`,
  );
  assert.equal(await client.call('DBSIZE'), count);
  assert.ok(grown / count < 5_000, `${grown / count} bytes a stream`);
  assert.ok(latency.p99 < 250, `p99 ${latency.p99} ms`);
});

test('a group with a million pending entries', async (t) => {
  await using server = await startRivulet();
  await using client = await connect({ port: server.port });
  const count = 1_000_000;
  for (let i = 0; i < count; i += 5_000) {
    await Promise.all(
      Array.from({ length: 5_000 }, (_, j) => client.call('XADD', 's', `${i + j + 1}-0`, 'f', 'v')),
    );
  }
  await client.call('XGROUP', 'CREATE', 's', 'g', 0);
  const before = residentBytes(server);
  const { latency } = await withLatency(server.port, async () => {
    for (let read = 0; read < count; read += 1_000) {
      await client.call(
        'XREADGROUP',
        'GROUP',
        'g',
        `c${read % 10_000}`,
        'COUNT',
        1_000,
        'STREAMS',
        's',
        '>',
      );
    }
  });
  const grown = residentBytes(server) - before;
  const timed = async (...args: string[]) => {
    const startedAt = performance.now();
    const reply = await client.call(...args);
    return { reply, ms: performance.now() - startedAt };
  };
  const summary = await timed('XPENDING', 's', 'g');
  const page = await timed('XPENDING', 's', 'g', '-', '+', '10');
  const middle = await timed('XACK', 's', 'g', '500000-0', '500001-0');
  const claim = await timed('XAUTOCLAIM', 's', 'g', 'other', '3600000', '-', 'COUNT', '100');
  t.diagnostic(
    `${Math.round(grown / count)} bytes an entry; p99 ${latency.p99.toFixed(1)} ms, max ${latency.max.toFixed(1)} ms`,
  );
  assert.equal((summary.reply as unknown[])[0], count);
  assert.equal((page.reply as unknown[]).length, 10);
  assert.equal(middle.reply, 2);
  for (const { ms } of [summary, page, middle, claim]) assert.ok(ms < 250, `${ms} ms`);
  assert.ok(grown / count < 250, `${grown / count} bytes a pending entry`);
  assert.ok(latency.p99 < 250, `p99 ${latency.p99} ms`);
});
