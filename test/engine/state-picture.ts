/**
 * Everything that an engine knows of its keys, as plain values: two engines with the same picture
 * answer every command alike. What is not durable is left out: seen times, access times, and where
 * blocks and pages happen to lie.
 */
import type { ConsumerGroup } from '../../src/consumer-groups/group.ts';
import { PendingCursor } from '../../src/consumer-groups/pending-cursor.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { KeyEntry } from '../../src/engine/key-entry.ts';
import type { StreamValue } from '../../src/engine/stream-value.ts';
import { Idempotency } from '../../src/stream/idempotency.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { StreamIterator } from '../../src/stream/stream-iterator.ts';

export function pictureOf(engine: Engine, details = { idempotency: true }): unknown {
  return engine.databases.map((database) => {
    const keys: Record<string, unknown> = {};
    const entries = [...database.keyspace.table.entries()];
    entries.sort((a, b) => Buffer.compare(a.key, b.key));
    for (const entry of entries) {
      const picture = pictureOfEntry(entry);
      if (!details.idempotency) picture.idempotency = null;
      keys[entry.key.toString('latin1')] = picture;
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
        ({ key, number, due, body }) => `${index} ${key} s${number} ${due} ${body.toString('hex')}`,
      ),
  );
}

function pictureOfEntry(entry: KeyEntry): Record<string, unknown> {
  const { value, expireAt } = entry;
  if (value.type === 'string') return { expireAt, string: value.bytes.toString('latin1') };
  return { expireAt, ...pictureOfStream(value) };
}

function pictureOfStream(value: StreamValue): object {
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
    idempotency: pictureOfIdempotency(idempotency),
    retention: value.retention,
  };
}

/** One that was made to look into and holds nothing says no more than none. */
function pictureOfIdempotency(idempotency: Idempotency | null): string | null {
  const untouched = new Idempotency(100, 100).export();
  const bytes = idempotency?.export() ?? untouched;
  return bytes.equals(untouched) ? null : bytes.toString('hex');
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
    const owner = group.consumerAt(cursor.consumer)?.name.toString('latin1') ?? '(nobody)';
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
