/**
 * Bytes that no client would send: the server neither crashes nor hangs, and its memory stays bounded.
 *
 * Each round sends random bytes, or a well-formed pipeline with some bytes changed, in random pieces,
 * on a fresh connection; the server must answer a PING on another connection afterwards.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { Random } from '../../src/util/random.ts';
import { seedNamed } from '../helpers/seed.ts';
import { until } from '../helpers/until.ts';
import { runServer } from '../server/running-server.ts';

const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 150);
const seed = seedNamed('frames');

const COMMANDS = [
  'PING',
  'XADD s * f v',
  'XADD s NOMKSTREAM MAXLEN ~ 10 * f v g w',
  'XRANGE s - + COUNT 3',
  'XGROUP CREATE s g 0 MKSTREAM',
  'XREADGROUP GROUP g c COUNT 2 STREAMS s >',
  'XACK s g 1-1',
  'XINFO STREAM s FULL',
  'SET k v PX 100',
  'GET k',
  'MULTI',
  'EXEC',
  'HELLO 3',
  'SUBSCRIBE c',
  'CLIENT LIST',
  'CONFIG GET *',
  'COMMAND DOCS xadd',
  'ACL DRYRUN default get k',
  'SCAN 0 MATCH * COUNT 10',
];

function wellFormed(random: Random): Buffer {
  const parts: string[] = [];
  for (let i = 0; i < 1 + random.below(20); i++) {
    const words = random.pick(COMMANDS).split(' ');
    parts.push(`*${words.length}\r\n${words.map((w) => `$${w.length}\r\n${w}\r\n`).join('')}`);
  }
  return Buffer.from(parts.join(''));
}

function hostile(random: Random): Buffer {
  if (random.chance(0.2)) {
    return Buffer.from(Array.from({ length: random.below(3000) }, () => random.below(256)));
  }
  let bytes = wellFormed(random);
  for (let i = 0; i < 1 + random.below(6); i++) {
    const at = random.below(bytes.length);
    const change = random.below(4);
    if (change < 2) bytes[at] = random.below(256);
    else if (change === 2) {
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(9))]);
    } else {
      const digits = Buffer.from(random.pick(['9', '-', '1073741824', '\r\n', '$', '*', '\0']));
      bytes = Buffer.concat([bytes.subarray(0, at), digits, bytes.subarray(at)]);
    }
    if (bytes.length === 0) bytes = Buffer.from('*');
  }
  return bytes;
}

async function attack(port: number, bytes: Buffer, random: Random): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => {});
  socket.resume();
  await once(socket, 'connect');
  for (let at = 0; at < bytes.length && !socket.destroyed; ) {
    const size = 1 + random.below(random.chance(0.5) ? 20 : 4000);
    socket.write(bytes.subarray(at, at + size));
    at += size;
    if (random.chance(0.2)) await new Promise((resolve) => setImmediate(resolve));
  }
  if (random.chance(0.3)) {
    socket.destroy();
  } else if (!socket.destroyed) {
    socket.end();
    await once(socket, 'close');
  }
}

test(`${ROUNDS} hostile connections leave a server that serves (seed ${seed})`, async () => {
  await using running = await runServer({ 'client-query-buffer-limit': '1mb' });
  const random = new Random(seed);
  await using healthy = await running.connect();
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = hostile(random);
    await attack(running.port, bytes, random).catch(() => {});
    assert.equal(
      await healthy.text('PING'),
      '+PONG\r\n',
      `seed ${seed}, round ${round}: ${JSON.stringify(bytes.toString('latin1').slice(0, 500))}`,
    );
  }
  const bugs = running.lines.filter(({ message }) => /^command .* failed/.test(message));
  assert.deepEqual(bugs, [], `seed ${seed}`);
  await until(() => running.server.state.connections.size <= 1);
  const { held, waiting } = [...running.server.state.connections.values()]
    .map((client) => ({ held: client.inputHeld, waiting: client.output.pending }))
    .reduce((a, b) => ({ held: a.held + b.held, waiting: a.waiting + b.waiting }));
  assert.ok(held <= 64 * 1024 && waiting <= 64 * 1024, `${held} and ${waiting} bytes held`);
});

test('many connections that each promise a gigabyte cost next to nothing', async () => {
  await using running = await runServer({ 'proto-max-bulk-len': '2gb' });
  const sockets = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const socket = connect({ port: running.port, host: '127.0.0.1' });
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write(`*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${1024 ** 3}\r\nabc`);
      return socket;
    }),
  );
  const clients = () => [...running.server.state.connections.values()];
  await until(() => clients().filter((client) => client.inputWaiting > 0).length >= 200);
  const held = clients().reduce((sum, client) => sum + client.inputHeld, 0);
  assert.ok(held < 1024 * 1024, `${held} bytes`);
  for (const socket of sockets) socket.destroy();
});
