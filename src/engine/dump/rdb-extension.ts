/**
 * What a stream of this server has and Redis has no field for, behind the value in a dump.
 *
 * Redis reads a dump's value and ignores what stands between it and the footer, so a dump with this
 * part opens there without it:
 *
 *     "RVLT" · u8 version (1) · bytes retention (none: empty) · bytes idempotent ids (none: empty)
 *     per group, in the order of the value:
 *       per consumer, in its order: varint active time + 1
 *       bytes policy (none: empty) · varint delayed entries, each: id (16) · f64 time
 *
 * Idempotent ids stand here only where the value's type has no place for them.
 * Invariant: a payload without this part says all that there is, so it is written only when needed.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import {
  decodePolicy,
  encodePolicy,
  type GroupPolicy,
} from '../../consumer-groups/group-policy.ts';
import { NO_EPOCH } from '../../consumer-groups/pending/page-store.ts';
import { PendingCursor } from '../../consumer-groups/pending/pending-cursor.ts';
import { DELAYED, UNOWNED } from '../../consumer-groups/pending/pending-page.ts';
import { Idempotency } from '../../stream/idempotency.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { ByteReader, ByteWriter } from '../../util/byte-writer.ts';
import { decodeRetention, encodeRetention } from '../checkpoint/checkpoint-values.ts';
import type { Retention, StreamValue } from '../streams/stream-value.ts';
import type { TurnClock } from '../turn-clock.ts';
import { dateOf } from './rdb-group.ts';
import { checkWindow } from './rdb-stream.ts';
import { StreamType } from './rdb-stream-type.ts';

const MAGIC = Buffer.from('RVLT', 'latin1');
const VERSION = 1;
const NOTHING = Buffer.alloc(0);

/** Appends the part where the stream needs it. */
export function writeExtension(
  value: StreamValue,
  type: number,
  stepped: number,
  writer: ByteWriter,
): void {
  if (!isNeeded(value, type)) return;
  writer.raw(MAGIC, 0, MAGIC.length);
  writer.u8(VERSION);
  const { retention, idempotency } = value;
  writePart(writer, retention === null ? null : (part) => encodeRetention(retention, part));
  const apart = idempotency !== null && type < StreamType.LISTPACKS_4;
  writer.bytes(apart ? byDates(idempotency, stepped).export() : NOTHING);
  for (const group of value.groups.values()) writeGroupExtension(group, stepped, writer);
}

/** Another server's steady date is another one: a dump has dates. */
function byDates(idempotency: Idempotency, stepped: number): Idempotency {
  const copy = idempotency.copy();
  copy.rebase(stepped, Number.POSITIVE_INFINITY);
  return copy;
}

function isNeeded(value: StreamValue, type: number): boolean {
  if (value.retention !== null) return true;
  if (value.idempotency !== null && type < StreamType.LISTPACKS_4) return true;
  for (const group of value.groups.values()) {
    if (group.policy !== null || group.parkedCount > 0) return true;
    if (type >= StreamType.LISTPACKS_3) continue;
    if (group.consumers().some(({ activeTime, seenTime }) => activeTime !== seenTime)) return true;
  }
  return false;
}

function writeGroupExtension(group: ConsumerGroup, stepped: number, writer: ByteWriter): void {
  for (const { activeTime } of group.consumers()) writer.varint(dateOf(activeTime, stepped) + 1);
  const { policy } = group;
  writePart(writer, policy === null ? null : (part) => encodePolicy(policy, part));
  writer.varint(group.parkedCount);
  if (group.parkedCount === 0) return;
  const { pending } = group.copy(NO_EPOCH);
  let more = pending.seekConsumer(DELAYED, ZERO, cursor);
  for (; more; more = cursor.nextOf(DELAYED)) {
    cursor.id.encode(writer);
    writer.f64(dateOf(cursor.time, stepped));
  }
}

function writePart(writer: ByteWriter, write: ((part: ByteWriter) => void) | null): void {
  const part = new ByteWriter(64);
  write?.(part);
  writer.bytes(part.buffer, 0, part.length);
}

/** Adds to the stream what the bytes behind its value say. Throws RangeError where they are damaged. */
export function readExtension(value: StreamValue, bytes: Buffer, time: TurnClock): void {
  if (bytes.length === 0) return;
  try {
    const reader = new ByteReader(bytes);
    if (!reader.raw(MAGIC.length).equals(MAGIC)) throw new RangeError('bytes left over');
    const version = reader.u8();
    if (version !== VERSION) throw new RangeError(`its version ${version} is not known`);
    readParts(value, reader, time);
    if (!reader.done) throw new RangeError('bytes left over');
  } catch (cause) {
    throw new RangeError(`what follows the value is damaged: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function readParts(value: StreamValue, reader: ByteReader, time: TurnClock): void {
  const retention = reader.bytes();
  if (retention.length > 0) value.retention = checkedRetention(new ByteReader(retention));
  const ids = reader.bytes();
  if (ids.length > 0) {
    if (value.idempotency !== null) throw new RangeError('idempotent ids twice');
    value.idempotency = Idempotency.import(ids, 0);
    value.idempotency.rebase(-time.stepped, time.steady);
    checkWindow(value.idempotency.duration, value.idempotency.maxsize);
  }
  for (const group of value.groups.values()) readGroupExtension(group, reader, time.stepped);
}

function checkedRetention(reader: ByteReader): Retention {
  const retention = decodeRetention(reader);
  const numbers = [retention.maxAge, retention.maxBytes, retention.maxLen];
  if (!reader.done || !numbers.every(Number.isSafeInteger)) {
    throw new RangeError('a retention out of range');
  }
  return retention;
}

function readGroupExtension(group: ConsumerGroup, reader: ByteReader, stepped: number): void {
  // In the order of the value, which is that of names.
  for (const consumer of group.consumers()) {
    const time = reader.varint() - 1;
    if (!Number.isSafeInteger(time)) throw new RangeError('a time out of range');
    consumer.activeTime = dateOf(time, -stepped);
  }
  const policy = reader.bytes();
  if (policy.length > 0) group.policy = checkedPolicy(new ByteReader(policy));
  const id = new StreamId();
  for (let left = reader.varint(); left > 0; left--) {
    id.decode(reader);
    const time = reader.f64();
    if (!Number.isSafeInteger(time)) throw new RangeError('a time out of range');
    if (!group.pending.find(id, cursor) || cursor.consumer !== UNOWNED) {
      throw new RangeError('a delayed entry is not among those released');
    }
    group.delay(cursor, dateOf(time, -stepped), cursor.count);
  }
}

function checkedPolicy(reader: ByteReader): GroupPolicy {
  const policy = decodePolicy(reader);
  const { ackWait, maxDeliveries, backoff } = policy;
  const factor = backoff?.factor ?? 1;
  const sound =
    reader.done &&
    ackWait >= 1 &&
    ackWait <= LONGEST_MS &&
    maxDeliveries <= MOST_DELIVERIES &&
    (backoff === null || (backoff.minMs <= backoff.maxMs && backoff.maxMs <= LONGEST_MS)) &&
    factor >= 1 &&
    factor <= LARGEST_FACTOR;
  if (!sound) throw new RangeError('a policy out of range');
  return policy;
}

/** The bounds of XGROUP SETPOLICY. */
const LONGEST_MS = 100 * 366 * 86_400_000;
const MOST_DELIVERIES = 0xffff_fff0;
const LARGEST_FACTOR = 1000;

const ZERO = StreamId.min();
const cursor = new PendingCursor();
