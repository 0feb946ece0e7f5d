/**
 * Replays the effect records of streams: decodes each and calls the mutator that wrote it.
 *
 * A record that does not fit the state throws; Replay turns that into DamagedRecord.
 */
import type { Consumer } from '../../consumer-groups/consumer.ts';
import { readCount } from '../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { decodePolicy } from '../../consumer-groups/group-policy.ts';
import { IdList } from '../../stream/id-list.ts';
import { type IdKind, SCHEDULED_BIT } from '../../stream/idempotency.ts';
import type { NodePlace } from '../../stream/stream.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { StreamIterator } from '../../stream/stream-iterator.ts';
import { TrimRule } from '../../stream/trim.ts';
import { Arguments } from '../../util/arguments.ts';
import type { ByteReader } from '../../util/byte-writer.ts';
import { scratch } from '../../util/scratch.ts';
import { minus } from '../../util/whole.ts';
import { decodeRetention } from '../checkpoint/checkpoint-values.ts';
import type { Engine } from '../engine.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { type RecordHandler, readDatabase, readOpenEntry } from '../log/replay.ts';
import { enterScheduled, unschedule } from '../schedule/scheduled-entries.ts';
import { setPolicy } from './group-policy.ts';
import { setRetention } from './retention.ts';
import { acknowledge, Delivery, redeliver } from './stream-deliveries.ts';
import {
  appendEntry,
  configureIdempotency,
  countDuplicate,
  type Deletion,
  deleteEntries,
  readReferences,
  recordIdempotent,
  setStreamId,
  trimExactly,
  trimStream,
} from './stream-entries.ts';
import {
  createConsumer,
  createGroup,
  deleteConsumer,
  destroyGroup,
  setGroupId,
  streamOf,
} from './stream-groups.ts';
import { StreamRecord } from './stream-records.ts';
import type { StreamValue } from './stream-value.ts';

/** Where a record applies. */
interface Target {
  database: Database;
  entry: KeyEntry;
  value: StreamValue;
}

/** For `new Replay(engine, streamReplayHandlers)`. */
export const streamReplayHandlers: Readonly<Record<number, RecordHandler>> = {
  [StreamRecord.ADD](engine, record) {
    replayAdd(engine, record, null);
  },
  [StreamRecord.ADD_TO_LAST_NODE](engine, record) {
    replayAdd(engine, record, 'last node');
  },
  [StreamRecord.ADD_TO_NEW_NODE](engine, record) {
    replayAdd(engine, record, 'new node');
  },
  [StreamRecord.TRIM](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const references = readReferences(record.u8());
    trimBefore(id.decode(record));
    trimStream(database, entry, value, rule, references);
  },
  [StreamRecord.TRIM_ALL](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    trimAll();
    trimStream(database, entry, value, rule, readReferences(record.u8()));
  },
  [StreamRecord.TRIM_LIST](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    ids.decode(record);
    // All that goes is before the id after the last of them; behind the last id of all is nothing.
    if (ids.get(ids.count - 1, id).increment()) trimBefore(id);
    else trimAll();
    trimExactly(database, entry, value, ids, rule);
  },
  [StreamRecord.DELETE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const references = readReferences(record.u8());
    ids.decode(record);
    // By ACKED only entries without references were deleted, so there is nothing to ask again.
    const kept = references === 'acked' ? 'keepref' : references;
    deleteEntries(database, entry, value, ids, kept, outcomes);
  },
  [StreamRecord.SET_ID](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    id.decode(record);
    const entriesAdded = record.whole();
    setStreamId(database, entry, value, id, entriesAdded, new StreamId().decode(record));
  },
  [StreamRecord.IDEMPOTENT](engine, record) {
    const scheduled = (id: StreamId): IdKind => (id.seqHi < SCHEDULED_BIT ? 'entry' : 'scheduled');
    replayIdempotent(engine, record, scheduled);
  },
  [StreamRecord.IDEMPOTENT_HIGH](engine, record) {
    replayIdempotent(engine, record, () => 'entry');
  },
  [StreamRecord.REMEMBER](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const producer = record.bytes().toString('latin1');
    const idempotent = record.bytes().toString('latin1');
    id.decode(record);
    const kind = record.u8() === 0 ? 'entry' : 'scheduled';
    const time = record.f64();
    engine.noteSteady(time);
    recordIdempotent(database, entry, value, producer, idempotent, id, time, kind);
  },
  [StreamRecord.DUPLICATE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    countDuplicate(database, entry, value);
  },
  [StreamRecord.CONFIGURE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const duration = record.varint();
    configureIdempotency(database, entry, value, duration, record.varint());
  },

  [StreamRecord.RETENTION](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    setRetention(database, entry, value, decodeRetention(record));
  },
  [StreamRecord.SCHEDULE](engine, record) {
    const database = readDatabase(engine, record);
    const key = Buffer.from(record.bytes());
    const number = record.varint();
    const due = record.varint();
    enterScheduled(database, number, key, { at: due, isDelay: false }, Buffer.from(record.bytes()));
  },
  [StreamRecord.DELAY](engine, record) {
    const database = readDatabase(engine, record);
    const key = Buffer.from(record.bytes());
    const number = record.varint();
    const at = record.f64();
    enterScheduled(database, number, key, { at, isDelay: true }, Buffer.from(record.bytes()));
  },
  [StreamRecord.UNSCHEDULE](engine, record) {
    const database = readDatabase(engine, record);
    record.bytes();
    const number = record.varint();
    const scheduled = database.keyspace.schedule.get(number);
    if (scheduled === undefined) throw new RangeError(`nothing is scheduled as ${number}`);
    unschedule(database, scheduled);
  },

  [StreamRecord.GROUP_CREATE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const name = Buffer.from(record.bytes());
    if (value.groups.has(name.toString('latin1'))) throw new RangeError(`group ${name} exists`);
    id.decode(record);
    createGroup(database, entry, name, id, minus(record.whole(), 1));
  },
  [StreamRecord.GROUP_SET_ID](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    id.decode(record);
    setGroupId(database, entry, group, id, minus(record.whole(), 1));
  },
  [StreamRecord.GROUP_DESTROY](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    destroyGroup(database, entry, readGroup(value, record));
  },
  [StreamRecord.GROUP_POLICY](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    setPolicy(database, entry, group, record.done ? null : decodePolicy(record));
  },
  [StreamRecord.CONSUMER_CREATE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    const name = Buffer.from(record.bytes());
    createConsumer(database, entry, group, name, record.varint());
  },
  [StreamRecord.CONSUMER_DELETE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    deleteConsumer(database, entry, group, readConsumer(group, record));
  },

  [StreamRecord.DELIVER](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    const consumer = readConsumer(group, record);
    const time = seen(engine, consumer, record.varint());
    const noAck = record.u8() === 1;
    delivery.begin({ database, entry, value, group, consumer }, noAck, time);
    replayDelivery(value, record);
  },
  [StreamRecord.DELIVER_AHEAD](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    const consumer = readConsumer(group, record);
    const time = seen(engine, consumer, record.varint());
    delivery.begin({ database, entry, value, group, consumer }, false, time, 0);
    replayDelivery(value, record);
  },
  [StreamRecord.REDELIVER](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    const consumer = readConsumer(group, record);
    const time = seen(engine, consumer, record.varint());
    const limit = record.varint();
    const turn = { database, entry, value, group, consumer };
    redeliver(turn, id.decode(record), limit, time, SILENT);
  },
  [StreamRecord.ACKNOWLEDGE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    acknowledge(database, entry, group, ids.decode(record));
  },
  [StreamRecord.CLAIM](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    const consumer = readConsumer(group, record);
    database.touchGroup(entry, group);
    consumer.activeTime = seen(engine, consumer, record.varint());
    ids.decode(record);
    for (let i = 0; i < ids.count; i++) {
      const time = record.varint();
      group.setPending(ids.get(i, id), consumer, time, readCount(record));
    }
  },
  [StreamRecord.RELEASE](engine, record) {
    const { database, entry, value } = readTarget(engine, record);
    const group = readGroup(value, record);
    database.touchGroup(entry, group);
    ids.decode(record);
    for (let i = 0; i < ids.count; i++) group.setReleased(ids.get(i, id), readCount(record));
  },
  [StreamRecord.RETRY_LATER_V1](engine, record) {
    const group = readTimed(engine, record);
    const ackWait = group.policy?.ackWait ?? 0;
    for (let i = 0; i < ids.count; i++) {
      const time = record.f64() + ackWait;
      group.setParked(ids.get(i, id), time, readCount(record));
    }
  },
  [StreamRecord.RETRY_LATER](engine, record) {
    const group = readTimed(engine, record);
    for (let i = 0; i < ids.count; i++) {
      const time = record.f64();
      group.setParked(ids.get(i, id), time, readCount(record));
    }
  },
  [StreamRecord.AWAIT_DEAD_LETTER](engine, record) {
    const group = readTimed(engine, record);
    for (let i = 0; i < ids.count; i++) {
      const time = record.f64();
      group.setCondemned(ids.get(i, id), time, readCount(record));
    }
  },
};

function replayAdd(engine: Engine, record: ByteReader, where: NodePlace | null): void {
  const { database, entry, value } = readTarget(engine, record);
  id.decode(record);
  if (id.compare(value.stream.lastId) <= 0) throw new RangeError(`${id} is not a new id`);
  const count = record.varint() * 2;
  args.clear(record.buffer);
  for (let i = 0; i < count; i++) {
    const length = record.varint();
    args.push(record.at, length);
    record.raw(length);
  }
  appendEntry(database, entry, value, id, args, 0, count, where);
  if (value.retention !== null) database.watchRetention(entry, value);
}

function replayIdempotent(
  engine: Engine,
  record: ByteReader,
  kindOf: (id: StreamId) => IdKind,
): void {
  const { database, entry, value } = readTarget(engine, record);
  const producer = record.bytes().toString('latin1');
  const idempotent = record.bytes().toString('latin1');
  id.decode(record);
  const time = id.ms - engine.time.stepped;
  recordIdempotent(database, entry, value, producer, idempotent, id, time, kindOf(id));
}

function readTarget(engine: Engine, record: ByteReader): Target {
  const database = readDatabase(engine, record);
  const entry = readOpenEntry(database, record);
  return { database, entry, value: streamOf(entry) };
}

/** Reads group and ids; times and counts follow. */
function readTimed(engine: Engine, record: ByteReader): ConsumerGroup {
  const { database, entry, value } = readTarget(engine, record);
  const group = readGroup(value, record);
  database.touchGroup(entry, group);
  ids.decode(record);
  return group;
}

function readGroup(value: StreamValue, record: ByteReader): ConsumerGroup {
  const name = record.bytes().toString('latin1');
  const group = value.groups.get(name);
  if (group === undefined) throw new RangeError(`there is no group ${JSON.stringify(name)}`);
  return group;
}

function readConsumer(group: ConsumerGroup, record: ByteReader): Consumer {
  const name = record.bytes().toString('latin1');
  const consumer = group.findConsumer(name);
  if (consumer === undefined) throw new RangeError(`there is no consumer ${JSON.stringify(name)}`);
  return consumer;
}

/** A consumer that received something was seen. */
function seen(engine: Engine, consumer: Consumer, time: number): number {
  consumer.seenTime = time;
  engine.noteSteady(time);
  return time;
}

function trimBefore(first: StreamId): void {
  rule.strategy = 'minid';
  rule.minid.copy(first);
}

function trimAll(): void {
  rule.strategy = 'maxlen';
  rule.maxlen = 0;
}

/** The number of entries and the range of a delivery that has begun. */
function replayDelivery(value: StreamValue, record: ByteReader): void {
  let count = record.varint();
  id.decode(record);
  iterator.seek(value.stream, id, last.decode(record));
  // No look behind the last one: the block there may be damaged.
  for (; count > 0 && iterator.next(); count--) delivery.deliver(iterator.id);
  delivery.end();
  if (count !== 0) throw new RangeError(`${count} delivered entries are not there`);
}

const SILENT = { delivered: () => {}, missing: () => {} };

// Scratch: never held across records.
const id = new StreamId();
const last = new StreamId();
const ids = new IdList();
const args = scratch(new Arguments());
const rule = new TrimRule();
const iterator = scratch(new StreamIterator());
const delivery = new Delivery();
const outcomes: Deletion[] = [];
