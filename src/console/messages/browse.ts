/**
 * A page of a topic's entries, from any position, filtered or not.
 *
 * Entries are read by id in batches of about 1 MiB; between batches the loop serves its clients.
 * Invariants: nothing is made by reading; a request looks at no more than 50 000 entries, 64 MiB or 2 s,
 * then says up to where it came, and the next one goes on there.
 * Cost: a page costs the same at any position of any topic.
 */
import { RivuletError } from '../../errors.ts';
import type { Decoder, EntriesPage, EntryRow } from '../api-types.ts';
import { areIdParts, needed } from '../routes/parameters.ts';
import type { RawEntry } from '../sources/commands.ts';
import type { ConsoleSource, EntryRange, Viewer } from '../sources/source.ts';
import { Slices } from '../topics/slices.ts';
import type { DecodeSetup } from './decode.ts';
import { entryRow, filtered, SHOWN_PART } from './entry-view.ts';
import { matches } from './filter.ts';
import type { Expression } from './filter-parser.ts';

const MOST_ENTRIES = 50_000;
const MOST_BYTES = 64 * 1024 * 1024;
const MOST_MS = 2000;
/** How large entries are is not known before one is read. */
const FIRST_BATCH = 1;
const LARGEST_BATCH = 1000;
const BATCH_BYTES = 1024 * 1024;
/** Bytes of the rows of one page. */
const PAGE_BYTES = 8 * 1024 * 1024;

export interface BrowseQuery {
  readonly topic: Buffer;
  readonly from: string | null;
  readonly isAfter: boolean;
  readonly to: string | null;
  readonly newest: boolean;
  readonly limit: number;
  readonly where: Expression | null;
  readonly decoder: Decoder;
}

export interface Limits {
  readonly entries: number;
  readonly bytes: number;
  readonly ms: number;
}

/** Null: there is no such topic. */
export async function browse(
  source: ConsoleSource,
  viewer: Viewer,
  query: BrowseQuery,
  setup: DecodeSetup,
): Promise<EntriesPage | null> {
  const { topic, where, limit, decoder } = query;
  const edges = await needed(source, 'edges')(viewer, topic);
  if (edges === null) return null;
  const rows: EntryRow[] = [];
  let bytes = 0;
  const most = where === null ? { ...LIMITS, entries: limit + 1 } : LIMITS;
  const range = where === null ? { ...query, cut: SHOWN_PART } : query;
  const walk = walkEntries(source, viewer, range, most);
  let isFull = false;
  let last: string | null = null;
  for await (const raw of walk.entries) {
    if (rows.length === limit || bytes > PAGE_BYTES) {
      isFull = true;
      break;
    }
    last = raw.id;
    if (where !== null && !matches(where, filtered(raw, topic, setup))) continue;
    const row = entryRow(raw, topic, setup, decoder);
    rows.push(row);
    bytes +=
      row.preview.text.length + row.headers.reduce((sum, [a, b]) => sum + a.length + b.length, 200);
  }
  const stopped = isFull ? 'page' : walk.stopped();
  return {
    entries: rows,
    ...edges,
    next: stopped === 'end' ? null : last,
    scanned: isFull ? walk.seen() - 1 : walk.seen(),
    scannedTo: last,
    stopped,
  };
}

const LIMITS: Limits = { entries: MOST_ENTRIES, bytes: MOST_BYTES, ms: MOST_MS };

export interface Walk {
  readonly entries: AsyncIterable<RawEntry>;
  /** Why it ended. */
  stopped(): 'end' | 'entries' | 'bytes' | 'time';
  seen(): number;
}

/** The entries of a range, until it ends or a limit is reached. */
export function walkEntries(
  source: ConsoleSource,
  viewer: Viewer,
  range: Pick<BrowseQuery, 'topic' | 'from' | 'isAfter' | 'to' | 'newest'> &
    Pick<EntryRange, 'cut'>,
  limits: Limits = LIMITS,
): Walk {
  const read = needed(source, 'entries');
  let stopped: ReturnType<Walk['stopped']> = 'end';
  let seen = 0;
  async function* entries(): AsyncGenerator<RawEntry> {
    const until = performance.now() + limits.ms;
    const slices = new Slices();
    let { from, isAfter } = range;
    let bytes = 0;
    let size = Math.min(FIRST_BATCH, limits.entries);
    for (;;) {
      const batch = await read(viewer, range.topic, { ...range, from, isAfter, limit: size });
      let ofBatch = 0;
      for (const raw of batch) {
        const rest = slices.due(8);
        if (rest) await rest;
        ofBatch += raw.fields.reduce((sum, { length }) => sum + length, 64);
        seen++;
        yield raw;
        if (performance.now() > until) return stop('time');
      }
      if (batch.length < size) return;
      bytes += ofBatch;
      if (seen >= limits.entries) return stop('entries');
      if (bytes >= limits.bytes) return stop('bytes');
      from = batch.at(-1)!.id;
      isAfter = true;
      const fitting = Math.floor(BATCH_BYTES / (ofBatch / batch.length));
      size = Math.min(size * 8, Math.max(1, fitting), LARGEST_BATCH, limits.entries - seen);
    }
  }
  function stop(why: typeof stopped): void {
    stopped = why;
  }
  return { entries: entries(), stopped: () => stopped, seen: () => seen };
}

/**
 * Position of a request: an id, Unix ms, or a date. Throws INVALID_ARGUMENT.
 * As the start of a range `1795253507502` is the first id of that millisecond, as its end the last.
 */
export function positionOf(text: string | null, name: string): string | null {
  if (text === null || text === '') return null;
  if (/^\d{1,20}(-\d{1,20})?$/.test(text) && areIdParts(text)) return text;
  const time = Date.parse(text);
  if (!Number.isNaN(time) && time >= 0) return String(time);
  throw new RivuletError(
    'INVALID_ARGUMENT',
    `${name} is an id, Unix milliseconds or a date, not ${JSON.stringify(text.slice(0, 40))}`,
  );
}
