/** Group policies where it is hard: what cannot be moved, what stands in front, what rests, large numbers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InProcessServer, type Value } from '../../helpers/in-process-server.ts';

const DEAD = 'dead';

/** A stream `s` with group `g`, this policy, and entries delivered to consumer `a`. */
function world(entries: number, ...policy: (string | number)[]) {
  const server = new InProcessServer();
  const session = server.session();
  const call = (...args: (string | number)[]) => session.call(...args);
  call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  call('XGROUP', 'SETPOLICY', 's', 'g', ...policy);
  const ids: string[] = [];
  for (let i = 0; i < entries; i++) ids.push(call('XADD', 's', '*', 'n', i) as string);
  const read = (...more: (string | number)[]) =>
    idsOf(call('XREADGROUP', 'GROUP', 'g', 'a', ...more, 'STREAMS', 's', '>'));
  if (entries > 0) assert.equal(read().length, entries);
  return { server, session, call, read, ids };
}

function idsOf(reply: Value | undefined): string[] {
  if (!Array.isArray(reply)) return [];
  const [[, entries]] = reply as [[string, [string][]]];
  return entries.map(([id]) => id);
}

function blockType(call: ReturnType<typeof world>['call']): void {
  call('DEL', DEAD);
  call('SET', DEAD, 'a string');
}

test('25,000 spent entries whose dead letter cannot be written do not hide the one that is due', () => {
  const { server, call, read, ids } = world(
    25_000,
    ...['ACKWAIT', 100, 'MAXDELIVERIES', 1, 'DEADLETTER', DEAD],
  );
  blockType(call);
  server.advance(1);
  const good = call('XADD', 's', '*', 'n', 'good') as string;
  assert.deepEqual(read(), [good]);
  call('XCLAIM', 's', 'g', 'a', 0, good, 'RETRYCOUNT', 0, 'JUSTID');
  server.advance(200);
  // In bounded turns: each goes on where the last one ended.
  let found: string[] = [];
  for (let turn = 0; turn < 5 && found.length === 0; turn++) found = read();
  assert.deepEqual(found, [good]);
  assert.equal(call('DEL', DEAD), 1);
  call('XACK', 's', 'g', good);
  for (let turn = 0; turn < 30; turn++) read();
  assert.equal(call('XLEN', DEAD), ids.length, 'they move when they can');
  assert.deepEqual(call('XPENDING', 's', 'g'), [0, null, null, null]);
});

test('a waiting reader finds what is due behind 25,000 spent entries without waiting for ACKWAIT', () => {
  const { server, session, call } = world(
    25_000,
    ...['ACKWAIT', 60_000, 'MAXDELIVERIES', 1, 'DEADLETTER', DEAD],
  );
  const good = call('XADD', 's', '*', 'n', 'good') as string;
  call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', 's', '>');
  call('XCLAIM', 's', 'g', 'a', 0, good, 'RETRYCOUNT', 0, 'JUSTID');
  server.advance(60_000);
  session.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'STREAMS', 's', '>');
  let ticks = 0;
  for (; session.blocked && ticks < 60; ticks++) {
    const wait = server.engine.nextDeadline() - server.clock.monotonic();
    assert.ok(wait <= 1, `the reader sleeps ${wait} ms`);
    server.advance(1);
  }
  assert.ok(ticks > 2, 'one turn does not write 25,000 dead letters');
  assert.deepEqual(idsOf(session.take()), [good]);
  assert.equal(call('XLEN', DEAD), 25_000);
});

test('one turn writes a bounded number of bytes of dead letters', () => {
  const { server, call, read } = world(0, 'ACKWAIT', 10, 'MAXDELIVERIES', 1, 'DEADLETTER', DEAD);
  for (let i = 0; i < 50; i++) call('XADD', 's', '*', 'n', 'x'.repeat(200_000));
  assert.equal(read().length, 50);
  server.advance(10);
  read();
  const moved = call('XLEN', DEAD) as number;
  assert.ok(moved >= 1 && moved <= 7, `${moved} letters of 200 kB`);
  for (let turn = 0; turn < 20; turn++) read();
  assert.equal(call('XLEN', DEAD), 50);
});

for (const mode of ['DEADLETTER', 'FATAL', 'FAIL']) {
  test(`XNACK ${mode} while the dead-letter key holds a string: it stays pending and moves when it can`, () => {
    const { server, call, read, ids } = world(
      2,
      ...['ACKWAIT', 1000, 'MAXDELIVERIES', mode === 'FAIL' ? 1 : 0, 'DEADLETTER', DEAD],
    );
    const [id, other] = ids;
    call('XACK', 's', 'g', other);
    blockType(call);
    assert.equal(call('XNACK', 's', 'g', mode, 'IDS', 1, id), 1);
    for (const again of [server.session(), server.replayed().session()]) {
      assert.deepEqual(again.call('XPENDING', 's', 'g', '-', '+', 9), [[id, '', -1, 1]]);
    }
    assert.deepEqual(read(), [], 'it is not delivered again');
    server.advance(5000);
    assert.deepEqual(read(), []);
    assert.deepEqual(read('CLAIM', 0), []);
    assert.deepEqual(call('XAUTOCLAIM', 's', 'g', 'a', 0, '-'), ['0-0', [], []]);
    call('DEL', DEAD);
    const replayed = server.replayed().session();
    for (const session of [server.session(), replayed]) {
      session.call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', 's', '>');
      assert.deepEqual(session.call('XPENDING', 's', 'g'), [0, null, null, null]);
      const [[, letter]] = session.call('XRANGE', DEAD, '-', '+') as [string, string[]][];
      assert.equal(letter[letter.indexOf('rivulet-dead-attempts') + 1], '1');
    }
  });
}

test('what waits for its dead letter is free for every consumer when the policy goes', () => {
  const { call, read, ids } = world(1, 'ACKWAIT', 1000, 'DEADLETTER', DEAD);
  blockType(call);
  call('XNACK', 's', 'g', 'DEADLETTER', 'IDS', 1, ids[0]);
  call('XGROUP', 'DELPOLICY', 's', 'g');
  assert.deepEqual(read('CLAIM', 1000), ids);
});

test('NODEADLETTER drops what waited for its dead letter', () => {
  const { call, read, ids } = world(1, 'ACKWAIT', 1000, 'DEADLETTER', DEAD);
  blockType(call);
  call('XNACK', 's', 'g', 'DEADLETTER', 'IDS', 1, ids[0]);
  call('XGROUP', 'SETPOLICY', 's', 'g', 'NODEADLETTER');
  assert.deepEqual(read(), []);
  assert.deepEqual(call('XPENDING', 's', 'g'), [0, null, null, null]);
});

test('a delayed entry is delayed for CLAIM, XAUTOCLAIM, XCLAIM and XPENDING IDLE, whatever their min-idle', () => {
  const { server, call, read, ids } = world(1, 'ACKWAIT', 10_000);
  const [id] = ids;
  call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, id, 'DELAY', 500);
  for (const minIdle of [0, 1, 100, 9999]) {
    assert.deepEqual(read('CLAIM', minIdle), [], `CLAIM ${minIdle}`);
    assert.deepEqual(call('XAUTOCLAIM', 's', 'g', 'b', minIdle, '-'), ['0-0', [], []]);
    if (minIdle === 0) continue;
    assert.deepEqual(call('XCLAIM', 's', 'g', 'b', minIdle, id), [], `XCLAIM ${minIdle}`);
    assert.deepEqual(call('XPENDING', 's', 'g', 'IDLE', minIdle, '-', '+', 9), []);
  }
  assert.deepEqual(call('XPENDING', 's', 'g', '-', '+', 9), [[id, '', -1, 1]]);
  server.advance(499);
  assert.deepEqual(read('CLAIM', 1), []);
  server.advance(1);
  assert.deepEqual(call('XPENDING', 's', 'g', 'IDLE', 100, '-', '+', 9), [[id, '', -1, 1]]);
  assert.deepEqual(read('CLAIM', 9999), [id], 'its rest is over, that is all that counts');
});

test('a reader with CLAIM sleeps until a rest ends, not until its own min-idle', () => {
  const { server, session, call, ids } = world(1, 'ACKWAIT', 10_000);
  call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, ids[0], 'DELAY', 500);
  session.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'CLAIM', 3000, 'STREAMS', 's', '>');
  server.advance(499);
  assert.ok(session.blocked);
  server.advance(1);
  assert.ok(Array.isArray(session.take()));
});

test('another ACKWAIT costs the same whatever number of entries rest, and they stay due when they were', () => {
  const { server, call, read, ids } = world(20_000, 'ACKWAIT', 1000);
  for (let i = 0; i < ids.length; i += 1000) {
    const some = ids.slice(i, i + 1000);
    call('XNACK', 's', 'g', 'FAIL', 'IDS', some.length, ...some, 'DELAY', 500);
  }
  const before = server.journal.appended;
  for (const ackWait of [50_000, 1, 7000]) {
    call('XGROUP', 'SETPOLICY', 's', 'g', 'ACKWAIT', ackWait);
  }
  assert.ok(server.journal.appended - before < 200);
  server.advance(499);
  assert.deepEqual(read('COUNT', 1), []);
  server.advance(1);
  assert.deepEqual(read('COUNT', 1), [ids[0]]);
});

test('a stream that was renamed to its own dead letter does not grow', () => {
  const { server, call, read, ids } = world(
    3,
    ...['ACKWAIT', 10, 'MAXDELIVERIES', 1, 'DEADLETTER', DEAD],
  );
  call('RENAME', 's', DEAD);
  server.advance(50);
  const again = () => call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', DEAD, '>');
  for (let i = 0; i < 5; i++) assert.equal(again(), null);
  assert.equal(call('XLEN', DEAD), 3);
  call('RENAME', DEAD, 's');
  assert.deepEqual(read(), []);
  assert.equal(call('XLEN', DEAD), ids.length, 'under another name they move');
});

test('a spent id given twice to XNACK FORCE is a dead letter and not pending', () => {
  for (const mode of ['FAIL', 'FATAL']) {
    const { call, ids } = world(1, 'ACKWAIT', 10, 'MAXDELIVERIES', 1, 'DEADLETTER', DEAD);
    call('XNACK', 's', 'g', mode, 'IDS', 3, ids[0], ids[0], ids[0], 'FORCE');
    assert.equal(call('XLEN', DEAD), 1);
    assert.deepEqual(call('XPENDING', 's', 'g'), [0, null, null, null], mode);
  }
});

test('a dead letter that a deadline makes reaches its waiting reader in the same tick', () => {
  const { server, session } = world(1, 'ACKWAIT', 100, 'MAXDELIVERIES', 1, 'DEADLETTER', DEAD);
  const letters = server.session();
  letters.call('XREAD', 'BLOCK', 0, 'STREAMS', DEAD, '$');
  session.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'STREAMS', 's', '>');
  server.advance(100);
  assert.equal(idsOf(letters.take()).length, 1);
});

test('XCLAIM with IDLE in a group with a policy wakes the reader for whom the entry is due now', () => {
  const { server, session, call, ids } = world(1, 'ACKWAIT', 60_000);
  const waiting = server.session();
  waiting.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'STREAMS', 's', '>');
  call('XCLAIM', 's', 'g', 'a', 0, ids[0], 'IDLE', 59_000, 'JUSTID');
  assert.ok(waiting.blocked);
  server.advance(999);
  assert.ok(waiting.blocked);
  server.advance(1);
  assert.deepEqual(idsOf(waiting.take()), ids);
  session.call('XCLAIM', 's', 'g', 'a', 0, ids[0], 'JUSTID');
  waiting.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'STREAMS', 's', '>');
  session.call('XCLAIM', 's', 'g', 'a', 0, ids[0], 'IDLE', 60_000, 'JUSTID');
  assert.deepEqual(idsOf(waiting.take()), ids);
});

test('XNACK with JITTER among many that rest takes the time of a search, not of a walk', () => {
  const { server, call, read, ids } = world(
    60_000,
    'ACKWAIT',
    1000,
    'BACKOFF',
    1e6,
    1e6,
    1,
    'JITTER',
  );
  assert.deepEqual(read(), []);
  const began = performance.now();
  for (let i = 0; i < ids.length; i += 2000) {
    const some = ids.slice(i, i + 2000);
    assert.equal(call('XNACK', 's', 'g', 'FAIL', 'IDS', some.length, ...some), some.length);
  }
  // A walk from both ends takes a minute; the bound is generous.
  assert.ok(performance.now() - began < 10_000);
  assert.ok(server.engine.databases[0]);
});
