/**
 * Every command has its one reply, whatever happens to it in between; pushes stand between replies.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedsOf } from '../../helpers/seed.ts';
import { until } from '../../helpers/until.ts';
import { randomClients } from '../redis-comparison/random-replies.ts';
import { runServer } from '../running-server.ts';

const flat = (bytes: Buffer) => bytes.toString('latin1').replaceAll('\r\n', '|');

test('after CLIENT UNBLOCK ends an ASK, its late answer is not taken for the next one', async () => {
  await using running = await runServer();
  await using responder = await running.connect(3);
  await using other = await running.connect();
  for (const how of ['ERROR', 'TIMEOUT']) {
    for (const protocol of [2, 3] as const) {
      await using caller = await running.connect(protocol);
      const topic = `t-${how}-${protocol}`;
      await responder.call('RESPOND', topic);
      const id = (await caller.text('CLIENT', 'ID')).slice(1).trim();
      const first = caller.call('ASK', topic, 60_000, 'first');
      const request = flat(await responder.nextPush());
      assert.equal(await other.text('CLIENT', 'UNBLOCK', id, how), ':1\r\n');
      assert.match(flat(await first), how === 'ERROR' ? /^-UNBLOCKED/ : /^(\*-1|_)/);
      assert.match(flat(await responder.nextPush()), /cancel/);
      const second = caller.call('ASK', topic, 60_000, 'second');
      const next = flat(await responder.nextPush());
      const idOf = (push: string) => /request\|:(\d+)/.exec(push)?.[1] ?? '';
      assert.equal(await responder.text('REPLY', idOf(request), 'LAST', 'late'), ':0\r\n');
      assert.equal(await responder.text('REPLY', idOf(next), 'LAST', 'right'), ':1\r\n');
      assert.equal(flat(await second), '*1|$5|right|');
      assert.equal(flat(await caller.call('ECHO', 'still in step')), '$13|still in step|');
    }
  }
});

test('CLIENT REPLY SKIP before a command that blocks leaves out the reply that comes later', async () => {
  await using running = await runServer();
  await using reader = await running.connect();
  await using writer = await running.connect();
  reader.socket.write('CLIENT REPLY SKIP\r\nXREAD BLOCK 0 STREAMS s $\r\nECHO next\r\n');
  await until(async () => /blocked_clients:1/.test(await writer.text('INFO', 'clients')));
  await writer.call('XADD', 's', '*', 'f', 'v');
  assert.equal(flat(await reader.next()), '$4|next|');
});

test('CLIENT REPLY SKIP and OFF hold for whole replies: twice, in EXEC, before QUIT', async () => {
  await using running = await runServer();
  await using client = await running.connect();
  client.socket.write('CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nECHO a\r\nECHO b\r\n');
  assert.equal(flat(await client.next()), '$1|b|');
  client.socket.write('MULTI\r\nCLIENT REPLY SKIP\r\nECHO c\r\nEXEC\r\nECHO d\r\nECHO e\r\n');
  const replies = [];
  for (let i = 0; i < 5; i++) replies.push(flat(await client.next()));
  // Within EXEC it has an element, so that the array is whole.
  assert.deepEqual(replies, ['+OK|', '+QUEUED|', '+QUEUED|', '*2|+OK|$1|c|', '$1|e|']);
  client.socket.write(
    'CLIENT REPLY OFF\r\nECHO f\r\nMULTI\r\nECHO g\r\nEXEC\r\nCLIENT REPLY ON\r\n',
  );
  assert.equal(flat(await client.next()), '+OK|');
  // SUBSCRIBE answers with a push, which SKIP does not hold back; the SKIP is used up.
  client.socket.write('CLIENT REPLY SKIP\r\nSUBSCRIBE x\r\nPING h\r\n');
  assert.equal(flat(await client.next()), '*3|$9|subscribe|$1|x|:1|');
  assert.equal(flat(await client.next()), '*2|$4|pong|$1|h|');
  await using last = await running.connect();
  const received: Buffer[] = [];
  last.socket.on('data', (chunk: Buffer) => received.push(chunk));
  last.socket.write('ECHO i\r\nCLIENT REPLY SKIP\r\nQUIT\r\n');
  await last.closed;
  assert.equal(flat(Buffer.concat(received)), '$1|i|');
});

test('a push that a command sends to its own client follows the whole reply', async () => {
  await using running = await runServer();
  await using client = await running.connect(3);
  client.socket.write('SUBSCRIBE c\r\nSSUBSCRIBE d\r\nRESPOND t\r\n');
  const seen = collect(client.socket);
  client.socket.write(
    'MULTI\r\nPUBLISH c one\r\nSPUBLISH d two\r\nECHO x\r\nEXEC\r\nPUBLISH c three\r\n',
  );
  client.socket.write('REQUEST t 1000 part\r\nECHO end\r\n');
  await seen.until('end|');
  const text = seen.text();
  assert.ok(text.includes('*3|:1|:1|$1|x|>3|$7|message|$1|c|$3|one|>3|$8|smessage|'), text);
  assert.ok(text.includes(':1|>3|$7|message|$1|c|$5|three|'), text);
  assert.ok(text.includes(':1|>4|$7|request|:1|$1|t|$4|part|'), text);
});

test('RESPOND on RESP2 answers before it hands over what waits on the topic', async () => {
  await using running = await runServer();
  await using busy = await running.connect();
  await using caller = await running.connect();
  await using responder = await running.connect(2);
  await busy.call('RESPOND', 't', 'CREDIT', 1);
  await caller.call('REQUEST', 't', 10_000, 'first');
  await caller.call('REQUEST', 't', 10_000, 'waits');
  assert.equal(flat(await responder.call('RESPOND', 't')), '+OK|');
  assert.match(flat(await responder.next()), /^\*4\|\$7\|request\|:2\|\$1\|t\|\$5\|waits\|/);
});

test('a line of MONITOR stands after the reply of EXEC on the monitor itself', async () => {
  await using running = await runServer();
  await using client = await running.connect();
  const seen = collect(client.socket);
  client.socket.write('MONITOR\r\nMULTI\r\nECHO one\r\nECHO two\r\nEXEC\r\nECHO end\r\n');
  await seen.until('$3|end|');
  assert.match(seen.text(), /\*2\|\$3\|one\|\$3\|two\|\+/);
});

test('an error that a blocked client is given counts in INFO errorstats', async () => {
  await using running = await runServer();
  await using reader = await running.connect();
  await using other = await running.connect();
  await other.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const waits = reader.text('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>');
  await until(async () => /blocked_clients:1/.test(await other.text('INFO', 'clients')));
  await other.call('XGROUP', 'DESTROY', 's', 'g');
  assert.match(await waits, /^-NOGROUP/);
  assert.match(await other.text('INFO', 'errorstats'), /errorstat_NOGROUP:count=1/);
});

test('a client in SAVE is not unblocked by CLIENT UNBLOCK', async () => {
  await using running = await runServer();
  let finish = () => {};
  Object.defineProperty(running.server.state.persistence, 'checkpoint', {
    value: () => new Promise<void>((done) => (finish = done)),
  });
  await using saver = await running.connect();
  await using other = await running.connect();
  const id = (await saver.text('CLIENT', 'ID')).slice(1).trim();
  const saved = saver.text('SAVE');
  await until(async () => /blocked_clients:1/.test(await other.text('INFO', 'clients')));
  assert.equal(await other.text('CLIENT', 'UNBLOCK', id), ':0\r\n');
  assert.equal(await other.text('CLIENT', 'UNBLOCK', id, 'ERROR'), ':0\r\n');
  finish();
  assert.equal(await saved, '+OK\r\n');
});

test('random commands of several clients, blocked, unblocked, paused and silent: every reply is that of its command', async (t) => {
  const rounds = process.env.RIVULET_FULL === '1' ? 40 : 2;
  for (const seed of seedsOf(t, rounds)) {
    await using running = await runServer();
    const clients = await randomClients(running.port, seed);
    for (let step = 0; step < 40; step++) {
      for (const client of clients) client.step();
      await clients[step % clients.length]!.inStep();
    }
    for (const client of clients) await client.inStep();
    for (const client of clients) {
      assert.deepEqual(client.findings, [], `seed ${seed}, client ${client.name}`);
      assert.ok(client.checked >= 40, `seed ${seed}: ${client.checked} replies checked`);
      client.close();
    }
  }
});

function collect(socket: { on(event: 'data', listener: (chunk: Buffer) => void): unknown }) {
  let text = '';
  const waiting: { what: string; done: () => void }[] = [];
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1').replaceAll('\r\n', '|');
    for (const { what, done } of waiting) if (text.includes(what)) done();
  });
  return {
    text: () => text,
    until: (what: string) =>
      text.includes(what)
        ? Promise.resolve()
        : new Promise<void>((done) => waiting.push({ what, done })),
  };
}
