/** What a tick costs: keys that expire, idempotent ids, readers that wait for something else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KeyEntry } from '../../src/engine/keyspace/key-entry.ts';
import { InProcessServer } from '../helpers/in-process-server.ts';

test('a tick removes all keys whose time has come while it has time', () => {
  const server = new InProcessServer();
  const session = server.session();
  for (let i = 0; i < 20_000; i++) session.call('SET', `k${i}`, 'v', 'PX', 500);
  server.clock.advance(501);
  server.engine.tick();
  assert.equal(session.call('DBSIZE'), 0);
});

test('expiry that has used up its time goes on after a pause, before the next regular tick', () => {
  const server = new InProcessServer();
  const session = server.session();
  for (let i = 0; i < 10_000; i++) session.call('SET', `k${i}`, 'v', 'PX', 500);
  server.clock.advance(501);
  // A clock by which every reading takes a millisecond.
  const { clock } = server;
  const { monotonic } = clock;
  clock.monotonic = () => {
    clock.advance(1);
    return monotonic.call(clock);
  };
  let ticks = 0;
  for (; session.call('DBSIZE') !== 0; ticks++) {
    const before = session.call('DBSIZE') as number;
    server.engine.tick();
    const removed = before - (session.call('DBSIZE') as number);
    assert.ok(removed > 0 && removed < 1000, `${removed} in a tick`);
    if (session.call('DBSIZE') === 0) continue;
    const wait = server.engine.nextDeadline() - monotonic.call(clock);
    assert.ok(wait <= 15, `the next tick comes in ${wait} ms`);
  }
  assert.ok(ticks > 5);
});

test('a tick looks at no stream whose idempotent ids are within their window', () => {
  const server = new InProcessServer();
  const session = server.session();
  for (let i = 0; i < 3000; i++) session.call('XADD', `s${i}`, 'IDMP', 'p', 'i', '*', 'f', 'v');
  const { keyspace } = server.engine.databases[0];
  assert.equal(keyspace.idempotencyDeadlines.size, 3000);
  let looked = 0;
  for (const entry of keyspace.table.entries()) watchLooks(entry, () => looked++);
  for (let i = 0; i < 10; i++) server.advance(1000);
  assert.equal(looked, 0);
  for (let i = 0; i < 14; i++) server.advance(10_000);
  assert.equal(looked, 3000, 'each once, when its time has come');
  assert.equal(keyspace.idempotencyDeadlines.size, 0);
});

test('idempotent ids are forgotten when their window ends, after MOVE, RENAME and a restart too', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 'a', 'IDMP', 'p', 'i', '*', 'f', 'v');
  session.call('XADD', 'b', 'IDMP', 'p', 'i', '*', 'f', 'v');
  session.call('RENAME', 'a', 'c');
  session.call('MOVE', 'b', 1);
  for (const each of [server, server.replayed()]) {
    const tracked = (database: number, key: string) => {
      const own = each.session();
      own.database = each.engine.databases[database];
      const info = own.call('XINFO', 'STREAM', key) as (string | number)[];
      return info[info.indexOf('iids-tracked') + 1];
    };
    assert.deepEqual([tracked(0, 'c'), tracked(1, 'b')], [1, 1]);
    each.advance(100_001);
    assert.deepEqual([tracked(0, 'c'), tracked(1, 'b')], [0, 0]);
  }
});

test('of many readers of a group one command is run for one entry, for the others a look', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const readers = Array.from({ length: 500 }, () => server.session());
  let retries = 0;
  for (const reader of readers) {
    reader.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>');
    assert.ok(reader.blocked);
    countRetries(reader, () => retries++);
  }
  session.call('XADD', 's', '*', 'f', 'v');
  assert.equal(readers.filter((reader) => !reader.blocked).length, 1);
  assert.equal(retries, 1);
});

test('readers that wait for later ids are not run by entries before those', () => {
  const server = new InProcessServer();
  const session = server.session();
  const readers = Array.from({ length: 200 }, () => server.session());
  let retries = 0;
  for (const reader of readers) {
    reader.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', 't', '1000-0', '$');
    countRetries(reader, () => retries++);
  }
  for (let i = 1; i < 100; i++) session.call('XADD', 's', `${i}-0`, 'f', 'v');
  assert.equal(retries, 0);
  session.call('XADD', 's', '1000-1', 'f', 'v');
  assert.equal(readers.filter((reader) => reader.blocked).length, 0);
});

test('a reader of a group that is destroyed, or whose key changes its type, fails though it has nothing to read', () => {
  for (const command of [
    ['XGROUP', 'DESTROY', 's', 'g'],
    ['DEL', 's'],
    ['SET', 's', 'v'],
  ]) {
    const server = new InProcessServer();
    const session = server.session();
    session.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
    const reader = server.session();
    reader.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>');
    session.call(...command);
    assert.ok(reader.take() instanceof Error, command.join(' '));
  }
});

function watchLooks(entry: KeyEntry, look: () => void): void {
  if (entry.value.type !== 'stream' || entry.value.idempotency === null) throw new Error('no ids');
  const { idempotency } = entry.value;
  const { expire } = idempotency;
  idempotency.expire = (now) => {
    look();
    return expire.call(idempotency, now);
  };
}

/** Counts how often the session's command is executed again. */
function countRetries(reader: ReturnType<InProcessServer['session']>, count: () => void): void {
  const { reply } = reader;
  let { args } = reader;
  // Each execution begins with the kept copy of the command.
  Object.defineProperty(reader, 'args', {
    get: () => args,
    set: (next) => {
      args = next;
      count();
    },
  });
  assert.ok(reply);
}
