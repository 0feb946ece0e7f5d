/**
 * The things that an action's target names: ids that were chosen, or all that a filter lets through.
 *
 * Invariant: at most 100 000 things a plan; the plan says when there were more.
 */
import { RivuletError } from '../../errors.ts';
import type { ActionTarget } from '../api-types.ts';
import { walkEntries } from '../messages/browse.ts';
import { filtered } from '../messages/entry-view.ts';
import { matches } from '../messages/filter.ts';
import { type Expression, parseFilter } from '../messages/filter-parser.ts';
import { idOf, needed } from '../routes/parameters.ts';
import { nameBytes } from '../topics/names.ts';
import type { ActionCall } from './plan.ts';

export const MOST_ITEMS = 100_000;
const PENDING_PAGE = 1000;
/** A plan may look longer than a page may. */
const LIMITS = { entries: 1_000_000, bytes: 256 * 1024 * 1024, ms: 10_000 };

export interface Chosen {
  readonly ids: readonly string[];
  /** There are more than a plan may have. */
  readonly isCut: boolean;
}

export function topicOf({ topic }: ActionTarget): Buffer {
  return named(topic, 'topic');
}

export function groupOf({ group }: ActionTarget): Buffer {
  return named(group, 'group');
}

export function named(text: string | undefined, what: string): Buffer {
  if (typeof text === 'string' && text !== '') return nameBytes(text);
  throw new RivuletError('INVALID_ARGUMENT', `the target names no ${what}`);
}

/** Ids of entries of a topic. */
export async function chosenEntries(call: ActionCall, topic: Buffer): Promise<Chosen> {
  const given = givenIds(call.target);
  if (given !== null) return given;
  const where = filterOf(call.target);
  const ids: string[] = [];
  const all = { topic, from: null, isAfter: false, to: null, newest: false };
  const range = where === null ? { ...all, cut: 0 } : all;
  const walk = walkEntries(call.source, call.viewer, range, LIMITS);
  for await (const raw of walk.entries) {
    if (where !== null && !matches(where, filtered(raw, topic, call.setup))) continue;
    if (ids.length === MOST_ITEMS) return { ids, isCut: true };
    ids.push(raw.id);
  }
  return { ids, isCut: walk.stopped() !== 'end' };
}

/** Ids of pending messages of a group; a filter looks at their entries. */
export async function chosenPending(
  call: ActionCall,
  topic: Buffer,
  group: Buffer,
): Promise<Chosen> {
  const given = givenIds(call.target);
  if (given !== null) return given;
  const { source, viewer } = call;
  const where = filterOf(call.target);
  const ids: string[] = [];
  let after: string | null = null;
  do {
    const query = { after, consumer: null, minIdleMs: 0, limit: PENDING_PAGE };
    const page = await needed(source, 'pending')(viewer, topic, group, query);
    if (page === null) throw new RivuletError('NOT_FOUND', 'the broker has no such group');
    const found = page.entries.map(({ id }) => id);
    for (const id of where === null ? found : await fitting(call, topic, found, where)) {
      if (ids.length === MOST_ITEMS) return { ids, isCut: true };
      ids.push(id);
    }
    after = page.next;
  } while (after !== null);
  return { ids, isCut: false };
}

async function fitting(
  { source, viewer, setup }: ActionCall,
  topic: Buffer,
  ids: readonly string[],
  where: Expression,
): Promise<string[]> {
  const wanted = new Set(ids);
  const [first, last] = [ids[0], ids.at(-1)];
  if (first === undefined || last === undefined) return [];
  const range = { topic, from: first, isAfter: false, to: last, newest: false };
  const found: string[] = [];
  for await (const raw of walkEntries(source, viewer, range, LIMITS).entries) {
    if (wanted.has(raw.id) && matches(where, filtered(raw, topic, setup))) found.push(raw.id);
  }
  return found;
}

function givenIds({ ids, all }: ActionTarget): Chosen | null {
  if (all === true) return null;
  if (!Array.isArray(ids) || ids.length === 0) {
    throw new RivuletError('INVALID_ARGUMENT', 'the target has ids, or all: true with a filter');
  }
  if (ids.length > MOST_ITEMS) {
    throw new RivuletError('LIMIT_EXCEEDED', `an action has at most ${MOST_ITEMS} things`);
  }
  const known = new Set<string>();
  for (const id of ids) known.add(idOf(String(id), 'ids') ?? '');
  known.delete('');
  return { ids: [...known], isCut: false };
}

function filterOf({ where }: ActionTarget): Expression | null {
  return where === undefined || where.trim() === '' ? null : parseFilter(where);
}
