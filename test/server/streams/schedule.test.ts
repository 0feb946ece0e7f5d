/** XADD at a later time, XSCHEDULE, and how much of a stream is kept. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import { InProcessServer, type Value } from '../../helpers/in-process-server.ts';
import { seedsOf } from '../../helpers/seed.ts';

function world() {
  const server = new InProcessServer();
  const session = server.session();
  const call = (...args: (string | number)[]) => session.call(...args);
  const values = (key: string) =>
    (call('XRANGE', key, '-', '+') as [string, string[]][]).map(([, fields]) => fields[1]);
  return { server, session, call, values };
}

test('an entry comes at its time, not before, and wakes readers that wait', () => {
  const { server, call } = world();
  assert.match(call('XADD', 's', 'DELAY', 500, '*', 'f', 'v') as string, /^s\d+$/);
  assert.equal(call('EXISTS', 's'), 0);
  const reader = server.session();
  reader.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$');
  assert.equal(server.engine.nextDeadline(), server.clock.monotonic() + 500);
  server.advance(499);
  assert.equal(reader.take(), undefined);
  server.advance(1);
  assert.deepEqual(reader.take(), [['s', [[`${server.clock.now()}-0`, ['f', 'v']]]]]);
  assert.equal(server.engine.nextDeadline(), Number.POSITIVE_INFINITY);
});

test('entries come in order of their time, equal ones in the order they were given', (t) => {
  for (const seed of seedsOf(t, 10)) {
    const { server, call, values } = world();
    const random = new Random(seed);
    const expected: { due: number; order: number }[] = [];
    const names: string[] = [];
    for (let order = 0; order < 300; order++) {
      const due = 1 + random.below(50);
      names.push(call('XADD', 's', 'DELAY', due, '*', 'f', order) as string);
      expected.push({ due, order });
    }
    const cancelled = new Set<number>();
    for (let i = 0; i < 40; i++) {
      const order = random.below(300);
      const there = cancelled.has(order) ? 0 : 1;
      assert.equal(call('XSCHEDULE', 'CANCEL', 's', names[order] as string), there);
      cancelled.add(order);
    }
    server.advance(60);
    const wanted = expected
      .filter(({ order }) => !cancelled.has(order))
      .sort((a, b) => a.due - b.due || a.order - b.order);
    assert.deepEqual(
      values('s'),
      wanted.map(({ order }) => String(order)),
      `seed ${seed}`,
    );
  }
});

test('AT takes a point of time; one that has passed means now, with an ordinary id', () => {
  const { server, call, values } = world();
  const now = server.clock.now();
  call('XADD', 's', 'AT', now + 10, '*', 'f', 'later');
  assert.equal(call('XADD', 's', 'AT', now, '*', 'f', 'now'), `${now}-0`);
  assert.equal(call('XADD', 's', 'DELAY', 0, '*', 'f', 'too'), `${now}-1`);
  server.advance(10);
  assert.deepEqual(values('s'), ['now', 'too', 'later']);
});

test("XSCHEDULE lists what waits for a key, next first, and cancels only that key's", () => {
  const { call } = world();
  const c = call('XADD', 's', 'DELAY', 30, '*', 'f', 'c') as string;
  const a = call('XADD', 's', 'DELAY', 10, '*', 'f', 'a', 'g', '') as string;
  call('XADD', 's', 'DELAY', 20, '*', 'f', 'b');
  call('XADD', 't', 'DELAY', 5, '*', 'f', 'other');
  const list = call('XSCHEDULE', 'LIST', 's', 'COUNT', 2) as Value[][];
  assert.deepEqual(
    list.map(([id, due, fields]) => [id === a, due, fields]),
    [
      [true, 1_700_000_000_010, ['f', 'a', 'g', '']],
      [false, 1_700_000_000_020, ['f', 'b']],
    ],
  );
  assert.equal(call('XSCHEDULE', 'LEN', 's'), 3);
  assert.equal(call('XSCHEDULE', 'CANCEL', 't', a), 0);
  assert.equal(call('XSCHEDULE', 'CANCEL', 's', a, c, c, 'nonsense'), 2);
  assert.equal(call('XSCHEDULE', 'LEN', 's'), 1);
  assert.deepEqual(call('XSCHEDULE', 'LIST', 'none'), []);
});

test('an idempotent id is taken when it is scheduled, and answers with the same name', () => {
  const { server, call, values } = world();
  const name = call('XADD', 's', 'IDMP', 'p', '1', 'DELAY', 50, '*', 'f', 'v');
  assert.equal(call('XADD', 's', 'IDMP', 'p', '1', 'DELAY', 90, '*', 'f', 'v'), name);
  assert.equal(call('XADD', 's', 'IDMP', 'p', '1', '*', 'f', 'v'), name);
  server.advance(100);
  assert.deepEqual(values('s'), ['v']);
  assert.equal(call('XADD', 's', 'IDMP', 'p', '1', '*', 'f', 'v'), name);
  server.advance(101_000);
  assert.match(call('XADD', 's', 'IDMP', 'p', '1', '*', 'f', 'v') as string, /-/);
});

test('a trim given with the entry happens when it comes', () => {
  const { server, call, values } = world();
  for (let i = 0; i < 3; i++) call('XADD', 's', '*', 'f', i);
  call('XADD', 's', 'MAXLEN', 2, 'DELAY', 5, '*', 'f', 'last');
  assert.equal(call('XLEN', 's'), 3);
  server.advance(5);
  assert.deepEqual(values('s'), ['2', 'last']);
});

test('DEL and RENAME leave the schedule of the name, FLUSHDB takes it, SWAPDB moves it', () => {
  const { server, session, call, values } = world();
  call('XADD', 's', '*', 'f', 'old');
  call('XADD', 's', 'DELAY', 5, '*', 'f', 'new');
  call('RENAME', 's', 't');
  call('DEL', 't');
  server.advance(5);
  assert.deepEqual(values('s'), ['new']);
  call('XADD', 's', 'DELAY', 5, '*', 'f', 'never');
  call('FLUSHDB');
  server.advance(5);
  assert.equal(call('EXISTS', 's'), 0);
  call('XADD', 's', 'DELAY', 5, '*', 'f', 'swapped');
  call('SWAPDB', 0, 1);
  server.advance(5);
  assert.equal(call('EXISTS', 's'), 0);
  session.database = server.engine.databases[1] as never;
  assert.deepEqual(values('s'), ['swapped']);
});

test('a key that holds something else delays the entry until it can be added', () => {
  const { server, call, values } = world();
  call('XADD', 's', 'DELAY', 5, '*', 'f', 'v');
  call('SET', 's', 'string');
  server.advance(10);
  assert.equal(call('XSCHEDULE', 'LEN', 's'), 1);
  call('DEL', 's');
  server.advance(1000);
  assert.deepEqual(values('s'), ['v']);
});

test('bad times and places are refused', () => {
  const { call } = world();
  const refused = (...args: (string | number)[]) => {
    const reply = call(...args);
    assert.ok(reply instanceof Error, args.join(' '));
    return reply.message;
  };
  assert.match(refused('XADD', 's', 'DELAY', -1, '*', 'f', 'v'), /invalid time/);
  assert.match(refused('XADD', 's', 'DELAY', 'x', '*', 'f', 'v'), /not an integer/);
  assert.match(refused('XADD', 's', 'AT', 2 ** 60, '*', 'f', 'v'), /invalid time/);
  assert.match(refused('XADD', 's', 'AT', 5, 'DELAY', 5, '*', 'f', 'v'), /exclude/);
  assert.match(refused('XADD', 's', 'DELAY', 5, '5-1', 'f', 'v'), /auto-generated/);
  assert.match(refused('XSCHEDULE', 'LIST', 's', 'COUNT', 0), /positive/);
  assert.match(refused('XSCHEDULE', 'LIST', 's', 'NUMBER', 1), /XSCHEDULE HELP/);
  assert.equal(call('XADD', 's', 'NOMKSTREAM', 'DELAY', 5, '*', 'f', 'v'), null);
});

test('MAXLEN keeps the newest entries, exactly, from the moment it is set', () => {
  const { call, values } = world();
  for (let i = 0; i < 10; i++) call('XADD', 's', '*', 'f', i);
  call('XCFGSET', 's', 'MAXLEN', 3);
  assert.deepEqual(values('s'), ['7', '8', '9']);
  call('XADD', 's', '*', 'f', 10);
  assert.deepEqual(values('s'), ['8', '9', '10']);
  call('XCFGSET', 's', 'MAXLEN', 0);
  call('XADD', 's', '*', 'f', 11);
  assert.equal(call('XLEN', 's'), 4);
});

test('MAXAGE lets entries go at their time, by the tick alone, and all of them in the end', () => {
  const { server, call, values } = world();
  call('XADD', 's', '*', 'f', 'a');
  call('XCFGSET', 's', 'MAXAGE', 1000);
  server.advance(400);
  call('XADD', 's', '*', 'f', 'b');
  server.advance(600);
  assert.deepEqual(values('s'), ['a', 'b']);
  assert.equal(server.engine.nextDeadline(), server.clock.monotonic() + 1);
  server.advance(1);
  assert.deepEqual(values('s'), ['b']);
  call('RENAME', 's', 't');
  server.advance(400);
  assert.deepEqual(values('t'), []);
  assert.equal(server.engine.nextDeadline(), Number.POSITIVE_INFINITY);
});

test('what was stored before a restart comes of age after it', () => {
  const { server, call } = world();
  call('XGROUP', 'CREATE', 's', 'g', '0', 'MKSTREAM');
  call('XCFGSET', 's', 'MAXAGE', 1000);
  call('XADD', 's', '*', 'f', 'a');
  call('XADD', 'later', 'DELAY', 500, '*', 'f', 'b');
  const copy = server.replayed();
  const session = copy.session();
  copy.advance(500);
  assert.deepEqual([session.call('XLEN', 's'), session.call('XLEN', 'later')], [1, 1]);
  copy.advance(501);
  assert.deepEqual([session.call('XLEN', 's'), session.call('XLEN', 'later')], [0, 1]);
});

test('MAXBYTES: whole nodes go while all together are larger; the newest stays', () => {
  const { server, call } = world();
  server.engine.nodeLimits.maxEntries = 10;
  call('XGROUP', 'CREATE', 's', 'g', '0', 'MKSTREAM');
  call('XCFGSET', 's', 'MAXBYTES', 2000);
  const entry = server.engine.databases[0]?.findKey(Buffer.from('s'));
  assert.ok(entry?.value.type === 'stream');
  const { stream } = entry.value;
  let most = 0;
  for (let i = 0; i < 500; i++) {
    call('XADD', 's', '*', 'f', 'x'.repeat(i % 50));
    most = Math.max(most, stream.nodeBytes);
    let bytes = 0;
    for (const block of stream.blocks()) bytes += block.listpackBytes;
    assert.equal(stream.nodeBytes, bytes);
  }
  assert.ok(most <= 2000 && most > 1500, `${most}`);
  call('XADD', 's', '*', 'f', 'x'.repeat(5000));
  assert.equal(call('XLEN', 's'), 1);
});

test('limits are shown, copied, and set in parts', () => {
  const { call } = world();
  call('XADD', 's', '*', 'f', 'v');
  call('XCFGSET', 's', 'MAXAGE', 5, 'MAXLEN', 6);
  call('XCFGSET', 's', 'MAXBYTES', 7, 'IDMP-DURATION', 8);
  const expected = [
    'idmp-duration',
    8,
    'idmp-maxsize',
    100,
    'maxage',
    5,
    'maxbytes',
    7,
    'maxlen',
    6,
  ];
  assert.deepEqual(call('XCFGGET', 's'), expected);
  call('COPY', 's', 't');
  assert.deepEqual(call('XCFGGET', 't'), expected);
  assert.ok(call('XCFGSET', 's', 'MAXAGE', -1) instanceof Error);
  assert.ok(call('XCFGSET', 's', 'MAXAGE', 1, 'MAXAGE', 1) instanceof Error);
  assert.ok(call('XCFGGET', 'none') instanceof Error);
});
