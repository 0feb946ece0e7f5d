/** DUMP and RESTORE: every value comes back, nothing damaged does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dumpValue, loadValue, openDump } from '../../../src/engine/dump/dump.ts';
import { ListpackWriter } from '../../../src/engine/dump/listpack.ts';
import { RdbWriter } from '../../../src/engine/dump/rdb-writer.ts';
import { StreamId } from '../../../src/stream/stream-id.ts';
import { ByteWriter } from '../../../src/util/byte-writer.ts';
import { writeCrc64 } from '../../../src/util/crc64.ts';
import { Random } from '../../../src/util/random.ts';
import { InProcessServer } from '../../helpers/in-process-server.ts';
import { seedsOf } from '../../helpers/seed.ts';
import { randomCommand } from '../random-commands.ts';
import { pictureOf } from '../state-picture.ts';

/** A server after random commands. */
function busy(seed: number): InProcessServer {
  const server = new InProcessServer();
  const session = server.session();
  const random = new Random(seed);
  for (let i = 0; i < 300; i++) {
    server.clock.advance(random.below(20));
    session.call(...randomCommand(random, new Map()));
  }
  return server;
}

/** The same bytes with a checksum that is right. */
function resealed(opened: Buffer, version = 10): Buffer {
  const payload = Buffer.alloc(opened.length + 10);
  opened.copy(payload);
  payload.writeUInt16LE(version, opened.length);
  writeCrc64(payload, opened.length + 2, payload, opened.length + 2);
  return payload;
}

/** A stream with two nodes, deleted entries, fields that differ, two groups and released entries. */
function sample(): { server: InProcessServer; opened: Buffer } {
  const server = new InProcessServer();
  const r = server.session();
  server.engine.nodeLimits.maxEntries = 4;
  for (let i = 1; i <= 6; i++) r.call('XADD', 's', `${i}-1`, 'n', i * 1000, 'text', 'x'.repeat(i));
  r.call('XADD', 's', '9-9', 'other', '-9223372036854775808');
  r.call('XDEL', 's', '2-1', '6-1');
  r.call('XGROUP', 'CREATE', 's', 'g', '0');
  r.call('XGROUP', 'CREATE', 's', 'h', '0');
  r.call('XREADGROUP', 'GROUP', 'g', 'a', 'COUNT', 2, 'STREAMS', 's', '>');
  r.call('XREADGROUP', 'GROUP', 'g', 'b', 'COUNT', 2, 'STREAMS', 's', '>');
  r.call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '3-1');
  r.call('XADD', 's', 'IDMP', 'p', 'one', '11-1', 'a', 'b');
  r.call('XGROUP', 'SETPOLICY', 's', 'h', 'ACKWAIT', 5000, 'BACKOFF', 100, 1000, '2');
  const value = server.engine.databases[0]?.peekKey(Buffer.from('s'))?.value;
  assert.ok(value !== undefined);
  return { server, opened: openDump(dumpValue(server.engine, value)) as Buffer };
}

function restore(opened: Buffer, version = 10): { server: InProcessServer; reply: unknown } {
  const server = new InProcessServer();
  const reply = server.session().call('RESTORE', 's', 0, resealed(opened, version));
  return { server, reply: reply instanceof Error ? reply.message : reply };
}

/** What was restored answers commands, is the same after a replay, and dumps to the same again. */
function assertSound(server: InProcessServer): void {
  const r = server.session();
  const info = r.call('XINFO', 'STREAM', 's', 'FULL', 'COUNT', 0);
  assert.ok(!(info instanceof Error), String(info));
  r.call('XRANGE', 's', '-', '+');
  server.engine.tick();
  assert.deepEqual(pictureOf(server.replayed().engine), pictureOf(server.engine));
  const dump = r.call('DUMP', 's');
  if (dump === null) return;
  assert.equal(r.call('RESTORE', 't', 0, Buffer.from(dump as string, 'latin1')), 'OK');
}

test('ids at every limit of a double and of 64 bits come back, also next to each other', () => {
  const limits = [0n, 1n, 2n ** 32n, 2n ** 52n, 2n ** 53n, 2n ** 63n, 2n ** 64n].flatMap((limit) =>
    [limit - 1n, limit, limit + 1n].filter((number) => number >= 0n && number < 2n ** 64n),
  );
  const numbers = [...new Set(limits)].sort((a, b) => (a < b ? -1 : 1));
  const ids = numbers.flatMap((ms) => numbers.map((seq) => `${ms}-${seq}`)).slice(1);
  // Nodes that begin at each place in the order of limits, so that differences go both ways.
  for (const maxEntries of [1000, 9, 2]) {
    const server = new InProcessServer();
    const session = server.session();
    server.engine.nodeLimits.maxEntries = maxEntries;
    for (const id of ids) session.call('XADD', 's', id, 'f', 'v');
    const value = server.engine.databases[0]?.peekKey(Buffer.from('s'))?.value;
    assert.ok(value !== undefined);
    const { server: other, reply } = restore(openDump(dumpValue(server.engine, value)) as Buffer);
    assert.equal(reply, 'OK');
    const entries = other.session().call('XRANGE', 's', '-', '+') as [string, unknown][];
    assert.deepEqual(
      entries.map(([id]) => id),
      ids,
    );
  }
});

test('what DUMP gives, RESTORE makes into the same value: streams with groups and pending too', (t) => {
  for (const seed of seedsOf(t, 20)) {
    const from = busy(seed);
    // What is due by now comes first, so that nothing does meanwhile.
    from.engine.tick();
    const to = new InProcessServer(from.clock.now());
    to.engine.turn();
    for (const [index, database] of from.engine.databases.entries()) {
      for (const { key, value, expireAt } of database.entries()) {
        const opened = openDump(dumpValue(from.engine, value));
        assert.ok(opened !== null);
        to.engine.databases[index]?.restore(key, expireAt, loadValue(to.engine, opened));
      }
    }
    from.engine.tick();
    // Redis's encoding has no place for when an idempotent id was recorded: its entry's id tells.
    const details = { idempotency: 'without times' as const };
    assert.deepEqual(
      pictureOf(to.engine, details),
      pictureOf(from.engine, details),
      `seed ${seed}`,
    );
    assert.deepEqual(pictureOf(to.replayed().engine), pictureOf(to.engine), `seed ${seed}`);
  }
});

test('idle times survive a move between servers whose clocks were set', () => {
  for (const step of [-3_600_000, 0, 3_600_000]) {
    const from = new InProcessServer();
    const r = from.session();
    r.call('XADD', 's', '1-1', 'a', 'b');
    r.call('XGROUP', 'CREATE', 's', 'g', '0');
    r.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
    // The date moves, but no time passes.
    from.clock.setNow(from.clock.now() + step);
    from.engine.tick();
    from.advance(60_000);
    const dump = Buffer.from(r.call('DUMP', 's') as string, 'latin1');
    const to = new InProcessServer(from.clock.now() + step);
    const target = to.session();
    to.clock.setNow(from.clock.now());
    to.engine.tick();
    assert.equal(target.call('RESTORE', 's', 0, dump), 'OK');
    const expected = [['1-1', 'c', 60_000, 1]];
    assert.deepEqual(r.call('XPENDING', 's', 'g', '-', '+', 10), expected, `step ${step}`);
    assert.deepEqual(target.call('XPENDING', 's', 'g', '-', '+', 10), expected, `step ${step}`);
  }
});

test('a payload in which any byte was changed is refused', () => {
  const server = busy(3);
  const random = new Random(1);
  for (const { value } of server.engine.databases[0]?.entries() ?? []) {
    const payload = dumpValue(server.engine, value);
    for (let i = 0; i < 50; i++) {
      const broken = Buffer.from(payload);
      const at = random.below(broken.length);
      broken[at] = (broken[at] as number) ^ (1 << random.below(8));
      assert.equal(openDump(broken), null);
    }
    assert.equal(openDump(payload.subarray(0, payload.length - 1)), null);
  }
});

test('a dump cut off at any byte under a right checksum is no value, and no key is made', () => {
  const { opened } = sample();
  const { reply, server } = restore(opened);
  assert.equal(reply, 'OK');
  assertSound(server);
  // Without what Redis has no field for, the value is whole.
  const whole = opened.indexOf('RVLT');
  assert.ok(whole > 0);
  for (let length = 0; length < opened.length; length++) {
    const cut = restore(opened.subarray(0, length));
    if (length === whole) assert.equal(cut.reply, 'OK');
    else {
      assert.equal(cut.reply, 'ERR Bad data format', `${length} bytes`);
      assert.equal(cut.server.session().call('EXISTS', 's'), 0);
    }
  }
  assert.equal(restore(Buffer.concat([opened, Buffer.from([0])])).reply, 'ERR Bad data format');
});

test('a changed byte under a right checksum is refused, or gives a stream that is sound', () => {
  const { opened } = sample();
  let refused = 0;
  for (let at = 0; at < opened.length; at++) {
    for (const value of [0, 0x40, 0x81, 0xff, (opened[at] as number) ^ 1]) {
      const broken = Buffer.from(opened);
      broken[at] = value;
      const { reply, server } = restore(broken);
      if (reply === 'OK') assertSound(server);
      else {
        assert.match(String(reply), /^ERR Bad data format/);
        assert.equal(server.session().call('EXISTS', 's'), 0);
        assert.equal(server.journal.records.length, 0);
        refused++;
      }
    }
  }
  assert.ok(refused > opened.length, `${refused} refused`);
});

test('bytes that a changed payload only declares are not allocated', () => {
  const { opened } = sample();
  const huge = Buffer.from('810000000ffffffff0', 'hex');
  const large = Buffer.from('801ffffff0', 'hex');
  const lzf = Buffer.from('c305801ffffff0', 'hex');
  const before = process.memoryUsage().arrayBuffers;
  for (let at = 1; at < opened.length; at++) {
    for (const length of [huge, large, lzf]) {
      for (const kept of [at, at + 1, at + 5]) {
        const broken = Buffer.concat([opened.subarray(0, at), length, opened.subarray(kept)]);
        const { reply } = restore(broken);
        assert.ok(reply === 'OK' || reply === 'ERR Bad data format', String(reply));
      }
    }
    const grown = process.memoryUsage().arrayBuffers - before;
    assert.ok(grown < 200_000_000, `${grown} bytes at ${at}`);
  }
});

test('RESTORE says what is wrong, and replaces only with REPLACE', () => {
  const server = new InProcessServer();
  const r = server.session();
  r.call('SET', 'k', 'v');
  const payload = dumpValue(server.engine, { type: 'string', bytes: Buffer.from('new') });
  const error = (...args: (string | Buffer)[]): string => (r.call(...args) as Error).message;
  assert.equal(error('RESTORE', 'k', '0', payload), 'BUSYKEY Target key name already exists.');
  assert.equal(
    error('RESTORE', 'l', '0', payload.subarray(0, -1)),
    'ERR DUMP payload version or checksum are wrong',
  );
  assert.equal(
    error('RESTORE', 'l', '0', resealed(payload.subarray(0, -10), 500)),
    'ERR DUMP payload version or checksum are wrong',
  );
  assert.equal(
    error('RESTORE', 'l', '0', resealed(Buffer.from([4, 0]))),
    'ERR Bad data format: it is a hash; this server holds strings and streams only',
  );
  assert.equal(r.call('RESTORE', 'k', '0', payload, 'REPLACE'), 'OK');
  assert.equal(r.call('GET', 'k'), 'new');
  assert.equal(r.call('RESTORE', 'l', '500', payload), 'OK');
  assert.equal(r.call('PTTL', 'l'), 500);
  assert.equal(r.call('RESTORE', 'l', '1', payload, 'REPLACE', 'ABSTTL'), 'OK');
  assert.equal(r.call('EXISTS', 'l'), 0);
});

test('a string dumps to the bytes that Redis dumps it to, in all forms of a string', () => {
  const server = new InProcessServer();
  const r = server.session();
  const forms = {
    '7': '00c007',
    '-128': '00c080',
    '300': '00c12c01',
    '-70000': '00c290eefeff',
    '2147483648': '000a32313437343833363438',
    '007': '0003303037',
    hello: '000568656c6c6f',
    '': '0000',
  };
  for (const [text, hex] of Object.entries(forms)) {
    r.call('SET', 'k', text);
    const dump = Buffer.from(r.call('DUMP', 'k') as string, 'latin1');
    assert.equal(dump.subarray(0, -10).toString('hex'), hex, text);
    assert.equal(dump.readUInt16LE(dump.length - 10), 10);
    assert.equal(r.call('RESTORE', 'l', 0, dump, 'REPLACE'), 'OK');
    assert.equal(r.call('GET', 'l'), text);
  }
});

test('a string that Redis compressed is read, and one that says too much is not', () => {
  const tenAs = Buffer.from('00c3050a0061e00000', 'hex');
  const { server, reply } = restore(tenAs);
  assert.equal(reply, 'OK');
  assert.equal(server.session().call('GET', 's'), 'a'.repeat(10));
  for (const wrong of [
    '00c3050b0061e00000',
    '00c305090061e00000',
    '00c3050a0061e00001',
    '00c3050a2061e00000',
    '00c30581000000ffffffffff0061e00000',
  ]) {
    assert.equal(restore(Buffer.from(wrong, 'hex')).reply, 'ERR Bad data format', wrong);
  }
});

/** Where a defect of meaning goes: a payload written by hand, one part of it wrong. */
interface Written {
  type?: number;
  groupId?: number;
  length?: number;
  lastId?: number;
  added?: number;
  entries?: [ms: number, flags: number][];
  live?: number;
  deleted?: number;
  pending?: [ms: number, time: number][];
  zone?: number[];
  consumers?: [name: string, seen: number, active: number, owned: number[]][];
  groups?: string[];
  ids?: [producer: string, iid: string][];
  window?: [duration: number, maxsize: number];
}

function written(parts: Written): Buffer {
  const writer = new RdbWriter();
  const id = (ms: number): void => StreamId.of(ms, 0).encode(writer);
  const entries = parts.entries ?? [
    [1, 2],
    [2, 2],
    [3, 3],
  ];
  const type = parts.type ?? 27;
  writer.u8(type);
  writer.count(1);
  writer.count(16);
  id(1);
  const node = new ByteWriter();
  const pack = new ListpackWriter(node);
  pack.begin();
  for (const n of [parts.live ?? 2, parts.deleted ?? 1, 1]) pack.integer(n);
  pack.text(Buffer.from('field'), 0, 5);
  pack.integer(0);
  for (const [ms, flags] of entries) {
    for (const n of [flags, ms - 1, 0]) pack.integer(n);
    pack.text(Buffer.from('value'), 0, 5);
    pack.integer(4);
  }
  pack.end();
  writer.count(node.length);
  writer.raw(node.buffer, 0, node.length);
  writer.count(parts.length ?? 2);
  writer.id(StreamId.of(parts.lastId ?? 3, 0));
  if (type > 15) {
    writer.id(StreamId.of(1, 0));
    writer.id(StreamId.of(3, 0));
    writer.count(parts.added ?? 3);
  }
  const groups = parts.groups ?? ['g'];
  writer.count(groups.length);
  for (const name of groups) {
    writer.string(Buffer.from(name));
    writer.id(StreamId.of(parts.groupId ?? 3, 0));
    if (type > 15) writer.count(3);
    const pending = parts.pending ?? [
      [1, 1000],
      [2, 2000],
    ];
    writer.count(pending.length);
    for (const [ms, time] of pending) {
      id(ms);
      writer.time(time);
      writer.count(1);
    }
    const consumers = parts.consumers ?? [['c', 1000, -1, [1]]];
    writer.count(consumers.length);
    for (const [consumer, seen, active, owned] of consumers) {
      writer.string(Buffer.from(consumer));
      writer.time(seen);
      if (type > 19) writer.time(active);
      writer.count(owned.length);
      for (const ms of owned) id(ms);
    }
    if (type < 27) continue;
    const zone = parts.zone ?? [2];
    writer.count(zone.length);
    for (const ms of zone) id(ms);
  }
  if (type < 26) return writer.toBuffer();
  const [duration, maxsize] = parts.window ?? [100, 2];
  const ids = parts.ids ?? [['p', 'one']];
  writer.count(duration);
  writer.count(maxsize);
  writer.count(ids.length);
  for (const [producer, iid] of ids) {
    writer.string(Buffer.from(producer));
    writer.count(1);
    writer.string(Buffer.from(iid));
    writer.id(StreamId.of(1, 0));
  }
  writer.count(ids.length);
  writer.count(0);
  return writer.toBuffer();
}

const DEFECTS: Record<string, Written> = {
  'a length that the entries are not': { length: 3 },
  'a last id before the last entry': { lastId: 2 },
  'fewer entries added than there are': { added: 1 },
  'ids that do not ascend': {
    entries: [
      [1, 2],
      [3, 2],
      [2, 3],
    ],
  },
  'an id twice': {
    entries: [
      [1, 2],
      [1, 2],
      [3, 3],
    ],
  },
  'more entries than the node says': { live: 1 },
  'fewer entries than the node says': { live: 3 },
  'a deleted entry that is counted as live': { live: 3, deleted: 0, length: 3 },
  'flags that are not known': {
    entries: [
      [1, 6],
      [2, 2],
      [3, 3],
    ],
  },
  'pending ids that do not ascend': {
    pending: [
      [2, 1],
      [1, 1],
    ],
  },
  'a pending id twice': {
    pending: [
      [1, 1],
      [1, 1],
      [2, 1],
    ],
  },
  'a delivery time before all time': {
    pending: [
      [1, -5],
      [2, 1],
    ],
  },
  'a delivery time that is no exact number': {
    pending: [
      [1, 2 ** 60],
      [2, 1],
    ],
  },
  'a pending entry that belongs to no consumer': { zone: [] },
  'a pending entry of two consumers': {
    consumers: [
      ['a', 1, 1, [1]],
      ['b', 1, 1, [1]],
    ],
  },
  'a pending entry that is owned and released': { zone: [1, 2] },
  'a released entry that is not pending': { zone: [2, 7] },
  'an owned entry that is not pending': { consumers: [['c', 1, 1, [1, 9]]] },
  'a consumer twice': {
    consumers: [
      ['a', 1, 1, [1]],
      ['a', 1, 1, []],
    ],
  },
  'a seen time before all time': { consumers: [['c', -1, 1, [1]]] },
  'a seen time that is no exact number': { consumers: [['c', 2 ** 60, 1, [1]]] },
  'an active time before never': { consumers: [['c', 1, -2, [1]]] },
  'a group twice': { groups: ['g', 'g'] },
  'an idempotent id twice': {
    ids: [
      ['p', 'one'],
      ['p', 'one'],
    ],
  },
  'a window of idempotent ids that holds none': { window: [100, 0] },
  'a window of idempotent ids that never ends': { window: [2 ** 40, 100] },
};

test('a payload written by hand is restored when all of it agrees', () => {
  const { server, reply } = restore(written({}), 14);
  assert.equal(reply, 'OK');
  const r = server.session();
  assert.deepEqual(r.call('XPENDING', 's', 'g', '-', '+', 10), [
    ['1-0', 'c', server.clock.now() - 1000, 1],
    ['2-0', '', -1, 1],
  ]);
  assertSound(server);
});

test('each type of stream is read, and what an older one lacks is what Redis takes for it', () => {
  const fact = (server: InProcessServer, ...args: string[]): unknown => {
    const group = (server.session().call('XINFO', ...args) as unknown[][])[0] as unknown[];
    return (name: string) => group[group.indexOf(name) + 1];
  };
  for (const type of [15, 19, 21, 26, 27]) {
    const owned = type === 27 ? [1] : [1, 2];
    const consumers: Written['consumers'] = [['c', 1000, 500, owned]];
    const { server, reply } = restore(written({ type, groupId: 1, consumers }), 11);
    assert.equal(reply, 'OK', `type ${type}`);
    const group = fact(server, 'GROUPS', 's') as (name: string) => unknown;
    assert.equal(group('entries-read'), type === 15 ? 1 : 3, `type ${type}`);
    const consumer = fact(server, 'CONSUMERS', 's', 'g') as (name: string) => unknown;
    const active = type < 21 ? 1000 : 500;
    assert.equal(consumer('inactive'), server.clock.now() - active, `type ${type}`);
    assertSound(server);
  }
});

for (const [defect, parts] of Object.entries(DEFECTS)) {
  test(`RESTORE refuses ${defect}`, () => {
    const { server, reply } = restore(written(parts), 14);
    assert.equal(reply, 'ERR Bad data format');
    assert.equal(server.session().call('EXISTS', 's'), 0);
  });
}
