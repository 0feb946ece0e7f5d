/** When keys expire: lazily, by the tick, in the records, and through renaming and copying. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecordType } from '../../../src/engine/log/records.ts';
import { InProcessServer } from '../../helpers/in-process-server.ts';

test('a key is gone for every command once its time is over, not before', () => {
  const server = new InProcessServer();
  const r = server.session();
  r.call('SET', 'k', 'v', 'PX', 100);
  server.clock.advance(100);
  assert.equal(r.call('GET', 'k'), 'v');
  assert.equal(r.call('PTTL', 'k'), 0);
  server.clock.advance(1);
  assert.equal(r.call('DBSIZE'), 1, 'no command has looked at it yet');
  assert.equal(r.call('GET', 'k'), null);
  assert.equal(r.call('DBSIZE'), 0);
  assert.equal(server.engine.statistics.expiredKeys, 1);
});

test('that a key has expired is recorded as its removal, so replay needs no clock', () => {
  const server = new InProcessServer();
  const r = server.session();
  r.call('SET', 'k', 'v', 'PX', 100);
  server.clock.advance(1000);
  r.call('EXISTS', 'k');
  assert.equal(server.journal.records.at(-1)?.type, RecordType.DEL);
  // Read while the clock stands before the key's time: only the record can remove it.
  server.clock.setNow(1_700_000_000_000);
  assert.equal(server.replayed().session().call('DBSIZE'), 0);
});

test('expired keys that no client asks for are removed by the tick', () => {
  const server = new InProcessServer();
  const r = server.session();
  for (let i = 0; i < 2000; i++) r.call('SET', `k${i}`, 'v', 'PX', 1 + (i % 50));
  r.call('SET', 'stays', 'v', 'PX', 100_000);
  server.clock.advance(60);
  server.engine.tick();
  assert.equal(r.call('DBSIZE'), 1);
  assert.equal(server.engine.databases[0]?.expiringCount, 1);
});

test('while the log takes nothing an expired key counts as absent and stays', () => {
  const server = new InProcessServer();
  const r = server.session();
  r.call('SET', 'k', 'v', 'PX', 10);
  Object.assign(server.journal, { refusal: 'disk full' });
  server.advance(1000);
  const records = server.journal.records.length;
  assert.equal(r.call('GET', 'k'), null);
  assert.equal(r.call('DBSIZE'), 1);
  assert.equal(server.journal.records.length, records);
  Object.assign(server.journal, { refusal: null });
  assert.equal(r.call('GET', 'k'), null);
  assert.equal(r.call('DBSIZE'), 0);
});

test('expiry goes with the key through RENAME, COPY and MOVE, and ends with SET', () => {
  const server = new InProcessServer();
  const r = server.session();
  r.call('SET', 'a', 'v', 'PX', 1000);
  r.call('RENAME', 'a', 'b');
  assert.equal(r.call('PTTL', 'b'), 1000);
  r.call('COPY', 'b', 'c');
  assert.equal(r.call('PTTL', 'c'), 1000);
  r.call('SET', 'c', 'w');
  assert.equal(r.call('PTTL', 'c'), -1);
  r.call('MOVE', 'b', 1);
  r.database = server.engine.databases[1] as typeof r.database;
  assert.equal(r.call('PTTL', 'b'), 1000);
  server.advance(2000);
  assert.equal(r.call('DBSIZE'), 0);
});
