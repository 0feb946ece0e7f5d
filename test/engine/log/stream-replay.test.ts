/**
 * Effect records of streams: replayed into an empty engine they give the state that wrote them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PendingCursor } from '../../../src/consumer-groups/pending/pending-cursor.ts';
import { UNOWNED } from '../../../src/consumer-groups/pending/pending-page.ts';
import type { KeyEntry } from '../../../src/engine/keyspace/key-entry.ts';
import { DamagedRecord, Replay } from '../../../src/engine/log/replay.ts';
import { StreamRecord } from '../../../src/engine/streams/stream-records.ts';
import { streamReplayHandlers } from '../../../src/engine/streams/stream-replay.ts';
import { Random } from '../../../src/util/random.ts';
import {
  type Argument,
  InProcessServer,
  type InProcessSession,
  type Value,
} from '../../helpers/in-process-server.ts';
import { randomOf } from '../../helpers/seed.ts';

const KEYS = ['a', 'b'];
const GROUPS = ['g', 'h'];
const CONSUMERS = ['x', 'y', 'z'];

/** One random command; most of them make sense most of the time. */
function command(random: Random, now: number): Argument[] {
  const key = random.pick(KEYS);
  const group = random.pick(GROUPS);
  const consumer = random.pick(CONSUMERS);
  const id = () => `${now - random.below(40)}-${random.below(3)}`;
  const ids = () => Array.from({ length: 1 + random.below(6) }, id);
  const references = () => random.pick([[], ['KEEPREF'], ['DELREF'], ['ACKED']]);
  const threshold = () =>
    random.chance(0.5) ? ['MAXLEN', random.below(60)] : ['MINID', now - random.below(60)];
  const trim = (): Argument[] => {
    const [strategy, bound] = threshold();
    return [...references(), strategy, ...(random.chance(0.5) ? ['~'] : []), bound];
  };
  const counted = () => {
    const list = ids();
    return ['IDS', list.length, ...list];
  };
  const fields = () => ['f', random.below(100), ...(random.chance(0.2) ? ['g', 'x'] : [])];
  const read = (...more: Argument[]) => ['XREADGROUP', 'GROUP', group, consumer, ...more];
  const commands: (() => Argument[])[] = [
    () => ['XADD', key, '*', ...fields()],
    () => ['XADD', key, '*', ...fields()],
    () => ['XADD', key, '*', ...fields()],
    () => ['XADD', key, `${now}-*`, ...fields()],
    () => ['XADD', key, ...trim(), '*', ...fields()],
    () => ['XADD', key, 'IDMP', consumer, random.below(9), '*', ...fields()],
    () => ['XADD', key, 'IDMPAUTO', consumer, '*', ...fields()],
    () => ['XTRIM', key, ...trim()],
    () => ['XDEL', key, ...ids()],
    () => ['XDELEX', key, ...references(), ...counted()],
    () => ['XACKDEL', key, group, ...references(), ...counted()],
    () => ['XGROUP', 'CREATE', key, group, random.chance(0.5) ? '$' : '0', 'MKSTREAM'],
    () => ['XGROUP', 'SETID', key, group, id(), 'ENTRIESREAD', random.below(20) - 1],
    () => (random.chance(0.2) ? ['XGROUP', 'DESTROY', key, group] : ['XLEN', key]),
    () => ['XGROUP', 'CREATECONSUMER', key, group, consumer],
    () => (random.chance(0.3) ? ['XGROUP', 'DELCONSUMER', key, group, consumer] : ['XLEN', key]),
    () => read('COUNT', 1 + random.below(8), 'STREAMS', key, '>'),
    () => read('COUNT', 1 + random.below(8), 'STREAMS', key, '>'),
    () => read('NOACK', 'COUNT', 1 + random.below(3), 'STREAMS', key, '>'),
    () => read('COUNT', random.below(4), 'STREAMS', key, id()),
    () => read('CLAIM', random.below(30), 'COUNT', 1 + random.below(5), 'STREAMS', key, '>'),
    () => read('CLAIM', 9, 'HANDOVER', random.below(4), 'COUNT', 8, 'STREAMS', key, '>'),
    () => ['XACK', key, group, ...ids()],
    () => ['XNACK', key, group, random.pick(['SILENT', 'FAIL', 'FATAL']), ...counted(), 'FORCE'],
    () => ['XCLAIM', key, group, consumer, random.below(20), ...ids(), 'IDLE', random.below(50)],
    () => ['XCLAIM', key, group, consumer, 0, ...ids(), 'FORCE', 'RETRYCOUNT', random.below(9)],
    () => ['XCLAIM', key, group, consumer, 0, id(), 'JUSTID', 'LASTID', id()],
    () => [
      'XAUTOCLAIM',
      key,
      group,
      consumer,
      random.below(30),
      id(),
      'COUNT',
      1 + random.below(9),
    ],
    () => (random.chance(0.3) ? ['SET', 'text', 'v'] : ['DEL', 'text']),
    () => ['XSETID', key, `${now + random.below(3)}-0`],
    () =>
      random.chance(0.1) ? ['XCFGSET', key, 'IDMP-MAXSIZE', 3 + random.below(3)] : ['XLEN', key],
    () => ['XIDMPRECORD', key, consumer, random.below(9), id()],
    () => ['XGROUP', 'SETPOLICY', key, group, ...policy(random, key)],
    () => (random.chance(0.2) ? ['XGROUP', 'DELPOLICY', key, group] : ['XLEN', key]),
    () => [
      'XNACK',
      key,
      group,
      random.pick(['FAIL', 'FAIL', 'SILENT', 'FATAL', 'DEADLETTER']),
      'IDS',
      40,
      ...Array.from({ length: 40 }, (_, ago) => `${now - ago}-0`),
      ...(random.chance(0.5) ? ['DELAY', random.below(40)] : []),
      ...(random.chance(0.3) ? ['FORCE'] : []),
      ...(random.chance(0.3) ? ['REASON', 'no'] : []),
    ],
    () => ['XADD', key, 'DELAY', 1 + random.below(30), '*', ...fields()],
    () => ['XADD', key, ...trim(), 'AT', now + random.below(30), '*', ...fields()],
    () => ['XADD', key, 'IDMP', consumer, random.below(9), 'DELAY', 5, '*', ...fields()],
    () => ['XSCHEDULE', 'CANCEL', key, `s${1 + random.below(60)}`, `s${1 + random.below(60)}`],
    () =>
      random.chance(0.3)
        ? ['XCFGSET', key, random.pick(['MAXAGE', 'MAXLEN', 'MAXBYTES']), random.below(600)]
        : ['XCFGSET', key, 'MAXAGE', 0, 'MAXLEN', 0, 'MAXBYTES', 0],
  ];
  return random.pick(commands)();
}

function policy(random: Random, key: string): Argument[] {
  return [
    ...(random.chance(0.5) ? ['ACKWAIT', 1 + random.below(30)] : []),
    ...(random.chance(0.5) ? ['MAXDELIVERIES', random.below(4)] : []),
    ...(random.chance(0.3) ? ['BACKOFF', 1, 20, 2, 'JITTER'] : []),
    ...(random.chance(0.5) ? ['DEADLETTER', random.pick([key === 'a' ? 'b' : 'a', 'text'])] : []),
  ];
}

/** Everything that is kept, but for when consumers were merely seen. */
function stateOf(server: InProcessServer): unknown {
  const session = server.session(3);
  return KEYS.map((key) => {
    const entry = server.engine.databases[0].findKey(Buffer.from(key));
    if (entry === undefined) return null;
    const info = session.call('XINFO', 'STREAM', key, 'FULL', 'COUNT', 0) as Map<string, Value>;
    // A trim by ACKED can leave a node of tombstones where its replay does not, and the other way round.
    for (const name of ['radix-tree-keys', 'radix-tree-nodes']) info.delete(name);
    for (const group of info.get('groups') as Map<string, Value>[]) {
      for (const consumer of group.get('consumers') as Map<string, Value>[]) {
        consumer.delete('seen-time');
      }
    }
    return [info, deliveryOrders(entry), idempotencyOf(entry), additionsOf(session, key)];
  });
}

/** What Redis knows nothing of: policies, limits, what waits for its time. */
function additionsOf(session: InProcessSession, key: string): unknown {
  return [
    GROUPS.map((group) => {
      const reply = session.call('XGROUP', 'GETPOLICY', key, group);
      return reply instanceof Error ? null : reply;
    }),
    session.call('XCFGGET', key),
    session.call('XSCHEDULE', 'LIST', key),
  ];
}

/** Released entries in their row; of the others the times: who is first among equals is not kept. */
function deliveryOrders(entry: KeyEntry): (string | number)[][] {
  if (entry.value.type !== 'stream') return [];
  return [...entry.value.groups.values()].map((group) => {
    const { order } = group.pending;
    const cursor = new PendingCursor();
    const row: (string | number)[] = [];
    // That an entry was set aside is found out again after a restart.
    const aside: number[] = [];
    for (const list of [order.recheck, order.aside]) {
      for (let slot = list.first; slot !== 0; slot = order.after(slot)) aside.push(slot);
    }
    for (const slot of aside) order.putBack(slot);
    for (const slot of order.slots()) {
      group.pending.at(slot, cursor);
      row.push(cursor.consumer === UNOWNED ? cursor.id.toString() : cursor.time);
    }
    return row;
  });
}

function idempotencyOf(entry: KeyEntry): string | null {
  if (entry.value.type !== 'stream' || entry.value.idempotency === null) return null;
  return entry.value.idempotency.export().toString('hex');
}

function play(random: Random, server: InProcessServer, session: InProcessSession): void {
  server.advance(random.chance(0.6) ? 0 : random.below(12));
  if (random.chance(0.02)) server.clock.setNow(server.clock.now() - random.below(20));
  const args = command(random, server.clock.now());
  try {
    session.call(...args);
  } catch (error) {
    throw new Error(`${args.join(' ')}: ${(error as Error).stack}`);
  }
}

const written = new Set<number>();

function live(random: Random, afterStep: (server: InProcessServer, step: number) => void): void {
  const server = new InProcessServer(1_000_000);
  server.engine.nodeLimits.maxEntries = 5;
  const session = server.session();
  for (let i = 0; i < 1500; i++) {
    play(random, server, session);
    if (i % 100 === 0) {
      server.engine.tick();
      afterStep(server, i);
    }
  }
  for (const { type } of server.journal.records) written.add(type);
}

for (const life of [1, 2, 3, 4, 5, 6]) {
  test(`replaying the records gives the state that wrote them, life ${life} of 6`, (t) => {
    live(randomOf(t), (server, step) => {
      assert.deepEqual(stateOf(server.replayed()), stateOf(server), `after ${step} commands`);
    });
  });
}

test('the random commands above wrote every kind of record', (t) => {
  // Some kinds are rare: further lives write what those above have not.
  const random = randomOf(t);
  // These are only read.
  const others = new Set<string>(['ADD', 'RETRY_LATER_V1', 'IDEMPOTENT', 'IDEMPOTENT_HIGH']);
  const kinds = Object.entries(StreamRecord);
  const missing = () => kinds.some(([name, type]) => !written.has(type) && !others.has(name));
  for (let lives = 0; lives < 100 && missing(); lives++) live(random, () => {});
  for (const [name, type] of kinds) {
    assert.ok(written.has(type) !== others.has(name), name);
  }
});

test('replay does not depend on how nodes were cut when the log was written', () => {
  const random = new Random(7);
  const server = new InProcessServer(1_000_000);
  server.engine.nodeLimits.maxEntries = 5;
  const session = server.session();
  for (let i = 0; i < 1000; i++) play(random, server, session);
  server.engine.nodeLimits.maxEntries = 100;
  const entriesOf = (of: InProcessServer) =>
    KEYS.map((key) => of.session().call('XRANGE', key, '-', '+'));
  assert.deepEqual(entriesOf(server.replayed()), entriesOf(server));
});

test('a delivery is one record, whatever the number of its entries', () => {
  const server = new InProcessServer();
  const session = server.session();
  for (let i = 0; i < 250; i++) session.call('XADD', 's', '*', 'f', i);
  session.call('XGROUP', 'CREATE', 's', 'g', 0);
  session.call('XGROUP', 'CREATECONSUMER', 's', 'g', 'c');
  const before = server.journal.records.length;
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  assert.equal(server.journal.records.length, before + 1);
  assert.ok(server.journal.records[before].body.length < 80);
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', 0);
  assert.equal(server.journal.records.length, before + 2);
});

test('what changes nothing is not recorded', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 's', '1-1', 'f', 'v');
  session.call('XGROUP', 'CREATE', 's', 'g', '$');
  session.call('XGROUP', 'CREATECONSUMER', 's', 'g', 'c');
  const before = server.journal.records.length;
  session.call('XACK', 's', 'g', '1-1');
  session.call('XDEL', 's', '9-9');
  session.call('XTRIM', 's', 'MAXLEN', 1);
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', 0);
  session.call('XAUTOCLAIM', 's', 'g', 'c', 0, 0);
  session.call('XADD', 's', '1-1', 'f', 'v');
  session.call('XADD', 'none', 'NOMKSTREAM', '*', 'f', 'v');
  session.call('XRANGE', 's', '-', '+');
  assert.equal(server.journal.records.length, before);
});

test('a record that does not fit the state is damage', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 's', '1-1', 'f', 'v');
  session.call('XGROUP', 'CREATE', 's', 'g', 0);
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  const { records } = server.journal;
  for (let skipped = 0; skipped < records.length - 1; skipped++) {
    const replay = new Replay(new InProcessServer().engine, streamReplayHandlers);
    assert.throws(() => {
      for (const [i, { type, body }] of records.entries()) {
        if (i !== skipped) replay.apply(type, body);
      }
    }, DamagedRecord);
  }
});
