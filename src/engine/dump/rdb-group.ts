/**
 * A consumer group in Redis's RDB encoding.
 *
 *     name · last id · [from 19: entries read]
 *     pending entries, each: id (16 bytes) · time (8) · deliveries
 *     consumers, each: name · seen time · [from 21: active time] · its entries, each: id (16 bytes)
 *     [from 27: released entries in their order, each: id (16 bytes)]
 *
 * Entries that wait for their retry (DELAYED) stand last among those released.
 * Times are dates here; in a group they are those of a clock that was never set (turn-clock.ts), so
 * `stepped` is added to them, and taken from them when reading.
 * Invariant: when reading, each pending entry belongs to exactly one consumer or is released; what is
 * wrong throws RangeError.
 * Cost: O(n log n) of pending entries.
 */
import type { Consumer } from '../../consumer-groups/consumer.ts';
import { countFrom, countValue } from '../../consumer-groups/delivery-count.ts';
import { ConsumerGroup } from '../../consumer-groups/group.ts';
import { estimateRead } from '../../consumer-groups/lag.ts';
import { type Epoch, NO_EPOCH } from '../../consumer-groups/pending/page-store.ts';
import { PendingCursor } from '../../consumer-groups/pending/pending-cursor.ts';
import { DELAYED, UNOWNED } from '../../consumer-groups/pending/pending-page.ts';
import type { StreamCounters } from '../../consumer-groups/stream-view.ts';
import { StreamId } from '../../stream/stream-id.ts';
import type { RdbReader } from './rdb-reader.ts';
import { StreamType } from './rdb-stream-type.ts';
import type { RdbWriter } from './rdb-writer.ts';

const ID_BYTES = 16;
/** Id, time, and a count of at least one byte. */
const PENDING_BYTES = ID_BYTES + 8 + 1;
/** In place of a consumer's number. */
const NOT_OWNED = -1;
const RELEASED = -2;

export function writeGroup(
  group: ConsumerGroup,
  type: number,
  stepped: number,
  writer: RdbWriter,
): void {
  // A copy has all its pages in memory, wherever the group's own are.
  const { pending } = group.copy(NO_EPOCH);
  writer.string(group.name);
  writer.id(group.lastId);
  writer.count(group.entriesRead);
  writer.count(pending.size);
  const released: { id: StreamId; delayed: boolean; place: number }[] = [];
  for (let more = pending.seek(ZERO, cursor); more; more = cursor.next()) {
    cursor.id.encode(writer);
    writer.time(dateOf(cursor.time, stepped));
    writeDeliveries(writer);
    if (cursor.consumer !== UNOWNED && cursor.consumer !== DELAYED) continue;
    const place = cursor.page!.columns!.time[cursor.at];
    released.push({ id: cursor.id.clone(), delayed: cursor.consumer === DELAYED, place });
  }
  writer.count(group.consumerCount);
  for (const consumer of group.consumers()) {
    writer.string(consumer.name);
    writer.time(dateOf(consumer.seenTime, stepped));
    if (type >= StreamType.LISTPACKS_3) writer.time(dateOf(consumer.activeTime, stepped));
    writer.count(consumer.pendingCount);
    let more = pending.seekConsumer(consumer.index, ZERO, cursor);
    for (; more; more = cursor.nextOf(consumer.index)) cursor.id.encode(writer);
  }
  if (type < StreamType.LISTPACKS_5) return;
  released.sort((a, b) => Number(a.delayed) - Number(b.delayed) || a.place - b.place);
  writer.count(released.length);
  for (const { id } of released) id.encode(writer);
}

/** The date of a time; 0 and -1 are none. */
export function dateOf(time: number, stepped: number): number {
  return time > 0 ? Math.max(1, time + stepped) : time;
}

function writeDeliveries(writer: RdbWriter): void {
  writer.count(countValue(cursor.count));
}

/** `stream` has its entries already. */
export function readGroup(
  reader: RdbReader,
  type: number,
  stream: StreamCounters,
  stepped: number,
  epoch: Epoch,
): ConsumerGroup {
  const name = Buffer.from(reader.string());
  const lastId = reader.id(new StreamId());
  // Before the count was kept, Redis computes it from the ids.
  const counted = type >= StreamType.LISTPACKS_2;
  const read = counted ? reader.signed() : estimateRead(stream, lastId);
  const group = new ConsumerGroup(name, lastId, read, epoch);
  const rows = new PendingRows(reader);
  const consumers: Consumer[] = [];
  for (let left = reader.count(ID_BYTES / 2 + 2); left > 0; left--) {
    const consumer = readConsumer(reader, group, type, stepped);
    consumers.push(consumer);
    for (let more = reader.count(ID_BYTES); more > 0; more--) {
      rows.take(reader.rawId(id), consumers.length - 1);
    }
  }
  const released: number[] = [];
  if (type >= StreamType.LISTPACKS_5) {
    for (let left = reader.count(ID_BYTES); left > 0; left--) {
      released.push(rows.take(reader.rawId(id), RELEASED));
    }
  }
  for (let i = 0; i < rows.size; i++) {
    const owner = rows.owners[i];
    if (owner === NOT_OWNED) throw new RangeError('a pending entry that belongs to no consumer');
    if (owner === RELEASED) continue;
    const time = dateOf(rows.times[i], -stepped);
    group.setPending(rows.readId(i, id), consumers[owner], time, rows.counts[i]);
  }
  for (const i of released) group.setReleased(rows.readId(i, id), rows.counts[i]);
  return group;
}

function readConsumer(
  reader: RdbReader,
  group: ConsumerGroup,
  type: number,
  stepped: number,
): Consumer {
  const name = Buffer.from(reader.string());
  if (group.findConsumer(name.toString('latin1')) !== undefined) {
    throw new RangeError('a consumer twice');
  }
  const consumer = group.createConsumer(name, dateOf(reader.time(0), -stepped));
  // Before there was an active time, Redis takes the seen time for it.
  const hasActive = type >= StreamType.LISTPACKS_3;
  consumer.activeTime = hasActive ? dateOf(reader.time(-1), -stepped) : consumer.seenTime;
  return consumer;
}

/** The pending entries of a group as the payload lists them: in the order of ids. */
class PendingRows {
  readonly size: number;
  readonly times: Float64Array;
  readonly counts: Float64Array;
  /** Number of the consumer, or NOT_OWNED, or RELEASED. */
  readonly owners: Int32Array;
  readonly #buffer: Buffer;
  /** The offset of its id in the payload. */
  readonly #places: Uint32Array;

  constructor(reader: RdbReader) {
    const size = reader.count(PENDING_BYTES);
    this.size = size;
    this.times = new Float64Array(size);
    this.counts = new Float64Array(size);
    this.owners = new Int32Array(size).fill(NOT_OWNED);
    this.#buffer = reader.buffer;
    this.#places = new Uint32Array(size);
    const previous = new StreamId();
    for (let i = 0; i < size; i++) {
      this.#places[i] = reader.at;
      reader.rawId(id);
      if (i > 0 && id.compare(previous) <= 0) throw new RangeError('pending ids do not ascend');
      previous.copy(id);
      this.times[i] = reader.time(0);
      const count = reader.signed();
      if (count < 0) throw new RangeError('a negative count of deliveries');
      this.counts[i] = countFrom(count);
    }
  }

  readId(i: number, into: StreamId): StreamId {
    return into.fromKey(this.#buffer, this.#places[i]);
  }

  /** Gives the entry with this id to an owner; returns its number. */
  take(wanted: StreamId, owner: number): number {
    let from = 0;
    let to = this.size;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.readId(middle, found).compare(wanted) < 0) from = middle + 1;
      else to = middle;
    }
    if (from === this.size || !this.readId(from, found).equals(wanted)) {
      throw new RangeError('a consumer has an entry that is not pending');
    }
    if (this.owners[from] !== NOT_OWNED) throw new RangeError('a pending entry with two owners');
    this.owners[from] = owner;
    return from;
  }
}

const ZERO = StreamId.min();
const cursor = new PendingCursor();
const id = new StreamId();
const found = new StreamId();
