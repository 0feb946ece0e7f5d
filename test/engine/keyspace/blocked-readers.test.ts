/** Blocked readers: who is tried when, and who is forgotten. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine } from '../../../src/engine/engine.ts';
import type { BlockedReader } from '../../../src/engine/keyspace/blocked-readers.ts';
import { NullJournal } from '../../../src/storage/log/journal.ts';
import { Random } from '../../../src/util/random.ts';
import { ManualClock } from '../../../src/util/time/clock.ts';

const log: string[] = [];
/** What there is to take, by key. */
const stock = new Map<string, number>();

/** A reader that takes one piece of what a key has in stock. */
function reader(engine: Engine, name: string, keys: string[], deadline: number): BlockedReader {
  const [database] = engine.databases as [Engine['databases'][0]];
  return {
    database,
    keys: keys.map((key) => Buffer.from(key)),
    deadline,
    retry() {
      for (const key of this.keys) {
        const left = stock.get(String(key)) ?? 0;
        if (left === 0) continue;
        log.push(`${name} takes ${key}`);
        stock.set(String(key), left - 1);
        return true;
      }
      log.push(`${name} waits on`);
      return false;
    },
    timedOut: () => log.push(`${name} timed out`),
  };
}

function open(): { engine: Engine; clock: ManualClock; put: (key: string) => void } {
  const clock = new ManualClock(1000);
  const engine = new Engine({ clock, random: new Random(1), journal: new NullJournal() });
  log.length = 0;
  stock.clear();
  const put = (key: string): void => {
    engine.turn();
    stock.set(key, 1);
    engine.databases[0]?.set(Buffer.from(key), { type: 'string', bytes: Buffer.from('v') }, 0);
  };
  return { engine, clock, put };
}

const FOREVER = Number.POSITIVE_INFINITY;

test('readers of one key are tried in the order in which they came, and keep their place', () => {
  const { engine, put } = open();
  for (const name of ['one', 'two', 'three']) {
    engine.blocked.add(reader(engine, name, ['k'], FOREVER));
  }
  put('k');
  engine.serveBlocked();
  assert.deepEqual(log, ['one takes k', 'two waits on', 'three waits on']);
  log.length = 0;
  engine.blocked.add(reader(engine, 'four', ['k'], FOREVER));
  put('k');
  put('k');
  engine.serveBlocked();
  assert.deepEqual(log, ['two takes k', 'three waits on', 'four waits on']);
  assert.equal(engine.blocked.size, 2);
});

test('a key without a reader wakes none, and what is served is forgotten under all its keys', () => {
  const { engine, put } = open();
  engine.blocked.add(reader(engine, 'one', ['a', 'b'], FOREVER));
  put('other');
  engine.serveBlocked();
  assert.deepEqual(log, []);
  put('b');
  engine.serveBlocked();
  put('a');
  engine.serveBlocked();
  assert.deepEqual(log, ['one takes b']);
  assert.equal(engine.blocked.size, 0);
});

test('deadlines are kept in their order, and a tick serves before it times out', () => {
  const { engine, clock, put } = open();
  engine.blocked.add(reader(engine, 'late', ['k'], 5000));
  engine.blocked.add(reader(engine, 'soon', ['k'], 2000));
  engine.blocked.add(reader(engine, 'forever', ['k'], FOREVER));
  assert.equal(engine.nextDeadline(), 2000);
  clock.advance(2500);
  engine.tick();
  assert.deepEqual(log, ['soon timed out']);
  assert.equal(engine.nextDeadline(), 5000);
  put('k');
  clock.advance(10_000);
  engine.tick();
  assert.deepEqual(log, ['soon timed out', 'late takes k', 'forever waits on']);
  assert.equal(engine.nextDeadline(), FOREVER);
});

test('renaming, moving, swapping and flushing reach readers that wait', () => {
  const { engine, put } = open();
  const [zero, one] = engine.databases as [Engine['databases'][0], Engine['databases'][0]];
  engine.blocked.add(reader(engine, 'r', ['k'], FOREVER));
  put('other');
  const other = zero.findKey(Buffer.from('other'));
  assert.ok(other);
  stock.set('k', 1);
  zero.rename(other, Buffer.from('k'));
  engine.serveBlocked();
  assert.deepEqual(log, ['r takes k']);

  log.length = 0;
  engine.blocked.add(reader(engine, 'r', ['k'], FOREVER));
  one.set(Buffer.from('k'), { type: 'string', bytes: Buffer.from('v') }, 0);
  engine.serveBlocked();
  assert.deepEqual(log, []);
  stock.set('k', 1);
  engine.swap(zero, one);
  engine.serveBlocked();
  assert.deepEqual(log, ['r takes k']);

  log.length = 0;
  engine.blocked.add(reader(engine, 'r', ['k'], FOREVER));
  put('x');
  engine.flushAll();
  engine.serveBlocked();
  assert.deepEqual(log, ['r waits on']);
});
