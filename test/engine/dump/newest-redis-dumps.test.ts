/**
 * Payloads of the newest Redis: streams of type 26 (8.6, idempotent ids) and of type 27 (8.8, entries that
 * XNACK released), made byte by byte from the format and not by this server's writer.
 *
 * Source of the format: Redis 8.x rdb.c (rdbSaveObject, rdbLoadObject), t_stream.c, listpack.c.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeCrc64 } from '../../../src/util/crc64.ts';
import { InProcessServer, type Value } from '../../helpers/in-process-server.ts';
import { pictureOf } from '../state-picture.ts';

/** The date of a server in a test; ids of entries are at it and after it. */
const NOW = 1_700_000_000_000;
/** RDB versions of Redis 8.6 and 8.8. */
const VERSIONS: Record<number, number> = { 26: 13, 27: 14 };

// The primitives of the encoding.

const bytes = (...values: number[]): Buffer => Buffer.from(values);

function length(value: number): Buffer {
  if (value < 64) return bytes(value);
  if (value < 16_384) return bytes(0x40 | (value >> 8), value & 255);
  const long = Buffer.alloc(9, 0x81);
  long.writeBigUInt64BE(BigInt(value), 1);
  return long;
}

const text = (value: string): Buffer => Buffer.concat([length(value.length), Buffer.from(value)]);

function time(ms: number): Buffer {
  const eight = Buffer.alloc(8);
  eight.writeBigInt64LE(BigInt(ms));
  return eight;
}

/** An id as sixteen bytes: what nodes and pending lists name entries by. */
function name(after: number): Buffer {
  const sixteen = Buffer.alloc(16);
  sixteen.writeBigUInt64BE(BigInt(NOW + after));
  return sixteen;
}

/** An id as two lengths. */
const id = (after: number): Buffer => Buffer.concat([length(NOW + after), length(0)]);

const list = <T>(items: readonly T[], each: (item: T) => Buffer): Buffer =>
  Buffer.concat([length(items.length), ...items.map(each)]);

/** Small integers and short texts. */
function listpack(items: readonly (number | string)[]): Buffer {
  const body = items.map((item) =>
    typeof item === 'number'
      ? bytes(item, 1)
      : Buffer.concat([bytes(0x80 | item.length), Buffer.from(item), bytes(item.length + 1)]),
  );
  const head = Buffer.alloc(6);
  const all = Buffer.concat([head, ...body, bytes(0xff)]);
  all.writeUInt32LE(all.length, 0);
  all.writeUInt16LE(items.length, 4);
  return all;
}

// The parts of a stream.

interface Pending {
  readonly at: number;
  readonly time?: number;
  readonly deliveries?: number;
}

interface Parts {
  type?: number;
  pending?: readonly Pending[];
  consumers?: readonly { name: string; active?: number; has: readonly number[] }[];
  /** Released entries, first released first; null = not there at all. */
  released?: readonly number[] | null;
  duration?: number;
  maxsize?: number;
  producers?: readonly { name: string; ids: readonly (readonly [iid: string, at: number])[] }[];
  added?: number;
  duplicates?: number;
  behind?: Buffer;
}

/** Four entries at NOW, one ms apart; a group that has read them all. */
function payload(parts: Parts = {}): Buffer {
  const type = parts.type ?? 27;
  const entries = ['a', 'b', 'c', 'd'].flatMap((value, i) => [2, i, 0, value, 4]);
  const isReleased = type === 27;
  // XNACK sets the time of an entry that it releases to 0.
  const releasedAt = isReleased ? 0 : NOW - 5000;
  const pending = parts.pending ?? [
    { at: 0 },
    { at: 1, time: releasedAt },
    { at: 2, time: releasedAt },
    { at: 3 },
  ];
  const consumers = parts.consumers ?? [
    { name: 'one', has: isReleased ? [0, 3] : [0, 1, 2, 3] },
    { name: 'two', active: -1, has: [] },
  ];
  const released = parts.released === undefined ? [2, 1] : parts.released;
  const producers = parts.producers ?? [
    {
      name: 'p',
      ids: [
        ['first', 0],
        ['second', 1],
      ],
    },
    { name: 'q', ids: [['first', 2]] },
  ];
  return Buffer.concat([
    bytes(type),
    length(1),
    bytes(16),
    name(0),
    stringOf(listpack([4, 0, 1, 'f', 0, ...entries])),
    length(4),
    id(3),
    id(0),
    bytes(0, 0),
    length(4),
    length(1),
    text('g'),
    id(3),
    length(4),
    list(pending, (row) =>
      Buffer.concat([name(row.at), time(row.time ?? NOW - 5000), length(row.deliveries ?? 2)]),
    ),
    list(consumers, (consumer) =>
      Buffer.concat([
        text(consumer.name),
        time(NOW - 1000),
        time(consumer.active ?? NOW - 2000),
        list(consumer.has, name),
      ]),
    ),
    isReleased && released !== null ? list(released, name) : bytes(),
    length(parts.duration ?? 60),
    length(parts.maxsize ?? 100),
    list(producers, (producer) =>
      Buffer.concat([
        text(producer.name),
        list(producer.ids, ([iid, at]) => Buffer.concat([text(iid), id(at)])),
      ]),
    ),
    length(parts.added ?? 3),
    length(parts.duplicates ?? 7),
    parts.behind ?? bytes(),
  ]);
}

const stringOf = (content: Buffer): Buffer => Buffer.concat([length(content.length), content]);

function sealed(opened: Buffer, version: number): Buffer {
  const all = Buffer.concat([opened, Buffer.alloc(10)]);
  all.writeUInt16LE(version, opened.length);
  writeCrc64(all, opened.length + 2, all, opened.length + 2);
  return all;
}

function restored(opened: Buffer): { server: InProcessServer; reply: unknown } {
  const server = new InProcessServer(NOW + 10);
  const version = VERSIONS[opened[0] as number] ?? 14;
  const reply = server.session().call('RESTORE', 's', 0, sealed(opened, version));
  return { server, reply: reply instanceof Error ? reply.message : reply };
}

function facts(reply: Value): Map<Value, Value> {
  const flat = reply as Value[];
  return new Map(
    flat.flatMap((_, i) => (i % 2 === 0 ? [[flat[i], flat[i + 1]] as const] : [])) as [
      Value,
      Value,
    ][],
  );
}

test('a stream of type 26 comes in whole: entries, group, consumers, idempotent ids', () => {
  const { server, reply } = restored(payload({ type: 26 }));
  assert.equal(reply, 'OK');
  const r = server.session();
  assert.deepEqual(
    (r.call('XRANGE', 's', '-', '+') as Value[][]).map(([, fields]) => fields),
    [
      ['f', 'a'],
      ['f', 'b'],
      ['f', 'c'],
      ['f', 'd'],
    ],
  );
  assert.deepEqual(
    r.call('XPENDING', 's', 'g', '-', '+', 10),
    [0, 1, 2, 3].map((at) => [`${NOW + at}-0`, 'one', 5010, 2]),
  );
  const stream = facts(r.call('XINFO', 'STREAM', 's') as Value);
  for (const [fact, value] of [
    ['idmp-duration', 60],
    ['idmp-maxsize', 100],
    ['pids-tracked', 2],
    ['iids-tracked', 3],
    ['iids-added', 3],
    ['iids-duplicates', 7],
  ] as const) {
    assert.equal(stream.get(fact), value, fact);
  }
  // What was sent before the move is known after it, to its own producer.
  assert.equal(r.call('XADD', 's', 'IDMP', 'p', 'second', '*', 'f', 'again'), `${NOW + 1}-0`);
  assert.notEqual(r.call('XADD', 's', 'IDMP', 'q', 'second', '*', 'f', 'new'), `${NOW + 1}-0`);
  assert.equal(r.call('XLEN', 's'), 5);
  assert.deepEqual(pictureOf(server.replayed().engine), pictureOf(server.engine));
});

test('a stream of type 27 comes in whole: released entries have no owner, in their order', () => {
  const { server, reply } = restored(payload());
  assert.equal(reply, 'OK');
  const r = server.session();
  assert.deepEqual(r.call('XPENDING', 's', 'g', '-', '+', 10), [
    [`${NOW}-0`, 'one', 5010, 2],
    [`${NOW + 1}-0`, '', -1, 2],
    [`${NOW + 2}-0`, '', -1, 2],
    [`${NOW + 3}-0`, 'one', 5010, 2],
  ]);
  const full = facts(r.call('XINFO', 'STREAM', 's', 'FULL') as Value);
  const [group] = full.get('groups') as [Value];
  assert.equal(facts(group).get('nacked-count'), 2);
  // The first released is claimed first, before those that are idle.
  const claim = ['XREADGROUP', 'GROUP', 'g', 'two', 'CLAIM', 1000, 'STREAMS', 's', '>'];
  const claimed = String(JSON.stringify(r.call(...claim))).match(/\d{13}-0/g);
  assert.deepEqual(
    claimed,
    [2, 1, 0, 3].map((at) => `${NOW + at}-0`),
  );
  assert.deepEqual(pictureOf(server.replayed().engine), pictureOf(server.engine));
});

for (const type of [26, 27]) {
  test(`DUMP of a stream of type ${type} is the payload it came in with, and says its version`, () => {
    const opened = payload({ type });
    const { server, reply } = restored(opened);
    assert.equal(reply, 'OK');
    const dump = Buffer.from(server.session().call('DUMP', 's') as string, 'latin1');
    assert.equal(dump.subarray(0, -10).toString('hex'), opened.toString('hex'));
    assert.equal(dump.readUInt16LE(dump.length - 10), VERSIONS[type]);
  });

  test(`a payload of type ${type} cut off at any byte is no value, and no key is made`, () => {
    const opened = payload({ type });
    for (let end = 1; end < opened.length; end++) {
      const { server, reply } = restored(opened.subarray(0, end));
      assert.equal(reply, 'ERR Bad data format', `${end} bytes of ${opened.length}`);
      assert.equal(server.session().call('EXISTS', 's'), 0);
      assert.equal(server.journal.records.length, 0);
    }
  });

  test(`a payload of type ${type} under a wrong checksum or an unknown version is refused`, () => {
    const r = new InProcessServer(NOW).session();
    const whole = sealed(payload({ type }), VERSIONS[type] as number);
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] as number) ^ 1;
      const reply = r.call('RESTORE', 's', 0, changed) as Error;
      assert.equal(reply.message, 'ERR DUMP payload version or checksum are wrong', `byte ${at}`);
    }
  });
}

/** Payloads whose bytes are right and whose meaning is not. */
const WRONG: Record<string, Parts> = {
  'type 26: an entry that no consumer has': {
    type: 26,
    consumers: [{ name: 'one', has: [0, 1, 2] }],
  },
  'type 26: released entries behind the consumers, which only type 27 has': {
    type: 26,
    consumers: [{ name: 'one', has: [0, 3] }],
    behind: list([2, 1], name),
  },
  'type 26: bytes behind the counters': { type: 26, behind: bytes(0) },
  'type 26: a window of no time': { type: 26, duration: 0 },
  'type 26: a window longer than a day': { type: 26, duration: 86_401 },
  'type 26: a window of no ids': { type: 26, maxsize: 0 },
  'type 26: a window of too many ids': { type: 26, maxsize: 10_001 },
  'type 26: more ids than the window holds': { type: 26, maxsize: 1 },
  'type 26: an id twice of one producer': {
    type: 26,
    producers: [
      {
        name: 'p',
        ids: [
          ['x', 0],
          ['x', 1],
        ],
      },
    ],
  },
  'type 26: a producer twice, with the same id': {
    type: 26,
    producers: [
      { name: 'p', ids: [['x', 0]] },
      { name: 'p', ids: [['x', 1]] },
    ],
  },
  'type 26: an entry of two consumers': {
    type: 26,
    consumers: [
      { name: 'one', has: [0, 1, 2, 3] },
      { name: 'two', has: [3] },
    ],
  },
  'type 26: an active time before never': {
    type: 26,
    consumers: [{ name: 'one', active: -2, has: [0, 1, 2, 3] }],
  },
  'type 27: no list of released entries': { released: null },
  'type 27: a released entry that is not pending': { released: [2, 1, 9] },
  'type 27: a released entry twice': { released: [2, 1, 2] },
  'type 27: a released entry that a consumer has': { released: [2, 1, 0] },
  'type 27: an entry that is neither released nor a consumer’s': { released: [2] },
  'type 27: released entries of a group that has none pending': {
    pending: [],
    consumers: [],
    released: [1],
  },
  'type 27: bytes behind the counters': { behind: bytes(0) },
  'type 27: pending entries out of order': {
    pending: [{ at: 0 }, { at: 2 }, { at: 1 }, { at: 3 }],
  },
  'type 27: a delivery before all time': {
    pending: [{ at: 0, time: -1 }, { at: 1 }, { at: 2 }, { at: 3 }],
  },
  'type 27: more idempotent ids than the window holds': { maxsize: 1 },
};

for (const [what, parts] of Object.entries(WRONG)) {
  test(`RESTORE refuses a payload of ${what}`, () => {
    const { server, reply } = restored(payload(parts));
    assert.equal(reply, 'ERR Bad data format');
    assert.equal(server.session().call('EXISTS', 's'), 0);
    assert.equal(server.journal.records.length, 0);
  });
}
