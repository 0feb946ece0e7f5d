/**
 * The end of a connection is noticed in every state, and `timeout` ends idle clients only.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { type RunningServer, runServer } from '../running-server.ts';

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Resolves when the server has no client but this one. */
async function alone(running: RunningServer): Promise<void> {
  const until = performance.now() + 20_000;
  while (running.server.state.connections.size > 1) {
    assert.ok(performance.now() < until, 'the server still has the client that closed');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves when a client with these commands waits. */
async function waiting(running: RunningServer, how: (client: unknown) => boolean): Promise<void> {
  const until = performance.now() + 20_000;
  while (![...running.server.state.connections.values()].some(how)) {
    assert.ok(performance.now() < until, 'no client came to wait');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const READ = 'XREADGROUP GROUP g gone COUNT 1 BLOCK 0 STREAMS s >\r\n';

/** The next entry of the group is for the consumer that is there. */
async function nextEntryIsNotTaken(running: RunningServer): Promise<void> {
  await using consumer = await running.connect();
  await consumer.call('XADD', 's', '*', 'f', 'v');
  assert.match(
    await consumer.text('XREADGROUP', 'GROUP', 'g', 'here', 'COUNT', 10, 'STREAMS', 's', '>'),
    /\$1\r\nv\r\n/,
  );
}

test('a command that CLIENT PAUSE holds is not run when its client has closed', async () => {
  for (const mode of ['ALL', 'WRITE']) {
    for (const ending of ['end', 'destroy'] as const) {
      await using running = await runServer();
      await using admin = await running.connect();
      await admin.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
      await admin.call('CLIENT', 'PAUSE', 60_000, mode);
      const gone = await open(running.port);
      gone.write(READ);
      await waiting(running, (client) => (client as { waits: boolean }).waits);
      gone[ending]();
      const { state } = running.server;
      const until = performance.now() + 20_000;
      while (state.connections.size > 1) {
        assert.ok(performance.now() < until, `${mode} ${ending}: still there`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      state.unpause();
      await nextEntryIsNotTaken(running);
      assert.doesNotMatch(await admin.text('XINFO', 'CONSUMERS', 's', 'g'), /gone/);
    }
  }
});

test('a client that blocks at the end of a long turn, with bytes behind it, is noticed to be gone', async () => {
  await using running = await runServer();
  await using admin = await running.connect();
  await admin.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  await admin.call('DEBUG', 'SLEEP', 0);
  for (let blocksAt = 14; blocksAt <= 18; blocksAt++) {
    const gone = await open(running.port);
    const slow = 'DEBUG SLEEP 0.001\r\n'.repeat(blocksAt - 1);
    gone.write(`${slow}${READ}PING\r\nPING\r\nPING\r\n`);
    await waiting(running, (client) => (client as { blocked: boolean }).blocked);
    gone.end();
    await alone(running);
  }
  await nextEntryIsNotTaken(running);
});

test('a blocked client that has sent megabytes behind its command is noticed to be gone', async () => {
  await using running = await runServer();
  await using admin = await running.connect();
  await admin.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const gone = await open(running.port);
  gone.write(READ);
  gone.end(Buffer.from('PING\r\n'.repeat(500_000)));
  await waiting(running, (client) => (client as { blocked: boolean }).blocked);
  await alone(running);
  await nextEntryIsNotTaken(running);
});

test('a client that closes its side still gets the replies to what it sent before', async () => {
  await using running = await runServer();
  await using responder = await running.connect();
  await responder.call('RESPOND', 't');
  for (const [sent, wanted] of [
    ['PING\r\nREQUEST t 1000 x\r\n', '+PONG\r\n:1\r\n'],
    ['PING\r\nXREAD BLOCK 0 STREAMS s $\r\nPING\r\n', '+PONG\r\n'],
    [`${'PING\r\n'.repeat(5000)}`, '+PONG\r\n'.repeat(5000)],
  ] as const) {
    const socket = await open(running.port);
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    socket.end(sent);
    await once(socket, 'close');
    assert.equal(Buffer.concat(received).toString(), wanted);
  }
});

test('timeout ends a client that sends nothing, is sent nothing and waits for nothing; no other', async () => {
  await using running = await runServer({ timeout: '1' });
  await using admin = await running.connect();
  await using responder = await running.connect();
  await responder.call('RESPOND', 't');
  const sent = {
    idle: 'PING\r\n',
    channel: 'SUBSCRIBE c\r\n',
    pattern: 'PSUBSCRIBE c\r\n',
    shard: 'SSUBSCRIBE c\r\n',
    caller: 'REQUEST t 60000 x\r\n',
    asker: 'ASK t 60000 x\r\n',
    reader: 'XREAD BLOCK 0 STREAMS s $\r\n',
    monitor: 'MONITOR\r\n',
  };
  const closed = new Set<string>();
  const clients = await Promise.all(
    Object.entries(sent).map(async ([name, command]) => {
      const socket = await open(running.port);
      socket.on('close', () => closed.add(name));
      socket.resume();
      socket.write(command);
      return socket;
    }),
  );
  await waiting(running, (client) => (client as { blocked: boolean }).blocked);
  await admin.call('CLIENT', 'PAUSE', 60_000, 'WRITE');
  const writer = await open(running.port);
  writer.on('close', () => closed.add('writer'));
  writer.write('SET a b\r\n');
  const until = performance.now() + 3500;
  while (performance.now() < until) {
    await admin.call('PING');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.deepEqual([...closed], ['idle']);
  for (const socket of [...clients, writer]) socket.destroy();
});
