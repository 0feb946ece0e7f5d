/** The key table beside a Map, and the guarantee of SCAN while the table is resized. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KeyEntry, StringValue } from '../../../src/engine/keyspace/key-entry.ts';
import { KeyTable } from '../../../src/engine/keyspace/key-table.ts';
import { Keyspace } from '../../../src/engine/keyspace/keyspace.ts';
import { Random } from '../../../src/util/random.ts';
import { seedsOf } from '../../helpers/seed.ts';

const space = new Keyspace(1, new Random(1));
const value: StringValue = { type: 'string', bytes: Buffer.from('v') };

function add(table: KeyTable, name: string): KeyEntry {
  const key = Buffer.from(name, 'latin1');
  return table.add(key, 0, key.length, value, space);
}

function find(table: KeyTable, name: string): KeyEntry | undefined {
  const key = Buffer.from(`__${name}__`, 'latin1');
  return table.find(key, 2, key.length - 4);
}

test('a key table holds what a Map holds after any adds, removals and look-ups', (t) => {
  for (const seed of seedsOf(t, 20)) {
    const random = new Random(seed);
    const table = new KeyTable(random);
    const twin = new Map<string, KeyEntry>();
    const names = 1 + random.below(3000);
    for (let i = 0; i < 6000; i++) {
      // Phases of growth and of shrinking, so that the table is resized both ways.
      const growing = Math.floor(i / 1500) % 2 === 0;
      const name = `key:${random.below(names)}${'x'.repeat(random.below(4))}`;
      const entry = twin.get(name);
      assert.equal(find(table, name), entry, `seed ${seed}, step ${i}, ${name}`);
      if (entry === undefined && (growing || random.chance(0.1))) {
        twin.set(name, add(table, name));
      } else if (entry !== undefined && (!growing || random.chance(0.1))) {
        table.remove(entry);
        twin.delete(name);
      }
      assert.equal(table.size, twin.size);
    }
    const all = [...table.entries()];
    assert.equal(all.length, twin.size, `seed ${seed}`);
    assert.deepEqual(new Set(all), new Set(twin.values()), `seed ${seed}`);
    for (const [name, entry] of twin) assert.equal(entry.key.toString('latin1'), name);
  }
});

test('a scan visits every key that was there from its begin to its end, whatever is resized meanwhile', (t) => {
  let resizedDuringScan = 0;
  for (const seed of seedsOf(t, 200)) {
    const random = new Random(seed);
    const table = new KeyTable(random);
    const stable = new Set<string>();
    const passing: KeyEntry[] = [];
    const keep = 1 + random.below(200);
    for (let i = 0; i < keep; i++) {
      stable.add(`stable:${i}`);
      add(table, `stable:${i}`);
    }
    for (let i = random.below(2000); i > 0; i--) passing.push(add(table, `passing:${i}`));
    const seen = new Set<string>();
    const growing = random.chance(0.5);
    let cursor = 0;
    let serial = 0;
    do {
      cursor = table.scan(cursor, (entry) => seen.add(entry.key.toString('latin1')));
      // Growth is bounded: a table that grows faster than it is scanned is never scanned to its end.
      for (let i = random.below(40); i > 0; i--) {
        if (growing && serial < 5000) passing.push(add(table, `new:${serial++}`));
        else if (!growing && passing.length > 0) table.remove(passing.pop() as KeyEntry);
      }
      if (table.resizing) resizedDuringScan++;
    } while (cursor !== 0);
    for (const name of stable) assert.ok(seen.has(name), `seed ${seed}: ${name} was not visited`);
  }
  assert.ok(resizedDuringScan > 1000, 'the test must have met tables half resized');
});

test('a scan without changes visits every key once', () => {
  const table = new KeyTable(new Random(7));
  for (let i = 0; i < 5000; i++) add(table, `k${i}`);
  while (table.resizing) table.step(100);
  let visits = 0;
  let cursor = 0;
  do {
    cursor = table.scan(cursor, () => visits++);
  } while (cursor !== 0);
  assert.equal(visits, 5000);
});

test('entries may be removed by the visitor of a scan', () => {
  const table = new KeyTable(new Random(3));
  for (let i = 0; i < 3000; i++) add(table, `k${i}`);
  let cursor = 0;
  do {
    cursor = table.scan(cursor, (entry) => table.remove(entry));
  } while (cursor !== 0);
  assert.equal(table.size, 0);
});

test('one operation moves a bounded number of buckets, however large the table', () => {
  const table = new KeyTable(new Random(5));
  let operations = 0;
  for (let i = 0; i < 70_000; i++) add(table, `k${i}`);
  while (table.resizing) {
    find(table, `missing${operations++}`);
    assert.ok(operations < 200_000);
  }
  add(table, 'one more');
  for (let i = 0; table.size <= 131_072; i++) add(table, `more${i}`);
  assert.ok(table.resizing);
  let steps = 0;
  for (; table.resizing; steps++) find(table, `missing${steps}`);
  assert.ok(steps > 131_072 / 12, `it took only ${steps} look-ups to move 131072 buckets`);
});

test('a random entry is any entry, about equally often', () => {
  const random = new Random(11);
  const table = new KeyTable(random);
  assert.equal(table.randomEntry(random), undefined);
  for (let i = 0; i < 16; i++) add(table, `k${i}`);
  const counts = new Map<string, number>();
  for (let i = 0; i < 16_000; i++) {
    const name = String(table.randomEntry(random)?.key);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  assert.equal(counts.size, 16);
  for (const [name, count] of counts) assert.ok(count > 200, `${name} came ${count} times`);
});

test('chains stay short for keys that differ only in their last bytes', () => {
  const random = new Random(13);
  const table = new KeyTable(random);
  for (let i = 0; i < 4096; i++) add(table, `tenant:000000:stream:${i}`);
  while (table.resizing) table.step(100);
  let longest = 0;
  let length = 0;
  let cursor = 0;
  do {
    length = 0;
    cursor = table.scan(cursor, () => length++);
    longest = Math.max(longest, length);
  } while (cursor !== 0);
  assert.ok(longest <= 12, `a chain of ${longest}`);
});
