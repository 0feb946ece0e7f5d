/**
 * Lists of instances: running, parked and ended ones, by time, out of one small stream each.
 *
 * Cost: one page of a list at a time; journals are not read. Counts are lengths of streams.
 */
import type { JournalStore } from '../../broker/journal.ts';
import {
  checkOptions,
  count,
  invalid,
  type OptionTable,
  shown,
} from '../../client/option-table.ts';
import { checkName, LISTS, listKey, queueKey, WORKERS } from './keys.ts';
import { versionsOf, workflowNames } from './names.ts';
import type { WorkflowStatus } from './phase.ts';
import { type JournalRecord, millisecondsOf } from './records.ts';
import type { Listed } from './starting.ts';

export interface ListQuery {
  /** Default: every workflow of the broker. */
  readonly name?: string;
  /** Default: all. `running` includes paused ones. */
  readonly status?: 'running' | 'parked' | 'completed' | 'failed' | 'cancelled';
  /** Only what was started (running), parked or ended since then. */
  readonly since?: Date | number;
  readonly limit?: number;
}

export interface ListedRun {
  readonly name: string;
  readonly id: string;
  readonly version: number;
  readonly status: WorkflowStatus;
  readonly startedAt: Date;
  /** When it was parked or ended. */
  readonly at?: Date;
  /** Why it is parked, failed or cancelled. */
  readonly reason?: string;
  readonly code?: string;
  /** Of a completed one, where it has at most 256 bytes as JSON. */
  readonly result?: unknown;
  /** Bytes of a result that is larger: `handle.result()` reads it. */
  readonly resultBytes?: number;
  /** It is no instance but a schedule that is parked, and `id` is its name. */
  readonly schedule?: true;
}

/** A part of a list, and where the next part begins; null at the end. */
export interface ListPage {
  readonly runs: readonly ListedRun[];
  readonly next: string | null;
}

/** A place in the lists of all workflows, in their order. */
interface Place {
  readonly name: string;
  readonly list: (typeof LISTS)[number];
  readonly entry: string;
}

export interface WorkflowCounts {
  readonly name: string;
  readonly running: number;
  readonly parked: number;
  readonly done: number;
  /** When the longest parked one was parked. */
  readonly oldestParkedAt?: Date;
  /** Versions whose tasks no worker takes. */
  readonly waiting: readonly { readonly version: number; readonly tasks: number }[];
}

const PAGE = 500;
/** Entries that a search for one instance reads first, and at most at once. */
const NEAREST = 8;
const SEARCHED = 256;
const MOST_LOOKED_AT = 10_000;

export async function* listRuns(
  store: JournalStore,
  query: ListQuery = {},
): AsyncIterable<ListedRun> {
  checkOptions(listTable, query);
  const { name, status, limit = Number.POSITIVE_INFINITY } = query;
  const names = name === undefined ? await workflowNames(store) : [name];
  let left = limit;
  for await (const { run } of placedRuns(store, names, query, null)) {
    if (status !== undefined && run.status !== status) continue;
    if (left-- <= 0) return;
    yield run;
  }
}

/**
 * At most `limit` runs of some workflows after the place `after`, which a page before has named. It looks at
 * no more than MOST_LOOKED_AT entries, so a page of a rare status may be short and have a next one.
 */
export async function pageOfRuns(
  store: JournalStore,
  names: readonly string[],
  query: Omit<ListQuery, 'name' | 'since'>,
  after: string | null,
): Promise<ListPage> {
  checkOptions(listTable, query);
  const { status, limit = PAGE } = query;
  const from = after === null ? null : placeIn(after);
  const runs: ListedRun[] = [];
  let looked = 0;
  let last: string | null = null;
  for await (const { run, place } of placedRuns(store, [...names].sort(), query, from)) {
    if (runs.length === limit || looked === MOST_LOOKED_AT) return { runs, next: last };
    looked++;
    last = `${place.list}:${place.entry}:${place.name}`;
    if (status === undefined || run.status === status) runs.push(run);
  }
  return { runs, next: null };
}

function placeIn(text: string): Place {
  const [, list, entry, name] = /^(running|parked|done):(\d{1,20}-\d{1,20}):(.+)$/.exec(text) ?? [];
  if (list === undefined || entry === undefined) {
    throw invalid(`after is what the page before named as its next, not ${shown(text)}`);
  }
  checkName(name);
  return { list: list as Place['list'], entry, name };
}

/** `names` in their order. */
async function* placedRuns(
  store: JournalStore,
  names: readonly string[],
  { status, since }: ListQuery,
  after: Place | null,
): AsyncIterable<{ run: ListedRun; place: Place }> {
  const from = since === undefined ? 0 : Math.max(0, Math.floor(Number(since)));
  for (const name of names) {
    if (after !== null && name < after.name) continue;
    const here = after?.name === name ? after : null;
    for (const list of listsOf(status)) {
      if (here !== null && LISTS.indexOf(list) < LISTS.indexOf(here.list)) continue;
      yield* runsOf(store, name, list, from, here?.list === list ? here.entry : undefined);
    }
  }
}

/** Of one workflow, or of each. */
export async function allCounts(store: JournalStore, name?: string): Promise<WorkflowCounts[]> {
  const versions = await versionsOf(store, name);
  if (name === undefined) return countsOfVersions(store, versions);
  return [await quickCountsOf(store, name, versions.get(name) ?? [])];
}

/** `empty`: also those of which there has been no instance: a queue alone is a worker that waits for one. */
export async function countsOfVersions(
  store: JournalStore,
  versions: ReadonlyMap<string, readonly number[]>,
  empty = false,
): Promise<WorkflowCounts[]> {
  const counts = await Promise.all(
    [...versions].sort().map(([of, known]) => countsWith(store, of, known)),
  );
  return counts.filter(({ running, parked, done }) => empty || running + parked + done > 0);
}

/** With versions known to the caller and those of instances that run: a few reads. */
export async function quickCountsOf(
  store: JournalStore,
  name: string,
  known: readonly number[],
): Promise<WorkflowCounts> {
  const key = listKey(name, 'running');
  const [oldest, newest] = await Promise.all([
    store.read(key, { limit: 100 }),
    store.read(key, { limit: 100, newestFirst: true }),
  ]);
  const versions = new Set(known);
  for (const { fields } of [...oldest, ...newest]) {
    const listed = readListed(fields.d);
    if (listed !== null) versions.add(listed.v);
  }
  return countsWith(store, name, [...versions]);
}

async function countsWith(
  store: JournalStore,
  name: string,
  versions: readonly number[],
): Promise<WorkflowCounts> {
  const [running, parked, done, [first], tasks] = await Promise.all([
    store.length(listKey(name, 'running')),
    store.length(listKey(name, 'parked')),
    store.length(listKey(name, 'done')),
    store.read(listKey(name, 'parked'), { limit: 1 }),
    Promise.all(versions.map((version) => waitingIn(store, queueKey(name, version)))),
  ]);
  const waiting = versions.map((version, i) => ({ version, tasks: tasks[i] as number }));
  return {
    name,
    running,
    parked,
    done,
    ...(first === undefined ? {} : { oldestParkedAt: new Date(millisecondsOf(first.id)) }),
    waiting: waiting.filter((each) => each.tasks > 0).sort((a, b) => a.version - b.version),
  };
}

async function waitingIn(store: JournalStore, key: string): Promise<number> {
  const state = await store.queue(key, WORKERS);
  // Without a group no worker has ever known this version.
  return state === null ? store.length(key) : (state.waiting ?? 0);
}

/** The newest version whose tasks a worker takes or has taken; null where there is none. */
export async function newestVersion(store: JournalStore, name: string): Promise<number | null> {
  const versions = (await versionsOf(store, name)).get(name) ?? [];
  for (const version of versions.sort((a, b) => b - a)) {
    if ((await store.queue(queueKey(name, version), WORKERS)) !== null) return version;
  }
  return null;
}

/** The entry of an instance in a list; `near` is about the time at which it was added, Unix ms. */
export async function findListed(
  store: JournalStore,
  key: string,
  id: string,
  near: number,
  what: 'instance' | 'schedule' = 'instance',
): Promise<string | null> {
  const text = JSON.stringify(id);
  for (const from of [`${near}-0`, '0-1']) {
    let after: string | undefined;
    // It is mostly among the first of its millisecond: whole pages would be read for one entry.
    let limit = NEAREST;
    for (;;) {
      const page = await store.read(key, {
        ...(after === undefined ? { from } : { after }),
        limit,
      });
      for (const { id: entry, fields } of page) {
        if (fields.d?.includes(text) !== true) continue;
        const listed = readListed(fields.d);
        if (listed?.id === id && (listed.s === 1) === (what === 'schedule')) return entry;
      }
      after = page.at(-1)?.id;
      if (page.length < limit || after === undefined) break;
      // The clock was set back in between, or the entry is not there.
      if (from !== '0-1' && Number(after.split('-')[0]) > near + 60_000) break;
      limit = Math.min(SEARCHED, limit * 4);
    }
  }
  return null;
}

/** About when its entry in the list of running ones was added, unix ms. */
export function listedAt(records: readonly JournalRecord[]): number {
  const added = records.findLast(({ kind }) => kind === 'again' || kind === 'move');
  const [first] = records;
  if (added !== undefined) return millisecondsOf(added.id);
  if (first === undefined) return 0;
  return first.kind === 'start' && first.data.listed !== undefined
    ? first.data.listed
    : millisecondsOf(first.id);
}

/** About when its entry in the list of parked or ended ones was added, unix ms. */
export function stoppedAt(records: readonly JournalRecord[]): number {
  const stop = records.findLast(({ kind }) => ['end', 'parked', 'move'].includes(kind));
  return stop === undefined ? 0 : millisecondsOf(stop.id);
}

function listsOf(status: ListQuery['status']): readonly Place['list'][] {
  if (status === undefined) return LISTS;
  return [status === 'running' || status === 'parked' ? status : 'done'];
}

async function* runsOf(
  store: JournalStore,
  name: string,
  list: Place['list'],
  from: number,
  first: string | undefined,
): AsyncIterable<{ run: ListedRun; place: Place }> {
  let after = first;
  for (;;) {
    const range = after === undefined ? { from: `${from}-0` } : { after };
    const page = await store.read(listKey(name, list), { ...range, limit: PAGE });
    for (const { id: entry, fields } of page) {
      after = entry;
      const listed = readListed(fields.d);
      if (listed === null) continue;
      const at = millisecondsOf(entry);
      const status = list === 'done' ? (listed.status as WorkflowStatus) : list;
      const run: ListedRun = {
        name,
        id: listed.id,
        version: listed.v,
        status,
        startedAt: new Date(listed.from ?? at),
        ...(list === 'running' ? {} : { at: new Date(at) }),
        ...(listed.why === undefined ? {} : { reason: listed.why }),
        ...(listed.code === undefined ? {} : { code: listed.code }),
        ...(listed.r === undefined ? {} : { result: listed.r }),
        ...(listed.rb === undefined ? {} : { resultBytes: listed.rb }),
        ...(listed.s === undefined ? {} : { schedule: true }),
      };
      yield { run, place: { name, list, entry } };
    }
    if (page.length < PAGE) return;
  }
}

function readListed(text: string | undefined): Listed | null {
  try {
    const value: Listed = JSON.parse(text ?? '');
    return typeof value?.id === 'string' && typeof value.v === 'number' ? value : null;
  } catch {
    return null;
  }
}

const listTable: OptionTable = {
  name: { kind: 'text', check: (value) => checkName(value) },
  status: {
    kind: 'one of',
    values: ['running', 'parked', 'completed', 'failed', 'cancelled'],
  },
  since: {
    kind: 'other',
    check: (value, name) => {
      const ms = value instanceof Date ? value.getTime() : value;
      if (typeof ms === 'number' && ms >= 0 && ms <= 2 ** 48) return;
      throw invalid(`${name} is a date or unix milliseconds, not ${shown(value)}`);
    },
  },
  limit: count(1, Number.MAX_SAFE_INTEGER),
};
