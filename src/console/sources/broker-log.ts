/**
 * A broker's log as the console's entries: places are ids, and messages have the fields of ours.
 *
 * Holds: no state. Invariants: an id of such a broker is one number, its place; a number of 10^12 or more is
 * a time in Unix ms, which no place reaches; reading makes no group.
 */
import { encodeMessage } from '../../broker/message/entry.ts';
import type { LogEdge, LogEntry, MessageLog } from '../../broker/message/message-log.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { RawEntry } from './commands.ts';
import type { EntryRange, TopicEdges } from './source.ts';

const FIRST_TIME = 1e12;

export async function logEdges(log: MessageLog, topic: string): Promise<TopicEdges | null> {
  const edges = await log.edges(topic);
  if (edges === null) return null;
  const { length, first, last } = edges;
  return {
    length,
    firstId: idOf(first),
    lastId: idOf(last),
    firstAt: timeOf(first),
    lastAt: timeOf(last),
  };
}

export async function logEntries(
  log: MessageLog,
  topic: string,
  { from, isAfter, to, newest, limit }: EntryRange,
): Promise<RawEntry[]> {
  const start = await placeOf(log, topic, from, newest);
  const end = await placeOf(log, topic, to, !newest);
  // `from` is where reading begins: the highest place when it goes down.
  const [low, high] = newest ? [end, start] : [start, end];
  const skipsFrom = isAfter ? 1 : 0;
  const found = await log.read(topic, {
    from: low === null ? null : low.place + (newest ? low.skips : skipsFrom),
    to: high === null ? null : high.place - (newest ? skipsFrom : high.skips),
    newest,
    limit,
  });
  return found.map(rawEntry);
}

/** A position as a place; an exclusive one, `(17`, skips it. Null: no bound. */
async function placeOf(
  log: MessageLog,
  topic: string,
  position: string | null,
  isUpper: boolean,
): Promise<{ place: number; skips: number } | null> {
  if (position === null) return null;
  const skips = position.startsWith('(') ? 1 : 0;
  const number = Number.parseInt(position.slice(skips), 10);
  if (number < FIRST_TIME) return { place: number, skips };
  // The last of a millisecond precedes the first of the next one.
  if (isUpper) return { place: (await log.placeAt(topic, number + 1)) - 1, skips: 0 };
  return { place: await log.placeAt(topic, number), skips: 0 };
}

/** Messages from the time of an id on that are looked at for it. */
const MOST_LOOKED = 1000;
const PAGE = 100;
/** A log finds a time by the clocks of publishers, which differ a little. */
const EARLIER_MS = 2000;

/** The place of the message with this id, which begins with the time of its publish; null: not found. */
export async function placeOfId(
  log: MessageLog,
  topic: string,
  id: string,
): Promise<string | null> {
  const [, ms] = /^(\d{13})-/.exec(id) ?? [];
  if (ms === undefined) return null;
  const first = await log.placeAt(topic, Number(ms) - EARLIER_MS);
  let from: number | null = first;
  for (let looked = 0; from !== null && looked < MOST_LOOKED; looked += PAGE) {
    const range = { from, to: null, newest: false, limit: PAGE };
    const page: readonly LogEntry[] = await log.read(topic, range);
    const found = page.find((entry) => entry.id === id);
    if (found !== undefined) return String(found.place);
    from = page.length < PAGE ? null : page.at(-1)!.place + 1;
  }
  return null;
}

function rawEntry({ place, at, id, message }: LogEntry): RawEntry {
  const fields: CommandArgument[] = [];
  encodeMessage(fields, message);
  const messageId = id === undefined ? {} : { messageId: id };
  return { id: String(place), at, ...messageId, fields: fields.map(fieldBytes) };
}

export function fieldBytes(value: CommandArgument): Buffer {
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  return Buffer.from(String(value));
}

function idOf(edge: LogEdge | null): string | null {
  return edge === null ? null : String(edge.place);
}

function timeOf(edge: LogEdge | null): number | null {
  return edge?.at ?? null;
}
