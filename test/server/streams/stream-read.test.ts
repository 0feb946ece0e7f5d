/**
 * Reading: XRANGE, XREAD and XREADGROUP, and how blocked readers are woken, served and failed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  InProcessServer,
  type InProcessSession,
  type Value,
} from '../../helpers/in-process-server.ts';

const NOW = 1_700_000_000_000;
const MAX = '18446744073709551615';

function begin(): { server: InProcessServer; r: InProcessSession } {
  const server = new InProcessServer(NOW);
  return { server, r: server.session() };
}

function fails(reply: Value | undefined, text: string): void {
  assert.ok(reply instanceof Error, `expected an error, got ${JSON.stringify(reply)}`);
  assert.equal(reply.message, text);
}

function entry(id: string, value: string | number): Value {
  return [id, ['f', String(value)]];
}

function remove(r: InProcessSession, key: string): void {
  const found = r.database.findKey(Buffer.from(key));
  if (found !== undefined) r.database.remove(found);
  r.engine.serveBlocked();
}

function setString(r: InProcessSession, key: string): void {
  r.database.set(Buffer.from(key), { type: 'string', bytes: Buffer.from('v') }, 0);
  r.engine.serveBlocked();
}

test('XRANGE and XREVRANGE select by ids, open ends and number', () => {
  const { r } = begin();
  for (let i = 1; i <= 5; i++) r.call('XADD', 's', `${i}-${i}`, 'f', i);
  const ids = (...args: (string | number)[]) =>
    (r.call(...(args as [string])) as [string][]).map(([id]) => id);
  assert.deepEqual(ids('XRANGE', 's', '-', '+'), ['1-1', '2-2', '3-3', '4-4', '5-5']);
  assert.deepEqual(ids('XRANGE', 's', 2, 3), ['2-2', '3-3']);
  assert.deepEqual(ids('XRANGE', 's', '2-3', 3), ['3-3']);
  assert.deepEqual(ids('XRANGE', 's', '(2-2', '(5-5'), ['3-3', '4-4']);
  assert.deepEqual(ids('XRANGE', 's', '+', '-'), []);
  assert.deepEqual(ids('XREVRANGE', 's', '+', '-', 'COUNT', 2), ['5-5', '4-4']);
  assert.deepEqual(ids('XREVRANGE', 's', 4, '(2-2'), ['4-4', '3-3']);
  assert.deepEqual(ids('XRANGE', 's', '-', '+', 'COUNT', 9, 'COUNT', 1), ['1-1']);
  assert.equal(r.call('XRANGE', 's', '-', '+', 'COUNT', 0), null);
  assert.equal(r.call('XRANGE', 's', '-', '+', 'COUNT', -3), null);
  assert.deepEqual(r.call('XRANGE', 'none', '-', '+', 'COUNT', 0), []);
});

test('XRANGE says what is wrong with its arguments', () => {
  const { r } = begin();
  r.call('XADD', 's', '1-1', 'f', 'v');
  const invalid = 'ERR Invalid stream ID specified as stream command argument';
  fails(r.call('XRANGE', 's', 'x', '+'), invalid);
  fails(r.call('XRANGE', 's', '(-', '+'), invalid);
  fails(r.call('XRANGE', 's', '-', '(+'), invalid);
  fails(r.call('XRANGE', 's', '(', '+'), invalid);
  fails(r.call('XRANGE', 's', `(${MAX}-${MAX}`, '+'), 'ERR invalid start ID for the interval');
  fails(r.call('XRANGE', 's', '-', '(0-0'), 'ERR invalid end ID for the interval');
  fails(r.call('XRANGE', 's', '-', '+', 'COUNT'), 'ERR syntax error');
  fails(r.call('XRANGE', 's', '-', '+', 'FOO', 1), 'ERR syntax error');
  fails(
    r.call('XRANGE', 's', '-', '+', 'COUNT', 'x'),
    'ERR value is not an integer or out of range',
  );
});

test('XREAD returns what comes after an id, of every stream that has any', () => {
  const { r } = begin();
  for (let i = 1; i <= 3; i++) r.call('XADD', 'a', `${i}-0`, 'f', i);
  r.call('XADD', 'b', '1-0', 'f', 'b');
  assert.deepEqual(r.call('XREAD', 'STREAMS', 'a', 'none', 'b', '1', '0', '1'), [
    ['a', [entry('2-0', 2), entry('3-0', 3)]],
  ]);
  assert.deepEqual(r.call('XREAD', 'COUNT', 1, 'STREAMS', 'a', 'b', '0', '0'), [
    ['a', [entry('1-0', 1)]],
    ['b', [entry('1-0', 'b')]],
  ]);
  assert.equal(r.call('XREAD', 'STREAMS', 'a', '$'), null);
  assert.deepEqual(r.call('XREAD', 'COUNT', 5, 'STREAMS', 'a', 'none', '+', '+'), [
    ['a', [entry('3-0', 3)]],
  ]);
  r.call('XDEL', 'a', '3-0');
  assert.deepEqual(r.call('XREAD', 'STREAMS', 'a', '+'), [['a', [entry('2-0', 2)]]]);
  assert.equal(r.call('XREAD', 'STREAMS', 'a', '2-0'), null);
  assert.equal(r.call('XREAD', 'STREAMS', 'a', `${MAX}-${MAX}`), null);
});

test('MAXCOUNT bounds all streams together, MAXSIZE the bytes of the reply', () => {
  const { r } = begin();
  for (const key of ['a', 'b', 'c']) {
    for (let i = 1; i <= 3; i++) r.call('XADD', key, `${i}-0`, 'f', 'x'.repeat(100));
    r.call('XGROUP', 'CREATE', key, 'g', 0);
  }
  const sizes = (...args: (string | number)[]) =>
    (r.call('XREAD', ...args, 'STREAMS', 'a', 'b', 'c', 0, 0, 0) as [string, Value[]][]).map(
      ([key, entries]) => `${key}${entries.length}`,
    );
  assert.deepEqual(sizes('COUNT', 2, 'MAXCOUNT', 3), ['a2', 'b1']);
  assert.deepEqual(sizes('MAXCOUNT', 3), ['a3']);
  assert.deepEqual(sizes('MAXCOUNT', 100), ['a3', 'b3', 'c3']);
  assert.deepEqual(sizes('MAXSIZE', 1), ['a1']);
  assert.deepEqual(sizes('MAXSIZE', 300), ['a3']);
  assert.deepEqual(sizes('COUNT', 1, 'MAXSIZE', 200), ['a1', 'b1']);
  const read = (...args: (string | number)[]) =>
    r.call('XREADGROUP', 'GROUP', 'g', 'c', ...args, 'STREAMS', 'a', 'b', 'c', '>', '>', '>');
  read('MAXCOUNT', 4);
  assert.equal((r.call('XPENDING', 'a', 'g') as Value[])[0], 3);
  assert.equal((r.call('XPENDING', 'b', 'g') as Value[])[0], 1);
  assert.equal((r.call('XPENDING', 'c', 'g') as Value[])[0], 0);
  read('MAXSIZE', 1);
  assert.equal((r.call('XPENDING', 'b', 'g') as Value[])[0], 2);
  const history = r.call('XREADGROUP', 'GROUP', 'g', 'c', 'MAXSIZE', 1, 'STREAMS', 'a', 0);
  assert.equal((history as [string, Value[]][])[0][1].length, 1);
  const claimed = r.call(
    ...['XREADGROUP', 'GROUP', 'g', 'd', 'CLAIM', 0],
    ...['MAXSIZE', 200, 'STREAMS', 'a', '>'],
  );
  assert.equal((claimed as [string, Value[]][])[0][1].length, 2);
});

test('XREAD and XREADGROUP say what is wrong with their arguments', () => {
  const { r } = begin();
  r.call('XADD', 's', '1-1', 'f', 'v');
  r.call('XGROUP', 'CREATE', 's', 'g', 0);
  const read = (...args: (string | number)[]) => r.call('XREAD', ...args);
  const group = (...args: (string | number)[]) => r.call('XREADGROUP', 'GROUP', 'g', 'c', ...args);
  const only = (option: string) =>
    `ERR The ${option} option is only supported by XREADGROUP. You called XREAD instead.`;
  fails(read('GROUP', 'g', 'c', 'STREAMS', 's', '>'), only('GROUP'));
  fails(read('NOACK', 'STREAMS', 's', 0), only('NOACK'));
  fails(read('CLAIM', 1, 'STREAMS', 's', 0), only('CLAIM'));
  fails(
    read('STREAMS', 's', 't', 0),
    "ERR Unbalanced 'xread' list of streams: for each stream key an ID, '+', or '$' must be specified.",
  );
  fails(
    group('STREAMS', 's', '>', 't'),
    "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.",
  );
  fails(read('COUNT', 1, 's', 0), 'ERR syntax error');
  fails(group('FOO', 1, 'STREAMS', 's', '>'), 'ERR syntax error');
  fails(
    r.call('XREADGROUP', 'COUNT', 1, 'BLOCK', 1, 'STREAMS', 's', '>'),
    'ERR Missing GROUP option for XREADGROUP',
  );
  fails(read('BLOCK', 'x', 'STREAMS', 's', 0), 'ERR timeout is not an integer or out of range');
  fails(read('BLOCK', -1, 'STREAMS', 's', 0), 'ERR timeout is negative');
  fails(read('COUNT', 'x', 'STREAMS', 's', 0), 'ERR value is not an integer or out of range');
  fails(
    group('CLAIM', 'x', 'STREAMS', 's', '>'),
    'ERR min-idle-time is not an integer or out of range',
  );
  fails(group('CLAIM', -1, 'STREAMS', 's', '>'), 'ERR min-idle-time must be a positive integer');
  fails(read('MAXCOUNT', 0, 'STREAMS', 's', 0), 'ERR MAXCOUNT must be a positive integer');
  fails(read('MAXSIZE', 0, 'STREAMS', 's', 0), 'ERR MAXSIZE must be a positive integer');
  fails(
    read('COUNT', 5, 'MAXCOUNT', 4, 'STREAMS', 's', 0),
    'ERR MAXCOUNT must be greater than or equal to COUNT',
  );
  fails(
    read('STREAMS', 's', '>'),
    'ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.',
  );
  for (const id of ['$', '+']) {
    fails(
      group('STREAMS', 's', id),
      `ERR The ${id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The ${id} ID would just return an empty result set.`,
    );
  }
  fails(read('STREAMS', 's', '-'), 'ERR Invalid stream ID specified as stream command argument');
});

test('a blocked XREAD gets what is added after it came, under the id that $ had then', () => {
  const { server, r } = begin();
  r.call('XADD', 's', '1-0', 'f', 'old');
  const reader = server.session();
  assert.equal(
    reader.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', 's', 'none', '$', '$', '$'),
    undefined,
  );
  assert.ok(reader.blocked);
  r.run('XADD', 's', '2-0', 'f', 'a');
  r.run('XADD', 's', '3-0', 'f', 'b');
  server.engine.serveBlocked();
  const news = [entry('2-0', 'a'), entry('3-0', 'b')];
  assert.deepEqual(reader.take(), [
    ['s', news],
    ['s', news],
  ]);
  assert.ok(!reader.blocked);
});

test('XREAD + waits for the first entry of an empty stream', () => {
  const { server, r } = begin();
  const reader = server.session();
  reader.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '+');
  r.call('XADD', 's', '1-0', 'f', 'v');
  assert.deepEqual(reader.take(), [['s', [entry('1-0', 'v')]]]);
});

test('all blocked XREADs are served, of XREADGROUPs the first takes everything', () => {
  const { server, r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const readers = [server.session(), server.session()];
  const consumers = [server.session(), server.session(), server.session()];
  for (const session of readers) session.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$');
  for (const session of consumers) {
    session.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>');
  }
  r.run('XADD', 's', '1-0', 'f', 'v');
  r.run('XADD', 's', '2-0', 'f', 'v');
  server.engine.serveBlocked();
  const both = [['s', [entry('1-0', 'v'), entry('2-0', 'v')]]];
  for (const session of readers) assert.deepEqual(session.take(), both);
  assert.deepEqual(consumers[0].take(), both);
  assert.equal(consumers[1].take(), undefined);
  r.call('XADD', 's', '3-0', 'f', 'v');
  assert.deepEqual(consumers[1].take(), [['s', [entry('3-0', 'v')]]]);
  assert.equal(consumers[2].take(), undefined);
  assert.ok(consumers[2].blocked);
});

test('COUNT leaves the rest to the next in line', () => {
  const { server, r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const consumers = [server.session(), server.session()];
  for (const session of consumers) {
    session.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 1, 'BLOCK', 0, 'STREAMS', 's', '>');
  }
  r.run('XADD', 's', '1-0', 'f', 'v');
  r.run('XADD', 's', '2-0', 'f', 'v');
  server.engine.serveBlocked();
  assert.deepEqual(consumers[0].take(), [['s', [entry('1-0', 'v')]]]);
  assert.deepEqual(consumers[1].take(), [['s', [entry('2-0', 'v')]]]);
});

test('the deadline is kept however often the command is executed again', () => {
  const { server, r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const first = server.session();
  const second = server.session();
  first.call('XREADGROUP', 'GROUP', 'g', 'a', 'BLOCK', 0, 'STREAMS', 's', '>');
  second.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 1000, 'STREAMS', 's', '>');
  server.advance(600);
  r.call('XADD', 's', '*', 'f', 'v');
  assert.ok(!first.blocked);
  assert.ok(second.blocked);
  server.advance(399);
  assert.ok(second.blocked);
  server.advance(1);
  assert.equal(second.take(), null);
});

test('entries that are gone again do not end a wait', () => {
  const { server, r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const reader = server.session();
  reader.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 10, 'STREAMS', 's', '>');
  r.run('XADD', 's', '1-0', 'f', 'v');
  r.run('XDEL', 's', '1-0');
  server.engine.serveBlocked();
  assert.ok(reader.blocked);
  server.advance(10);
  assert.equal(reader.take(), null);
});

test('XREADGROUP fails when its key goes, changes its type or loses the group', () => {
  const noGroup = "NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
  const wrongType = 'WRONGTYPE Operation against a key holding the wrong kind of value';
  const ends: [string, (r: InProcessSession) => void][] = [
    [noGroup, (r) => remove(r, 's')],
    [noGroup, (r) => r.engine.flushAll()],
    [noGroup, (r) => r.call('XGROUP', 'DESTROY', 's', 'g')],
    [wrongType, (r) => setString(r, 's')],
    [
      noGroup,
      (r) => {
        r.call('XADD', 'other', '1-0', 'f', 'v');
        const other = r.database.findKey(Buffer.from('other'));
        if (other !== undefined) r.database.rename(other, Buffer.from('s'));
      },
    ],
  ];
  for (const [text, end] of ends) {
    const { server, r } = begin();
    r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
    const reader = server.session();
    reader.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>');
    assert.ok(reader.blocked);
    end(r);
    server.engine.serveBlocked();
    fails(reader.take(), text);
    assert.ok(!reader.blocked);
  }
});

test('a stream renamed onto the key serves a reader of its group', () => {
  const { server, r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const reader = server.session();
  reader.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>');
  r.call('XGROUP', 'CREATE', 't', 'g', '$', 'MKSTREAM');
  r.call('XADD', 't', '100-0', 'f', 'v');
  const t = r.database.findKey(Buffer.from('t'));
  if (t !== undefined) r.database.rename(t, Buffer.from('s'));
  server.engine.serveBlocked();
  assert.deepEqual(reader.take(), [['s', [entry('100-0', 'v')]]]);
});

test('XREAD waits on when its key goes or changes its type, and sees new entries later', () => {
  for (const end of [remove, setString]) {
    const { server, r } = begin();
    r.call('XADD', 's', '666-0', 'f', 'v');
    const reader = server.session();
    reader.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$');
    end(r, 's');
    assert.ok(reader.blocked);
    remove(r, 's');
    r.call('XADD', 's', '100-0', 'f', 'v');
    assert.ok(reader.blocked, 'an id before the one that $ meant is not news');
    r.call('XADD', 's', '667-0', 'f', 'v');
    assert.deepEqual(reader.take(), [['s', [entry('667-0', 'v')]]]);
  }
});

test('inside a transaction nothing waits', () => {
  const { server, r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const reader = server.session();
  reader.denyBlocking = true;
  assert.equal(reader.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$'), null);
  assert.equal(reader.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>'), null);
});

test('CLAIM with BLOCK wakes when a pending entry has become old enough', () => {
  const { server, r } = begin();
  r.call('XADD', 's', '1-0', 'f', 'v');
  r.call('XGROUP', 'CREATE', 's', 'g', 0);
  r.call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', 's', '>');
  const reader = server.session();
  server.advance(30);
  reader.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 500, 'CLAIM', 100, 'STREAMS', 's', '>');
  assert.equal(server.engine.nextDeadline(), 100);
  server.advance(69);
  assert.ok(reader.blocked);
  server.advance(1);
  assert.deepEqual(reader.take(), [['s', [['1-0', ['f', 'v'], 100, 1]]]]);
});

test('CLAIM with BLOCK sees entries delivered to others after it began to wait', () => {
  const { server, r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const other = server.session();
  const reader = server.session();
  other.call('XREADGROUP', 'GROUP', 'g', 'a', 'BLOCK', 0, 'STREAMS', 's', '>');
  reader.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'CLAIM', 100, 'STREAMS', 's', '>');
  server.advance(60);
  r.call('XADD', 's', '1-0', 'f', 'v');
  assert.ok(!other.blocked);
  for (let i = 0; i < 99; i++) server.advance(1);
  assert.ok(reader.blocked);
  server.advance(1);
  assert.deepEqual(reader.take(), [['s', [['1-0', ['f', 'v'], 100, 1]]]]);
});

test('XNACK wakes a reader that would claim', () => {
  const { server, r } = begin();
  r.call('XADD', 's', '1-0', 'f', 'v');
  r.call('XGROUP', 'CREATE', 's', 'g', 0);
  r.call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', 's', '>');
  const reader = server.session();
  reader.call('XREADGROUP', 'GROUP', 'g', 'b', 'BLOCK', 0, 'CLAIM', 100000, 'STREAMS', 's', '>');
  r.call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '1-0');
  assert.deepEqual(reader.take(), [['s', [['1-0', ['f', 'v'], NOW, 1]]]]);
});

test('BLOCK is ignored for a history read', () => {
  const { r } = begin();
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  for (const id of ['0', '600', MAX]) {
    assert.deepEqual(r.call('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', id), [
      ['s', []],
    ]);
  }
});
