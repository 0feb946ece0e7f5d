/**
 * When the oldest entry of a stream with a greatest age (retention.ts) comes of age.
 *
 * Invariant: `StreamValue.aging` is in the heap of its entry's keyspace exactly while the stream has a maxAge and an
 * entry, under a time not later than its oldest entry's end; the tick puts it right.
 */
import type { Timed } from './deadline-heap.ts';
import type { Engine } from './engine.ts';
import type { KeyEntry } from './key-entry.ts';
import type { StreamValue } from './stream-value.ts';

/** A stream's place in the heap. */
export interface AgingStream extends Timed {
  readonly entry: KeyEntry;
}

/** Enters the stream for the time at which its oldest entry comes of age, or takes it out. */
export function watchAge(engine: Engine, entry: KeyEntry, value: StreamValue): void {
  const maxAge = value.retention?.maxAge ?? 0;
  let { aging } = value;
  // A closed stream (damaged-streams.ts) has no entries to look at.
  if (maxAge === 0 || value.damage !== null) {
    if (aging !== null) aging.entry.space.aging.remove(aging);
    value.aging = null;
    return;
  }
  if (aging === null || aging.entry !== entry) {
    if (aging !== null) aging.entry.space.aging.remove(aging);
    aging = { entry, expireAt: 0, heapIndex: -1 };
    value.aging = aging;
  }
  const { stream } = value;
  if (stream.length === 0) {
    entry.space.aging.remove(aging);
    return;
  }
  const end = stream.firstId.ms + maxAge + 1;
  if (aging.heapIndex >= 0 && aging.expireAt === end) return;
  aging.expireAt = end;
  entry.space.aging.update(aging);
  engine.dueAt(end);
}

/** As watchAge, without a look at the stream: the tick will look at this time. */
export function watchAgeAt(entry: KeyEntry, value: StreamValue, at: number): void {
  if (value.aging !== null) value.aging.entry.space.aging.remove(value.aging);
  value.aging = { entry, expireAt: at, heapIndex: -1 };
  entry.space.aging.update(value.aging);
}

/** The stream leaves its keyspace: what is due about it is of no interest there any longer. */
export function unwatch(entry: KeyEntry, value: StreamValue): void {
  const { aging, forgetting } = value;
  if (aging !== null) entry.space.aging.remove(aging);
  if (forgetting !== null) entry.space.forgetting.remove(forgetting);
  value.aging = value.forgetting = null;
}
