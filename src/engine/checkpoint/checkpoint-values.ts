/**
 * A key and the checkpoint's own facts as bytes. Version 2; 1 is read: it
 * had no delays and no times of idempotent ids.
 *
 *     key   varint keyspace's uid · bytes name · u8 type (1 string, 2 stream) · varint expireAt ·
 *           the rest: a string's bytes, or a stream's metadata as Stream.export gives it
 *     kept  varint greatest age in ms · varint bytes · varint entries (0 = no limit)
 *     later varint keyspace's uid · bytes key · varint due date, or 0 and f64 the end of a delay in
 *           steady ms · the rest: its body (scheduled-entries.ts)
 *     meta  varint format version · varint last uid · varint n, then of each of the n databases
 *           varint keyspace's uid · varint number of keys; then varint last number of a scheduled
 *           entry; then f64 steps of the clock in ms and f64 steady ms (turn-clock.ts)
 */
import { ByteReader, type ByteWriter } from '../../util/byte-writer.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import type { DueTime, ScheduledEntry } from '../schedule/scheduled-queue.ts';
import type { Retention } from '../streams/stream-value.ts';

const FORMAT = 2;
/** The oldest that is read. */
const OLDEST_FORMAT = 1;
export const STRING_TYPE = 1;
export const STREAM_TYPE = 2;

/** Writes all but the rest, which is returned: a string may be large, and is copied once. */
export function encodeKey(entry: KeyEntry, writer: ByteWriter): Buffer {
  const { value } = entry;
  writer.varint(entry.space.uid);
  writer.bytes(entry.key);
  writer.u8(value.type === 'string' ? STRING_TYPE : STREAM_TYPE);
  writer.varint(entry.expireAt);
  return value.type === 'string' ? value.bytes : value.stream.export();
}

export interface StoredKeyspace {
  readonly uid: number;
  /** Number of keys, so that restoring makes the table large enough at once. */
  readonly size: number;
}

export function encodeRetention(retention: Retention, writer: ByteWriter): void {
  writer.varint(retention.maxAge);
  writer.varint(retention.maxBytes);
  writer.varint(retention.maxLen);
}

export function decodeRetention(reader: ByteReader): Retention {
  return { maxAge: reader.varint(), maxBytes: reader.varint(), maxLen: reader.varint() };
}

export function encodeScheduled(scheduled: ScheduledEntry, writer: ByteWriter): void {
  writer.varint(scheduled.space.uid);
  writer.bytes(scheduled.key);
  writer.varint(scheduled.isDelay ? 0 : scheduled.at);
  if (scheduled.isDelay) writer.f64(scheduled.at);
  writer.raw(scheduled.body, 0, scheduled.body.length);
}

export function decodeDueTime(reader: ByteReader): DueTime {
  const at = reader.varint();
  return at === 0 ? { at: reader.f64(), isDelay: true } : { at, isDelay: false };
}

export interface CheckpointMeta {
  lastUid: number;
  /** By database. */
  readonly keyspaces: readonly StoredKeyspace[];
  /** The last number given to a scheduled entry. */
  readonly lastScheduled: number;
  /** The sum of the clock's steps. */
  readonly stepped: number;
  /** When the checkpoint was begun, steady ms. */
  readonly steady: number;
}

export function encodeMeta(meta: CheckpointMeta, writer: ByteWriter): void {
  writer.varint(FORMAT);
  writer.varint(meta.lastUid);
  writer.varint(meta.keyspaces.length);
  for (const { uid, size } of meta.keyspaces) {
    writer.varint(uid);
    writer.varint(size);
  }
  writer.varint(meta.lastScheduled);
  writer.f64(meta.stepped);
  writer.f64(meta.steady);
}

/** Throws RangeError where the bytes are damaged or of a newer format. */
export function decodeMeta(bytes: Buffer): CheckpointMeta {
  const reader = new ByteReader(bytes);
  const format = reader.varint();
  if (format < OLDEST_FORMAT || format > FORMAT) {
    throw new RangeError(
      `the checkpoint has format ${format}, this program reads ${OLDEST_FORMAT} to ${FORMAT}`,
    );
  }
  const lastUid = reader.varint();
  const keyspaces: StoredKeyspace[] = [];
  for (let left = reader.varint(); left > 0; left--) {
    keyspaces.push({ uid: reader.varint(), size: reader.varint() });
  }
  const lastScheduled = reader.varint();
  // Checkpoints of the first versions end here.
  const stepped = reader.done ? 0 : reader.f64();
  // And those of format 1 here.
  const steady = reader.done ? Number.NEGATIVE_INFINITY : reader.f64();
  return { lastUid, keyspaces, lastScheduled, stepped, steady };
}
