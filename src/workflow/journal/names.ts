/**
 * Which workflows there are, and which versions of them: a stream of names, and one of versions for each name.
 *
 * A version is noted before its first instance or worker, and never removed. Invariant: where the stream of names
 * exists, every version that was noted since, and every one that there was before, is in these streams. Cost: a
 * process notes a version once a minute at most; a question reads the answer. Only where nothing was ever noted, in
 * data of an earlier release or for want of the right to, are the names of all keys read.
 */
import { type JournalStore, NO_RECORD } from '../../broker/journal.ts';
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { escaped, LISTS, listKey, nameInKey, namesKey, queueKey, versionsKey } from './keys.ts';

/** How long a process remembers that it has noted a version: the broker may be emptied. */
const NOTED_MS = 60_000;
const MOST_NOTED = 10_000;
/** Other processes that note a version at the same time may refuse this one's commit. */
const MOST_TRIES = 20;

/** By label (`order@3`) when it was noted, monotonic ms. */
const noted = new WeakMap<JournalStore, Map<string, number>>();

export interface NotingSetup {
  readonly store: JournalStore;
  readonly scheduler: Scheduler;
  /** Unique among commits. */
  readonly token: () => string;
}

/**
 * Rejects where the broker is away, as the commit that follows would. What cannot be noted for another reason, such as
 * the rights of the user, is tried again with the next start.
 */
export async function noteVersion(
  setup: NotingSetup,
  name: string,
  version: number,
): Promise<void> {
  const { store, scheduler } = setup;
  const label = `${name}@${version}`;
  const known = noted.get(store) ?? new Map<string, number>();
  noted.set(store, known);
  const now = scheduler.monotonic();
  if (now - (known.get(label) ?? Number.NEGATIVE_INFINITY) < NOTED_MS) return;
  try {
    if ((await store.length(namesKey)) === 0) await noteAll(setup);
    if (!(await noteOne(setup, name, version))) return;
    if (known.size >= MOST_NOTED) known.clear();
    known.set(label, now);
  } catch (error) {
    if (error instanceof RivuletError && error.retryable) throw error;
  }
}

/** By name the versions of which there was an instance or a worker; of `name` alone where it is given. */
export async function versionsOf(
  store: JournalStore,
  name?: string,
): Promise<Map<string, number[]>> {
  if (name === undefined) {
    const names = await readNames(store);
    if (names.length === 0) return scanned(store);
    const versions = await Promise.all(names.map((each) => readVersions(store, each)));
    return new Map(names.map((each, i) => [each, versions[i] as number[]]));
  }
  const versions = await readVersions(store, name);
  if (versions.length > 0 || (await hasNames(store))) return new Map([[name, versions]]);
  return scanned(store, name);
}

/** False also for a user who has the rights to single workflows, and so notes none. */
async function hasNames(store: JournalStore): Promise<boolean> {
  try {
    return (await store.length(namesKey)) > 0;
  } catch (error) {
    if (error instanceof RivuletError && !error.retryable) return false;
    throw error;
  }
}

/** Every workflow of which there was an instance or a worker. */
export async function workflowNames(store: JournalStore): Promise<string[]> {
  const names = await readNames(store);
  return names.length > 0 ? names.sort() : [...(await scanned(store)).keys()].sort();
}

/** False where others were always first. */
async function noteOne(
  { store, token }: NotingSetup,
  name: string,
  version: number,
): Promise<boolean> {
  const key = versionsKey(name);
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const entries = await store.read(key);
    if (entries.some(({ fields }) => fields.v === String(version))) return true;
    const done = await store.commit({
      key,
      last: entries.at(-1)?.id ?? NO_RECORD,
      records: [{ v: String(version) }],
      token: token(),
      effects: entries.length > 0 ? [] : [{ kind: 'add', key: namesKey, fields: ['n', name] }],
    });
    if (done !== null) return true;
  }
  return false;
}

/** The first one to note anything notes what there is, in one commit. */
async function noteAll({ store, token }: NotingSetup): Promise<void> {
  const found = await scanned(store);
  if (found.size === 0) return;
  await store.commit({
    key: namesKey,
    last: NO_RECORD,
    records: [...found.keys()].map((n) => ({ n })),
    token: token(),
    effects: [...found].flatMap(([name, versions]) =>
      versions.map((v) => ({
        kind: 'add' as const,
        key: versionsKey(name),
        fields: ['v', String(v)],
      })),
    ),
  });
}

async function readNames(store: JournalStore): Promise<string[]> {
  const names = (await store.read(namesKey)).map(({ fields }) => fields.n);
  return [...new Set(names.filter((each) => each !== undefined))];
}

async function readVersions(store: JournalStore, name: string): Promise<number[]> {
  const versions = (await store.read(versionsKey(name))).map(({ fields }) => Number(fields.v));
  return [...new Set(versions.filter((each) => each > 0))];
}

/** By the names of all keys. */
async function scanned(store: JournalStore, name?: string): Promise<Map<string, number[]>> {
  const pattern = name === undefined ? 'wf:{*}:[rpdv]*' : `wf:{${escaped(name)}}:v*`;
  const versions = new Map<string, number[]>(name === undefined ? [] : [[name, []]]);
  for (const key of await store.keys(pattern)) {
    const of = nameInKey(key);
    if (of === null) continue;
    const version = Number(/:v(\d+)$/.exec(key)?.[1] ?? 0);
    const isQueue = version > 0 && key === queueKey(of, version);
    if (!isQueue && !LISTS.some((list) => key === listKey(of, list))) continue;
    const known = versions.get(of) ?? [];
    versions.set(of, isQueue ? [...known, version] : known);
  }
  return versions;
}
