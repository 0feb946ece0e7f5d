/** When output leaves: at the end of the round, in order, and sooner where it is much or the round is long. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { BufferPool } from '../../src/server/buffer-pool.ts';
import { Departures } from '../../src/server/departures.ts';
import { OutputQueue } from '../../src/server/output-queue.ts';

/** Queues of clients named by letters, and what their sockets were given, in order. */
function scene() {
  const given: string[] = [];
  const clock = { now: 0 };
  const departures = new Departures(() => clock.now);
  const queue = (name: string) => {
    const write = (bytes: Buffer) => given.push(`${name}${bytes.subarray(0, 8)}`);
    const socket = { writableLength: 0, write, cork() {}, uncork() {} } as unknown as Socket;
    return new OutputQueue(socket, new BufferPool(16, 1), departures);
  };
  return { given, clock, queue };
}
const endOfRound = () => new Promise((resolve) => setImmediate(resolve));

test('replies of one round leave together at its end, each client’s in order', async () => {
  const { given, queue } = scene();
  const [a, b] = [queue('a'), queue('b')];
  a.push(Buffer.from('1'), 0, 0);
  b.push(Buffer.from('1'), 0, 0);
  a.push(Buffer.from('2'), 0, 0);
  assert.deepEqual(given, []);
  assert.equal(a.pending, 2);
  await endOfRound();
  assert.deepEqual(given, ['a1', 'a2', 'b1']);
  assert.equal(a.pending, 0);
  b.push(Buffer.from('2'), 0, 0);
  await endOfRound();
  assert.deepEqual(given.slice(3), ['b2']);
});

test('in a round that takes long, replies leave before its end', () => {
  const { given, clock, queue } = scene();
  queue('a').push(Buffer.from('1'), 0, 0);
  clock.now = 2;
  queue('b').push(Buffer.from('1'), 0, 0);
  assert.deepEqual(given, ['a1', 'b1']);
});

test('much output does not wait for the end of the round', () => {
  const { given, queue } = scene();
  const a = queue('a');
  a.push(Buffer.from('first'), 0, 0);
  a.push(Buffer.alloc(100_000, 'x'), 0, 0);
  assert.deepEqual(given, ['afirst', 'axxxxxxxx']);
});

test('what waits for the disk leaves in the round in which the disk has it, behind what went before', async () => {
  const { given, queue } = scene();
  const a = queue('a');
  a.push(Buffer.from('free'), 0, 0);
  assert.ok(a.push(Buffer.from('held'), 10, 0));
  await endOfRound();
  assert.deepEqual(given, ['afree']);
  assert.equal(a.release(10), false);
  await endOfRound();
  assert.deepEqual(given, ['afree', 'aheld']);
});

test('a client that is gone is sent nothing', async () => {
  const { given, queue } = scene();
  const a = queue('a');
  a.push(Buffer.from('1'), 0, 0);
  a.clear();
  await endOfRound();
  assert.deepEqual(given, []);
});
