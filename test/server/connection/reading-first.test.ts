/**
 * A command that waits while cold blocks are read: its client's order, its counts, and its end.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { RespSession } from '../../helpers/resp-session.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { until } from '../../helpers/until.ts';
import { type RunningServer, runServer } from '../running-server.ts';

const ENTRIES = 8000;

/** A server whose stream `s` has ENTRIES cold blocks: to read them takes many slices. */
async function coldServer(directory: string): Promise<RunningServer> {
  const parameters = { appendonly: 'yes', dir: directory, 'stream-node-max-entries': '1' };
  {
    await using running = await runServer(parameters);
    await using client = await running.connect();
    for (let at = 0; at < ENTRIES; at += 1000) {
      await client.pipeline(
        Array.from({ length: 1000 }, (_, i) => ['XADD', 's', `${at + i + 1}-1`, 'f', 'v']),
      );
    }
    await client.call('XGROUP', 'CREATE', 's', 'g', '0');
    assert.equal(await client.text('SAVE'), '+OK\r\n');
  }
  return runServer(parameters);
}

function aheadOf({ server }: RunningServer) {
  const { checkpointer } = server.state.engine;
  assert.ok(checkpointer !== undefined);
  return checkpointer.blocks;
}

test('a command waits for its blocks, others run, and its client keeps its order', async () => {
  await using directory = temporaryDirectory('reading-first');
  await using running = await coldServer(directory.path);
  await using client = await running.connect();
  await using other = await running.connect();
  const blocks = aheadOf(running);
  const replies = client.pipeline([
    ['COPY', 's', 'd'],
    ['XLEN', 'd'],
    ['COPY', 's', 'd', 'REPLACE'],
    ['PING'],
  ]);
  await until(() => blocks.ahead.size > 0 && blocks.aheadBytes > 0);
  // The copy has not begun, and holds nobody.
  assert.equal(await other.text('EXISTS', 'd'), ':0\r\n');
  assert.equal(await other.text('XADD', 's', '99999-1', 'f', 'v'), '$7\r\n99999-1\r\n');
  const texts = (await replies).map((reply) => reply.toString());
  assert.deepEqual(texts, [':1\r\n', `:${ENTRIES + 1}\r\n`, ':1\r\n', '+PONG\r\n']);
  assert.equal(blocks.ahead.size, 0);
  assert.equal(blocks.aheadBytes, 0);
  assert.match(await other.text('INFO', 'commandstats'), /cmdstat_copy:calls=2,/);
});

test('what is decided while a command waits counts for it', async () => {
  await using directory = temporaryDirectory('reading-first');
  await using running = await coldServer(directory.path);
  await using admin = await running.connect();
  await using client = await running.connect();
  await admin.call('ACL', 'SETUSER', 'u', 'on', 'nopass', '~*', '+@all');
  await client.call('AUTH', 'u', 'any');
  const blocks = aheadOf(running);
  const reply = client.text('COPY', 's', 'd');
  await until(() => blocks.ahead.size > 0);
  await admin.call('ACL', 'SETUSER', 'u', '-copy');
  assert.match(await reply, /^-NOPERM/);
  assert.equal(await admin.text('EXISTS', 'd'), ':0\r\n');
  assert.equal(blocks.ahead.size, 0);
});

test('a client that has sent its command and closed its side still receives the reply', async () => {
  await using directory = temporaryDirectory('reading-first');
  await using running = await coldServer(directory.path);
  const socket = connect({ port: running.port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  let received = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    received += chunk;
  });
  socket.end('COPY s d\r\nXLEN d\r\n');
  await once(socket, 'end');
  assert.equal(received, `:1\r\n:${ENTRIES}\r\n`);
});

test('nothing is kept for a client that is killed while it waits', async () => {
  await using directory = temporaryDirectory('reading-first');
  await using running = await coldServer(directory.path);
  await using admin = await running.connect();
  const client = await RespSession.open(running.port);
  const id = (await client.text('CLIENT', 'ID')).slice(1, -2);
  const blocks = aheadOf(running);
  const reply = client.text('COPY', 's', 'd');
  reply.catch(() => {});
  await until(() => blocks.ahead.size > 0);
  assert.equal(await admin.text('CLIENT', 'KILL', 'ID', id), ':1\r\n');
  await client.closed;
  await until(() => blocks.ahead.size === 0);
  assert.equal(blocks.aheadBytes, 0);
  assert.equal(await admin.text('EXISTS', 'd'), ':0\r\n');
});

test('a command that has waited for blocks and then waits for something else does not read them again', async () => {
  await using directory = temporaryDirectory('reading-first');
  await using running = await coldServer(directory.path);
  await using admin = await running.connect();
  await using client = await running.connect();
  const blocks = aheadOf(running);
  let begun = 0;
  const { add } = blocks.ahead;
  blocks.ahead.add = function count(ahead) {
    begun++;
    return add.call(this, ahead);
  };
  const reply = client.text('COPY', 's', 'd');
  await until(() => blocks.ahead.size > 0);
  await admin.call('CLIENT', 'PAUSE', '1000000', 'WRITE');
  await until(() => blocks.ahead.size === 0);
  assert.equal(blocks.aheadBytes, 0);
  assert.equal(await admin.text('EXISTS', 'd'), ':0\r\n');
  await admin.call('CLIENT', 'UNPAUSE');
  assert.equal(await reply, ':1\r\n');
  assert.equal(begun, 1);
  // The next one of the client waits as the first did.
  assert.equal(await client.text('COPY', 's', 'd', 'REPLACE'), ':1\r\n');
  assert.equal(begun, 2);
  assert.equal(blocks.ahead.size, 0);
});

test('within EXEC a command does not wait', async () => {
  await using directory = temporaryDirectory('reading-first');
  await using running = await coldServer(directory.path);
  await using client = await running.connect();
  await client.call('MULTI');
  await client.call('COPY', 's', 'd');
  await client.call('XLEN', 'd');
  assert.equal(await client.text('EXEC'), `*2\r\n:1\r\n:${ENTRIES}\r\n`);
});
