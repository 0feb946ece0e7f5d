/**
 * Dead letters of all topics as one list, newest first, and why each is one.
 *
 * Invariants: a page is merged by id over the topics that hold dead letters, so going on loses and repeats
 * none; at most 2000 letters or 500 ms are looked at for the reasons, and 20 000 or 2 s for the letters of
 * one group: then the page says where to go on.
 * Cost: one read a topic that has a letter on the page, and a binary search a letter.
 */

import { decodeMessage } from '../../broker/message/entry.ts';
import { RivuletError } from '../../errors.ts';
import type { DeadPage, DeadRow } from '../api-types.ts';
import { needed } from '../routes/parameters.ts';
import type { RawEntry } from '../sources/commands.ts';
import type { ConsoleSource, Viewer } from '../sources/source.ts';
import { nameBytes, nameText } from '../topics/names.ts';
import { Slices } from '../topics/slices.ts';
import type { DecodeSetup } from './decode.ts';
import { deadOrigin, entryRow, SHOWN_PART } from './entry-view.ts';

const PAGE = 100;
const BATCH = 25;
/** Topics that are merged; of the rest nothing is shown until one topic is asked for. */
const MOST_TOPICS = 1000;
const MOST_SCANNED = 2000;
const MOST_MS = 500;
const MOST_SEARCHED = 20_000;
const MOST_SEARCH_MS = 2000;
const MOST_REASONS = 50;

export interface DeadQuery {
  /** The topic that holds them, or the one they come from. */
  readonly topic: Buffer | null;
  readonly group: string | null;
  readonly after: string | null;
}

interface Cursor {
  readonly topic: Buffer;
  readonly name: string;
  entries: RawEntry[];
  isDone: boolean;
  last: string | null;
  /** How many more may be fetched. */
  left: number;
}

export async function deadPage(
  source: ConsoleSource,
  viewer: Viewer,
  { topic, group, after }: DeadQuery,
  setup: DecodeSetup,
): Promise<DeadPage> {
  const all = await needed(source, 'deadTopics')(viewer);
  const chosen =
    topic === null ? all : all.filter((each) => each.topic.equals(topic) || each.of.equals(topic));
  const mark = after === null ? null : readMark(after);
  const cursors = chosen.slice(0, MOST_TOPICS).map(
    (each): Cursor => ({
      topic: each.topic,
      name: nameText(each.topic),
      entries: [],
      isDone: each.length === 0,
      last: mark?.id ?? null,
      left: each.isBounded === true ? each.length : Number.POSITIVE_INFINITY,
    }),
  );
  const rows: DeadRow[] = [];
  const reasons = new Map<string, { count: number; topics: Set<string> }>();
  const began = performance.now();
  const slices = new Slices();
  let scanned = 0;
  let next: string | null = null;
  const heads: Cursor[] = [];
  for (const cursor of cursors) await enter(source, viewer, heads, cursor, mark);
  for (;;) {
    const rest = slices.due(16);
    if (rest) await rest;
    const first = heads.pop();
    if (first === undefined) break;
    const raw = first.entries.shift()!;
    await enter(source, viewer, heads, first, mark);
    scanned++;
    const { headers } = decodeMessage(raw.fields);
    const origin = deadOrigin(headers, raw.fields) ?? unknownOrigin(first.topic);
    if (group === null || origin.group === group) {
      if (rows.length < PAGE) {
        rows.push({ ...rowOf(raw, first.topic, setup), topic: first.name, origin });
        next = `${raw.id}@${first.name}`;
      }
      const known = reasons.get(origin.reason);
      if (known !== undefined) {
        known.count++;
        known.topics.add(origin.topic);
      } else if (reasons.size < MOST_REASONS) {
        reasons.set(origin.reason, { count: 1, topics: new Set([origin.topic]) });
      }
    }
    const isFull = rows.length === PAGE;
    const ms = performance.now() - began;
    if (isFull && (scanned >= MOST_SCANNED || ms > MOST_MS)) break;
    if (!isFull && (scanned >= MOST_SEARCHED || ms > MOST_SEARCH_MS)) {
      next = `${raw.id}@${first.name}`;
      break;
    }
  }
  const isEnd =
    rows.length < PAGE && cursors.every(({ isDone, entries }) => isDone && entries.length === 0);
  return {
    entries: rows,
    next: isEnd ? null : next,
    reasons: [...reasons]
      .sort(([, a], [, b]) => b.count - a.count)
      .map(([reason, { count, topics }]) => ({ reason, count, topics: [...topics] })),
    topics: chosen
      .map((each) => ({
        topic: nameText(each.topic),
        of: nameText(each.of),
        length: each.length,
      }))
      .slice(0, MOST_TOPICS),
    scanned,
  };
}

/**
 * Puts a cursor among those that have an entry, which are in order, the one with the newest last. Fetches
 * where it has run empty; one that has no entry left is out.
 */
async function enter(
  source: ConsoleSource,
  viewer: Viewer,
  heads: Cursor[],
  cursor: Cursor,
  mark: { readonly id: string; readonly topic: string } | null,
): Promise<void> {
  while (cursor.entries.length === 0 && !cursor.isDone) await fetch(source, viewer, cursor, mark);
  const [first] = cursor.entries;
  if (first === undefined) return;
  let [low, high] = [0, heads.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const other = heads[middle]!;
    if (isNewer(first.id, cursor.name, other.entries[0]!.id, other.name)) low = middle + 1;
    else high = middle;
  }
  heads.splice(low, 0, cursor);
}

async function fetch(
  source: ConsoleSource,
  viewer: Viewer,
  cursor: Cursor,
  mark: { readonly id: string; readonly topic: string } | null,
): Promise<void> {
  const isFirst = cursor.last === mark?.id;
  const batch = await needed(source, 'entries')(viewer, cursor.topic, {
    from: cursor.last,
    isAfter: !isFirst && cursor.last !== null,
    to: null,
    newest: true,
    limit: Math.min(BATCH, cursor.left),
    cut: SHOWN_PART,
  });
  cursor.left -= batch.length;
  cursor.isDone = batch.length < BATCH || cursor.left <= 0;
  cursor.last = batch.at(-1)?.id ?? cursor.last;
  cursor.entries =
    mark === null || !isFirst
      ? batch
      : batch.filter(({ id }) => isNewer(mark.id, mark.topic, id, cursor.name));
}

/** Order of the list: newer ids first, equal ones by the name of their topic. */
function isNewer(id: string, topic: string, otherId: string, otherTopic: string): boolean {
  const order = compareIds(id, otherId);
  return order > 0 || (order === 0 && topic < otherTopic);
}

export function compareIds(a: string, b: string): number {
  const [aMs, aSeq = '0'] = a.split('-');
  const [bMs, bSeq = '0'] = b.split('-');
  return compareDigits(aMs!, bMs!) || compareDigits(aSeq, bSeq);
}

function compareDigits(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

function readMark(text: string): { id: string; topic: string } {
  const [, id, topic] = /^(\d{1,20}(?:-\d{1,20})?)@(.+)$/s.exec(text) ?? [];
  if (id === undefined || topic === undefined) {
    throw new RivuletError('INVALID_ARGUMENT', 'after is the `next` of the page before');
  }
  nameBytes(topic);
  return { id, topic };
}

function rowOf(raw: RawEntry, topic: Buffer, setup: DecodeSetup) {
  const { id, bytes, preview } = entryRow(raw, topic, setup);
  return { id, bytes, preview };
}

/** A message that something else has put there. */
function unknownOrigin(topic: Buffer) {
  const of = topic.toString().replace(/\.dead$/, '');
  return { topic: of, group: '', id: '', reason: '', attempts: null, at: null };
}
