/** Group policies: what is due comes again, what is given back rests, what is spent goes to the dead letter. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  InProcessServer,
  type InProcessSession,
  type Value,
} from '../../helpers/in-process-server.ts';

interface World {
  readonly server: InProcessServer;
  readonly session: InProcessSession;
  call(...args: (string | number)[]): Value | undefined;
  read(consumer?: string, ...more: (string | number)[]): Value | undefined;
}

/** A stream `s` with group `g` and this policy. */
function world(...policy: (string | number)[]): World {
  const server = new InProcessServer();
  const session = server.session();
  const call = (...args: (string | number)[]) => session.call(...args);
  call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  if (policy.length > 0) assert.equal(call('XGROUP', 'SETPOLICY', 's', 'g', ...policy), 'OK');
  const read = (consumer = 'c', ...more: (string | number)[]) =>
    call('XREADGROUP', 'GROUP', 'g', consumer, ...more, 'STREAMS', 's', '>');
  return { server, session, call, read };
}

function ids(reply: Value | undefined): string[] {
  if (!Array.isArray(reply)) return [];
  const [[, entries]] = reply as [[string, [string, string[]][]]];
  return entries.map(([id]) => id);
}

test('what was not acknowledged in time is delivered again, counted, before what is new', () => {
  const { server, call, read } = world('ACKWAIT', 1000);
  const first = call('XADD', 's', '*', 'f', '1') as string;
  assert.deepEqual(ids(read('a')), [first]);
  server.advance(999);
  const second = call('XADD', 's', '*', 'f', '2') as string;
  server.advance(1);
  assert.deepEqual(read('b'), [
    [
      's',
      [
        [first, ['f', '1']],
        [second, ['f', '2']],
      ],
    ],
  ]);
  assert.deepEqual(call('XPENDING', 's', 'g', '-', '+', 9), [
    [first, 'b', 0, 2],
    [second, 'b', 0, 1],
  ]);
  assert.equal(read('a'), null);
});

test('a waiting reader wakes when something becomes due, without any command', () => {
  const { server, call, read } = world('ACKWAIT', 5000);
  const id = call('XADD', 's', '*', 'f', 'v') as string;
  read('a');
  const waiting = server.session();
  assert.equal(
    waiting.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'STREAMS', 's', '>'),
    undefined,
  );
  assert.equal(server.engine.nextDeadline(), server.clock.monotonic() + 5000);
  server.advance(4999);
  assert.equal(waiting.take(), undefined);
  server.advance(1);
  assert.deepEqual(ids(waiting.take()), [id]);
});

test('XNACK with a delay: no consumer gets it before, and it comes then; the count stays', () => {
  const { server, call, read } = world('ACKWAIT', 1000);
  const id = call('XADD', 's', '*', 'f', 'v') as string;
  read('a');
  // Longer than the deadline, which must not bring it back earlier.
  assert.equal(call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, id, 'DELAY', 3000), 1);
  assert.deepEqual(call('XPENDING', 's', 'g', '-', '+', 9), [[id, '', -1, 1]]);
  assert.deepEqual((call('XGROUP', 'GETPOLICY', 's', 'g') as Value[]).slice(-2), ['resting', 1]);
  server.advance(2999);
  assert.equal(read('b'), null);
  server.advance(1);
  assert.deepEqual(ids(read('b')), [id]);
  assert.deepEqual(call('XPENDING', 's', 'g', '-', '+', 9), [[id, 'b', 0, 2]]);
});

test('the policy backs off by the number of deliveries; SILENT and DELAY 0 do not rest', () => {
  const { server, call, read } = world('BACKOFF', 100, 350, 2);
  const id = call('XADD', 's', '*', 'f', 'v') as string;
  for (const rest of [100, 200, 350, 350]) {
    assert.deepEqual(ids(read()), [id]);
    call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, id);
    server.advance(rest - 1);
    assert.equal(read(), null, `${rest}`);
    server.advance(1);
  }
  assert.deepEqual(ids(read()), [id]);
  call('XNACK', 's', 'g', 'SILENT', 'IDS', 1, id);
  assert.deepEqual(ids(read()), [id]);
  call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, id, 'DELAY', 0);
  assert.deepEqual(ids(read()), [id]);
});

test('with jitter the rest is between half of the backoff and all of it', () => {
  const { server, call, read } = world('BACKOFF', 1000, 1000, 1, 'JITTER');
  const rests = new Set<number>();
  for (let i = 0; i < 20; i++) {
    const id = call('XADD', 's', '*', 'f', 'v') as string;
    read();
    call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, id);
    let rest = 0;
    while (read() === null) {
      server.advance(1);
      rest++;
    }
    call('XACK', 's', 'g', id);
    assert.ok(rest >= 500 && rest <= 1000, `${rest}`);
    rests.add(rest);
  }
  assert.ok(rests.size > 10);
});

test('after the last delivery an entry moves to the dead letter with where from, why, how often', () => {
  const { server, call, read } = world('ACKWAIT', 10, 'MAXDELIVERIES', 2, 'DEADLETTER', 'dead');
  const id = call('XADD', 's', '*', 'f', 'v', 'h', '') as string;
  const other = call('XADD', 's', '*', 'f', 'w') as string;
  assert.deepEqual(ids(read()), [id, other]);
  call('XACK', 's', 'g', other);
  server.advance(10);
  assert.deepEqual(ids(read()), [id]);
  server.advance(10);
  assert.equal(read(), null);
  assert.deepEqual(call('XPENDING', 's', 'g'), [0, null, null, null]);
  const [[, fields]] = call('XRANGE', 'dead', '-', '+') as [[string, string[]]];
  assert.deepEqual(fields, [
    ...['f', 'v', 'h', ''],
    ...['rivulet-dead-topic', 's', 'rivulet-dead-group', 'g', 'rivulet-dead-id', id],
    ...['rivulet-dead-reason', 'delivered 2 times and never settled'],
    ...['rivulet-dead-attempts', '2', 'rivulet-dead-time', '2023-11-14T22:13:20.020Z'],
  ]);
  assert.equal(call('XLEN', 's'), 2, 'the stream itself keeps its entry');
});

test('giving back after the last delivery, FATAL and DEADLETTER move it at once, with their reason', () => {
  const { call, read } = world('MAXDELIVERIES', 1, 'DEADLETTER', 'dead', 'BACKOFF', 50, 50, 1);
  const given = [1, 2, 3].map((i) => call('XADD', 's', '*', 'f', i) as string);
  read();
  call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, given[0] as string, 'REASON', 'größe');
  call('XNACK', 's', 'g', 'FATAL', 'IDS', 1, given[1] as string, 'REASON', 'bad');
  assert.equal(call('XNACK', 's', 'g', 'DEADLETTER', 'IDS', 1, given[2] as string), 1);
  assert.equal(call('XNACK', 's', 'g', 'DEADLETTER', 'IDS', 1, given[2] as string), 0);
  const reasons = (call('XRANGE', 'dead', '-', '+') as [string, string[]][]).map(([, fields]) =>
    Buffer.from(fields[9] as string, 'latin1').toString(),
  );
  assert.deepEqual(reasons, ['größe', 'bad', 'given back by its consumer']);
  assert.deepEqual(call('XPENDING', 's', 'g'), [0, null, null, null]);
});

test('without a dead letter what is spent is dropped; without a limit nothing is ever spent', () => {
  const limited = world('ACKWAIT', 10, 'MAXDELIVERIES', 1);
  limited.call('XADD', 's', '*', 'f', 'v');
  limited.read();
  limited.server.advance(10);
  assert.equal(limited.read(), null);
  assert.equal((limited.call('XPENDING', 's', 'g') as Value[])[0], 0);
  const endless = world('ACKWAIT', 10);
  const id = endless.call('XADD', 's', '*', 'f', 'v') as string;
  for (let i = 0; i < 50; i++) {
    assert.deepEqual(ids(endless.read()), [id]);
    endless.server.advance(10);
  }
});

test('a dead letter that cannot be written leaves the entry pending, and it moves when it can', () => {
  const { server, call, read } = world('ACKWAIT', 10, 'MAXDELIVERIES', 1, 'DEADLETTER', 'dead');
  const id = call('XADD', 's', '*', 'f', 'v') as string;
  read();
  call('SET', 'dead', 'something else');
  server.advance(10);
  assert.equal(read(), null);
  assert.deepEqual((call('XPENDING', 's', 'g', '-', '+', 9) as Value[][])[0]?.[0], id);
  call('DEL', 'dead');
  assert.equal(read(), null);
  assert.equal(call('XLEN', 'dead'), 1);
  assert.equal((call('XPENDING', 's', 'g') as Value[])[0], 0);
});

test('poison between good entries: one read passes over it', () => {
  const { server, call, read } = world('ACKWAIT', 10, 'MAXDELIVERIES', 2, 'DEADLETTER', 'dead');
  const all = [1, 2, 3, 4].map((i) => call('XADD', 's', '*', 'f', i) as string);
  read('c', 'COUNT', 1);
  server.advance(10);
  assert.deepEqual(ids(read('c', 'COUNT', 3)), all.slice(0, 3));
  server.advance(10);
  assert.deepEqual(ids(read()), all.slice(1));
  assert.equal(call('XLEN', 'dead'), 1);
});

test('pending entries whose stream entry is gone leave the list instead of coming again', () => {
  const { server, call, read } = world('ACKWAIT', 10);
  const [gone, there] = [1, 2].map((i) => call('XADD', 's', '*', 'f', i) as string);
  read();
  call('XDEL', 's', gone as string);
  server.advance(10);
  assert.deepEqual(ids(read()), [there]);
  assert.equal((call('XPENDING', 's', 'g') as Value[])[0], 1);
});

test('CLAIM in a group with a policy: idle and count are returned, the limit holds', () => {
  const { server, call, read } = world('ACKWAIT', 1000, 'MAXDELIVERIES', 2, 'DEADLETTER', 'dead');
  const id = call('XADD', 's', '*', 'f', 'v') as string;
  read('a');
  server.advance(500);
  assert.deepEqual(read('b', 'CLAIM', 500), [['s', [[id, ['f', 'v'], 500, 1]]]]);
  server.advance(500);
  assert.equal(read('b', 'CLAIM', 500), null);
  assert.equal(call('XLEN', 'dead'), 1);
});

test('XCLAIM IDLE 0 JUSTID extends; another deadline keeps what is delayed due when it was', () => {
  const { server, call, read } = world('ACKWAIT', 1000);
  const [held, resting] = [1, 2].map((i) => call('XADD', 's', '*', 'f', i) as [string, string]);
  read('a');
  call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, resting as never, 'DELAY', 1500);
  server.advance(900);
  call('XCLAIM', 's', 'g', 'a', 0, held as never, 'IDLE', 0, 'JUSTID');
  server.advance(500);
  assert.equal(read('b'), null);
  call('XGROUP', 'SETPOLICY', 's', 'g', 'ACKWAIT', 5000);
  server.advance(99);
  assert.equal(read('b'), null);
  server.advance(1);
  assert.deepEqual(ids(read('b')), [resting]);
});

test('a policy is set in parts, shown, removed; what is delayed is then free for every consumer', () => {
  const { call, read, session } = world();
  assert.equal(call('XGROUP', 'GETPOLICY', 's', 'g'), null);
  call('XGROUP', 'SETPOLICY', 's', 'g', 'ACKWAIT', 7, 'BACKOFF', 1, 2, '1.5', 'JITTER');
  call('XGROUP', 'SETPOLICY', 's', 'g', 'DEADLETTER', 'dead', 'MAXDELIVERIES', 3);
  const expected = [
    ...['ackwait', 7, 'maxdeliveries', 3, 'backoff-min', 1, 'backoff-max', 2],
    ...['backoff-factor', '1.5', 'backoff-jitter', 1, 'deadletter', 'dead', 'resting', 0],
  ];
  assert.deepEqual(call('XGROUP', 'GETPOLICY', 's', 'g'), expected);
  session.reply.protocol = 3;
  assert.ok(call('XGROUP', 'GETPOLICY', 's', 'g') instanceof Map);
  session.reply.protocol = 2;
  const id = call('XADD', 's', '*', 'f', 'v') as string;
  read();
  call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, id, 'DELAY', 1e6);
  assert.equal(call('XGROUP', 'DELPOLICY', 's', 'g'), 1);
  assert.equal(call('XGROUP', 'DELPOLICY', 's', 'g'), 0);
  assert.equal(read(), null, 'as in Redis, a plain read does not claim');
  assert.deepEqual(ids(read('c', 'CLAIM', 1e9)), [id], 'released entries are idle always');
});

test('COPY and DUMP take the policy along', () => {
  const { call } = world('ACKWAIT', 7, 'DEADLETTER', 'dead');
  call('COPY', 's', 't');
  assert.deepEqual(call('XGROUP', 'GETPOLICY', 't', 'g'), call('XGROUP', 'GETPOLICY', 's', 'g'));
});

test('bad policies and their commands in groups without one are refused', () => {
  const { call } = world();
  call('SET', 'string', '1');
  const refused = (...args: (string | number)[]) => {
    const reply = call(...args);
    assert.ok(reply instanceof Error, args.join(' '));
    return reply.message;
  };
  const set = (...policy: (string | number)[]) =>
    refused('XGROUP', 'SETPOLICY', 's', 'g', ...policy);
  assert.match(set('ACKWAIT', 0), /between 1 and/);
  assert.match(set('ACKWAIT', 'x'), /not an integer/);
  assert.match(set('ACKWAIT'), /XGROUP HELP/);
  assert.match(set('MAXDELIVERIES', -1), /between 0 and/);
  assert.match(set('BACKOFF', 5, 1, 2), /between 5 and/);
  assert.match(set('BACKOFF', 5, 6, '0.5'), /factor/);
  assert.match(set('BACKOFF', 5, 6, '1e3'), /factor/);
  assert.match(set('DEADLETTER', 's'), /another stream/);
  assert.match(set('DEADLETTER', 'string'), /^WRONGTYPE/);
  assert.match(refused('XGROUP', 'SETPOLICY', 's', 'none'), /^NOGROUP/);
  assert.match(refused('XGROUP', 'GETPOLICY', 'none', 'g'), /^NOGROUP/);
  assert.match(refused('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '1-1', 'DELAY', 5), /SETPOLICY/);
  assert.match(refused('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '1-1', 'REASON', 'x'), /SETPOLICY/);
  assert.match(refused('XNACK', 's', 'g', 'DEADLETTER', 'IDS', 1, '1-1'), /SETPOLICY/);
  assert.match(refused('XNACK', 's', 'g', 'OTHER', 'IDS', 1, '1-1'), /must be SILENT/);
});

test('with HANDOVER a reader receives once the id of a pending entry that is gone, also while it waits', () => {
  const { server, session, call } = world('ACKWAIT', 1000);
  const [gone, kept] = [call('XADD', 's', '*', 'f', '1'), call('XADD', 's', '*', 'f', '2')];
  const options = ['CLAIM', 1000, 'HANDOVER', 0, 'STREAMS', 's', '>'];
  const read = (...more: (string | number)[]) =>
    session.call('XREADGROUP', 'GROUP', 'g', 'c', ...more, ...options);
  assert.equal((read() as [string, unknown[]][])[0]?.[1].length, 2);
  assert.equal(call('XDEL', 's', gone as string), 1);
  server.advance(1000);
  assert.deepEqual(read('COUNT', 1), [
    [
      's',
      [
        [gone, null, 0, 0, 4],
        [kept, ['f', '2'], 1000, 0, 2],
      ],
    ],
  ]);
  assert.equal(read(), null);
  assert.equal(call('XTRIM', 's', 'MAXLEN', 0), 1);
  assert.equal(read('BLOCK', 60_000), undefined);
  server.advance(1000);
  assert.deepEqual(session.take(), [['s', [[kept, null, 0, 0, 4]]]]);
  assert.deepEqual(call('XPENDING', 's', 'g'), [0, null, null, null]);
});
