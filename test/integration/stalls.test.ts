/**
 * Many clients, topics, requests and streams: no turn of the server's loop takes 100 ms.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { freePort } from '../helpers/free-port.ts';
import { type Argument, RespSession } from '../helpers/resp-session.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { STALL_WATCH, stallsOf } from '../helpers/stall-watch.ts';
import { until } from '../helpers/until.ts';

const MEMORY = { args: ['--appendonly', 'no'] };

async function pipelined(session: RespSession, count: number, of: (i: number) => Argument[]) {
  for (let at = 0; at < count; at += 500) {
    const length = Math.min(500, count - at);
    await session.pipeline(Array.from({ length }, (_, i) => of(at + i)));
  }
}

test('the stall watch sees a turn that holds the loop, and none in a server at rest', {
  skip: process.platform !== 'linux' && 'needs the processor time of a thread',
}, async () => {
  await using server = await startRivulet({
    ...MEMORY,
    nodeArgs: STALL_WATCH,
    longTurns: 'made, to be seen',
  });
  await using client = await RespSession.open(server.port);
  for (let n = 0; n < 20; n++) await client.call('PING');
  assert.deepEqual(stallsOf(server), []);
  await client.call('SET', 'big', 'x'.repeat(1_000_000));
  // A reply of 400 MB in one EXEC is a turn that is known to be long.
  const reader = connect({ port: server.port, host: '127.0.0.1' });
  reader.on('error', () => {}).pause();
  reader.write(`MULTI\r\n${'GET big\r\n'.repeat(400)}EXEC\r\n`);
  for (let n = 0; n < 500 && stallsOf(server).length === 0; n++) {
    await client.call('PING');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  reader.destroy();
  assert.ok(stallsOf(server).length > 0);
});

test('10,000 requests with different deadlines, and RESPONDERS of 10,000 topics', async () => {
  await using server = await startRivulet(MEMORY);
  await using responder = await RespSession.open(server.port, { protocol: 3 });
  await using caller = await RespSession.open(server.port, { protocol: 3 });
  await pipelined(responder, 10_000, (i) => ['RESPOND', `topic-${i}`, 'CREDIT', 1000]);
  await pipelined(caller, 10_000, (i) => ['REQUEST', `topic-${i}`, 60_000 + i * 997, 'x']);
  assert.match((await caller.text('RESPONDERS')).slice(0, 10), /^\*10000/);
  assert.deepEqual(stallsOf(server), []);
});

test('CLIENT LIST of 2,000 clients, and a scrape of 50,000 streams', async () => {
  const http = await freePort();
  await using server = await startRivulet({
    args: [...MEMORY.args, '--http-port', String(http)],
  });
  const sockets: Socket[] = [];
  for (let n = 0; n < 2000; n++) {
    const socket = connect({ port: server.port, host: '127.0.0.1' });
    sockets.push(socket);
    if (n % 100 === 99) await once(socket, 'connect');
  }
  await using client = await RespSession.open(server.port);
  await until(
    async () =>
      Number(/connected_clients:(\d+)/.exec(await client.text('INFO', 'clients'))?.[1]) >= 2001,
  );
  assert.equal((await client.text('CLIENT', 'LIST')).match(/^id=|\nid=/g)?.length, 2001);
  await pipelined(client, 50_000, (i) => ['XADD', `s${i}`, '*', 'f', 'v']);
  const text = await (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
  assert.match(text, /^rivulet_streams 50000$/m);
  assert.deepEqual(stallsOf(server), []);
  for (const socket of sockets) socket.destroy();
});
