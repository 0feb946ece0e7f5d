/**
 * Where an instance is, from the start of its journal and the newest records of it.
 *
 * Invariant: equal to what all records together say. Each record of a worker has marks about what came
 * before it, and each record from outside names the newest record that tells where the instance is; only
 * results of children name nothing. Cost: two or three reads, whatever the length of the journal; one more
 * for each page of results of children that no worker has seen.
 */
import type { JournalStore } from '../../broker/journal.ts';
import { effective, type Phase, phaseOf } from './phase.ts';
import {
  isWorkers,
  type JournalRecord,
  type Marks,
  type RecordKind,
  type Records,
  readRecords,
  type Since,
} from './records.ts';

export type StartEntry = JournalRecord & { kind: 'start' };

export interface Standing {
  /** The newest id of the journal. */
  readonly last: string;
  /** `version` is 0 where no record of those that were read names it: it is the start record's. */
  readonly phase: Phase;
  /** The newest record that tells where the instance is. */
  readonly base: JournalRecord;
  /** For the next record from outside. */
  readonly since: Since;
  /** The newest record of `wf.state` that counts, as marks name it; null where there is none. */
  readonly stateAt: string | number | null;
}

const FIRST_PAGE = 20;
const LONGEST_PAGE = 500;

/** Null where there is no journal. */
export async function standingOf(store: JournalStore, key: string): Promise<Standing | null> {
  let limit = 1;
  for (;;) {
    const entries = await store.read(key, { newestFirst: true, limit });
    const [newest] = entries;
    if (newest === undefined) return null;
    const records = readRecords(entries).reverse();
    const found = await pivotIn(store, key, records);
    if (found !== null) return standingFrom(newest.id, found.records, found.since);
    // A journal whose first record is none of ours, or was removed.
    if (entries.length < limit) return null;
    limit = limit === 1 ? FIRST_PAGE : limit + LONGEST_PAGE;
  }
}

/** The start record; null where the journal does not begin with one. */
export async function startIn(store: JournalStore, key: string): Promise<StartEntry | null> {
  const [first] = readRecords(await store.read(key, { limit: 1 }));
  return first?.kind === 'start' ? first : null;
}

/** The records from the newest one that tells on, with that one first. */
async function pivotIn(
  store: JournalStore,
  key: string,
  records: readonly JournalRecord[],
): Promise<{ records: readonly JournalRecord[]; since: Since | null } | null> {
  const at = records.findLastIndex((record) => tells(record) || sinceIn(record) !== null);
  const pivot = records[at];
  if (pivot === undefined) return null;
  const since = tells(pivot) ? null : sinceIn(pivot);
  if (since === null) return { records: records.slice(at), since };
  const near = records.findIndex(({ id }) => id === since.b);
  const base = near < 0 ? await recordAt(store, key, since.b) : records[near];
  // Removed meanwhile, because the instance has continued as new: read more.
  if (base === undefined || base === null || !tells(base)) return null;
  return { records: [base, ...records.slice(at)], since };
}

/** The newest value of `wf.state`; undefined where there is none. A fork that has not begun is read whole. */
export async function readState(store: JournalStore, key: string, standing: Standing) {
  const { base, stateAt } = standing;
  if (stateAt === null) return undefined;
  let record: JournalRecord | null | undefined;
  if (typeof stateAt === 'string') record = await recordAt(store, key, stateAt);
  else {
    const records = readRecords(await store.read(key));
    record = records[records.findIndex(({ id }) => id === base.id) - stateAt];
  }
  return record?.kind === 'state' ? record.data.v : undefined;
}

async function recordAt(
  store: JournalStore,
  key: string,
  id: string,
): Promise<JournalRecord | null> {
  const [record] = readRecords(await store.read(key, { from: id, limit: 1 }));
  return record?.id === id ? record : null;
}

function standingFrom(
  last: string,
  records: readonly JournalRecord[],
  given: Since | null,
): Standing {
  const [base] = records as [JournalRecord];
  const phase = phaseOf(records, given);
  const before = phaseOf([base]);
  const isPaused = phase.status === 'paused';
  return {
    last,
    phase,
    base,
    since: {
      b: base.id,
      ...(phase.version === before.version ? {} : { v: phase.version }),
      ...(isPaused === (before.status === 'paused') ? {} : { p: isPaused ? 1 : 0 }),
      ...(phase.news ? { n: 1 } : {}),
    },
    stateAt: stateBefore(base),
  };
}

/** As `standingOf`, for what has read the whole journal. */
export function sinceOf(records: readonly JournalRecord[]): { since: Since } | undefined {
  const at = records.findLastIndex(tells);
  const newest = records.at(-1);
  if (at < 0 || newest === undefined) return undefined;
  return { since: standingFrom(newest.id, records.slice(at), null).since };
}

/** The marks of the next record of a worker, for what has read the whole journal. */
export function marksAfter(records: readonly JournalRecord[]): Marks {
  const { version, status } = phaseOf(records);
  const [first] = records;
  const st = stateIn(effective(records));
  return {
    ...(first?.kind === 'start' && first.data.v === version ? {} : { ver: version }),
    ...(st === null ? {} : { st }),
    ...(status === 'paused' ? { p: 1 } : {}),
  };
}

/** The newest value of `wf.state` among records that all count; null where there is none. */
export function stateIn(records: readonly JournalRecord[]): string | null {
  return records.findLast(({ kind }) => kind === 'state')?.id ?? null;
}

function stateBefore(base: JournalRecord): string | number | null {
  return base.kind === 'state' ? base.id : ((base.data as Marks).st ?? null);
}

function tells({ kind }: JournalRecord): boolean {
  return isWorkers(kind) || ALSO.has(kind);
}

const ALSO: ReadonlySet<RecordKind> = new Set(['start', 'again']);

function sinceIn({ data }: JournalRecord): Since | null {
  return (data as Records['signal']).since ?? null;
}
