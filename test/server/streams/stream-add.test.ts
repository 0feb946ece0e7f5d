/**
 * XADD, XTRIM and idempotent producers: replies, errors and edges of ids.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  InProcessServer,
  type InProcessSession,
  type Value,
} from '../../helpers/in-process-server.ts';

function begin(): { server: InProcessServer; r: InProcessSession } {
  const server = new InProcessServer();
  return { server, r: server.session() };
}

function fails(reply: Value | undefined, text: string): void {
  assert.ok(reply instanceof Error, `expected an error, got ${JSON.stringify(reply)}`);
  assert.equal(reply.message, text);
}

const NOW = 1_700_000_000_000;
const MAX = '18446744073709551615';

test('XADD counts its arguments after it has read the options', () => {
  const { r } = begin();
  const wrong = "ERR wrong number of arguments for 'xadd' command";
  fails(r.call('XADD', 's', '*'), wrong);
  fails(r.call('XADD', 's', '*', 'f', 'v', 'g'), wrong);
  fails(r.call('XADD', 's', 'NOMKSTREAM', '*', 'f'), wrong);
  fails(r.call('XADD', 's', 'MAXLEN', 5, '*', 'f'), wrong);
});

test('entries come back as they were added', () => {
  const { r } = begin();
  assert.equal(r.call('XADD', 's', '*', 'item', '1', 'value', 'a'), `${NOW}-0`);
  assert.equal(r.call('XADD', 's', '*', 'item', '2', '', '\0\r\n\xff'), `${NOW}-1`);
  assert.equal(r.call('XLEN', 's'), 2);
  assert.deepEqual(r.call('XRANGE', 's', '-', '+'), [
    [`${NOW}-0`, ['item', '1', 'value', 'a']],
    [`${NOW}-1`, ['item', '2', '', '\0\r\nÃ¿']],
  ]);
});

test('ids go on from the last one when the clock goes backwards', () => {
  const { server, r } = begin();
  r.call('XADD', 's', '*', 'f', 'v');
  server.clock.setNow(NOW - 5000);
  assert.equal(r.call('XADD', 's', '*', 'f', 'v'), `${NOW}-1`);
  server.clock.setNow(NOW + 7);
  assert.equal(r.call('XADD', 's', '*', 'f', 'v'), `${NOW + 7}-0`);
});

test('an exhausted sequence carries into the next millisecond with *, not with ms-*', () => {
  const { r } = begin();
  const far = 2_000_000_000_000;
  r.call('XADD', 's', `${far}-${MAX}`, 'f', 'v');
  fails(
    r.call('XADD', 's', `${far}-*`, 'f', 'v'),
    'ERR The ID specified in XADD is equal or smaller than the target stream top item',
  );
  assert.equal(r.call('XADD', 's', '*', 'f', 'v'), `${far + 1}-0`);
});

test('a stream at the last possible id takes nothing more', () => {
  const { r } = begin();
  r.call('XADD', 's', `${MAX}-${MAX}`, 'f', 'v');
  const exhausted = 'ERR The stream has exhausted the last possible ID, unable to add more items';
  fails(r.call('XADD', 's', '*', 'f', 'v'), exhausted);
  fails(r.call('XADD', 's', `${MAX}-*`, 'f', 'v'), exhausted);
  fails(r.call('XADD', 's', '1-1', 'f', 'v'), exhausted);
});

test('ms-* continues the last id of that millisecond or begins at 0', () => {
  const { r } = begin();
  assert.equal(r.call('XADD', 's', '123-456', 'f', 'v'), '123-456');
  assert.equal(r.call('XADD', 's', '123-*', 'f', 'v'), '123-457');
  assert.equal(r.call('XADD', 's', '789-*', 'f', 'v'), '789-0');
  fails(
    r.call('XADD', 's', '42-*', 'f', 'v'),
    'ERR The ID specified in XADD is equal or smaller than the target stream top item',
  );
  assert.equal(r.call('XADD', 't', '0-*', 'f', 'v'), '0-1');
});

test('0-0 is refused before the key is created', () => {
  const { r } = begin();
  const text = 'ERR The ID specified in XADD must be greater than 0-0';
  fails(r.call('XADD', 's', '0-0', 'f', 'v'), text);
  fails(r.call('XADD', 's', '0', 'f', 'v'), text);
  assert.equal(r.database.size, 0);
  assert.equal(r.call('XLEN', 's'), 0);
});

test('what is neither option nor id is an invalid id', () => {
  const { r } = begin();
  for (const id of ['-', '+', '$', '1-', '-1', '1-2-3', '--', 'abc', '*1', '1-**', '']) {
    fails(
      r.call('XADD', 's', id, 'f', 'v'),
      'ERR Invalid stream ID specified as stream command argument',
    );
  }
});

test('MAXLEN keeps the last entries exactly', () => {
  const { r } = begin();
  for (let i = 0; i < 1000; i++) {
    r.call(
      'XADD',
      's',
      'MAXLEN',
      i % 2 ? '=' : 5,
      i % 2 ? 5 : '*',
      ...(i % 2 ? ['*'] : []),
      i % 7 ? 'x' : 'y',
      i,
    );
  }
  const entries = r.call('XRANGE', 's', '-', '+') as [string, string[]][];
  assert.deepEqual(
    entries.map(([, fields]) => fields[1]),
    ['995', '996', '997', '998', '999'],
  );
});

test('MAXLEN ~ 555 with a hundred entries a node leaves 600 of 1000', () => {
  const { r } = begin();
  for (let i = 0; i < 1000; i++) r.call('XADD', 's', 'MAXLEN', '~', 555, '*', 'x', i);
  assert.equal(r.call('XLEN', 's'), 600);
});

test('MAXLEN 0 adds the entry and removes it with all others', () => {
  const { r } = begin();
  r.call('XADD', 's', '1-1', 'f', 'v');
  assert.equal(r.call('XADD', 's', 'MAXLEN', 0, '2-1', 'f', 'v'), '2-1');
  assert.equal(r.call('XLEN', 's'), 0);
  assert.equal(r.database.size, 1);
});

test('MINID keeps what is not before it', () => {
  const { r } = begin();
  for (let i = 1; i < 1001; i++) {
    r.call('XADD', 's', 'MINID', i >= 5 ? i - 5 : 1000, i, 'x', i);
  }
  const entries = r.call('XRANGE', 's', '-', '+') as [string, string[]][];
  assert.deepEqual(
    entries.map(([id]) => id),
    ['995-0', '996-0', '997-0', '998-0', '999-0', '1000-0'],
  );
});

test('NOMKSTREAM adds only to a stream that is there', () => {
  const { r } = begin();
  assert.equal(r.call('XADD', 's', 'NOMKSTREAM', '*', 'f', 'v'), null);
  assert.equal(r.database.size, 0);
  r.call('XADD', 's', '1-1', 'f', 'v');
  assert.equal(r.call('XADD', 's', 'nomkstream', '1-2', 'f', 'v'), '1-2');
});

test('the options of trimming are checked as Redis checks them', () => {
  const { r } = begin();
  const add = (...args: (string | number)[]) => r.call('XADD', 's', ...args, '*', 'f', 'v');
  const trim = (...args: (string | number)[]) => r.call('XTRIM', 's', ...args);
  const both = 'ERR syntax error, MAXLEN and MINID options at the same time are not compatible';
  fails(add('MAXLEN', 1, 'MINID', 1), both);
  fails(add('MAXLEN', 1, 'MAXLEN', 1), both);
  fails(add('MAXLEN', -1), 'ERR The MAXLEN argument must be >= 0.');
  fails(add('MAXLEN', 'x'), 'ERR value is not an integer or out of range');
  fails(add('MINID', 'x'), 'ERR Invalid stream ID specified as stream command argument');
  fails(
    add('LIMIT', 3),
    'ERR syntax error, LIMIT cannot be used without specifying a trimming strategy',
  );
  fails(add('LIMIT', 0), 'ERR syntax error, LIMIT cannot be used without the special ~ option');
  fails(
    add('MAXLEN', 3, 'LIMIT', 3),
    'ERR syntax error, LIMIT cannot be used without the special ~ option',
  );
  fails(add('MAXLEN', '~', 3, 'LIMIT', -1), 'ERR The LIMIT argument must be >= 0.');
  fails(
    trim('LIMIT', 1),
    'ERR syntax error, LIMIT cannot be used without specifying a trimming strategy',
  );
  fails(trim('LIMIT', 0), 'ERR syntax error, XTRIM must be called with a trimming strategy');
  fails(trim('FOO', 1), 'ERR syntax error');
  fails(trim('KEEPREF', 'DELREF', 'MAXLEN', 1), 'ERR syntax error');
  fails(trim('NOMKSTREAM', 'MAXLEN', 1), 'ERR syntax error');
  assert.equal(trim('MAXLEN', 1), 0);
});

test('XTRIM ~ removes whole nodes only, LIMIT bounds what it removes', () => {
  const { r } = begin();
  for (let i = 0; i < 1000; i++) r.call('XADD', 's', '*', 'x', i);
  r.call('XTRIM', 's', 'MAXLEN', 555);
  assert.equal(r.call('XLEN', 's'), 555);
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', '~', 444), 55);
  assert.equal(r.call('XLEN', 's'), 500);
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', '=', 400), 100);
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', '~', 0, 'LIMIT', 99), 0);
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', '~', 0, 'LIMIT', 150), 100);
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', '~', 0, 'LIMIT', 0), 300);
  assert.equal(r.call('XLEN', 's'), 0);
});

test('~ without LIMIT removes a hundred nodes at most', () => {
  const { server, r } = begin();
  server.engine.nodeLimits.maxEntries = 2;
  for (let i = 0; i < 1000; i++) r.call('XADD', 's', '*', 'x', i);
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', '~', 1), 200);
});

test('ACKED trims only what every group has read and acknowledged', () => {
  const { r } = begin();
  for (let i = 1; i <= 5; i++) r.call('XADD', 's', `${i}-0`, 'f', 'v');
  r.call('XGROUP', 'CREATE', 's', 'g', 0);
  r.call('XADD', 's', 'MAXLEN', '=', 1, 'ACKED', '6-0', 'f', 'v');
  assert.equal(r.call('XLEN', 's'), 6);
  r.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 2, 'STREAMS', 's', '>');
  assert.equal(r.call('XACK', 's', 'g', '2-0'), 1);
  r.call('XADD', 's', 'MAXLEN', 1, 'ACKED', '7-0', 'f', 'v');
  assert.deepEqual(
    (r.call('XRANGE', 's', '-', '+') as [string][]).map(([id]) => id),
    ['1-0', '3-0', '4-0', '5-0', '6-0', '7-0'],
  );
  r.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  r.call('XACK', 's', 'g', '1', '3', '4', '5', '6', '7');
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', '~', 1, 'ACKED'), 5);
});

test('DELREF trims references too, KEEPREF leaves them dangling', () => {
  const { r } = begin();
  for (let i = 1; i <= 4; i++) r.call('XADD', 's', `${i}-0`, 'f', 'v');
  for (const g of ['g', 'h']) {
    r.call('XGROUP', 'CREATE', 's', g, 0);
    r.call('XREADGROUP', 'GROUP', g, 'c', 'STREAMS', 's', '>');
  }
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', 3, 'KEEPREF'), 1);
  assert.equal((r.call('XPENDING', 's', 'g') as Value[])[0], 4);
  assert.equal(r.call('XTRIM', 's', 'MAXLEN', 1, 'DELREF'), 2);
  assert.deepEqual(
    (r.call('XPENDING', 's', 'h', '-', '+', 9) as [string][]).map(([id]) => id),
    ['1-0', '4-0'],
  );
});

test('a key of another type is refused', () => {
  const { r } = begin();
  r.database.set(Buffer.from('k'), { type: 'string', bytes: Buffer.from('v') }, 0);
  const wrong = 'WRONGTYPE Operation against a key holding the wrong kind of value';
  fails(r.call('XADD', 'k', '*', 'f', 'v'), wrong);
  fails(r.call('XADD', 'k', 'NOMKSTREAM', '*', 'f', 'v'), wrong);
  fails(r.call('XTRIM', 'k', 'MAXLEN', 0), wrong);
  fails(r.call('XLEN', 'k'), wrong);
  fails(r.call('XRANGE', 'k', '-', '+'), wrong);
});

test('an idempotent id is added once and answers with the first entry', () => {
  const { r } = begin();
  const first = r.call('XADD', 's', 'IDMP', 'p', 'payment', '*', 'amount', '100');
  assert.equal(r.call('XADD', 's', 'IDMP', 'p', 'payment', '*', 'amount', '200'), first);
  assert.notEqual(r.call('XADD', 's', 'IDMP', 'q', 'payment', '*', 'amount', '200'), first);
  assert.equal(r.call('XLEN', 's'), 2);
  const info = r.call('XINFO', 'STREAM', 's') as Value[];
  const field = (name: string) => info[info.indexOf(name) + 1];
  assert.deepEqual(
    ['pids-tracked', 'iids-tracked', 'iids-added', 'iids-duplicates'].map(field),
    [2, 2, 2, 1],
  );
});

test('IDMPAUTO takes the same content, in any order of the fields, for the same entry', () => {
  const { r } = begin();
  const first = r.call('XADD', 's', 'IDMPAUTO', 'p', '*', 'a', '1', 'b', '2');
  assert.equal(r.call('XADD', 's', 'IDMPAUTO', 'p', '*', 'b', '2', 'a', '1'), first);
  assert.notEqual(r.call('XADD', 's', 'IDMPAUTO', 'p', '*', 'a', '2', 'b', '1'), first);
  assert.notEqual(r.call('XADD', 's', 'IDMPAUTO', 'p', '*', 'a1', 'b2', '', ''), first);
  assert.equal(r.call('XLEN', 's'), 3);
});

test('the options of idempotent producers are checked as Redis checks them', () => {
  const { r } = begin();
  fails(
    r.call('XADD', 's', 'IDMP', 'p', 'i', '1-1', 'f', 'v'),
    'ERR syntax error, IDMP/IDMPAUTO can be used only with auto-generated IDs',
  );
  fails(
    r.call('XADD', 's', 'IDMP', 'p', 'i', '1-*', 'f', 'v'),
    'ERR syntax error, IDMP/IDMPAUTO can be used only with auto-generated IDs',
  );
  const twice = 'ERR syntax error, IDMP/IDMPAUTO specified multiple times';
  fails(r.call('XADD', 's', 'IDMP', 'p', 'i', 'IDMP', 'q', 'j', '*', 'f', 'v'), twice);
  fails(r.call('XADD', 's', 'IDMPAUTO', 'p', 'IDMP', 'q', 'j', '*', 'f', 'v'), twice);
  fails(
    r.call('XADD', 's', 'IDMP', '', 'i', '*', 'f', 'v'),
    'ERR syntax error, IDMP requires a non-empty producer ID',
  );
  fails(
    r.call('XADD', 's', 'IDMP', 'p', '', '*', 'f', 'v'),
    'ERR syntax error, IDMP requires a non-empty idempotent ID',
  );
  fails(
    r.call('XADD', 's', 'IDMPAUTO', '', '*', 'f', 'v'),
    'ERR syntax error, IDMPAUTO requires a non-empty producer ID',
  );
  fails(
    r.call('XADD', 's', 'IDMP', 'p', '*', 'f', 'v'),
    'ERR Invalid stream ID specified as stream command argument',
  );
});

test('a duplicate adds nothing, trims nothing and needs no new key', () => {
  const { r } = begin();
  r.call('XADD', 's', '1-1', 'f', 'v');
  const first = r.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v');
  assert.equal(r.call('XADD', 's', 'IDMP', 'p', 'i', 'MAXLEN', 1, '*', 'f', 'v'), first);
  assert.equal(r.call('XLEN', 's'), 2);
  assert.equal(r.call('XADD', 'none', 'NOMKSTREAM', 'IDMP', 'p', 'i', '*', 'f', 'v'), null);
});

test('idempotent ids are forgotten by number and by age', () => {
  const { server, r } = begin();
  r.call('XADD', 's', '1-1', 'f', 'v');
  assert.equal(r.call('XCFGSET', 's', 'IDMP-MAXSIZE', 2, 'IDMP-DURATION', 10), 'OK');
  const first = r.call('XADD', 's', 'IDMP', 'p', 'a', '*', 'f', 'v');
  r.call('XADD', 's', 'IDMP', 'p', 'b', '*', 'f', 'v');
  r.call('XADD', 's', 'IDMP', 'p', 'c', '*', 'f', 'v');
  assert.notEqual(r.call('XADD', 's', 'IDMP', 'p', 'a', '*', 'f', 'v'), first);
  const recent = r.call('XADD', 's', 'IDMP', 'p', 'd', '*', 'f', 'v');
  server.advance(9_999);
  assert.equal(r.call('XADD', 's', 'IDMP', 'p', 'd', '*', 'f', 'v'), recent);
  server.advance(2);
  assert.notEqual(r.call('XADD', 's', 'IDMP', 'p', 'd', '*', 'f', 'v'), recent);
});

test('XCFGSET forgets everything when it changes something, nothing when it does not', () => {
  const { r } = begin();
  const first = r.call('XADD', 's', 'IDMP', 'p', 'a', '*', 'f', 'v');
  assert.equal(r.call('XCFGSET', 's', 'IDMP-DURATION', 100, 'IDMP-MAXSIZE', 100), 'OK');
  assert.equal(r.call('XADD', 's', 'IDMP', 'p', 'a', '*', 'f', 'v'), first);
  assert.equal(r.call('XCFGSET', 's', 'IDMP-DURATION', 101), 'OK');
  assert.notEqual(r.call('XADD', 's', 'IDMP', 'p', 'a', '*', 'f', 'v'), first);
});

test('XCFGSET says what is wrong with its arguments', () => {
  const { r } = begin();
  r.call('XADD', 's', '*', 'f', 'v');
  const set = (...args: (string | number)[]) => r.call('XCFGSET', ...args);
  fails(set('none', 'IDMP-DURATION', 5), 'ERR no such key');
  fails(set('s'), 'ERR At least one parameter must be specified');
  fails(set('s', 'IDMP-DURATION'), 'ERR syntax error');
  fails(set('s', 'FOO', 1), 'ERR syntax error');
  fails(set('s', 'IDMP-DURATION', 'x'), 'ERR value is not an integer or out of range');
  fails(set('s', 'IDMP-DURATION', 0), 'ERR IDMP-DURATION must be between 1 and 86400 seconds');
  fails(set('s', 'IDMP-MAXSIZE', 10001), 'ERR IDMP-MAXSIZE must be between 1 and 10000 entries');
  fails(
    set('s', 'IDMP-DURATION', 5, 'IDMP-DURATION', 5),
    'ERR IDMP-DURATION specified multiple times',
  );
});

test('XIDMPRECORD remembers an idempotent id of an old entry until the next tick', () => {
  const { server, r } = begin();
  r.call('XADD', 's', '1-1', 'f', 'v');
  r.call('XADD', 's', '2-1', 'f', 'v');
  assert.equal(r.call('XIDMPRECORD', 's', 'p', 'i', '1-1'), 'OK');
  assert.equal(r.call('XIDMPRECORD', 's', 'p', 'i', '1-1'), 'OK');
  fails(
    r.call('XIDMPRECORD', 's', 'p', 'i', '2-1'),
    'ERR IID already exists for this producer with a different stream ID',
  );
  assert.equal(r.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v'), '1-1');
  server.engine.tick();
  assert.equal(r.call('XIDMPRECORD', 's', 'p', 'i', '2-1'), 'OK');
});

test('XIDMPRECORD remembers an idempotent id of an entry that is there', () => {
  const { r } = begin();
  r.call('XADD', 's', `${NOW}-1`, 'f', 'v');
  r.call('XADD', 's', `${NOW}-2`, 'f', 'v');
  assert.equal(r.call('XIDMPRECORD', 's', 'p', 'i', `${NOW}-1`), 'OK');
  assert.equal(r.call('XIDMPRECORD', 's', 'p', 'i', `${NOW}-1`), 'OK');
  fails(
    r.call('XIDMPRECORD', 's', 'p', 'i', `${NOW}-2`),
    'ERR IID already exists for this producer with a different stream ID',
  );
  fails(r.call('XIDMPRECORD', 's', 'p', 'i', `${NOW}-3`), 'ERR No such message in stream');
  fails(r.call('XIDMPRECORD', 'none', 'p', 'i', `${NOW}-3`), 'ERR no such key');
  fails(r.call('XIDMPRECORD', 's', '', 'i', `${NOW}-1`), 'ERR producer ID must be non-empty');
  fails(r.call('XIDMPRECORD', 's', 'p', '', `${NOW}-1`), 'ERR idempotent ID must be non-empty');
  assert.equal(r.call('XADD', 's', 'IDMP', 'p', 'i', '*', 'f', 'v'), `${NOW}-1`);
});
