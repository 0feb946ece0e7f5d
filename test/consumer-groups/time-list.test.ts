/** The sorted list behind the delivery order: against a sorted array, and its comparisons counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SlotLinks } from '../../src/consumer-groups/delivery-order/slot-links.ts';
import { type SlotKeys, TimeList } from '../../src/consumer-groups/delivery-order/time-list.ts';
import { Random } from '../../src/util/random.ts';
import { seedsOf } from '../helpers/seed.ts';

/** Times by slot; equal ones are told apart by the slot's number. */
class Times implements SlotKeys {
  readonly times: number[] = [];
  compared = 0;

  time(slot: number): number {
    this.compared++;
    return this.times[slot];
  }

  precedes(a: number, b: number): boolean {
    const difference = this.time(a) - this.time(b);
    return difference === 0 ? a < b : difference < 0;
  }
}

function scene() {
  const links = new SlotLinks();
  const keys = new Times();
  const list = new TimeList(links, keys, 0);
  const insert = (time: number): number => {
    const slot = links.take(0);
    keys.times[slot] = time;
    list.insert(slot);
    return slot;
  };
  const slots = (): number[] => {
    const found: number[] = [];
    for (let slot = list.first; slot !== 0; slot = links.after(slot)) found.push(slot);
    return found;
  };
  return { links, keys, list, insert, slots };
}

test('the list is what sorting gives, whatever comes, goes and changes its time', (t) => {
  for (const seed of seedsOf(t, 20)) {
    const random = new Random(seed);
    const { links, keys, list, insert, slots } = scene();
    const present: number[] = [];
    const range = 1 + random.below(seed % 2 === 0 ? 20 : 100_000);
    for (let step = 0; step < 4000; step++) {
      const choice = random.below(10);
      const growing = step % 2000 < 1200;
      if (choice < (growing ? 7 : 2) || present.length === 0) {
        present.push(insert(random.below(range)));
      } else {
        const at = random.below(present.length);
        const slot = present[at];
        if (choice < 8) {
          list.remove(slot);
          links.release(slot);
          present.splice(at, 1);
        } else {
          // As the pending list does it: the time has changed when the slot is taken out.
          keys.times[slot] = random.below(range);
          list.remove(slot);
          list.insert(slot);
        }
      }
      if (step % 200 !== 0) continue;
      const expected = present.toSorted((a, b) => keys.times[a] - keys.times[b] || a - b);
      assert.deepEqual(slots(), expected, `seed ${seed}, step ${step}`);
      assert.equal(list.last, expected.at(-1) ?? 0);
      const time = random.below(range);
      const later = expected.find((slot) => keys.times[slot] > time) ?? 0;
      assert.equal(list.firstLater(time), later, `seed ${seed}, step ${step}`);
    }
  }
});

test('an entry anywhere among 100,000 is placed in some hundred comparisons, beside the last in a few', () => {
  const { keys, list, insert } = scene();
  const random = new Random(1);
  for (let i = 0; i < 100_000; i++) insert(i * 10);
  assert.ok(keys.compared < 1_500_000, `appending: ${keys.compared}`);
  keys.compared = 0;
  for (let i = 0; i < 1000; i++) insert(random.below(1_000_000));
  assert.ok(keys.compared < 1000 * 250, `anywhere: ${keys.compared}`);
  keys.compared = 0;
  for (let i = 0; i < 1000; i++) list.firstLater(random.below(1_000_000));
  assert.ok(keys.compared < 1000 * 250, `firstLater: ${keys.compared}`);
});
