/**
 * One message followed through everything that it caused, by the facts of the log and by spans.
 *
 * published, then for each group: not yet reached, pending, dead or settled; copies that were redriven or
 * edited; workflows that it started; the spans of its trace, where services stored them. A broker that tells
 * no place of a group (RabbitMQ) leaves its dead letters and the spans to say what became of a message.
 * Invariants: nothing is guessed: what a bounded search did not find is named in `missing`; a search begins at
 * the message's own time and ends after 20 000 entries or 500 ms.
 */
import { decodeMessage } from '../../broker/message/entry.ts';
import { deadLetterHeaders } from '../../broker/message/message.ts';
import { RivuletError } from '../../errors.ts';
import { SETTLED } from '../../service/observation/recorded-work.ts';
import { placeOf } from '../actions/dead-actions.ts';
import type { DeadRow, EntryDetail, Journey, JourneyGroup, SpanRow } from '../api-types.ts';
import { walkEntries } from '../messages/browse.ts';
import { compareIds } from '../messages/dead-letters.ts';
import type { DecodeSetup } from '../messages/decode.ts';
import {
  deadOrigin,
  EDITED_FROM,
  entryRow,
  REDRIVEN_FROM,
  SHOWN_PART,
} from '../messages/entry-view.ts';
import { oneEntry } from '../routes/entries.ts';
import { needed } from '../routes/parameters.ts';
import type { ConsoleSource, Viewer } from '../sources/source.ts';
import { timeOfId } from '../sources/stream-source.ts';
import { nameBytes, nameText } from '../topics/names.ts';
import { DEAD_SUFFIX } from '../topics/topic-table.ts';
import type { WorkflowView } from '../workflows/workflow-view.ts';
import { divideSpans } from './span-rows.ts';
import type { FoundSpan, SpanTable } from './span-table.ts';

const SEARCH = { entries: 20_000, bytes: 64 * 1024 * 1024, ms: 500 };
const MOST_GROUPS = 100;
const MOST_BEFORE = 1000;
const MOST_RUNS = 200;
const MOST_TRACES = 10;

export async function journeyOf(
  source: ConsoleSource,
  viewer: Viewer,
  workflows: WorkflowView | null,
  topic: Buffer,
  id: string,
  setup: DecodeSetup,
  table: SpanTable | null,
): Promise<Journey> {
  const missing: string[] = [];
  const entry = await oneEntry(source, viewer, topic, id, { setup, decoder: 'auto' });
  const groups = await needed(source, 'groups')(viewer, topic);
  if (groups === null) throw new RivuletError('NOT_FOUND', 'the broker has no such topic');
  const since = startOf(id, entry);
  // Consumers, and so dead letters and spans, name a message by the id that they have.
  const known = entry?.messageId ?? id;
  const origin = { id: known, since };
  const dead = await deadLettersOf(source, viewer, topic, origin, groups, setup, missing);
  if (groups.length > MOST_GROUPS) {
    missing.push(`${groups.length - MOST_GROUPS} more groups are not shown`);
  }
  const letters = dead.map(({ row }) => row);
  const rows: JourneyGroup[] = [];
  for (const group of groups.slice(0, MOST_GROUPS)) {
    const letter = dead.find(({ row }) => row.origin.group === group.name) ?? null;
    const isTold = group.lastDeliveredId !== '';
    const isReached = isTold && compareIds(group.lastDeliveredId, id) >= 0;
    const isListed = source.capabilities.pending === 'entries';
    const pending =
      isReached && isListed ? await pendingRow(source, viewer, topic, group.name, id) : null;
    const isSettled = isListed || compareIds(group.settledUpTo ?? '', id) >= 0;
    const before =
      isReached || !isTold
        ? null
        : await countBetween(source, viewer, topic, group.lastDeliveredId, id);
    const reached = isSettled ? 'settled' : 'unknown';
    // A letter that was redriven is settled, as where it leaves the log.
    const untold = letter === null ? 'untold' : 'settled';
    const place = isReached ? reached : isTold ? 'waiting' : untold;
    const row = letter?.waits === true ? letter.row : null;
    const state = pending ? 'pending' : row ? 'dead' : place;
    rows.push({ group: group.name, state, before, pending, dead: row, spans: [] });
  }
  if (entry === null) missing.push('the message itself is deleted or was trimmed');
  if (source.capabilities.pending !== 'entries') {
    missing.push(source.capabilities.missing.pending ?? 'single pending messages are not told');
  }
  // What cannot be read now leaves out its part of the page, not the page.
  const trace = entry?.traceId ?? null;
  const found = await spansOf(table, viewer, topic, known, trace, missing).catch((error) => {
    missing.push(`spans are not shown: ${(error as Error).message}`);
    return [];
  });
  const names = rows.map(({ group }) => nameBytes(group).toString());
  const { ofGroups, others } = divideSpans(found, topic.toString(), known, names);
  const told = rows.map((row, index) => withSpans(row, ofGroups[index] ?? []));
  if (told.some(({ state }) => state === 'untold')) {
    missing.push(`${source.kind} does not tell which group has received which message`);
  }
  return {
    topic: nameText(topic),
    id,
    at: entry?.at ?? timeOfId(id),
    entry,
    traceId: entry?.traceId ?? found[0]?.span.trace ?? null,
    groups: told,
    copies: [...originsOf(entry), ...(await copiesOf(source, viewer, topic, id, letters, missing))],
    workflows: await workflowsOf(viewer, workflows, topic, origin, missing),
    spans: others,
    missing,
  };
}

/** What the broker does not tell of a group, its services may have recorded. */
function withSpans(row: JourneyGroup, spans: readonly SpanRow[]): JourneyGroup {
  const isOpen = row.state === 'unknown' || row.state === 'untold';
  if (!isOpen || spans.length === 0) return { ...row, spans };
  const isSettled = spans.some(
    ({ kind, name, error }) =>
      kind === 'settle' && error === null && name.endsWith(`: ${SETTLED.ack}`),
  );
  return { ...row, state: isSettled ? 'settled' : 'unknown', spans };
}

/** Of its trace; of a message without one, of the traces that its deliveries began. */
async function spansOf(
  table: SpanTable | null,
  viewer: Viewer,
  topic: Buffer,
  id: string,
  trace: string | null,
  missing: string[],
): Promise<FoundSpan[]> {
  if (table === null) {
    missing.push('spans cannot be read here: attempts and calls are not shown');
    return [];
  }
  if (trace !== null) return table.ofTrace(viewer, trace, missing);
  const traces = await table.tracesOf(viewer, topic.toString(), id, missing);
  const found: FoundSpan[] = [];
  // What is missing was said with the traces.
  for (const each of traces.slice(0, MOST_TRACES)) {
    found.push(...(await table.ofTrace(viewer, each, [])));
  }
  if (traces.length > MOST_TRACES) missing.push('the message has more traces than are shown');
  return found;
}

async function pendingRow(
  source: ConsoleSource,
  viewer: Viewer,
  topic: Buffer,
  group: string,
  id: string,
) {
  const query = { after: idBefore(id), consumer: null, minIdleMs: 0, limit: 1 };
  const page = await needed(source, 'pending')(viewer, topic, nameBytes(group), query);
  const [row] = page?.entries ?? [];
  return row?.id === id ? row : null;
}

function idBefore(id: string): string {
  const [ms, seq] = id.split('-').map(BigInt) as [bigint, bigint];
  if (seq > 0n) return `${ms}-${seq - 1n}`;
  return ms === 0n ? '0-0' : `${ms - 1n}-18446744073709551615`;
}

/** How many messages a group gets before this one; null = 1000 or more. */
async function countBetween(
  source: ConsoleSource,
  viewer: Viewer,
  topic: Buffer,
  last: string,
  id: string,
): Promise<number | null> {
  const range = { topic, from: last, isAfter: true, to: `(${id}`, newest: false, cut: 0 };
  let count = 0;
  const walk = walkEntries(source, viewer, range, { ...SEARCH, entries: MOST_BEFORE });
  for await (const _ of walk.entries) count++;
  return walk.stopped() === 'end' ? count : null;
}

interface Letter {
  readonly row: DeadRow;
  /** False: it was redriven, and the broker keeps it in its log. */
  readonly waits: boolean;
}

/** Dead letters of this message, in the topics that hold those of its topic. */
async function deadLettersOf(
  source: ConsoleSource,
  viewer: Viewer,
  topic: Buffer,
  { id, since }: Origin,
  groups: readonly { readonly policy: { readonly deadLetter: string | null } | null }[],
  setup: DecodeSetup,
  missing: string[],
): Promise<Letter[]> {
  const names = new Set([nameText(Buffer.concat([topic, Buffer.from(DEAD_SUFFIX)]))]);
  for (const { policy } of groups) if (policy?.deadLetter) names.add(policy.deadLetter);
  const own = nameText(topic);
  const found: Letter[] = [];
  for (const name of names) {
    const holder = nameBytes(name);
    if (!viewer.sees(holder)) {
      missing.push(`${name} is not yours to read`);
      continue;
    }
    const range = {
      ...{ topic: holder, from: since, isAfter: false, to: null, newest: false },
      cut: SHOWN_PART,
    };
    const walk = walkEntries(source, viewer, range, SEARCH);
    try {
      for await (const raw of walk.entries) {
        const { headers } = decodeMessage(raw.fields);
        if (headers[deadLetterHeaders.id] !== id) continue;
        const origin = deadOrigin(headers, raw.fields);
        if (origin === null || origin.topic !== own) continue;
        const { bytes, preview } = entryRow(raw, holder, setup);
        const row = { topic: name, id: raw.id, origin, bytes, preview };
        found.push({ row, waits: await waits(source, viewer, holder, raw.id) });
      }
    } catch (error) {
      missing.push(`${name} cannot be read: ${(error as Error).message}`);
      continue;
    }
    if (walk.stopped() !== 'end') missing.push(`${name} has more than was looked at`);
  }
  return found;
}

/** Whether a letter waits for a redrive: where redriven ones stay in the log, only the newest do. */
async function waits(
  source: ConsoleSource,
  viewer: Viewer,
  holder: Buffer,
  id: string,
): Promise<boolean> {
  if (source.redriveOldest === undefined) return true;
  const topics = await needed(source, 'deadTopics')(viewer);
  const waiting = topics.find(({ topic }) => topic.equals(holder))?.length ?? 0;
  const lastId = (await needed(source, 'edges')(viewer, holder))?.lastId ?? id;
  return Number(lastId) - Number(id) < waiting;
}

function originsOf(entry: EntryDetail | null): Journey['copies'] {
  const from = entry?.redrivenFrom ?? entry?.editedFrom ?? null;
  const [, id, topic] = /^(\d+(?:-\d+)?)@(.+)$/s.exec(from ?? '') ?? [];
  const copies: Journey['copies'][number][] = [];
  if (id !== undefined && topic !== undefined) copies.push({ kind: 'origin', topic, id });
  if (entry?.dead) copies.push({ kind: 'origin', topic: entry.dead.topic, id: entry.dead.id });
  return copies;
}

/** Messages that were made of its dead letters. A letter goes with its copy, so the time is the message's. */
async function copiesOf(
  source: ConsoleSource,
  viewer: Viewer,
  topic: Buffer,
  id: string,
  dead: readonly DeadRow[],
  missing: string[],
): Promise<Journey['copies']> {
  const places = new Set([
    placeOf(topic, id),
    ...dead.map((letter) => placeOf(nameBytes(letter.topic), letter.id)),
  ]);
  const range = { topic, from: id, isAfter: true, to: null, newest: false, cut: SHOWN_PART };
  const walk = walkEntries(source, viewer, range, SEARCH);
  const copies: Journey['copies'][number][] = [];
  for await (const raw of walk.entries) {
    const { headers } = decodeMessage(raw.fields);
    const kind = places.has(headers[REDRIVEN_FROM] ?? '')
      ? 'redriven'
      : places.has(headers[EDITED_FROM] ?? '')
        ? 'edited'
        : null;
    if (kind !== null) copies.push({ kind, topic: nameText(topic), id: raw.id });
  }
  if (walk.stopped() !== 'end')
    missing.push('the topic has more messages than were looked at for copies');
  return copies;
}

async function workflowsOf(
  viewer: Viewer,
  view: WorkflowView | null,
  topic: Buffer,
  { id, since }: Origin,
  missing: string[],
): Promise<Journey['workflows']> {
  if (view === null || !viewer.seesAll) {
    missing.push('workflows are not shown');
    return [];
  }
  try {
    const from = Number(since ?? 0);
    const found = await view.causedBy(topic.toString(), id, from, MOST_RUNS, SEARCH.ms);
    return found.map((run) => ({ ...run, waitsFor: null }));
  } catch (error) {
    missing.push(`workflows are not shown: ${(error as Error).message}`);
    return [];
  }
}

/** A message, and when it was published as text: what it caused is never older. Null: it is not known. */
interface Origin {
  readonly id: string;
  readonly since: string | null;
}

function startOf(id: string, entry: EntryDetail | null): string | null {
  if (id.includes('-')) return id.split('-', 1)[0]!;
  return entry?.at == null ? null : String(entry.at);
}
