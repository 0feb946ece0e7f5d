/**
 * Streams, groups and pending entries, counted for /metrics.
 *
 * Cost: O(keys) per scrape, in slices between which the loop serves its clients; so a key that comes
 * or goes meanwhile may be counted or not. Per-stream rows are limited, totals are complete.
 */
import { lagOf } from '../consumer-groups/lag.ts';
import type { Engine } from '../engine/engine.ts';
import type { KeyEntry } from '../engine/key-entry.ts';
import type { StreamValue } from '../engine/stream-value.ts';

export interface GroupRow {
  readonly labels: Readonly<Record<string, string>>;
  readonly pending: number;
  readonly lag: number | null;
}

export interface StreamRow {
  readonly labels: Readonly<Record<string, string>>;
  readonly length: number;
  readonly groups: GroupRow[];
}

/** Buckets of the key table per slice: about half a millisecond. */
const SLICE = 1000;

export class StreamTotals {
  streams = 0;
  groups = 0;
  consumers = 0;
  entries = 0;
  pending = 0;
  readonly listed: StreamRow[] = [];
  #series = 0;
  readonly #limit: number;

  /** `limit` bounds the rows in `listed`, streams and groups together. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  async count(engine: Engine): Promise<void> {
    for (const database of engine.databases) {
      const labels = { db: String(database.index) };
      let cursor = 0;
      if (database.size === 0) continue;
      do {
        cursor = database.scan(cursor, SLICE, (entry) => this.#add(entry, labels));
        if (cursor !== 0) await new Promise((resolve) => setImmediate(resolve));
      } while (cursor !== 0);
    }
  }

  #add({ key, value }: KeyEntry, labels: Readonly<Record<string, string>>): void {
    if (value.type !== 'stream' || value.damage !== null) return;
    this.streams++;
    this.entries += value.stream.length;
    for (const group of value.groups.values()) {
      this.groups++;
      this.consumers += group.consumerCount;
      this.pending += group.pending.size;
    }
    if (this.#series >= this.#limit) return;
    const row = rowOf(value, { ...labels, stream: key.toString() });
    row.groups.length = Math.min(row.groups.length, this.#limit - this.#series - 1);
    this.#series += 1 + row.groups.length;
    this.listed.push(row);
  }
}

function rowOf(value: StreamValue, labels: Readonly<Record<string, string>>): StreamRow {
  const groups = [...value.groups].map(([name, group]) => ({
    labels: { ...labels, group: Buffer.from(name, 'latin1').toString() },
    pending: group.pending.size,
    lag: lagOf(value.stream, group),
  }));
  return { labels, length: value.stream.length, groups };
}
