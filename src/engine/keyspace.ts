/**
 * The keys of one database, as one thing: SWAPDB exchanges two of them, FLUSHDB replaces one.
 *
 * Holds: the key table, the heap of those keys that expire, and the entries that wait for their time. Invariant: an entry is in the heap
 * exactly while its `expireAt` is not 0.
 */
import type { Random } from '../util/random.ts';
import { DeadlineHeap } from './deadline-heap.ts';
import type { KeyEntry } from './key-entry.ts';
import { KeyTable } from './key-table.ts';
import { Schedule } from './schedule.ts';

export class Keyspace {
  /** Names it in the checkpoint, where keys belong to a keyspace, not to a database's number. */
  readonly uid: number;
  readonly table: KeyTable;
  readonly expiring = new DeadlineHeap<KeyEntry>();
  readonly schedule = new Schedule();
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
