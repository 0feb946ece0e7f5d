/**
 * Consumer groups through their commands: XGROUP, XREADGROUP, XACK, XNACK, XPENDING, XCLAIM,
 * XAUTOCLAIM, XDELEX, XACKDEL, XINFO, XSETID.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  InProcessServer,
  type InProcessSession,
  type Value,
} from '../../helpers/in-process-server.ts';

const NOW = 1_700_000_000_000;
const INT64_MAX = 9223372036854775807n;

function begin(): { server: InProcessServer; r: InProcessSession } {
  const server = new InProcessServer(NOW);
  return { server, r: server.session() };
}

function fails(reply: Value | undefined, text: string): void {
  assert.ok(reply instanceof Error, `expected an error, got ${JSON.stringify(reply)}`);
  assert.equal(reply.message, text);
}

/** A stream `s` with entries 1-0 to count-0 and groups that have read nothing. */
function filled(r: InProcessSession, count: number, ...groups: string[]): void {
  for (let i = 1; i <= count; i++) r.call('XADD', 's', `${i}-0`, 'f', i);
  for (const group of groups) r.call('XGROUP', 'CREATE', 's', group, 0);
}

function readNew(
  r: InProcessSession,
  group: string,
  consumer: string,
  ...more: string[]
): string[] {
  const reply = r.call('XREADGROUP', 'GROUP', group, consumer, ...more, 'STREAMS', 's', '>');
  return reply === null ? [] : (reply as [string, [string][]][])[0][1].map(([id]) => id);
}

function pendingOf(r: InProcessSession, group: string): Value[] {
  return r.call('XPENDING', 's', group, '-', '+', 100) as Value[];
}

function groupInfo(r: InProcessSession, group: string): Map<string, Value> {
  for (const info of r.call('XINFO', 'GROUPS', 's') as Value[][]) {
    const map = new Map<string, Value>();
    for (let i = 0; i < info.length; i += 2) map.set(info[i] as string, info[i + 1]);
    if (map.get('name') === group) return map;
  }
  throw new Error(`no group ${group}`);
}

test('a group is created once, at an id, at $ or with a new stream', () => {
  const { r } = begin();
  filled(r, 3);
  assert.equal(r.call('XGROUP', 'CREATE', 's', 'g', '2'), 'OK');
  fails(r.call('XGROUP', 'CREATE', 's', 'g', '$'), 'BUSYGROUP Consumer Group name already exists');
  assert.equal(r.call('XGROUP', 'CREATE', 's', 'end', '$'), 'OK');
  assert.deepEqual(readNew(r, 'g', 'c'), ['3-0']);
  assert.deepEqual(readNew(r, 'end', 'c'), []);
  fails(
    r.call('XGROUP', 'CREATE', 'none', 'g', '$'),
    'ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.',
  );
  assert.equal(r.call('XGROUP', 'CREATE', 'new', 'g', '$', 'MKSTREAM'), 'OK');
  assert.equal(r.call('XLEN', 'new'), 0);
  for (const id of ['-', '+', 'x']) {
    fails(
      r.call('XGROUP', 'CREATE', 'bad', 'h', id, 'MKSTREAM'),
      'ERR Invalid stream ID specified as stream command argument',
    );
  }
  assert.equal(r.database.findKey(Buffer.from('bad')), undefined);
});

test('ENTRIESREAD is -1 or more and is capped at what was added', () => {
  const { r } = begin();
  filled(r, 3);
  const create = (group: string, read: string | number) =>
    r.call('XGROUP', 'CREATE', 's', group, '$', 'ENTRIESREAD', read);
  fails(create('g', -2), 'ERR value for ENTRIESREAD must be positive or -1');
  fails(create('g', 'x'), 'ERR value is not an integer or out of range');
  create('a', 2);
  create('b', 99);
  create('c', -1);
  assert.equal(groupInfo(r, 'a').get('entries-read'), 2);
  assert.equal(groupInfo(r, 'b').get('entries-read'), 3);
  assert.equal(groupInfo(r, 'c').get('entries-read'), null);
});

test('unknown options of XGROUP name the subcommand as it was sent', () => {
  const { r } = begin();
  filled(r, 1);
  fails(
    r.call('XGROUP', 'create', 's', 'g', '0', 'FOO'),
    "ERR unknown subcommand or wrong number of arguments for 'create'. Try XGROUP HELP.",
  );
  fails(
    r.call('XGROUP', 'SETID', 's', 'g', '0', 'MKSTREAM'),
    "ERR unknown subcommand or wrong number of arguments for 'SETID'. Try XGROUP HELP.",
  );
});

test('commands on a group that is not there say so, each in its words', () => {
  const { r } = begin();
  filled(r, 1);
  const forKey = "NOGROUP No such consumer group 'g' for key name 's'";
  fails(r.call('XGROUP', 'SETID', 's', 'g', '0'), forKey);
  fails(r.call('XGROUP', 'CREATECONSUMER', 's', 'g', 'c'), forKey);
  fails(r.call('XGROUP', 'DELCONSUMER', 's', 'g', 'c'), forKey);
  fails(r.call('XINFO', 'CONSUMERS', 's', 'g'), forKey);
  const noGroup = "NOGROUP No such key 's' or consumer group 'g'";
  fails(r.call('XPENDING', 's', 'g'), noGroup);
  fails(r.call('XCLAIM', 's', 'g', 'c', 0, '1-0'), noGroup);
  fails(r.call('XAUTOCLAIM', 's', 'g', 'c', 0, 0), noGroup);
  fails(r.call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '1-0'), noGroup);
  fails(
    r.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>'),
    "NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option",
  );
  assert.equal(r.call('XACK', 's', 'g', '1-0'), 0);
  assert.equal(r.call('XACK', 'none', 'g', '1-0'), 0);
  assert.equal(r.call('XGROUP', 'DESTROY', 's', 'g'), 0);
});

test('consumers are created once and deleted with their pending entries', () => {
  const { r } = begin();
  filled(r, 3, 'g');
  assert.equal(r.call('XGROUP', 'CREATECONSUMER', 's', 'g', 'a'), 1);
  assert.equal(r.call('XGROUP', 'CREATECONSUMER', 's', 'g', 'a'), 0);
  readNew(r, 'g', 'a', 'COUNT', '2');
  readNew(r, 'g', 'b');
  assert.equal(r.call('XGROUP', 'DELCONSUMER', 's', 'g', 'none'), 0);
  assert.equal(r.call('XGROUP', 'DELCONSUMER', 's', 'g', 'a'), 2);
  assert.deepEqual(r.call('XPENDING', 's', 'g'), [1, '3-0', '3-0', [['b', '1']]]);
});

test('only new entries are delivered, each to one consumer, and stay pending', () => {
  const { server, r } = begin();
  filled(r, 4);
  r.call('XGROUP', 'CREATE', 's', 'g', '1-0');
  assert.deepEqual(r.call('XREADGROUP', 'GROUP', 'g', 'a', 'COUNT', 2, 'STREAMS', 's', '>'), [
    [
      's',
      [
        ['2-0', ['f', '2']],
        ['3-0', ['f', '3']],
      ],
    ],
  ]);
  server.advance(5);
  assert.deepEqual(readNew(r, 'g', 'b'), ['4-0']);
  server.advance(7);
  assert.deepEqual(pendingOf(r, 'g'), [
    ['2-0', 'a', 12, 1],
    ['3-0', 'a', 12, 1],
    ['4-0', 'b', 7, 1],
  ]);
  assert.equal(r.call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', 's', '>'), null);
});

test('a consumer exists once it has asked, though nothing was delivered', () => {
  const { server, r } = begin();
  filled(r, 0);
  r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  assert.deepEqual(readNew(r, 'g', 'c'), []);
  server.advance(30);
  assert.deepEqual(r.call('XINFO', 'CONSUMERS', 's', 'g'), [
    ['name', 'c', 'pending', 0, 'idle', 30, 'inactive', -1],
  ]);
  r.call('XADD', 's', '*', 'f', 'v');
  readNew(r, 'g', 'c');
  server.advance(9);
  readNew(r, 'g', 'c');
  assert.deepEqual(r.call('XINFO', 'CONSUMERS', 's', 'g'), [
    ['name', 'c', 'pending', 1, 'idle', 0, 'inactive', 9],
  ]);
});

test('NOACK delivers without a trace but for the position', () => {
  const { r } = begin();
  filled(r, 2, 'g');
  assert.deepEqual(readNew(r, 'g', 'c', 'NOACK'), ['1-0', '2-0']);
  assert.deepEqual(r.call('XPENDING', 's', 'g'), [0, null, null, null]);
  assert.equal(groupInfo(r, 'g').get('last-delivered-id'), '2-0');
  assert.equal(groupInfo(r, 'g').get('entries-read'), 2);
});

test("history is the consumer's own, counts each reading and resets the time", () => {
  const { server, r } = begin();
  filled(r, 3, 'g');
  readNew(r, 'g', 'a', 'COUNT', '2');
  readNew(r, 'g', 'b');
  server.advance(50);
  const history = (...args: (string | number)[]) =>
    r.call('XREADGROUP', 'GROUP', 'g', 'a', ...args);
  assert.deepEqual(history('STREAMS', 's', 0), [
    [
      's',
      [
        ['1-0', ['f', '1']],
        ['2-0', ['f', '2']],
      ],
    ],
  ]);
  assert.deepEqual(history('COUNT', 1, 'NOACK', 'BLOCK', 0, 'STREAMS', 's', '1-0'), [
    ['s', [['2-0', ['f', '2']]]],
  ]);
  server.advance(1);
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'a', 1, 2],
    ['2-0', 'a', 1, 3],
    ['3-0', 'b', 51, 1],
  ]);
  assert.deepEqual(history('STREAMS', 's', '2-0'), [['s', []]]);
});

test('history shows a deleted entry as an id without fields and leaves its counter', () => {
  const { r } = begin();
  filled(r, 2, 'g');
  readNew(r, 'g', 'a');
  r.call('XDEL', 's', '1-0');
  assert.deepEqual(r.call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', 's', 0), [
    [
      's',
      [
        ['1-0', null],
        ['2-0', ['f', '2']],
      ],
    ],
  ]);
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'a', 0, 1],
    ['2-0', 'a', 0, 2],
  ]);
});

test('entries delivered again after XGROUP SETID change hands with count 1', () => {
  const { r } = begin();
  filled(r, 3, 'g');
  readNew(r, 'g', 'a');
  r.call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', 's', 0);
  assert.equal(r.call('XGROUP', 'SETID', 's', 'g', '-'), 'OK');
  assert.equal(groupInfo(r, 'g').get('entries-read'), null);
  assert.deepEqual(readNew(r, 'g', 'b', 'COUNT', '2'), ['1-0', '2-0']);
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'b', 0, 1],
    ['2-0', 'b', 0, 1],
    ['3-0', 'a', 0, 2],
  ]);
  assert.equal(r.call('XGROUP', 'SETID', 's', 'g', '+'), 'OK');
  assert.deepEqual(readNew(r, 'g', 'b'), []);
});

test('XACK removes each pending entry once and does nothing when an id is bad', () => {
  const { r } = begin();
  filled(r, 3, 'g');
  readNew(r, 'g', 'a');
  fails(
    r.call('XACK', 's', 'g', '1-0', 'bad'),
    'ERR Invalid stream ID specified as stream command argument',
  );
  assert.equal(r.call('XACK', 's', 'g', '1-0', '1-0', '9-9', '2'), 2);
  assert.equal(r.call('XACK', 's', 'g', '1-0'), 0);
  assert.deepEqual(r.call('XPENDING', 's', 'g'), [1, '3-0', '3-0', [['a', '1']]]);
});

test('XPENDING selects by range, number, consumer and idle time', () => {
  const { server, r } = begin();
  filled(r, 4, 'g');
  readNew(r, 'g', 'a', 'COUNT', '2');
  server.advance(100);
  readNew(r, 'g', 'b');
  const ids = (...args: (string | number)[]) =>
    (r.call('XPENDING', 's', 'g', ...args) as [string][]).map(([id]) => id);
  assert.deepEqual(ids('2', '3', 10), ['2-0', '3-0']);
  assert.deepEqual(ids('(2-0', '(4-0', 10), ['3-0']);
  assert.deepEqual(ids('-', '+', 1), ['1-0']);
  assert.deepEqual(ids('-', '+', 0), []);
  assert.deepEqual(ids('-', '+', -5), []);
  assert.deepEqual(ids('-', '+', 10, 'b'), ['3-0', '4-0']);
  assert.deepEqual(ids('-', '+', 10, 'nobody'), []);
  assert.deepEqual(ids('IDLE', 1, '-', '+', 10), ['1-0', '2-0']);
  assert.deepEqual(ids('IDLE', 100, '-', '+', 10, 'b'), []);
  fails(r.call('XPENDING', 's', 'g', '-'), 'ERR syntax error');
  fails(r.call('XPENDING', 's', 'g', '-', '+'), 'ERR syntax error');
  fails(r.call('XPENDING', 's', 'g', 'IDLE', 1, '-', '+'), 'ERR syntax error');
  fails(r.call('XPENDING', 's', 'g', '-', '+', 'x'), 'ERR value is not an integer or out of range');
  fails(
    r.call('XPENDING', 's', 'g', '(18446744073709551615-18446744073709551615', '+', 1),
    'ERR invalid start ID for the interval',
  );
  fails(r.call('XPENDING', 's', 'g', '-', '(0-0', 1), 'ERR invalid end ID for the interval');
});

test('XCLAIM takes idle entries, counts unless JUSTID, and skips what is too young', () => {
  const { server, r } = begin();
  filled(r, 3, 'g');
  readNew(r, 'g', 'a', 'COUNT', '2');
  server.advance(200);
  readNew(r, 'g', 'a');
  assert.deepEqual(r.call('XCLAIM', 's', 'g', 'b', 100, '1-0', '3-0', '9-0'), [
    ['1-0', ['f', '1']],
  ]);
  assert.deepEqual(r.call('XCLAIM', 's', 'g', 'b', 100, '2-0', 'JUSTID'), ['2-0']);
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'b', 0, 2],
    ['2-0', 'b', 0, 1],
    ['3-0', 'a', 0, 1],
  ]);
});

test('XCLAIM sets time and count, makes what is missing, and drops what is gone', () => {
  const { r } = begin();
  filled(r, 4, 'g');
  readNew(r, 'g', 'a', 'COUNT', '2');
  r.call('XDEL', 's', '2-0');
  assert.deepEqual(r.call('XCLAIM', 's', 'g', 'b', 0, '1-0', '2-0', 'IDLE', 500, 'RETRYCOUNT', 9), [
    ['1-0', ['f', '1']],
  ]);
  assert.deepEqual(pendingOf(r, 'g'), [['1-0', 'b', 500, 9]]);
  r.call('XCLAIM', 's', 'g', 'b', 0, '1-0', 'TIME', NOW + 999, 'JUSTID');
  assert.deepEqual(pendingOf(r, 'g'), [['1-0', 'b', 0, 9]]);
  r.call('XCLAIM', 's', 'g', 'b', 0, '3-0', '7-0', 'FORCE', 'LASTID', '3-0');
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'b', 0, 9],
    ['3-0', 'b', 0, 2],
  ]);
  assert.deepEqual(readNew(r, 'g', 'b'), ['4-0']);
  const claim = (...args: (string | number)[]) => r.call('XCLAIM', 's', 'g', 'b', ...args);
  fails(claim('x', '1-0'), 'ERR Invalid min-idle-time argument for XCLAIM');
  fails(claim(0, '1-0', 'IDLE', 'x'), 'ERR Invalid IDLE option argument for XCLAIM');
  fails(claim(0, '1-0', 'TIME', 'x'), 'ERR Invalid TIME option argument for XCLAIM');
  fails(claim(0, '1-0', 'RETRYCOUNT', 'x'), 'ERR Invalid RETRYCOUNT option argument for XCLAIM');
  fails(claim(0, '1-0', 'FOO'), "ERR Unrecognized XCLAIM option 'FOO'");
  fails(
    claim(0, '1-0', 'LASTID', 'x'),
    'ERR Invalid stream ID specified as stream command argument',
  );
});

test('XAUTOCLAIM walks the pending entries and returns where to go on and what is gone', () => {
  const { server, r } = begin();
  filled(r, 6, 'g');
  readNew(r, 'g', 'a');
  server.advance(100);
  r.call('XDEL', 's', '2-0', '5-0');
  assert.deepEqual(r.call('XAUTOCLAIM', 's', 'g', 'b', 50, '-', 'COUNT', 3), [
    '4-0',
    [
      ['1-0', ['f', '1']],
      ['3-0', ['f', '3']],
    ],
    ['2-0'],
  ]);
  assert.deepEqual(r.call('XAUTOCLAIM', 's', 'g', 'b', 50, '(3-0', 'JUSTID'), [
    '0-0',
    ['4-0', '6-0'],
    ['5-0'],
  ]);
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'b', 0, 2],
    ['3-0', 'b', 0, 2],
    ['4-0', 'b', 0, 1],
    ['6-0', 'b', 0, 1],
  ]);
  const claim = (...args: (string | number)[]) => r.call('XAUTOCLAIM', 's', 'g', 'b', ...args);
  fails(claim('x', 0), 'ERR Invalid min-idle-time argument for XAUTOCLAIM');
  fails(claim(0, 0, 'COUNT', 0), 'ERR COUNT must be > 0');
  fails(claim(0, 0, 'COUNT', 'x'), 'ERR COUNT must be > 0');
  fails(claim(0, 0, 'FOO'), 'ERR syntax error');
  fails(claim(0, 'x'), 'ERR Invalid stream ID specified as stream command argument');
});

test('XAUTOCLAIM looks at ten times COUNT entries at most', () => {
  const { r } = begin();
  filled(r, 25, 'g');
  readNew(r, 'g', 'a');
  assert.deepEqual(r.call('XAUTOCLAIM', 's', 'g', 'b', 10_000, 0, 'COUNT', 2), ['21-0', [], []]);
});

test('XNACK gives entries back: unowned, claimed first, counted as the mode says', () => {
  const { server, r } = begin();
  filled(r, 5, 'g');
  readNew(r, 'g', 'a', 'COUNT', '3');
  assert.equal(r.call('XNACK', 's', 'g', 'SILENT', 'IDS', 2, '2-0', '9-0'), 1);
  assert.equal(r.call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '1-0'), 1);
  assert.equal(r.call('XNACK', 's', 'g', 'FATAL', 'IDS', 1, '3-0'), 1);
  assert.equal(
    r.call('XNACK', 's', 'g', 'FAIL', 'IDS', 2, '4-0', '8-0', 'FORCE', 'RETRYCOUNT', 6),
    1,
  );
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', '', -1, 1],
    ['2-0', '', -1, 0],
    ['3-0', '', -1, INT64_MAX],
    ['4-0', '', -1, 6],
  ]);
  assert.deepEqual(r.call('XPENDING', 's', 'g'), [4, '1-0', '4-0', []]);
  server.advance(3);
  assert.deepEqual(
    r.call('XREADGROUP', 'GROUP', 'g', 'b', 'CLAIM', 1000, 'COUNT', 4, 'STREAMS', 's', '>'),
    [
      [
        's',
        [
          ['2-0', ['f', '2'], NOW + 3, 0],
          ['1-0', ['f', '1'], NOW + 3, 1],
          ['3-0', ['f', '3'], NOW + 3, INT64_MAX],
          ['4-0', ['f', '4'], NOW + 3, 6],
        ],
      ],
    ],
  );
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'b', 0, 2],
    ['2-0', 'b', 0, 1],
    ['3-0', 'b', 0, INT64_MAX],
    ['4-0', 'b', 0, 7],
  ]);
});

test('XNACK says what is wrong with its arguments', () => {
  const { r } = begin();
  filled(r, 1, 'g');
  const nack = (...args: (string | number)[]) => r.call('XNACK', 's', 'g', ...args);
  fails(nack('MAYBE', 'IDS', 1, '1-0'), 'ERR mode must be SILENT, FAIL, or FATAL');
  fails(nack('FAIL', 'IDS', 0, '1-0'), 'ERR numids must be a positive integer');
  fails(nack('FAIL', 'IDS', 2, '1-0'), "ERR number of IDs doesn't match numids");
  fails(nack('FAIL', 'FORCE', 'FORCE', 'FORCE'), 'ERR syntax error, expected IDS keyword');
  fails(nack('FAIL', 'IDS', 1, '1-0', 'FOO'), "ERR Unrecognized XNACK option 'FOO'");
  fails(nack('FAIL', 'IDS', 1, '1-0', '2-0'), "ERR Unrecognized XNACK option '2-0'");
  fails(
    nack('FAIL', 'IDS', 1, '1-0', 'RETRYCOUNT', -1),
    'ERR Invalid RETRYCOUNT value, must be >= 0',
  );
});

test('XACKDEL and XDELEX answer 1, 2 or -1 for each id', () => {
  const { r } = begin();
  filled(r, 6, 'g', 'h');
  readNew(r, 'g', 'a');
  readNew(r, 'h', 'a');
  assert.deepEqual(
    r.call('XACKDEL', 's', 'g', 'ACKED', 'IDS', 3, '1-0', '1-0', '9-0'),
    [2, -1, -1],
  );
  assert.deepEqual(r.call('XACKDEL', 's', 'h', 'ACKED', 'IDS', 1, '1-0'), [1]);
  assert.deepEqual(r.call('XACKDEL', 's', 'g', 'IDS', 1, '2-0'), [1]);
  assert.deepEqual(r.call('XACKDEL', 's', 'g', 'DELREF', 'IDS', 1, '3-0'), [1]);
  assert.deepEqual(
    (pendingOf(r, 'h') as [string][]).map(([id]) => id),
    ['2-0', '4-0', '5-0', '6-0'],
  );
  assert.deepEqual(r.call('XDELEX', 's', 'ACKED', 'IDS', 2, '4-0', '3-0'), [2, -1]);
  assert.deepEqual(r.call('XDELEX', 's', 'DELREF', 'IDS', 1, '4-0'), [1]);
  assert.deepEqual(r.call('XDELEX', 's', 'KEEPREF', 'IDS', 1, '5-0'), [1]);
  assert.deepEqual(r.call('XDELEX', 's', 'IDS', 1, '5-0'), [-1]);
  assert.deepEqual(
    (pendingOf(r, 'g') as [string][]).map(([id]) => id),
    ['5-0', '6-0'],
  );
  assert.deepEqual(r.call('XDELEX', 'none', 'IDS', 2, '1-0', 'x'), [-1, -1]);
  assert.deepEqual(r.call('XACKDEL', 's', 'none', 'IDS', 1, '1-0'), [-1]);
  fails(r.call('XDELEX', 's', 'IDS', 0, '1-0'), 'ERR Number of IDs must be a positive integer');
  fails(
    r.call('XDELEX', 's', 'IDS', 2, '1-0'),
    'ERR The `numids` parameter must match the number of arguments',
  );
  fails(r.call('XDELEX', 's', 'KEEPREF', 'DELREF', 'IDS'), 'ERR syntax error');
  fails(r.call('XDELEX', 's', 'ACKED', 'ACKED', 'IDS', 1, '1-0'), 'ERR syntax error');
});

test('an entry that no group has read yet counts as referenced', () => {
  const { r } = begin();
  filled(r, 2);
  assert.deepEqual(r.call('XDELEX', 's', 'ACKED', 'IDS', 1, '1-0'), [1]);
  r.call('XGROUP', 'CREATE', 's', 'g', 0);
  assert.deepEqual(r.call('XDELEX', 's', 'ACKED', 'IDS', 1, '2-0'), [2]);
  r.call('XGROUP', 'SETID', 's', 'g', '2-0');
  assert.deepEqual(r.call('XDELEX', 's', 'ACKED', 'IDS', 1, '2-0'), [1]);
});

test('CLAIM gives the longest idle first, then new entries, and skips what is gone', () => {
  const { server, r } = begin();
  filled(r, 6, 'g');
  readNew(r, 'g', 'a', 'COUNT', '2');
  server.advance(10);
  readNew(r, 'g', 'a', 'COUNT', '2');
  server.advance(10);
  r.call('XCLAIM', 's', 'g', 'a', 0, '1-0');
  r.call('XDEL', 's', '2-0');
  server.advance(10);
  const claim = (...args: (string | number)[]) =>
    r.call('XREADGROUP', 'GROUP', 'g', 'b', 'CLAIM', 15, ...args, 'STREAMS', 's', '>');
  assert.deepEqual(claim('COUNT', 3), [
    [
      's',
      [
        ['3-0', ['f', '3'], 20, 1],
        ['4-0', ['f', '4'], 20, 1],
        ['5-0', ['f', '5'], 0, 0],
      ],
    ],
  ]);
  assert.deepEqual(pendingOf(r, 'g'), [
    ['1-0', 'a', 10, 2],
    ['2-0', 'a', 30, 1],
    ['3-0', 'b', 0, 2],
    ['4-0', 'b', 0, 2],
    ['5-0', 'b', 0, 1],
  ]);
  assert.deepEqual(claim('NOACK'), [['s', [['6-0', ['f', '6'], 0, 0]]]]);
  assert.equal(pendingOf(r, 'g').length, 5);
  assert.equal(claim(), null);
  server.advance(15);
  const claimed = claim('NOACK') as [string, [string][]][];
  assert.deepEqual(
    claimed[0][1].map(([id]) => id),
    ['1-0', '3-0', '4-0', '5-0'],
  );
  assert.equal(pendingOf(r, 'g').length, 5);
});

test('CLAIM is ignored for a history read', () => {
  const { server, r } = begin();
  filled(r, 2, 'g');
  readNew(r, 'g', 'a');
  server.advance(100);
  assert.deepEqual(r.call('XREADGROUP', 'GROUP', 'g', 'b', 'CLAIM', 1, 'STREAMS', 's', 0), [
    ['s', []],
  ]);
});

test('lag follows deliveries, deletions and trims', () => {
  const { r } = begin();
  filled(r, 5, 'g');
  const progress = () => [groupInfo(r, 'g').get('entries-read'), groupInfo(r, 'g').get('lag')];
  assert.deepEqual(progress(), [null, 5]);
  readNew(r, 'g', 'c', 'COUNT', '1');
  assert.deepEqual(progress(), [1, 4]);
  r.call('XDEL', 's', '3-0');
  assert.deepEqual(progress(), [1, null]);
  readNew(r, 'g', 'c', 'COUNT', '1');
  assert.deepEqual(progress(), [null, null]);
  readNew(r, 'g', 'c', 'COUNT', '1');
  assert.deepEqual(progress(), [null, null]);
  readNew(r, 'g', 'c');
  assert.deepEqual(progress(), [5, 0]);
  r.call('XADD', 's', '6-0', 'f', 'v');
  assert.deepEqual(progress(), [5, 1]);
  r.call('XTRIM', 's', 'MAXLEN', 0);
  assert.deepEqual(progress(), [5, 0]);
});

test('a group that stands before a trimmed head lags by the length', () => {
  const { r } = begin();
  filled(r, 5, 'g');
  r.call('XTRIM', 's', 'MINID', '4');
  assert.equal(groupInfo(r, 'g').get('lag'), 2);
});

test("XINFO shows streams, groups and consumers with Redis's fields in their order", () => {
  const { server, r } = begin();
  filled(r, 2, 'g');
  readNew(r, 'g', 'c', 'COUNT', '1');
  server.advance(4);
  assert.deepEqual(r.call('XINFO', 'STREAM', 's'), [
    ...['length', 2, 'radix-tree-keys', 1, 'radix-tree-nodes', 2],
    ...['last-generated-id', '2-0', 'max-deleted-entry-id', '0-0', 'entries-added', 2],
    ...['recorded-first-entry-id', '1-0', 'idmp-duration', 100, 'idmp-maxsize', 100],
    ...['pids-tracked', 0, 'iids-tracked', 0, 'iids-added', 0, 'iids-duplicates', 0],
    ...['groups', 1, 'first-entry', ['1-0', ['f', '1']], 'last-entry', ['2-0', ['f', '2']]],
  ]);
  const full = r.call('XINFO', 'STREAM', 's', 'FULL') as Value[];
  assert.equal(full.length, 30);
  assert.deepEqual(full.slice(26), [
    'entries',
    [
      ['1-0', ['f', '1']],
      ['2-0', ['f', '2']],
    ],
    'groups',
    [
      [
        ...['name', 'g', 'last-delivered-id', '1-0', 'entries-read', 1, 'lag', 1],
        ...['pel-count', 1, 'nacked-count', 0, 'pending', [['1-0', 'c', NOW, 1]], 'consumers'],
        [
          [
            ...['name', 'c', 'seen-time', NOW, 'active-time', NOW],
            ...['pel-count', 1, 'pending', [['1-0', NOW, 1]]],
          ],
        ],
      ],
    ],
  ]);
  assert.deepEqual((r.call('XINFO', 'STREAM', 's', 'FULL', 'COUNT', 1) as Value[])[27], [
    ['1-0', ['f', '1']],
  ]);
  fails(r.call('XINFO', 'STREAM', 'none'), 'ERR no such key');
  fails(r.call('XINFO', 'GROUPS', 'none'), 'ERR no such key');
  fails(
    r.call('XINFO', 'STREAM', 's', 'foo'),
    "ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.",
  );
});

test('in RESP3 XINFO and XREAD answer maps, and nulls are nulls', () => {
  const { server, r } = begin();
  filled(r, 1, 'g');
  const r3 = server.session(3);
  const info = r3.call('XINFO', 'STREAM', 's') as Map<Value, Value>;
  assert.equal(info.get('length'), 1);
  assert.equal(info.size, 16);
  const full = r3.call('XINFO', 'STREAM', 's', 'FULL') as Map<Value, Value>;
  assert.equal(full.size, 15);
  assert.deepEqual(r3.call('XREAD', 'STREAMS', 's', 0), new Map([['s', [['1-0', ['f', '1']]]]]));
  assert.deepEqual(
    r3.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>'),
    new Map([['s', [['1-0', ['f', '1']]]]]),
  );
  r3.run('XREAD', 'STREAMS', 's', '$');
  assert.equal(r3.takeBytes().toString(), '_\r\n');
  r3.run('XRANGE', 's', '-', '+', 'COUNT', 0);
  assert.equal(r3.takeBytes().toString(), '_\r\n');
  r3.run('XADD', 'none', 'NOMKSTREAM', '*', 'f', 'v');
  assert.equal(r3.takeBytes().toString(), '_\r\n');
  r3.run('XPENDING', 's', 'g');
  assert.match(r3.takeBytes().toString(), /^\*4\r\n:1\r\n/);
});

test('XSETID sets last id and counters within what the stream allows', () => {
  const { r } = begin();
  filled(r, 2);
  fails(r.call('XSETID', 'none', '1-0'), 'ERR no such key');
  fails(
    r.call('XSETID', 's', '1-0'),
    'ERR The ID specified in XSETID is smaller than the target stream top item',
  );
  fails(r.call('XSETID', 's', 'x'), 'ERR Invalid stream ID specified as stream command argument');
  fails(
    r.call('XSETID', 's', '9-0', 'ENTRIESADDED', 1, 'MAXDELETEDID', '0-0'),
    'ERR The entries_added specified in XSETID is smaller than the target stream length',
  );
  fails(r.call('XSETID', 's', '9-0', 'ENTRIESADDED', -1), 'ERR entries_added must be positive');
  fails(
    r.call('XSETID', 's', '9-0', 'ENTRIESADDED', 9, 'MAXDELETEDID', '9-1'),
    'ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id',
  );
  fails(r.call('XSETID', 's', '9-0', 'FOO'), 'ERR syntax error');
  assert.equal(r.call('XSETID', 's', '9-0', 'ENTRIESADDED', 7, 'MAXDELETEDID', '8-0'), 'OK');
  fails(
    r.call('XSETID', 's', '7-0'),
    'ERR The ID specified in XSETID is smaller than current max_deleted_entry_id',
  );
  const info = r.call('XINFO', 'STREAM', 's') as Value[];
  assert.deepEqual(info.slice(6, 12), [
    ...['last-generated-id', '9-0', 'max-deleted-entry-id', '8-0', 'entries-added', 7],
  ]);
});

test('XDEL deletes what is there and remembers the greatest id that it deleted', () => {
  const { r } = begin();
  filled(r, 5);
  assert.equal(r.call('XDEL', 's', '4-0', '2-0', '4-0', '9-0'), 2);
  assert.equal(r.call('XDEL', 'none', '1-0'), 0);
  fails(
    r.call('XDEL', 's', '1-0', 'x'),
    'ERR Invalid stream ID specified as stream command argument',
  );
  const info = r.call('XINFO', 'STREAM', 's') as Value[];
  assert.equal(info[info.indexOf('max-deleted-entry-id') + 1], '4-0');
  assert.equal(r.call('XDEL', 's', '5-0', '3-0', '1-0'), 3);
  assert.equal(r.call('XLEN', 's'), 0);
  fails(
    r.call('XADD', 's', '5-0', 'f', 'v'),
    'ERR The ID specified in XADD is equal or smaller than the target stream top item',
  );
});
