/**
 * How much a stream keeps: by age, by bytes, by number of entries (XCFGSET).
 *
 * Rules, each from the oldest entry on and each exact but for bytes:
 *   maxLen     the greatest number of entries
 *   maxAge     no entry whose id's milliseconds are further back than this, in ms
 *   maxBytes   whole nodes go while all nodes together are larger, counted as Redis counts a node
 *              (Stream.nodeBytes); the newest node stays
 * Enforced after every append, and by the tick when the oldest entry comes of age. What goes is an
 * ordinary trim, recorded as such; so replay enforces nothing itself.
 * Invariant: a stream with a maxAge and an entry is in its keyspace's heap under a time not later
 * than its oldest entry's end.
 * Cost: a few compares for an append that trims nothing.
 */
import { TrimRule } from '../../stream/trim.ts';
import { encodeRetention } from '../checkpoint/checkpoint-values.ts';
import type { EngineContext } from '../engine-context.ts';
import type { Database } from '../keyspace/database.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { DAMAGE_RETRY_MS } from './damaged-streams.ts';
import { trimStream } from './stream-entries.ts';
import { StreamRecord } from './stream-records.ts';
import type { Retention, StreamValue } from './stream-value.ts';

/** Streams that one tick looks at. */
const STREAMS_PER_TICK = 500;

/** XCFGSET: replaces the limits, and enforces them at once. */
export function setRetention(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  retention: Retention,
): void {
  const { engine } = database;
  database.touch(entry);
  value.retention = retention;
  database.watchRetention(entry, value);
  if (engine.recording) {
    encodeRetention(retention, database.beginRecord(StreamRecord.RETENTION, entry.key));
    engine.journal.end();
  }
  enforceRetention(database, entry, value);
}

/** After an append: trims what the stream's limits do not allow. */
export function enforceRetention(database: Database, entry: KeyEntry, value: StreamValue): void {
  const { engine } = database;
  const { retention } = value;
  if (retention === null || engine.replaying) return;
  // The append that called is done and recorded: damage at the stream's other end is not its failure.
  if (!engine.damaged.guard(entry, () => trimToLimits(database, entry, value, retention))) {
    const retryAt = engine.now + DAMAGE_RETRY_MS;
    database.keyspace.retentionDeadlines.watchAt(entry, value, retryAt);
  }
}

function trimToLimits(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  retention: Retention,
): void {
  const { engine } = database;
  const { stream } = value;
  const { maxLen, maxAge, maxBytes } = retention;
  rule.approximate = false;
  if (maxLen > 0 && stream.length > maxLen) {
    rule.strategy = 'maxlen';
    rule.maxlen = maxLen;
    trimStream(database, entry, value, rule, 'keepref');
  }
  const oldest = engine.now - maxAge;
  if (maxAge > 0 && stream.length > 0 && oldest > 0 && stream.firstId.ms < oldest) {
    rule.strategy = 'minid';
    rule.minid.setMin().setMs(oldest);
    trimStream(database, entry, value, rule, 'keepref');
  }
  if (maxBytes > 0 && stream.nodeBytes > maxBytes) trimBytes(database, entry, value, maxBytes);
  database.watchRetention(entry, value);
}

function trimBytes(
  database: Database,
  entry: KeyEntry,
  value: StreamValue,
  maxBytes: number,
): void {
  const { stream } = value;
  let excess = stream.nodeBytes - maxBytes;
  let left = stream.length;
  for (const block of stream.blocks()) {
    if (block.live === 0) continue;
    if (excess <= 0 || block.live === left) break;
    excess -= block.listpackBytes;
    left -= block.live;
  }
  if (left === stream.length) return;
  rule.strategy = 'maxlen';
  rule.maxlen = left;
  rule.approximate = true;
  trimStream(database, entry, value, rule, 'keepref');
}

/** The tick: trims streams whose oldest entries have expired. */
export function expireEntries(engine: EngineContext, databases: readonly Database[]): void {
  if (engine.journal.refusal !== null) return;
  let left = STREAMS_PER_TICK;
  for (const database of databases) {
    for (; left > 0; left--) {
      const entry = database.keyspace.retentionDeadlines.takeDue(engine.now);
      if (entry === undefined) break;
      if (entry.value.type === 'stream') enforceRetention(database, entry, entry.value);
    }
  }
}

// Scratch: never held across calls.
const rule = new TrimRule();
