/**
 * A consumer group: what it has delivered, to whom, and what is not acknowledged yet.
 *
 * Holds: the last delivered id, how many entries were read, the pending list, the consumers.
 * Invariant: every pending entry belongs to an existing consumer or to none (released by XNACK); the
 * consumers' `pendingCount`s plus `nackedCount` make `pending.size`. All changes of the pending list
 * go through this class, because it keeps these counts.
 * These are pure state changes: the engine wraps them in mutators that notify the checkpointer, write
 * the journal and wake readers. Times are arguments. Commands' rules are in claim.ts, counting in
 * lag.ts, the checkpoint's bytes in group-codec.ts.
 * Cost: as the pending list's; nothing is allocated per entry.
 */
import type { StreamId } from '../stream/stream-id.ts';
import { scratch as reused } from '../util/scratch.ts';
import type { Whole } from '../util/whole.ts';
import { Consumer } from './consumer.ts';
import type { GroupPolicy } from './group-policy.ts';
import { advance, UNKNOWN_READ } from './lag.ts';
import { type Epoch, NO_EPOCH } from './pending/page-store.ts';
import { PendingCursor } from './pending/pending-cursor.ts';
import { PendingList } from './pending/pending-list.ts';
import { AWAITING_DEAD_LETTER, DELAYED, UNOWNED } from './pending/pending-page.ts';
import type { StreamCounters } from './stream-view.ts';

export class ConsumerGroup {
  readonly name: Buffer;
  /** last-delivered-id; owned by the group, changed in place. */
  readonly lastId: StreamId;
  /** entries-read; -1 = unknown (`UNKNOWN_READ`). */
  entriesRead: Whole;
  readonly pending: PendingList;
  /** Pending entries that belong to no consumer. */
  nackedCount = 0;
  /** Those of them that wait for their retry. */
  parkedCount = 0;
  /** What the server does without a command; null = as Redis. */
  policy: GroupPolicy | null = null;
  /** For the checkpointer, which alone reads and writes them: see KeyEntry. */
  uid = 0;
  dirtyEpoch = -1;

  // By index; null where a deleted consumer left its index free.
  #slots: (Consumer | null)[] = [];
  // No index below it is free.
  #lowestFree = 0;
  #byName = new Map<string, Consumer>();
  // In the byte order of names; null after a consumer came or went.
  #ordered: Consumer[] | null = null;

  /** `lastId` is copied. */
  constructor(
    name: Buffer,
    lastId: StreamId,
    entriesRead: Whole = UNKNOWN_READ,
    epoch: Epoch = NO_EPOCH,
  ) {
    this.name = name;
    this.lastId = lastId.clone();
    this.entriesRead = entriesRead;
    this.pending = new PendingList(epoch);
  }

  // --- Consumers ---

  get consumerCount(): number {
    return this.#byName.size;
  }

  /** One more than the greatest index that a consumer has or had. */
  get consumerSlots(): number {
    return this.#slots.length;
  }

  /** By name as latin1. */
  findConsumer(name: string): Consumer | undefined {
    return this.#byName.get(name);
  }

  /** By the bytes [from, from + length) of `source`; makes no string while consumers are few. */
  findConsumerIn(source: Buffer, from: number, length: number): Consumer | undefined {
    if (this.#slots.length > 8) {
      return this.#byName.get(source.toString('latin1', from, from + length));
    }
    for (const consumer of this.#slots) {
      if (consumer !== null && sameBytes(consumer.name, source, from, length)) return consumer;
    }
    return undefined;
  }

  /** The consumer that a pending entry names; undefined for `UNOWNED`, `DELAYED` and `AWAITING_DEAD_LETTER`. */
  consumerAt(index: number): Consumer | undefined {
    return this.#slots[index] ?? undefined;
  }

  /** In the byte order of names, as Redis lists them. The array is the group's own: do not change it. */
  consumers(): readonly Consumer[] {
    if (this.#ordered === null) {
      this.#ordered = [...this.#byName.values()].sort((a, b) => Buffer.compare(a.name, b.name));
    }
    return this.#ordered;
  }

  /** `name` is kept, so it must not be a view of a socket's buffer. It must not be taken yet. */
  createConsumer(name: Buffer, now: number): Consumer {
    // The lowest free index, so that replay gives every consumer the index that it had.
    let index = this.#lowestFree;
    while (index < this.#slots.length && this.#slots[index] !== null) index++;
    this.#lowestFree = index + 1;
    return this.restoreConsumer(name, index, now);
  }

  /** As createConsumer, under a given free index: for the checkpoint's reader. */
  restoreConsumer(name: Buffer, index: number, seenTime: number): Consumer {
    const key = name.toString('latin1');
    if (this.#byName.has(key)) throw new Error(`consumer exists already: ${key}`);
    if (index > MAX_INDEX) throw new Error(`consumer index ${index} is out of range`);
    if (this.#slots[index]) throw new Error(`consumer index ${index} is taken`);
    const consumer = new Consumer(name, index, seenTime);
    while (this.#slots.length < index) this.#slots.push(null);
    this.#slots[index] = consumer;
    this.#byName.set(key, consumer);
    this.#ordered = null;
    return consumer;
  }

  /** Removes a consumer with its pending entries and returns how many those were. */
  deleteConsumer(consumer: Consumer): number {
    const dropped = this.pending.removeConsumer(
      consumer.index,
      consumer.pendingCount,
      this.#slots.length,
    );
    consumer.pendingCount = 0;
    this.#slots[consumer.index] = null;
    this.#lowestFree = Math.min(this.#lowestFree, consumer.index);
    while (this.#slots.length > 0 && this.#slots[this.#slots.length - 1] === null)
      this.#slots.pop();
    this.#byName.delete(consumer.name.toString('latin1'));
    this.#ordered = null;
    return dropped;
  }

  // --- Position ---

  /** XGROUP SETID. `entriesRead` -1 = unknown. */
  setId(id: StreamId, entriesRead: Whole): void {
    this.lastId.copy(id);
    this.entriesRead = entriesRead;
  }

  /** Whether the group may still need the entry: not delivered yet, or pending (DELREF, ACKED). */
  references(id: StreamId): boolean {
    return id.compare(this.lastId) > 0 || this.pending.has(id);
  }

  // --- Pending entries ---

  /**
   * A new entry of the stream is delivered: the position moves on (lag.ts) and, with a consumer, the
   * entry becomes pending with delivery count 1. An entry that is pending already, which happens
   * after XGROUP SETID back, changes hands. Without a consumer (NOACK) only the position moves.
   */
  deliver(
    stream: StreamCounters,
    id: StreamId,
    consumer: Consumer | null,
    now: number,
    count = 1,
  ): void {
    advance(stream, this, id);
    if (consumer === null) return;
    consumer.activeTime = now;
    this.setPending(id, consumer, now, count);
  }

  /** Makes the entry pending for the consumer, wherever it was before. True when it is new here. */
  setPending(id: StreamId, consumer: Consumer, time: number, count: number): boolean {
    if (this.pending.insert(id, consumer.index, time, count)) {
      consumer.pendingCount++;
      return true;
    }
    if (this.pending.find(id, scratch)) this.assign(scratch, consumer, time, count);
    return false;
  }

  /** The entry is not pending any longer; false when it was not. */
  acknowledge(id: StreamId): boolean {
    if (!this.pending.find(id, scratch)) return false;
    this.drop(scratch);
    return true;
  }

  /** As acknowledge, of all that are pending from one id to another, both included. */
  acknowledgeRange(from: StreamId, to: StreamId): void {
    this.pending.removeRange(from, to, this.#slots.length, (owner, count) =>
      this.#left(owner, count),
    );
  }

  /** As acknowledge, at a cursor; the cursor stays usable for `next`. */
  drop(at: PendingCursor): void {
    this.#released(at.consumer);
    this.pending.remove(at);
  }

  /** Gives the pending entry to a consumer (or lets it keep it) with this time and count. */
  assign(at: PendingCursor, consumer: Consumer, time: number, count: number): void {
    if (at.consumer !== consumer.index) {
      this.#released(at.consumer);
      consumer.pendingCount++;
    }
    this.pending.update(at, consumer.index, time, count);
  }

  /** XNACK: the pending entry belongs to no consumer, and is the last of those. */
  release(at: PendingCursor, count: number): void {
    this.#released(at.consumer);
    this.nackedCount++;
    this.pending.release(at, count);
  }

  /** The pending entry belongs to no consumer and is not due before `time`. */
  delay(at: PendingCursor, time: number, count: number): void {
    this.#released(at.consumer);
    this.nackedCount++;
    this.parkedCount++;
    this.pending.update(at, DELAYED, time, count);
  }

  /** The pending entry belongs to no consumer and is to become a dead letter as soon as it can. */
  awaitDeadLetter(at: PendingCursor, time: number, count: number): void {
    this.#released(at.consumer);
    this.nackedCount++;
    this.pending.update(at, AWAITING_DEAD_LETTER, time, count);
  }

  /** Releases all delayed entries and those that wait for their dead letter, in the order of their times. */
  releaseDelayed(): void {
    this.pending.releaseDelayed();
    this.parkedCount = 0;
  }

  /** As `condemn`, by id; the entry is pending already. For replay. */
  setCondemned(id: StreamId, time: number, count: number): void {
    if (!this.pending.find(id, scratch)) throw new RangeError(`${id} is not pending`);
    this.awaitDeadLetter(scratch, time, count);
  }

  /** As `park`, by id; the entry is pending already. For replay. */
  setParked(id: StreamId, time: number, count: number): void {
    if (!this.pending.find(id, scratch)) throw new RangeError(`${id} is not pending`);
    this.delay(scratch, time, count);
  }

  /** Makes the entry pending without a consumer, whatever it was before (XNACK FORCE, replay). */
  setReleased(id: StreamId, count: number): void {
    if (this.pending.insertReleased(id, count)) this.nackedCount++;
    else if (this.pending.find(id, scratch)) this.release(scratch, count);
  }

  /** An independent group with equal content (COPY). `uid` and `dirtyEpoch` are those of a new one. */
  copy(epoch: Epoch = NO_EPOCH): ConsumerGroup {
    const twin = new ConsumerGroup(this.name, this.lastId, this.entriesRead, epoch);
    for (const consumer of this.#slots) {
      if (consumer === null) continue;
      const copied = twin.restoreConsumer(consumer.name, consumer.index, consumer.seenTime);
      copied.activeTime = consumer.activeTime;
      copied.pendingCount = consumer.pendingCount;
    }
    twin.nackedCount = this.nackedCount;
    twin.parkedCount = this.parkedCount;
    twin.policy = this.policy;
    twin.pending.copyFrom(this.pending);
    return twin;
  }

  /** The entry leaves its owner. */
  #released(index: number): void {
    this.#left(index, 1);
  }

  #left(index: number, count: number): void {
    if (index === UNOWNED || index === DELAYED || index === AWAITING_DEAD_LETTER) {
      this.nackedCount -= count;
      if (index === DELAYED) this.parkedCount -= count;
    } else this.#slots[index]!.pendingCount -= count;
  }
}

// More consumers than one group can hold in memory; keeps damaged metadata from asking for them.
const MAX_INDEX = 0xff_ffff;
const scratch = reused(new PendingCursor());

function sameBytes(name: Buffer, source: Buffer, from: number, length: number): boolean {
  if (name.length !== length) return false;
  for (let i = 0; i < length; i++) if (name[i] !== source[from + i]) return false;
  return true;
}
