/**
 * Mutators of consumer groups and their consumers: XGROUP's effects.
 *
 * Each notifies the checkpointer, changes memory, records the effect and signals readers (database.ts).
 * Nothing here looks at the clock: times are arguments. As in Redis, creating and moving a group is
 * no change of the key for WATCH.
 */
import type { Consumer } from '../../consumer-groups/consumer.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { StreamId } from '../../stream/stream-id.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { ByteWriter } from '../../util/byte-writer.ts';
import { plus, type Whole } from '../../util/whole.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { EventClass } from '../keyspace/keyspace-events.ts';
import { StreamRecord } from './stream-records.ts';
import type { StreamValue } from './stream-value.ts';

/** The stream of an entry that is known to hold one. */
export function streamOf(entry: KeyEntry): StreamValue {
  if (entry.value.type !== 'stream') throw new Error('the key holds no stream');
  return entry.value;
}

/** The group named by argument `i`. */
export function findGroup(
  value: StreamValue,
  args: Arguments,
  i: number,
): ConsumerGroup | undefined {
  return value.groups.size === 0 ? undefined : value.groups.get(args.latin1(i));
}

/** The consumer named by argument `i`. */
export function findConsumer(
  group: ConsumerGroup,
  args: Arguments,
  i: number,
): Consumer | undefined {
  return group.findConsumerIn(args.buffer, args.offsets[i], args.lengths[i]);
}

/** In the byte order of names, as Redis lists them. */
export function groupsInOrder(value: StreamValue): ConsumerGroup[] {
  return [...value.groups.values()].sort((a, b) => Buffer.compare(a.name, b.name));
}

/** Begins a record about a group: the caller writes the rest and ends it. */
export function beginGroupRecord(
  type: number,
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
): ByteWriter {
  const record = database.beginRecord(type, entry.key);
  record.bytes(group.name);
  return record;
}

/** `name` must not be taken; it is kept. `entriesRead` -1 = unknown. */
export function createGroup(
  database: Database,
  entry: KeyEntry,
  name: Buffer,
  lastId: StreamId,
  entriesRead: Whole,
): ConsumerGroup {
  const { engine } = database;
  database.touch(entry);
  engine.changes++;
  const group = engine.newGroup(name, lastId, entriesRead);
  database.touchGroup(entry, group);
  streamOf(entry).groups.set(name.toString('latin1'), group);
  if (engine.recording) {
    const record = beginGroupRecord(StreamRecord.GROUP_CREATE, database, entry, group);
    lastId.encode(record);
    record.whole(plus(entriesRead, 1));
    engine.journal.end();
  }
  database.notify(EventClass.STREAM, 'xgroup-create', entry.key);
  return group;
}

export function setGroupId(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  id: StreamId,
  entriesRead: Whole,
): void {
  const { engine } = database;
  database.touchGroup(entry, group);
  group.setId(id, entriesRead);
  engine.changes++;
  if (engine.recording) {
    const record = beginGroupRecord(StreamRecord.GROUP_SET_ID, database, entry, group);
    id.encode(record);
    record.whole(plus(entriesRead, 1));
    engine.journal.end();
  }
}

/** Readers that wait for the group learn that it is gone. */
export function destroyGroup(database: Database, entry: KeyEntry, group: ConsumerGroup): void {
  const { engine } = database;
  database.touch(entry);
  database.touchGroup(entry, group);
  streamOf(entry).groups.delete(group.name.toString('latin1'));
  engine.changes++;
  engine.checkpointer?.removeGroup(entry, group);
  if (engine.recording) {
    beginGroupRecord(StreamRecord.GROUP_DESTROY, database, entry, group);
    engine.journal.end();
  }
  database.signalKeyReady(entry);
  database.notify(EventClass.STREAM, 'xgroup-destroy', entry.key);
}

/** `name` must not be taken; it is kept. */
export function createConsumer(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  name: Buffer,
  now: number,
): Consumer {
  const { engine } = database;
  database.touchGroup(entry, group);
  const consumer = group.createConsumer(name, now);
  engine.changes++;
  if (engine.recording) {
    const record = beginGroupRecord(StreamRecord.CONSUMER_CREATE, database, entry, group);
    record.bytes(name);
    record.varint(now);
    engine.journal.end();
  }
  database.notify(EventClass.STREAM, 'xgroup-createconsumer', entry.key);
  return consumer;
}

/** Removes the consumer with its pending entries and returns how many those were. */
export function deleteConsumer(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  consumer: Consumer,
): number {
  const { engine } = database;
  database.touchGroup(entry, group);
  engine.changes++;
  if (engine.recording) {
    beginGroupRecord(StreamRecord.CONSUMER_DELETE, database, entry, group).bytes(consumer.name);
    engine.journal.end();
  }
  database.notify(EventClass.STREAM, 'xgroup-delconsumer', entry.key);
  return group.deleteConsumer(consumer);
}

/**
 * The consumer named by argument `i`, created where it is missing, and seen now. That it was seen is
 * not recorded: it changes at every call and says nothing that a delivery would not.
 */
export function seeConsumer(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  args: Arguments,
  i: number,
): Consumer {
  const { steady } = database.engine;
  const consumer =
    findConsumer(group, args, i) ?? createConsumer(database, entry, group, args.copy(i), steady);
  consumer.seenTime = steady;
  return consumer;
}
