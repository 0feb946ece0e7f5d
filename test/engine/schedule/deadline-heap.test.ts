/** The deadline heap beside a twin that is a set searched from end to end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeadlineHeap, type Timed } from '../../../src/engine/schedule/deadline-heap.ts';
import { Random } from '../../../src/util/random.ts';
import { seedsOf } from '../../helpers/seed.ts';

test('the first is always the one whose time comes first, whatever is added, changed or removed', (t) => {
  for (const seed of seedsOf(t, 50)) {
    const random = new Random(seed);
    const heap = new DeadlineHeap<Timed>();
    const twin = new Set<Timed>();
    for (let i = 0; i < 400; i++) {
      const known = [...twin];
      const action = known.length === 0 ? 0 : random.below(4);
      if (action <= 1) {
        const item = { expireAt: random.below(100), heapIndex: -1 };
        heap.update(item);
        twin.add(item);
      } else if (action === 2) {
        const item = random.pick(known);
        item.expireAt = random.below(100);
        heap.update(item);
      } else {
        const item = random.pick(known);
        heap.remove(item);
        heap.remove(item);
        twin.delete(item);
        assert.equal(item.heapIndex, -1);
      }
      assert.equal(heap.size, twin.size);
      const least = Math.min(...[...twin].map(({ expireAt }) => expireAt));
      assert.equal(heap.first()?.expireAt ?? Number.POSITIVE_INFINITY, least, `seed ${seed}`);
    }
  }
});
