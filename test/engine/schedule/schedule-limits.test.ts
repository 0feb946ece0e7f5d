/** The schedule where it is large, and where the key of its entries holds something else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Keyspace } from '../../../src/engine/keyspace/keyspace.ts';
import { Schedule } from '../../../src/engine/schedule/schedule.ts';
import { ScheduledEntry, waitOf } from '../../../src/engine/schedule/scheduled-queue.ts';
import { TurnClock } from '../../../src/engine/turn-clock.ts';
import { Random } from '../../../src/util/random.ts';
import { InProcessServer, type Value } from '../../helpers/in-process-server.ts';

test('the first n of a key are the first n of all, whatever n is', () => {
  const random = new Random(1);
  const space = new Keyspace(1, random);
  const schedule = new Schedule();
  const clock = { now: () => 1000, monotonic: () => 5 };
  const time = new TurnClock(clock);
  time.resume(-30);
  const key = Buffer.from('k');
  const all: ScheduledEntry[] = [];
  for (let number = 1; number <= 3000; number++) {
    const due = { at: random.below(900), isDelay: random.chance(0.4) };
    const entry = new ScheduledEntry(number, key, due, Buffer.alloc(0), space);
    schedule.add(entry);
    all.push(entry);
    if (!random.chance(0.3)) continue;
    const [gone] = all.splice(random.below(all.length), 1);
    schedule.remove(gone);
  }
  all.sort((a, b) => waitOf(a, time) - waitOf(b, time) || a.number - b.number);
  for (const limit of [1, 2, 3, 10, 100, 499, 500, 1000, all.length, all.length + 9]) {
    assert.deepEqual(schedule.firstOf(key, limit, time), all.slice(0, limit), `limit ${limit}`);
  }
  assert.equal(schedule.count(key), all.length);
  assert.equal(schedule.firstDue(time), all[0]);
  assert.equal(schedule.firstAt(time), time.monotonic + waitOf(all[0], time));
  for (const entry of all) schedule.remove(entry);
  assert.deepEqual([schedule.size, schedule.firstDue(time)], [0, undefined]);
});

test('XSCHEDULE LIST of a few among 50,000 looks at a few', () => {
  const server = new InProcessServer();
  const session = server.session();
  const now = server.clock.now();
  for (let i = 0; i < 50_000; i++) {
    session.call('XADD', 's', 'AT', now + 1000 + ((i * 7919) % 50_000), '*', 'n', i);
  }
  const began = performance.now();
  for (const count of [1, 1000, 40_000]) {
    const list = session.call('XSCHEDULE', 'LIST', 's', 'COUNT', count) as Value[][];
    const times = list.map(([, due]) => due as number);
    assert.equal(times.length, count);
    assert.deepEqual(
      times,
      times.toSorted((a, b) => a - b),
    );
  }
  // Inserting into a list took 20 s for as many; the bound is generous.
  assert.ok(performance.now() - began < 5000);
});

test('entries whose key holds a string are not recorded again, and come in their order when it is free', () => {
  const server = new InProcessServer();
  const session = server.session();
  const other = server.session();
  for (let i = 0; i < 20; i++) session.call('XADD', 's', 'DELAY', 100 + i, '*', 'n', i);
  session.call('SET', 's', 'a string');
  const before = server.journal.appended;
  for (let second = 0; second < 10; second++) server.advance(1000);
  assert.equal(server.journal.appended, before, 'waiting writes nothing');
  other.call('XADD', 't', 'DELAY', 5, '*', 'n', 'other');
  server.advance(5);
  assert.equal(other.call('XLEN', 't'), 1, 'what waits for other keys is not held up');
  assert.deepEqual((session.call('XSCHEDULE', 'LIST', 's') as Value[]).length, 20);
  const restarted = server.replayed();
  for (const each of [server, restarted]) {
    each.session().call('DEL', 's');
    each.engine.tick();
    const entries = each.session().call('XRANGE', 's', '-', '+') as [string, string[]][];
    assert.deepEqual(
      entries.map(([, [, n]]) => Number(n)),
      Array.from({ length: 20 }, (_, i) => i),
    );
  }
});

test('RENAME, MOVE and expiry of the string free its name for what waits', () => {
  for (const free of [
    ['RENAME', 's', 'other'],
    ['MOVE', 's', 1],
    ['PEXPIRE', 's', 1],
  ]) {
    const server = new InProcessServer();
    const session = server.session();
    session.call('SET', 's', 'a string');
    session.call('XADD', 't', 'DELAY', 10, '*', 'f', 'v');
    session.call('RENAME', 's', 't');
    server.advance(10);
    session.call('RENAME', 't', 's');
    session.call('RENAME', 's', 't');
    server.advance(1);
    session.call(...free.map((part) => (part === 's' ? 't' : part)));
    server.advance(2);
    assert.equal(session.call('XLEN', 't'), 1, free.join(' '));
  }
});
