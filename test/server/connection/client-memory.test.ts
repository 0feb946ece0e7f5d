/**
 * What is held for a client is counted, shown and bounded, whatever it is.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { closed } from '../../helpers/closed.ts';
import { until } from '../../helpers/until.ts';
import { type RunningServer, runServer } from '../running-server.ts';

async function open(port: number, command: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(command);
  return socket;
}

const encode = (...args: (string | number)[]) =>
  `*${args.length}\r\n${args.map((arg) => `$${String(arg).length}\r\n${arg}\r\n`).join('')}`;

/** A number in the CLIENT LIST line of the client with this name. */
async function listed(running: RunningServer, name: string, field: string): Promise<number> {
  await using admin = await running.connect();
  const lines = (await admin.text('CLIENT', 'LIST')).split('\n');
  const line = lines.find((each) => each.includes(` name=${name} `)) ?? '';
  return Number(new RegExp(` ${field}=(\\d+)`).exec(line)?.[1] ?? Number.NaN);
}

test('a reader of shard channels that does not read is cut off at the limit of pubsub clients', async () => {
  await using running = await runServer({ 'client-output-buffer-limit': 'pubsub 1mb 0 0' });
  const reader = await open(running.port, 'SSUBSCRIBE news\r\n');
  await once(reader, 'data');
  reader.pause();
  await using publisher = await running.connect();
  let sent = 0;
  while ((await publisher.text('SPUBLISH', 'news', 'x'.repeat(100_000))) === ':1\r\n') {
    assert.ok(++sent < 200, 'not cut off');
  }
  reader.destroy();
});

test('one EXEC that publishes without end does not fill the buffer of a subscriber', async () => {
  await using running = await runServer({ 'client-output-buffer-limit': 'pubsub 2mb 0 0' });
  const reader = await open(running.port, 'SUBSCRIBE news\r\n');
  await once(reader, 'data');
  reader.pause();
  await using publisher = await running.connect();
  await publisher.call('MULTI');
  const commands = Array.from({ length: 300 }, () => ['PUBLISH', 'news', 'x'.repeat(100_000)]);
  await publisher.pipeline(commands);
  const [first] = running.server.state.connections.values();
  assert.ok(first);
  let most = 0;
  const release = first.reply.release.bind(first.reply);
  first.reply.release = () => {
    most = Math.max(most, first.reply.buffer.length);
    release();
  };
  await publisher.call('EXEC');
  assert.ok(most < 4_000_000, `${most} bytes`);
  assert.equal(await publisher.text('PUBLISH', 'news', 'x'), ':0\r\n');
  reader.destroy();
});

test('a caller that does not read what its responder sends is cut off', async () => {
  await using running = await runServer({ 'client-output-buffer-limit': 'pubsub 1mb 0 0' });
  await using responder = await running.connect(3);
  await responder.call('RESPOND', 't');
  const caller = await open(running.port, 'REQUEST t 60000 x\r\n');
  await once(caller, 'data');
  caller.pause();
  const id = /request\r\n:(\d+)/.exec((await responder.nextPush()).toString())?.[1] ?? '';
  let sent = 0;
  while ((await responder.text('REPLY', id, 'MORE', 'x'.repeat(100_000))) === ':1\r\n') {
    assert.ok(++sent < 200, 'not cut off');
  }
  caller.destroy();
});

test('a responder that does not read is given no more requests; they wait, bounded and counted', async () => {
  await using running = await runServer();
  const responder = await open(running.port, 'CLIENT SETNAME lazy\r\nRESPOND t CREDIT 100000\r\n');
  await once(responder, 'data');
  responder.pause();
  await using caller = await running.connect(3);
  await caller.call('CLIENT', 'SETNAME', 'caller');
  let taken = 0;
  for (; taken < 2000; taken++) {
    const reply = await caller.text('REQUEST', 't', 600_000, 'x'.repeat(100_000));
    if (reply.startsWith('-LIMIT')) break;
  }
  assert.ok(taken < 1500, `${taken} requests of 100 kB were taken`);
  assert.ok((await listed(running, 'lazy', 'tot-mem')) < 40_000_000);
  assert.ok((await listed(running, 'caller', 'tot-mem')) > 50_000_000);
  // Once it reads it gets them all.
  let received = 0;
  responder.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  responder.resume();
  await until(() => received >= taken * 100_000);
  responder.destroy();
});

test('MULTI, a paused command and a blocked command show in CLIENT LIST', async () => {
  await using running = await runServer();
  await using admin = await running.connect();
  const big = 'x'.repeat(1_000_000);
  const multi = await open(
    running.port,
    `CLIENT SETNAME multi\r\nMULTI\r\n${encode('SET', 'a', big)}`,
  );
  const waits = await open(
    running.port,
    `CLIENT SETNAME blocked\r\n${encode('XREAD', 'BLOCK', 0, 'STREAMS', big, '$')}`,
  );
  const shard = await open(running.port, 'CLIENT SETNAME shard\r\nSSUBSCRIBE c\r\n');
  await until(async () => (await listed(running, 'multi', 'multi-mem')) >= 1_000_000);
  await until(async () => (await listed(running, 'blocked', 'argv-mem')) >= 1_000_000);
  assert.ok((await listed(running, 'multi', 'tot-mem')) >= 1_000_000);
  assert.ok((await listed(running, 'blocked', 'tot-mem')) >= 1_000_000);
  await until(async () => (await listed(running, 'shard', 'ssub')) === 1);
  assert.match(await admin.text('CLIENT', 'LIST', 'TYPE', 'pubsub'), /name=shard/);
  const info = await admin.text('INFO', 'clients');
  assert.match(info, /pubsub_clients:1/);
  assert.match(info, /total_blocking_keys:1/);
  await admin.call('CLIENT', 'PAUSE', 60_000, 'WRITE');
  const paused = await open(running.port, `CLIENT SETNAME paused\r\n${encode('SET', 'a', big)}`);
  await until(async () => (await listed(running, 'paused', 'argv-mem')) >= 1_000_000);
  assert.match(await admin.text('INFO', 'clients'), /blocked_clients:2/);
  for (const socket of [multi, waits, shard, paused]) socket.destroy();
});

test('maxmemory-clients ends the client that holds most, of any kind, and counts it', async () => {
  const big = 'x'.repeat(3_000_000);
  const kinds = {
    queue: `MULTI\r\n${encode('SET', 'a', big)}`,
    blocked: encode('XREAD', 'BLOCK', 0, 'STREAMS', big, '$'),
    input: `*2\r\n$3\r\nGET\r\n$5000000\r\n${big}`,
    watched: encode('WATCH', big),
    subscribed: encode('SSUBSCRIBE', big),
  };
  await using running = await runServer({ 'maxmemory-clients': '2mb' });
  await using admin = await running.connect();
  let evicted = 0;
  for (const [kind, command] of Object.entries(kinds)) {
    const client = await open(running.port, command);
    client.resume();
    const timer = setTimeout(() => client.destroy(), 60_000);
    await closed(client);
    clearTimeout(timer);
    const info = await admin.text('INFO', 'stats');
    assert.match(info, new RegExp(`evicted_clients:${++evicted}\\r`), kind);
  }
});

test('the query buffer limit bounds what MULTI has queued', async () => {
  await using running = await runServer({ 'client-query-buffer-limit': '1mb' });
  const client = await open(running.port, 'MULTI\r\n');
  const end = closed(client);
  for (let n = 0; n < 30; n++) client.write(encode('SET', 'a', 'x'.repeat(100_000)));
  client.resume();
  await end;
});

test('a RESP2 client that listens to shard channels only may send nothing but what listeners may', async () => {
  await using running = await runServer();
  await using client = await running.connect();
  await client.call('SSUBSCRIBE', 'c');
  assert.match(await client.text('GET', 'a'), /^-ERR Can't execute 'get'/);
  assert.equal(await client.text('PING', 'x'), '*2\r\n$4\r\npong\r\n$1\r\nx\r\n');
  await client.call('SUNSUBSCRIBE', 'c');
  assert.equal(await client.text('GET', 'a'), '$-1\r\n');
});
