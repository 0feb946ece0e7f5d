/**
 * Everything that an engine knows of its keys, as plain values: two engines with the same picture
 * answer every command alike. What is not durable is left out: seen times, access times, and where
 * blocks and pages happen to lie.
 */
import type { ConsumerGroup } from '../../src/consumer-groups/group.ts';
import { PendingCursor } from '../../src/consumer-groups/pending/pending-cursor.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { KeyEntry } from '../../src/engine/keyspace/key-entry.ts';
import type { StreamValue } from '../../src/engine/streams/stream-value.ts';
import { Idempotency } from '../../src/stream/idempotency.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { StreamIterator } from '../../src/stream/stream-iterator.ts';

/** Whether a picture shows idempotent ids, and when they were recorded. */
export interface Details {
  readonly idempotency: 'all' | 'without times' | 'none';
}

export function pictureOf(engine: Engine, details: Details = { idempotency: 'all' }): unknown {
  return engine.databases.map((database) => {
    const keys: Record<string, unknown> = {};
    const entries = [...database.keyspace.table.entries()];
    entries.sort((a, b) => Buffer.compare(a.key, b.key));
    for (const entry of entries) {
      keys[entry.key.toString('latin1')] = pictureOfEntry(entry, details);
    }
    return keys;
  });
}

/** What waits for its time: not a part of any key. */
export function scheduleOf(engine: Engine): string[] {
  return engine.databases.flatMap(({ index, keyspace }) =>
    [...keyspace.schedule.entries()]
      .sort((a, b) => a.number - b.number)
      .map(
        ({ key, number, at, isDelay, body }) =>
          `${index} ${key} s${number} ${at} ${isDelay} ${body.toString('hex')}`,
      ),
  );
}

function pictureOfEntry(entry: KeyEntry, details: Details): Record<string, unknown> {
  const { value, expireAt } = entry;
  if (value.type === 'string') return { expireAt, string: value.bytes.toString('latin1') };
  return { expireAt, ...pictureOfStream(value, details) };
}

function pictureOfStream(value: StreamValue, details: Details): object {
  const { stream, idempotency } = value;
  const names = [...value.groups.keys()].sort();
  const id = new StreamId();
  return {
    lastId: stream.lastId.toString(),
    firstId: stream.firstId.toString(),
    maxDeletedId: stream.maxDeletedId.toString(),
    length: stream.length,
    entriesAdded: stream.entriesAdded,
    // A trim can leave a node of tombstones, as Redis's does; replaying its effect takes that away.
    blocks: Array.from(stream.blocks(), (block) => [
      block.readFirstId(id).toString(),
      block.live,
      block.deleted,
      block.listpackBytes,
    ]).filter(([, live]) => live !== 0),
    entries: entriesOf(value),
    groups: names.map((name) => pictureOfGroup(value.groups.get(name) as ConsumerGroup)),
    idempotency: pictureOfIdempotency(idempotency, details),
    retention: value.retention,
  };
}

/** One that was made to look into and holds nothing says no more than none. */
function pictureOfIdempotency(idempotency: Idempotency | null, details: Details): object | null {
  const untouched = new Idempotency(100, 100).export();
  if (idempotency === null || details.idempotency === 'none') return null;
  if (idempotency.export().equals(untouched)) return null;
  const { duration, maxsize, iidsAdded, iidsDuplicates } = idempotency;
  // In the order of names: that in which they came is of no consequence.
  const producers = [...idempotency.producers()].sort(([a], [b]) => (a < b ? -1 : 1));
  const ids = producers.map(([producer, remembered]) => [
    producer,
    ...[...remembered].map(([iid, { id, kind, time }]) =>
      [iid, id, kind, details.idempotency === 'all' ? time : 0].join(' '),
    ),
  ]);
  return { duration, maxsize, iidsAdded, iidsDuplicates, ids };
}

function entriesOf(value: StreamValue): string[] {
  const iterator = new StreamIterator();
  const entries: string[] = [];
  iterator.seek(value.stream, StreamId.min(), StreamId.max());
  while (iterator.next()) {
    let text = iterator.id.toString();
    while (iterator.nextField()) {
      const { fieldOffset, valueOffset } = iterator;
      const field = iterator.fieldBuffer.subarray(fieldOffset, fieldOffset + iterator.fieldLength);
      const item = iterator.valueBuffer.subarray(valueOffset, valueOffset + iterator.valueLength);
      text += ` ${Buffer.from(field).toString('latin1')}=${Buffer.from(item).toString('latin1')}`;
    }
    entries.push(text);
  }
  return entries;
}

function pictureOfGroup(group: ConsumerGroup): object {
  const cursor = new PendingCursor();
  const pending: string[] = [];
  let more = group.pending.seek(StreamId.min(), cursor);
  while (more) {
    const owner = group.consumerAt(cursor.consumer)?.name.toString('latin1') ?? '(no owner)';
    // The time of a released entry is its place in the row of such.
    pending.push(`${cursor.id} ${owner} ${cursor.time} ${cursor.count}`);
    more = cursor.next();
  }
  return {
    name: group.name.toString('latin1'),
    lastId: group.lastId.toString(),
    entriesRead: group.entriesRead,
    nacked: group.nackedCount,
    resting: group.parkedCount,
    policy: group.policy,
    consumers: group
      .consumers()
      .map((consumer) => `${consumer.name.toString('latin1')} ${consumer.pendingCount}`),
    pending,
  };
}
