/**
 * Streams, groups and pending entries, counted for /metrics.
 *
 * Cost: O(keys) per scrape, in slices between which the loop serves its clients; so a key that comes
 * or goes meanwhile may be counted or not. Per-stream rows are limited, totals are complete.
 */
import { isUtf8 } from 'node:buffer';
import { roundedLag } from '../../consumer-groups/lag.ts';
import type { Engine } from '../../engine/engine.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';

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

/** Keys between two looks at the clock. */
const STEP = 64;
/** How long a slice may take, ms. */
const SLICE_MS = 2;

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
      let until = engine.clock.monotonic() + SLICE_MS;
      do {
        cursor = database.scan(cursor, STEP, (entry) => this.#add(entry, labels));
        if (cursor === 0 || engine.clock.monotonic() < until) continue;
        await new Promise((resolve) => setImmediate(resolve));
        until = engine.clock.monotonic() + SLICE_MS;
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
    const row = rowOf(value, { ...labels, stream: shownName(key) }, this.#limit - this.#series - 1);
    this.#series += 1 + row.groups.length;
    this.listed.push(row);
  }
}

function rowOf(value: StreamValue, labels: StreamRow['labels'], maxGroups: number): StreamRow {
  const groups: GroupRow[] = [];
  for (const [name, group] of value.groups) {
    if (groups.length >= maxGroups) break;
    groups.push({
      labels: { ...labels, group: shownName(Buffer.from(name, 'latin1')) },
      pending: group.pending.size,
      lag: roundedLag(value.stream, group),
    });
  }
  return { labels, length: value.stream.length, groups };
}

/**
 * A name as a label: UTF-8, with `\xNN` for a control character or a byte that is no UTF-8, and two
 * backslashes for one. So different names are different labels.
 */
function shownName(name: Buffer): string {
  let shown = '';
  for (let at = 0; at < name.length; ) {
    const code = name[at]!;
    const length = code < 0x80 ? 1 : code >= 0xf0 ? 4 : code >= 0xe0 ? 3 : 2;
    const character = name.subarray(at, at + length);
    if (code === BACKSLASH) shown += '\\\\';
    else if (code < 0x20 || code === 0x7f || !isUtf8(character)) {
      shown += `\\x${code.toString(16).padStart(2, '0')}`;
      at++;
      continue;
    } else shown += character.toString();
    at += length;
  }
  return shown;
}

const BACKSLASH = 92;
