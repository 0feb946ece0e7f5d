/**
 * The memory of pending lists, measured after garbage collection, against the budget.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { PendingList } from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Random } from '../../src/util/random.ts';

const ENTRIES = 200_000;
/** Half of what redis-server 7.0 takes for a pending entry. */
const BUDGET = 42;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function bytesInUse(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function bytesPerEntry(list: PendingList, fill: () => void): number {
  const before = bytesInUse();
  fill();
  assert.equal(list.size, ENTRIES);
  return (bytesInUse() - before) / ENTRIES;
}

test('a pending entry takes less than its budget, delivered in order', () => {
  const list = new PendingList();
  const id = new StreamId();
  const bytes = bytesPerEntry(list, () => {
    for (let i = 0; i < ENTRIES; i++) list.insert(id.setMs(1_700_000_000_000 + i), i % 9, i, 1);
  });
  assert.ok(bytes < 30, `${bytes.toFixed(1)} bytes`);
  const estimate = list.residentBytes / ENTRIES;
  assert.ok(
    Math.abs(estimate - bytes) < 3,
    `estimated ${estimate.toFixed(1)}, are ${bytes.toFixed(1)}`,
  );
});

test('a pending entry takes less than its budget, delivered in random order', () => {
  const list = new PendingList();
  const id = new StreamId();
  const order = Array.from({ length: ENTRIES }, (_, i) => i);
  const random = new Random(5);
  for (let i = ENTRIES - 1; i > 0; i--) {
    const other = random.below(i + 1);
    [order[i], order[other]] = [order[other], order[i]];
  }
  const bytes = bytesPerEntry(list, () => {
    for (const i of order) list.insert(id.setMs(1_700_000_000_000 + i), i % 9, i, 1);
  });
  assert.ok(bytes < BUDGET, `${bytes.toFixed(1)} bytes`);
});

test('ten thousand groups with one pending entry each take little', () => {
  const lists: PendingList[] = [];
  const before = bytesInUse();
  for (let i = 0; i < 10_000; i++) {
    const list = new PendingList();
    list.insert(StreamId.of(i), 0, 1, 1);
    lists.push(list);
  }
  const bytes = (bytesInUse() - before) / lists.length;
  assert.ok(bytes < 2560, `${bytes.toFixed(0)} bytes a list`);
});
