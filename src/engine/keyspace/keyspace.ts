/**
 * The keys of one database, as one thing: SWAPDB exchanges two of them, FLUSHDB replaces one.
 *
 * Holds: the key table, the heap of the keys that expire, the streams and their deadlines, and the
 * scheduled entries. So what is flushed is dropped as a whole.
 * Invariant: an entry is in the heap exactly while its `expireAt` is not 0.
 */
import type { Random } from '../../util/random.ts';
import { DeadlineHeap } from '../schedule/deadline-heap.ts';
import { Schedule } from '../schedule/schedule.ts';
import { IdempotencyDeadlines } from '../streams/idempotency-deadlines.ts';
import { RetentionDeadlines } from '../streams/retention-deadlines.ts';
import type { KeyEntry } from './key-entry.ts';
import { KeyTable } from './key-table.ts';
import type { KeyspaceId } from './keyspace-id.ts';

export class Keyspace implements KeyspaceId {
  readonly uid: number;
  readonly table: KeyTable;
  readonly expiring = new DeadlineHeap<KeyEntry>();
  readonly schedule = new Schedule();
  readonly retentionDeadlines = new RetentionDeadlines();
  readonly idempotencyDeadlines = new IdempotencyDeadlines();
  /** The memory budget's: the streams, and the bytes that it counted of them. */
  readonly streams = new Set<KeyEntry>();
  countedBytes = 0;
  flushedEpoch = -1;

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
