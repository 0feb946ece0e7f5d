/**
 * Moving an entry to a dead-letter stream.
 *
 * The append there and the acknowledgement here are records of one turn, so they are in one frame
 * of the log and are on disk together or not at all. A dead letter has the fields of the entry, and
 * those of dead-letter-fields.ts behind them; an entry that was a dead letter itself loses its old ones.
 * Cost: one copy of the entry. The letters of one call are in one frame, so a call that has written
 * LARGE_UNIT bytes moves no further entry.
 */
import { countValue } from '../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { StreamIterator } from '../../stream/stream-iterator.ts';
import { Arguments } from '../../util/arguments.ts';
import { ByteWriter } from '../../util/byte-writer.ts';
import { scratch } from '../../util/scratch.ts';
import type { EngineContext } from '../engine-context.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { deadLetterFields } from './dead-letter-fields.ts';
import { enforceRetention } from './retention.ts';
import { appendEntry, nextId } from './stream-entries.ts';

/**
 * Whether the destination takes dead letters of a stream: it is another key, and holds a stream that
 * has ids left, or nothing.
 */
export function takesDeadLetters(
  database: Database,
  source: KeyEntry,
  destination: Uint8Array,
): boolean {
  const present = database.findKey(destination);
  if (present === undefined) return true;
  // RENAME, COPY and the like can make a stream its own destination: it would grow at each read.
  if (present === source || present.value.type !== 'stream') return false;
  return !present.value.stream.lastId.isMax();
}

/** Bytes of the fields of the dead letter that was appended last. */
export function deadLetterBytes(): number {
  return lastBytes;
}

/** Bytes of one frame's letters beyond which the next entry waits for the next call. */
const LARGE_UNIT = 16 * 1024 * 1024;

/**
 * Appends the dead letter of an entry that the stream has. False, and nothing changed, where the
 * destination takes none (`takesDeadLetters`). The caller acknowledges.
 */
export function appendDeadLetter(
  database: Database,
  source: KeyEntry,
  group: ConsumerGroup,
  id: StreamId,
  deliveries: number,
  destination: Uint8Array,
  reason: string,
): boolean {
  const { engine } = database;
  if (!takesDeadLetters(database, source, destination)) return false;
  const present = database.findKey(destination);
  if (!readEntry(source, id) || !hasRoom(engine)) return false;
  const { topic, group: from, id: origin, reason: why, attempts, time } = deadLetterFields;
  pushField(topic, source.key);
  pushField(from, group.name);
  pushField(origin, Buffer.from(id.toString()));
  pushField(why, Buffer.from(reason));
  pushField(attempts, Buffer.from(String(countValue(deliveries))));
  pushField(time, Buffer.from(new Date(engine.now).toISOString()));
  args.buffer = writer.buffer;
  const entry = present ?? database.set(destination, engine.newStream(), 0);
  if (entry.value.type !== 'stream') throw new Error('a stream was made');
  nextId(entry.value.stream, engine.now, newId);
  appendEntry(database, entry, entry.value, newId, args, 0, args.count);
  enforceRetention(database, entry, entry.value);
  lastBytes = writer.length;
  return true;
}

/**
 * Whether the log has room for the entry that was read, and the frame that would hold it is not
 * too large already. Otherwise the entry stays pending and moves with a later call.
 */
function hasRoom({ journal, replaying }: EngineContext): boolean {
  if (replaying) return true;
  return journal.unitBytes < LARGE_UNIT && journal.refusalFor(writer.length) === null;
}

/** Copies the entry's fields to `args`, as the stream may change before they are used. */
function readEntry(source: KeyEntry, id: StreamId): boolean {
  if (source.value.type !== 'stream') return false;
  iterator.seek(source.value.stream, id, id);
  if (!iterator.next()) return false;
  writer.clear();
  args.clear(writer.buffer);
  while (iterator.nextField()) {
    const { fieldBuffer, fieldOffset, fieldLength, valueBuffer, valueOffset, valueLength } =
      iterator;
    if (isOurs(fieldBuffer, fieldOffset, fieldLength)) continue;
    push(fieldBuffer, fieldOffset, fieldLength);
    push(valueBuffer, valueOffset, valueLength);
  }
  return true;
}

function isOurs(buffer: Uint8Array, from: number, length: number): boolean {
  return NAMES.some(
    (name) =>
      name.length === length && name.compare(buffer, from, from + length, 0, name.length) === 0,
  );
}

function pushField(name: string, value: Uint8Array): void {
  push(Buffer.from(name), 0, name.length);
  push(value, 0, value.length);
}

function push(buffer: Uint8Array, from: number, length: number): void {
  args.push(writer.length, length);
  writer.raw(buffer, from, length);
}

const NAMES = Object.values(deadLetterFields).map((name) => Buffer.from(name));

// Scratch: never held across calls.
const writer = scratch(new ByteWriter());
const args = scratch(new Arguments());
const iterator = scratch(new StreamIterator());
const newId = new StreamId();
let lastBytes = 0;
