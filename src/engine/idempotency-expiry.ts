/**
 * When idempotent ids of streams are forgotten: a heap of streams, in each keyspace, by when their
 * oldest id is out of its window.
 *
 * Not recorded: age follows from the entries' ids, so a restart forgets the same ones.
 * Invariant: `StreamValue.forgetting` is in the heap of the entry's keyspace while ids are tracked,
 * under a time not later than the first one's end.
 * Cost: O(log streams) where a stream's first id is recorded and where one expires; a tick in which
 * nothing expires looks at one stream a database.
 */
import type { Engine } from './engine.ts';
import type { KeyEntry } from './key-entry.ts';
import type { StreamValue } from './stream-value.ts';

/** Streams that one tick looks at. */
const STREAMS_PER_TICK = 1000;

/** After ids were recorded, and where a stream enters a keyspace. */
export function watchIdempotency(entry: KeyEntry, value: StreamValue): void {
  const at = value.idempotency?.nextExpiry() ?? Number.POSITIVE_INFINITY;
  if (at === Number.POSITIVE_INFINITY) return;
  value.forgetting ??= { entry, expireAt: 0, heapIndex: -1 };
  const { forgetting } = value;
  if (forgetting.heapIndex >= 0 && forgetting.expireAt <= at) return;
  forgetting.expireAt = at;
  entry.space.forgetting.update(forgetting);
}

/** The tick: forgets ids that are out of their windows. */
export function forgetIdempotentIds(engine: Engine): void {
  let left = STREAMS_PER_TICK;
  for (const { keyspace } of engine.databases) {
    for (; left > 0; left--) {
      const first = keyspace.forgetting.first();
      if (first === undefined || first.expireAt > engine.now) break;
      keyspace.forgetting.remove(first);
      const { value } = first.entry;
      if (value.type !== 'stream') continue;
      if (value.idempotency !== null) {
        value.idempotency.expire(engine.now);
        value.idempotency.isLate = false;
      }
      watchIdempotency(first.entry, value);
    }
  }
}
