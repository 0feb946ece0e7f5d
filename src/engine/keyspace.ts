/**
 * The keys of one database, as one thing: SWAPDB exchanges two of them, FLUSHDB replaces one.
 *
 * Holds: the key table, the heap of those keys that expire, the streams with what is due about them,
 * and the entries that wait for their time. So what is flushed is let go of as a whole.
 * Invariant: an entry is in the heap exactly while its `expireAt` is not 0.
 */
import type { Random } from '../util/random.ts';
import { DeadlineHeap } from './deadline-heap.ts';
import type { KeyEntry } from './key-entry.ts';
import { KeyTable } from './key-table.ts';
import { Schedule } from './schedule.ts';
import type { AgingStream } from './stream-aging.ts';

export class Keyspace {
  /** Names it in the checkpoint, where keys belong to a keyspace, not to a database's number. */
  readonly uid: number;
  readonly table: KeyTable;
  readonly expiring = new DeadlineHeap<KeyEntry>();
  readonly schedule = new Schedule();
  /** Streams whose oldest entries come of age, by when (stream-aging.ts). */
  readonly aging = new DeadlineHeap<AgingStream>();
  /** Streams whose idempotent ids are forgotten, by when (idempotency-expiry.ts). */
  readonly forgetting = new DeadlineHeap<AgingStream>();
  /** The memory budget's: the streams, and the bytes that it counted of them. */
  readonly streams = new Set<KeyEntry>();
  countedBytes = 0;
  /** The checkpoint epoch in which it was flushed; -1 = it is in use. */
  buriedEpoch = -1;

  constructor(uid: number, random: Random) {
    this.uid = uid;
    this.table = new KeyTable(random);
  }

  setExpiry(entry: KeyEntry, expireAt: number): void {
    if (entry.expireAt === expireAt) return;
    entry.expireAt = expireAt;
    if (expireAt === 0) this.expiring.remove(entry);
    else this.expiring.update(entry);
  }

  /** Takes an entry out of the table and the heap; its `expireAt` stays as it was. */
  detach(entry: KeyEntry): void {
    this.table.remove(entry);
    this.expiring.remove(entry);
  }
}
