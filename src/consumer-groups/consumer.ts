/**
 * One consumer of a group.
 *
 * Its pending entries are in the group's pending list under `index`; here is only their number.
 * Invariant: `index` is below the group's number of consumer slots and names no other living
 * consumer; `pendingCount` equals the number of pending entries that carry it.
 */
export class Consumer {
  /** Bytes, as sent. Never changed. */
  readonly name: Buffer;
  /** Stands for the consumer in the pending list; reused after it is deleted. */
  readonly index: number;
  /** Unix ms of its last attempt to do anything (XINFO's seen-time). */
  seenTime: number;
  /** Unix ms of the last time that it was given something, -1 = never (active-time). */
  activeTime = -1;
  /** Changed by ConsumerGroup only. */
  pendingCount = 0;

  constructor(name: Buffer, index: number, seenTime: number) {
    this.name = name;
    this.index = index;
    this.seenTime = seenTime;
  }
}
