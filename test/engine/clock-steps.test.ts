/** The clock is set by an hour: what is a duration goes on as if nothing had happened. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Checkpointer } from '../../src/engine/checkpoint/checkpointer.ts';
import { restoreCheckpoint } from '../../src/engine/checkpoint/restore.ts';
import { RecordType } from '../../src/engine/log/records.ts';
import { Replay } from '../../src/engine/log/replay.ts';
import { streamReplayHandlers } from '../../src/engine/streams/stream-replay.ts';
import { InProcessServer, type Value } from '../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
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

test('ACKWAIT, idle times and delays count what passed, not what the clock was set to', () => {
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

test('XADD DELAY waits as long as it says, and XSCHEDULE LIST shows a date of the present clock', () => {
  for (const step of STEPS) {
    const server = new InProcessServer();
    const session = server.session();
    session.call('XADD', 's', 'DELAY', 1000, '*', 'f', 'v');
    server.advance(400);
    stepClock(server, step);
    assert.equal(session.call('XLEN', 's'), 0, `added too early, step ${step}`);
    const list = session.call('XSCHEDULE', 'LIST', 's') as [string, number, string[]][];
    assert.equal(list[0]?.[1], server.clock.now() + 600, `step ${step}`);
    assert.equal(server.engine.nextDeadline(), server.clock.monotonic() + 600, `step ${step}`);
    server.advance(599);
    assert.equal(session.call('XLEN', 's'), 0);
    server.advance(1);
    assert.equal(session.call('XLEN', 's'), 1, `added too late, step ${step}`);
  }
});

test('delays and dates of one key come each by its own clock', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 's', 'DELAY', 1000, '*', 'f', 'delay');
  session.call('XADD', 's', 'AT', server.clock.now() + 2000, '*', 'f', 'date');
  const order = () =>
    (session.call('XSCHEDULE', 'LIST', 's') as [string, number, string[]][]).map(
      ([, , fields]) => fields[1],
    );
  assert.deepEqual(order(), ['delay', 'date']);
  stepClock(server, 1500);
  assert.deepEqual(order(), ['date', 'delay']);
  server.advance(500);
  assert.deepEqual(order(), ['delay']);
  server.advance(500);
  assert.equal(session.call('XLEN', 's'), 2);
});

test('what a key of another type holds up is tried again after a second, whatever the clock is set to', () => {
  for (const step of STEPS) {
    const server = new InProcessServer();
    const session = server.session();
    session.call('XADD', 's', 'DELAY', 100, '*', 'f', 'v');
    session.call('SET', 's', 'text');
    server.advance(100);
    stepClock(server, step);
    assert.equal(server.engine.nextDeadline(), server.clock.monotonic() + 1000, `step ${step}`);
  }
});

test('an idempotent id is known for its window, whatever the clock is set to', () => {
  for (const step of STEPS) {
    const server = new InProcessServer();
    const session = server.session();
    const add = () => session.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v');
    session.call('XADD', 's', '*', 'f', 'v');
    session.call('XCFGSET', 's', 'IDMP-DURATION', 10);
    const first = add();
    server.advance(6000);
    stepClock(server, step);
    assert.equal(add(), first, `forgotten too early, step ${step}`);
    server.advance(3999);
    assert.equal(add(), first, `forgotten too early, step ${step}`);
    server.advance(1);
    const second = add();
    assert.notEqual(second, first, `known for too long, step ${step}`);
    // The clock may be behind the stream's last id now: the id then does not tell the time.
    server.advance(9999);
    assert.equal(add(), second);
    server.advance(1);
    assert.notEqual(add(), second, `known for too long, step ${step}`);
  }
});

test('after a restart delays and windows go on from where they were', async () => {
  for (const step of STEPS) {
    const server = new InProcessServer();
    const session = server.session();
    session.call('XADD', 's', '*', 'f', 'v');
    stepClock(server, step);
    const first = session.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v');
    session.call('XADD', 'later', 'DELAY', 100_000, '*', 'f', 'v');
    server.advance(60_000);
    for (const again of [server.replayed(), await stored(server)]) {
      const after = again.session();
      again.advance(39_999);
      const add = () => after.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v');
      assert.equal(add(), first, `step ${step}`);
      assert.equal(after.call('XLEN', 'later'), 0);
      again.advance(1);
      assert.notEqual(add(), first, `step ${step}`);
      assert.equal(after.call('XLEN', 'later'), 1, `step ${step}`);
    }
  }
});

test('a clock that was set back while no process ran holds nothing for an hour', async () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v');
  session.call('XADD', 'later', 'DELAY', 1000, '*', 'f', 'v');
  const restarted = [new InProcessServer(server.clock.now() - HOUR)];
  const replay = new Replay((restarted[0] as InProcessServer).engine, streamReplayHandlers);
  for (const { type, body } of server.journal.records) replay.apply(type, body);
  restarted.push(await stored(server, server.clock.now() - HOUR));
  for (const again of restarted) {
    again.engine.resumeDurations();
    again.advance(999);
    const after = again.session();
    assert.equal(after.call('XLEN', 'later'), 0);
    again.advance(1);
    assert.equal(after.call('XLEN', 'later'), 1);
    again.advance(99_000);
    after.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v');
    assert.equal(after.call('XLEN', 's'), 2);
    // The next process knows what this one found out.
    const clocks = again.journal.records.filter(({ type }) => type === RecordType.CLOCK);
    assert.deepEqual(
      clocks.map(({ body }) => body.readDoubleLE()),
      [-HOUR],
    );
  }
});

test('a dump carries the age of idempotent ids to a server of another clock', () => {
  for (const step of STEPS) {
    const server = new InProcessServer();
    const session = server.session();
    stepClock(server, step);
    const first = session.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v');
    server.advance(60_000);
    const dump = Buffer.from(session.call('DUMP', 's') as string, 'latin1');
    const other = new InProcessServer(server.clock.now());
    const there = other.session();
    assert.equal(there.call('RESTORE', 's', 0, dump), 'OK');
    other.advance(39_999);
    assert.equal(there.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v'), first, `step ${step}`);
    other.advance(1);
    assert.notEqual(there.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v'), first);
  }
});

/** Another server with what a checkpoint of this one keeps. */
async function stored(server: InProcessServer, now = server.clock.now()): Promise<InProcessServer> {
  const store = new MemoryCheckpointStore();
  const source = new InProcessServer(server.clock.now());
  const writer = checkpointerOf(source, store);
  const replay = new Replay(source.engine, streamReplayHandlers);
  for (const { type, body } of server.journal.records) replay.apply(type, body);
  await writer.write();
  const copy = new InProcessServer(now);
  restoreCheckpoint(copy.engine, checkpointerOf(copy, store));
  return copy;
}

function checkpointerOf(server: InProcessServer, store: MemoryCheckpointStore): Checkpointer {
  return server.engine.attachCheckpoint({
    checkpoint: new MemoryCheckpoint(store),
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
}

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
