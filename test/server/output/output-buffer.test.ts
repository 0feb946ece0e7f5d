/**
 * When output is sent: at the end of the turn, in order, not before the disk has what it shows, and earlier
 * when it is much or the turn is long.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { ServerStatistics } from '../../../src/server/observability/server-statistics.ts';
import { BufferPool } from '../../../src/server/output/buffer-pool.ts';
import {
  OutputBuffer,
  type OutputOwner,
  type OutputServices,
} from '../../../src/server/output/output-buffer.ts';
import { PendingWrites } from '../../../src/server/output/pending-writes.ts';
import { ReplyWriter } from '../../../src/server/output/reply-writer.ts';
import { NullJournal } from '../../../src/storage/log/journal.ts';

/** Clients named by letters, and what their sockets were given, in order. */
function scene() {
  const given: string[] = [];
  const clock = { now: 0 };
  const log = { gate: 0, safe: 0 };
  const pendingWrites = new PendingWrites(() => clock.now);
  const awaiting: OutputOwner[] = [];
  const deferred: OutputOwner[] = [];
  const services = {
    pool: new BufferPool(16, 1),
    pendingWrites,
    statistics: new ServerStatistics(),
    outputNotice: Number.POSITIVE_INFINITY,
    lastCommandEndedAt: 0,
    turns: {
      awaitDurable: (client: OutputOwner) => void awaiting.push(client),
      defer: (client: OutputOwner) => void deferred.push(client),
    },
  } as unknown as OutputServices;
  const journal = Object.assign(Object.create(new NullJournal()), {}) as NullJournal;
  Object.defineProperties(journal, {
    gate: { get: () => log.gate },
    safe: { get: () => log.safe },
  });
  const client = (name: string) => {
    const write = (bytes: Buffer) => given.push(`${name}${bytes.subarray(0, 8)}`);
    const socket = { writableLength: 0, write, cork() {}, uncork() {} } as unknown as Socket;
    const reply = new ReplyWriter(services.pool);
    const owner = { reply, socket, drops: false, sentAt: 0, boundOutput() {} };
    const output = new OutputBuffer(owner as unknown as OutputOwner, services, journal);
    /** One flush of the bytes that a command wrote. */
    const write1 = (text: string | Buffer) => {
      reply.raw(Buffer.from(text));
      output.flush();
    };
    return { output, reply, write: write1 };
  };
  return { given, clock, log, client, awaiting, deferred };
}
const endOfTurn = () => new Promise((resolve) => setImmediate(resolve));

test('replies of one turn are sent together at its end, those of each client in order', async () => {
  const { given, client } = scene();
  const [a, b] = [client('a'), client('b')];
  a.write('1');
  b.write('1');
  a.write('2');
  assert.deepEqual(given, []);
  assert.equal(a.output.pending, 2);
  await endOfTurn();
  assert.deepEqual(given, ['a1', 'a2', 'b1']);
  assert.equal(a.output.pending, 0);
  b.write('2');
  await endOfTurn();
  assert.deepEqual(given.slice(3), ['b2']);
});

test('in a turn that takes long, replies are sent before its end', () => {
  const { given, clock, client } = scene();
  client('a').write('1');
  clock.now = 2;
  client('b').write('1');
  assert.deepEqual(given, ['a1', 'b1']);
});

test('much output does not wait for the end of the turn', () => {
  const { given, client } = scene();
  const a = client('a');
  a.write('first');
  a.write(Buffer.alloc(100_000, 'x'));
  assert.deepEqual(given, ['afirst', 'axxxxxxxx']);
});

test('a reply is sent in the turn in which the disk has what it shows, after those before it', async () => {
  const { given, log, client, awaiting } = scene();
  const a = client('a');
  a.write('free');
  log.gate = 10;
  a.write('held');
  a.write('next');
  assert.equal(awaiting.length, 1, 'the scheduler is asked once');
  await endOfTurn();
  assert.deepEqual(given, ['afree']);
  assert.equal(a.output.held, 2);
  log.safe = 9;
  assert.equal(a.output.release(), true);
  log.safe = 10;
  assert.equal(a.output.release(), false);
  await endOfTurn();
  assert.deepEqual(given, ['afree', 'aheld', 'anext']);
  log.gate = 20;
  a.write('again');
  assert.equal(awaiting.length, 2);
});

test('a reply that shows nothing stored does not wait for the disk, unless one before it does', async () => {
  const { given, log, client } = scene();
  const [a, b] = [client('a'), client('b')];
  log.gate = 10;
  a.reply.raw(Buffer.from('free'));
  a.output.showsNothingStored(0);
  a.output.flush();
  b.write('held');
  b.reply.raw(Buffer.from('free'));
  b.output.showsNothingStored(0);
  b.output.flush();
  await endOfTurn();
  assert.deepEqual(given, ['afree']);
  log.safe = 10;
  b.output.release();
  await endOfTurn();
  assert.deepEqual(given, ['afree', 'bheld', 'bfree']);
});

test('a deferrable reply waits until other bytes follow it or the scheduler flushes it', async () => {
  const { given, client, deferred } = scene();
  const a = client('a');
  const defer = (text: string) => {
    const start = a.reply.length;
    a.reply.raw(Buffer.from(text));
    a.output.deferrable(start);
    a.output.flush();
  };
  defer('1');
  defer('2');
  assert.equal(deferred.length, 1, 'the scheduler is asked once');
  await endOfTurn();
  assert.deepEqual(given, []);
  a.write('3');
  await endOfTurn();
  assert.deepEqual(given, ['a123']);
  defer('4');
  a.output.flushDeferred();
  await endOfTurn();
  assert.deepEqual(given, ['a123', 'a4']);
});

test('nothing is sent to a client that is gone', async () => {
  const { given, client } = scene();
  const a = client('a');
  a.write('1');
  a.output.clear();
  await endOfTurn();
  assert.deepEqual(given, []);
});

test('when thousands of clients have output, other work runs in between', async () => {
  const { given, client } = scene();
  const clients = Array.from({ length: 2000 }, (_, n) => client(`${n}.`));
  for (const each of clients) each.write('1');
  const turns: number[] = [];
  while (given.length < 2000 && turns.length < 50) {
    await endOfTurn();
    turns.push(given.length);
    // One more reply of a client that was served, and one of a client that waits.
    if (turns.length === 1) for (const n of [0, 1999]) clients[n]?.write('2');
  }
  assert.ok(turns.length >= 4, `${turns}`);
  await endOfTurn();
  assert.equal(given.length, 2002);
  assert.deepEqual(given.slice(0, 2), ['0.1', '1.1']);
  assert.deepEqual(
    given.filter((text) => text.startsWith('1999.')),
    ['1999.1', '1999.2'],
  );
  assert.equal(given.at(-1), '0.2');
});
