/**
 * All topics with their numbers, kept while a page is open.
 *
 * Holds: one fact a topic, by its name as latin1; the names in order, all and those of applications; the
 * totals of the last sweep, which count the topics of applications only, but memory of all.
 * Invariants: `names` is sorted and has each topic once; a page is read from one state of the table, and
 * work that yields starts from a copy of the list that it walks.
 * Cost: a sweep reads every topic's counters, in slices of 2 ms; a page sorted by name is two
 * binary searches, one sorted by a number one pass in slices, once for all who see every topic and ask for
 * the same between two sweeps.
 */
import type { TopicRow, TopicSort, TopicsPage } from '../api-types.ts';
import type { TopicsQuery } from '../sources/source.ts';
import { isInternal, nameText } from './names.ts';
import { merge, Slices, sortInSlices } from './slices.ts';

/** What a sweep reads of one topic. */
export interface TopicFact {
  readonly name: Buffer;
  /** latin1: compares as the bytes do. */
  readonly key: string;
  /** Rivulet's own: spans, audit, registrations, journals. Lists leave it out unless asked. */
  readonly internal: boolean;
  length: number;
  /** Entries ever added. */
  added: number;
  lag: number | null;
  pending: number | null;
  groups: number;
  bytes: number | null;
  bytesOnDisk: number | null;
  oldestAt: number | null;
  newestAt: number | null;
  rate: number | null;
  /** When `added` was read, monotonic ms. */
  readAt: number;
  /** The last sweep that saw it. */
  sweep: number;
  /** Sums over its groups that the sweep is still adding up. */
  readonly next: { lag: number; pending: number };
}

export interface TableTotals {
  topics: number;
  groups: number;
  entries: number;
  pending: number;
  dead: number;
  bytes: number;
}

export const DEAD_SUFFIX = '.dead';
const MOST_PAGES = 100;
/** The shortest time that a rate is taken over, in ms. */
const RATE_MS = 4900;

export class TopicTable {
  readonly facts = new Map<string, TopicFact>();
  totals: TableTotals = { topics: 0, groups: 0, entries: 0, pending: 0, dead: 0, bytes: 0 };
  /** True once a sweep has ended. */
  complete = false;
  #names: readonly TopicFact[] = [];
  #public: readonly TopicFact[] = [];
  #dead: readonly TopicFact[] = [];
  /** By question: pages for those who see every topic, until the next sweep has ended. */
  #pages = new Map<string, Promise<TopicsPage>>();
  #added: TopicFact[] = [];
  #sweep = 0;

  get names(): readonly TopicFact[] {
    return this.#names;
  }

  /** Topics that are named as those of dead letters. */
  get dead(): readonly TopicFact[] {
    return this.#dead;
  }

  begin(): void {
    this.#sweep++;
  }

  /** The fact of this topic, to be filled in by the sweep. */
  see(name: Buffer): TopicFact {
    const key = name.toString('latin1');
    let fact = this.facts.get(key);
    if (fact === undefined) {
      fact = {
        name: Buffer.from(name),
        key,
        internal: isInternal(key),
        length: 0,
        added: 0,
        lag: null,
        pending: null,
        groups: 0,
        bytes: null,
        bytesOnDisk: null,
        oldestAt: null,
        newestAt: null,
        rate: null,
        readAt: -1,
        sweep: 0,
        next: { lag: 0, pending: 0 },
      };
      this.facts.set(key, fact);
      this.#added.push(fact);
    }
    fact.sweep = this.#sweep;
    fact.next.lag = fact.next.pending = 0;
    return fact;
  }

  /** All groups of the topic are added up. */
  settle(fact: TopicFact): void {
    fact.lag = fact.groups === 0 ? null : fact.next.lag;
    fact.pending = fact.next.pending;
  }

  /** Counts entries added as a rate, once the last count is `RATE_MS` old. */
  count(fact: TopicFact, added: number, monotonic: number): void {
    if (fact.readAt >= 0 && monotonic - fact.readAt < RATE_MS) return;
    const seconds = (monotonic - fact.readAt) / 1000;
    fact.rate = fact.readAt < 0 ? null : Math.max(0, added - fact.added) / seconds;
    fact.added = added;
    fact.readAt = monotonic;
  }

  /** The sweep has seen every topic: those it did not see are gone. */
  async end(): Promise<void> {
    const slices = new Slices();
    const totals = { topics: 0, groups: 0, entries: 0, pending: 0, dead: 0, bytes: 0 };
    const before = this.#names;
    const kept: TopicFact[] = [];
    const ofApplications: TopicFact[] = [];
    const dead: TopicFact[] = [];
    const added = await sortInSlices(this.#added.splice(0), byKey);
    for (const fact of await merge(before, added, byKey)) {
      const rest = slices.due();
      if (rest) await rest;
      if (fact.sweep !== this.#sweep) {
        if (this.facts.get(fact.key) === fact) this.facts.delete(fact.key);
        continue;
      }
      kept.push(fact);
      totals.bytes += fact.bytes ?? 0;
      if (fact.key.endsWith(DEAD_SUFFIX)) dead.push(fact);
      if (fact.internal) continue;
      ofApplications.push(fact);
      totals.topics++;
      totals.groups += fact.groups;
      totals.entries += fact.length;
      totals.pending += fact.pending ?? 0;
      if (fact.key.endsWith(DEAD_SUFFIX)) totals.dead += fact.length;
    }
    this.#names = kept;
    this.#public = ofApplications;
    this.#dead = dead;
    this.#pages = new Map();
    this.totals = totals;
    this.complete = true;
  }

  async page(
    query: TopicsQuery,
    sees: ((name: Buffer) => boolean) | null,
    now: number,
  ): Promise<TopicsPage> {
    if (sees !== null || !this.complete) return this.#page(query, sees, now);
    const pages = this.#pages;
    const key = JSON.stringify(query);
    const known = pages.get(key) ?? this.#page(query, null, now);
    // Asked for again, it is the last to go.
    pages.delete(key);
    if (pages.size >= MOST_PAGES) pages.delete(pages.keys().next().value as string);
    pages.set(key, known);
    return { ...(await known), at: now };
  }

  async #page(
    { q, sort, after, limit, internal }: TopicsQuery,
    sees: ((name: Buffer) => boolean) | null,
    now: number,
  ): Promise<TopicsPage> {
    const part = Buffer.from(q).toString('latin1').toLowerCase();
    const wanted = (fact: TopicFact): boolean =>
      part === '' || fact.key.toLowerCase().includes(part);
    const names = internal ? this.#names : this.#public;
    let hidden = this.#names.length - names.length;
    if (sees !== null && hidden > 0) {
      hidden = 0;
      for (const fact of this.#names) if (fact.internal && sees(fact.name)) hidden++;
    }
    const rank = RANKS[sort];
    const mark = after === null ? null : readMark(after);
    const slices = new Slices();
    let [total, matched] = [0, 0];
    const best = new Best(limit + 1, rank);
    if (part === '' && sees === null && rank === null) {
      // By name and without a condition: the page is a part of the list.
      total = matched = names.length;
      const from = mark === null ? 0 : firstAfter(names, mark.key);
      for (const fact of names.slice(from, from + limit + 1)) best.offer(fact);
    } else {
      for (const fact of names) {
        const rest = slices.due();
        if (rest) await rest;
        if (sees !== null && !sees(fact.name)) continue;
        total++;
        if (!wanted(fact)) continue;
        matched++;
        if (mark === null || isBehind(fact, mark, rank)) best.offer(fact);
      }
    }
    const found = best.items;
    const more = found.length > limit;
    const shown = more ? found.slice(0, limit) : found;
    return {
      at: now,
      topics: shown.map(rowOf),
      total,
      matched,
      hidden,
      next: more ? markOf(shown.at(-1)!, rank) : null,
      complete: this.complete,
    };
  }
}

/** The time from the start of one sweep to the next, in ms: a multiple of the last sweep, within limits. */
export function sweepInterval(
  { least, most, timesDuration }: { least: number; most: number; timesDuration: number },
  durationMs: number,
): number {
  return Math.min(most, Math.max(least, durationMs * timesDuration));
}

export function rowOf(fact: TopicFact): TopicRow {
  const { key } = fact;
  const isDead = key.endsWith(DEAD_SUFFIX) && key.length > DEAD_SUFFIX.length;
  return {
    name: nameText(fact.name),
    length: fact.length,
    rate: fact.rate,
    lag: fact.lag,
    pending: fact.pending,
    groups: fact.groups,
    bytes: fact.bytes,
    bytesOnDisk: fact.bytesOnDisk,
    oldestAt: fact.oldestAt,
    newestAt: fact.newestAt,
    deadOf: isDead ? nameText(fact.name.subarray(0, -DEAD_SUFFIX.length)) : null,
  };
}

type Rank = (fact: TopicFact) => number;

/** Greater comes first; null = by name. */
const RANKS: Record<TopicSort, Rank | null> = {
  name: null,
  rate: ({ rate }) => rate ?? -1,
  lag: ({ lag }) => lag ?? -1,
  bytes: ({ bytes, bytesOnDisk }) => (bytes ?? -1) + (bytesOnDisk ?? 0),
  length: ({ length }) => length,
  pending: ({ pending }) => pending ?? -1,
  oldest: ({ oldestAt }) => (oldestAt === null ? Number.NEGATIVE_INFINITY : -oldestAt),
};

function byKey(a: TopicFact, b: TopicFact): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

interface Mark {
  readonly key: string;
  readonly value: number;
}

function markOf(fact: TopicFact, rank: Rank | null): string {
  return Buffer.from(JSON.stringify([fact.key, String(rank?.(fact) ?? 0)])).toString('base64url');
}

/** A mark that was changed on its way only begins another page. */
function readMark(text: string): Mark {
  try {
    const [key, value] = JSON.parse(Buffer.from(text, 'base64url').toString());
    if (typeof key === 'string' && !Number.isNaN(Number(value)))
      return { key, value: Number(value) };
  } catch {
    // It is none of ours.
  }
  return { key: '', value: Number.POSITIVE_INFINITY };
}

function isBehind(fact: TopicFact, mark: Mark, rank: Rank | null): boolean {
  if (rank === null) return fact.key > mark.key;
  const value = rank(fact);
  return value < mark.value || (value === mark.value && fact.key > mark.key);
}

function firstAfter(names: readonly TopicFact[], key: string): number {
  let [low, high] = [0, names.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (names[middle]!.key <= key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first `limit` in order, of any number that is offered in the order of names. */
class Best {
  readonly items: TopicFact[] = [];
  readonly #values: number[] = [];
  readonly #limit: number;
  readonly #rank: Rank | null;

  constructor(limit: number, rank: Rank | null) {
    this.#limit = limit;
    this.#rank = rank;
  }

  offer(fact: TopicFact): void {
    const { items } = this;
    if (this.#rank === null) {
      if (items.length < this.#limit) items.push(fact);
      return;
    }
    const value = this.#rank(fact);
    const values = this.#values;
    if (items.length === this.#limit && value <= values.at(-1)!) return;
    let [low, high] = [0, items.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (values[middle]! >= value) low = middle + 1;
      else high = middle;
    }
    items.splice(low, 0, fact);
    values.splice(low, 0, value);
    if (items.length > this.#limit) {
      items.pop();
      values.pop();
    }
  }
}
