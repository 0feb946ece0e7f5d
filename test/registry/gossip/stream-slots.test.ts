/** Which stream gives way where more are opened than are served. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StreamSlots } from '../../../src/registry/gossip/wire/stream-slots.ts';

const slots = new StreamSlots(4);
const closed: string[] = [];

function slotOf(name: string, host: string, isSilent = false) {
  return { host, isSilent: () => isSilent, close: () => void closed.push(name) };
}

test('a silent stream gives way first, then the oldest of the address that has the most', () => {
  assert.ok(slots.take(slotOf('a1', 'a')));
  assert.ok(slots.take(slotOf('a2', 'a')));
  assert.ok(slots.take(slotOf('b1', 'b', true)));
  assert.ok(slots.take(slotOf('a3', 'a')));
  // b1 is silent.
  assert.ok(slots.take(slotOf('a4', 'a')));
  assert.deepEqual(closed, ['b1']);
  // a has four and may not have a fifth; c may have as many as a, not more.
  assert.equal(slots.take(slotOf('a5', 'a')), false);
  assert.ok(slots.take(slotOf('c1', 'c')));
  assert.ok(slots.take(slotOf('c2', 'c')));
  assert.equal(slots.take(slotOf('c3', 'c')), false);
  assert.deepEqual(closed, ['b1', 'a1', 'a2']);
});

test('a stream that has ended leaves room, and one that was displaced leaves none twice', () => {
  const few = new StreamSlots(1);
  const [first, second] = [slotOf('first', 'a', true), slotOf('second', 'a')];
  assert.ok(few.take(first));
  assert.ok(few.take(second));
  few.free(first);
  assert.equal(few.take(slotOf('third', 'a')), false);
  few.free(second);
  assert.ok(few.take(slotOf('fourth', 'a')));
});
