/**
 * Streams, groups and pending entries, counted for /metrics.
 *
 * Cost: O(keys), once per scrape; per-stream rows are limited, totals are complete.
 */
import { lagOf } from '../consumer-groups/lag.ts';
import type { Engine } from '../engine/engine.ts';
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

export interface StreamTotals {
  streams: number;
  groups: number;
  consumers: number;
  entries: number;
  pending: number;
  readonly listed: StreamRow[];
}

export function streamTotals(engine: Engine, limit: number): StreamTotals {
  const totals: StreamTotals = {
    streams: 0,
    groups: 0,
    consumers: 0,
    entries: 0,
    pending: 0,
    listed: [],
  };
  let series = 0;
  for (const database of engine.databases) {
    if (database.size === 0) continue;
    for (const { key, value } of database.entries()) {
      if (value.type !== 'stream') continue;
      totals.streams++;
      totals.entries += value.stream.length;
      for (const group of value.groups.values()) {
        totals.groups++;
        totals.consumers += group.consumerCount;
        totals.pending += group.pending.size;
      }
      if (series >= limit) continue;
      const row = rowOf(value, { db: String(database.index), stream: key.toString() });
      row.groups.length = Math.min(row.groups.length, limit - series);
      series += 1 + row.groups.length;
      totals.listed.push(row);
    }
  }
  return totals;
}

function rowOf(value: StreamValue, labels: Readonly<Record<string, string>>): StreamRow {
  const groups = [...value.groups].map(([name, group]) => ({
    labels: { ...labels, group: Buffer.from(name, 'latin1').toString() },
    pending: group.pending.size,
    lag: lagOf(value.stream, group),
  }));
  return { labels, length: value.stream.length, groups };
}
