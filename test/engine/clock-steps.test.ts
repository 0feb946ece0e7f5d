/** The clock is set by an hour: what is a duration goes on as if nothing had happened. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InProcessServer, type Value } from '../helpers/in-process-server.ts';
import { runServer } from '../server/running-server.ts';

const HOUR = 3_600_000;
const STEPS = [HOUR, -HOUR];

function stepClock(server: InProcessServer, by: number): void {
  server.clock.setNow(server.clock.now() + by);
  server.engine.tick();
}

function withGroup(...policy: (string | number)[]) {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  if (policy.length > 0) session.call('XGROUP', 'SETPOLICY', 's', 'g', ...policy);
  const id = session.call('XADD', 's', '*', 'f', 'v') as string;
  const read = () => session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  return { server, session, id, read };
}

test('a reader that waits 500 ms waits 500 ms, whatever the clock is set to meanwhile', () => {
  for (const step of STEPS) {
    const server = new InProcessServer();
    const session = server.session();
    session.call('XREAD', 'BLOCK', 500, 'STREAMS', 's', '$');
    stepClock(server, step);
    server.advance(499);
    assert.ok(session.blocked, `step ${step}`);
    server.advance(1);
    assert.equal(session.take(), null, `step ${step}`);
  }
});

test('nextDeadline says when a wait ends, not which date that was to be', () => {
  const server = new InProcessServer();
  server.session().call('XREAD', 'BLOCK', 500, 'STREAMS', 's', '$');
  stepClock(server, -HOUR);
  assert.equal(server.engine.nextDeadline(), server.clock.monotonic() + 500);
});

test('ACKWAIT, idle times and rests count what passed, not what the clock was set to', () => {
  for (const step of STEPS) {
    const { server, session, id, read } = withGroup('ACKWAIT', 1000);
    assert.notEqual(read(), null);
    server.advance(400);
    stepClock(server, step);
    assert.equal(read(), null, `due too early, step ${step}`);
    assert.deepEqual(session.call('XPENDING', 's', 'g', '-', '+', 9), [[id, 'c', 400, 1]]);
    const [consumer] = session.call('XINFO', 'CONSUMERS', 's', 'g') as Value[][];
    assert.equal(consumer[7], 400, 'inactive');
    server.advance(600);
    assert.notEqual(read(), null, `due too late, step ${step}`);
    session.call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, id, 'DELAY', 300);
    stepClock(server, -step);
    server.advance(299);
    assert.equal(read(), null, 'it rests');
    server.advance(1);
    assert.notEqual(read(), null, 'its rest is over');
  }
});

test('a reader that waits for what becomes due is woken in time', () => {
  for (const step of STEPS) {
    const { server, session, read } = withGroup('ACKWAIT', 1000);
    read();
    session.call('XREADGROUP', 'GROUP', 'g', 'd', 'BLOCK', 0, 'STREAMS', 's', '>');
    stepClock(server, step);
    server.advance(999);
    assert.ok(session.blocked);
    server.advance(1);
    assert.ok(Array.isArray(session.take()), `step ${step}`);
  }
});

test('after a restart idle times are what they were, and dates are by the present clock', () => {
  for (const step of STEPS) {
    const { server, session, id, read } = withGroup();
    stepClock(server, step);
    read();
    server.advance(700);
    const pending = session.call('XPENDING', 's', 'g', '-', '+', 9);
    assert.deepEqual(pending, [[id, 'c', 700, 1]]);
    const again = server.replayed();
    assert.deepEqual(again.session().call('XPENDING', 's', 'g', '-', '+', 9), pending);
    const full = again.session(3).call('XINFO', 'STREAM', 's', 'FULL') as Map<string, Value>;
    const [group] = full.get('groups') as Map<string, Value>[];
    const [[, , time]] = group.get('pending') as [string, string, number][];
    assert.equal(time, again.clock.now() - 700, `step ${step}`);
  }
});

test('XCLAIM TIME is a date of the present clock', () => {
  for (const step of STEPS) {
    const { server, session, id, read } = withGroup();
    read();
    stepClock(server, step);
    session.call('XCLAIM', 's', 'g', 'd', 0, id, 'TIME', server.clock.now() - 250);
    assert.deepEqual(session.call('XPENDING', 's', 'g', '-', '+', 9), [[id, 'd', 250, 2]]);
  }
});

test('what is a date goes by the clock: expiry and XADD AT', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('SET', 'a', '1', 'PX', 1000);
  session.call('XADD', 's', 'AT', server.clock.now() + 1000, '*', 'f', 'v');
  stepClock(server, HOUR);
  assert.equal(session.call('GET', 'a'), null);
  assert.equal(session.call('XLEN', 's'), 1);
});

test('a server answers a blocked reader and ends a CLIENT PAUSE though its clock is set back', async (t) => {
  await using running = await runServer();
  await using one = await running.connect();
  await using two = await running.connect();
  const waiting = one.call('XREAD', 'BLOCK', '300', 'STREAMS', 's', '$');
  await two.call('PING');
  const { now } = Date;
  t.mock.method(Date, 'now', () => now() - HOUR);
  assert.equal((await waiting).toString(), '*-1\r\n');
  await one.call('CLIENT', 'PAUSE', '300', 'WRITE');
  t.mock.restoreAll();
  t.mock.method(Date, 'now', () => now() - 2 * HOUR);
  assert.equal((await two.call('SET', 'a', '1')).toString(), '+OK\r\n');
});
