/**
 * Schedules: instances that begin at times of a cron expression, in a time zone.
 *
 * A schedule is a journal of one record, its state, and one timer, the next tick. A tick is one commit on
 * that state: the instance, the next state and the next timer, or nothing; so with any number of workers a
 * tick starts one instance. The broker's clock decides what is due; what was missed is caught up with, at
 * most `catchUp` runs of it. cron-clock.ts says when that is where clocks change.
 * A schedule that cannot start its run (the input does not fit the schema any more, the zone is not known)
 * is parked: no timer is set, and it is in the list of parked ones with the reason until it is set again or
 * removed.
 */
import type { JournalEffect, JournalStore, JournalTask } from '../../broker/journal.ts';
import { NO_RECORD } from '../../broker/journal.ts';
import { checkOptions, count, invalid, type OptionTable } from '../../client/option-table.ts';
import { RivuletError } from '../../errors.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { recordOfError } from '../errors.ts';
import { checkName, journalKey, listKey, queueKey, scheduleKey, WORKERS } from '../journal/keys.ts';
import { findListed } from '../journal/listing.ts';
import { noteVersion } from '../journal/names.ts';
import { millisecondsOf, taskFields } from '../journal/records.ts';
import { standingOf } from '../journal/standing.ts';
import { firstRecord, listFields, startAsEffects } from '../journal/starting.ts';
import { stored } from '../journal/values.ts';
import type { AnyWorkflow } from '../workflow.ts';
import { CronClock } from './cron-clock.ts';

export interface ScheduleOptions<Input> {
  /** Five fields, or six with seconds first: `0 3 * * *`. */
  readonly cron: string;
  /** IANA name, as `Europe/Berlin`. Default UTC. */
  readonly timeZone?: string;
  /** While the run before is not over: `skip` (the default) or `allow`. */
  readonly overlap?: 'skip' | 'allow';
  /** How many missed runs are made up for when nothing could run. Default 1, the newest. */
  readonly catchUp?: number;
  readonly input?: Input;
}

export interface ScheduleInfo {
  readonly name: string;
  readonly workflow: string;
  readonly version: number;
  readonly cron: string;
  readonly timeZone: string;
  readonly overlap: 'skip' | 'allow';
  readonly catchUp: number;
  /** `parked`: it starts nothing until it is set again; `over`: it has no time that is to come. */
  readonly status: 'active' | 'parked' | 'over';
  /** Of a parked one the run that could not start, of one that is over the last one. */
  readonly next: Date;
  /** The id of the instance that was started last. */
  readonly last?: string;
  /** Why it is parked. */
  readonly reason?: string;
  readonly code?: string;
}

interface State {
  readonly cron: string;
  readonly timeZone: string;
  readonly overlap: 'skip' | 'allow';
  readonly catchUp: number;
  readonly input?: unknown;
  readonly v: number;
  /** Unix ms. */
  readonly next: number;
  readonly last?: string;
  /** How often a run was left out because the one before was not over. */
  readonly skipped: number;
  readonly parked?: Parked;
  readonly over?: true;
}

interface Parked {
  readonly why: string;
  readonly code: string;
  /** About when it was listed, unix ms. */
  readonly at: number;
}

/** What a run that is due may be late by and not count as missed. */
const LATE_MS = 60_000;

export async function setSchedule(
  store: JournalStore,
  name: string,
  definition: AnyWorkflow,
  options: ScheduleOptions<unknown>,
  scheduler: Scheduler,
  token: () => string,
  mostBytes: number,
): Promise<ScheduleInfo> {
  checkName(name, 'a schedule');
  checkOptions(scheduleTable, options);
  const { cron, timeZone = 'UTC', overlap = 'skip', catchUp = 1 } = options;
  const input = stored(options.input, `the input of schedule ${name}`, mostBytes);
  // What could not start is refused now.
  await firstRecord({ definition, id: name, input }, mostBytes);
  const key = scheduleKey(definition.name, name);
  const fixed = {
    cron,
    timeZone,
    overlap,
    catchUp,
    ...(input === undefined ? {} : { input }),
    v: definition.version,
  };
  clockOf(fixed);
  await noteVersion({ store, scheduler, token }, definition.name, definition.version);
  for (let tries = 0; ; tries++) {
    await apart(scheduler, tries);
    const present = await read(store, key);
    const before = present?.state ?? null;
    if (before !== null && isSame(before, fixed)) return infoOf(name, definition, before);
    const last = present?.id ?? NO_RECORD;
    // Its id is the broker's time.
    const asking = before ?? { ...fixed, next: 0, skipped: 0 };
    const asked = await commit(store, key, last, token(), asking);
    if (asked === null) continue;
    const now = millisecondsOf(asked);
    const next = clockOf(fixed).next(now);
    if (next === null) throw invalid(`schedule ${name}: ${cron} has no time that is to come`);
    const kept = before?.last === undefined ? {} : { last: before.last };
    const state: State = { ...fixed, ...kept, next, skipped: before?.skipped ?? 0 };
    const done = await commit(store, key, asked, token(), state, [
      tick(definition.name, definition.version, name, next),
      ...(await unlisted(store, definition.name, name, present)),
    ]);
    if (done !== null) return infoOf(name, definition, state);
  }
}

export async function removeSchedule(
  store: JournalStore,
  name: string,
  workflow: string,
): Promise<boolean> {
  const key = scheduleKey(workflow, name);
  const present = await read(store, key);
  // The timer that is left finds nothing.
  await store.remove([key]);
  await store.apply(await unlisted(store, workflow, name, present));
  return present !== null;
}

/** What takes a parked schedule out of the list of parked ones. */
async function unlisted(
  store: JournalStore,
  workflow: string,
  name: string,
  present: { readonly state: State | null } | null,
): Promise<JournalEffect[]> {
  if (present === null) return [];
  const { state } = present;
  // One whose state another program has damaged is listed and does not say when.
  if (state !== null && state.parked === undefined) return [];
  const key = listKey(workflow, 'parked');
  const listed = await findListed(store, key, name, state?.parked?.at ?? 0, 'schedule');
  return listed === null ? [] : [{ kind: 'delete', key, ids: [listed] }];
}

export async function listSchedules(store: JournalStore): Promise<ScheduleInfo[]> {
  const found: ScheduleInfo[] = [];
  for (const key of await store.keys('wf:{*}:s:*')) {
    const [, workflow, name] = /^wf:\{([^{}]+)\}:s:(.+)$/.exec(key) ?? [];
    const present = await read(store, key);
    const state = present?.state ?? null;
    // One without a time is being set.
    if (workflow === undefined || name === undefined || !state?.next) continue;
    found.push(infoOf(name, { name: workflow, version: state.v }, state));
  }
  return found;
}

/** A timer of a schedule went off. */
export async function onTick(
  store: JournalStore,
  definition: AnyWorkflow,
  task: JournalTask,
  name: string,
  scheduler: Scheduler,
  token: () => string,
  mostBytes: number,
): Promise<void> {
  const key = scheduleKey(definition.name, name);
  const ack = { kind: 'ack', key: task.topic, group: WORKERS, id: task.id } as const;
  for (let tries = 0; ; tries++) {
    await apart(scheduler, tries);
    const present = await read(store, key);
    if (present !== null && present.state === null) {
      const error = new RivuletError(
        'STORAGE_DAMAGED',
        `${key} has no state of a schedule: another program wrote it`,
      );
      await store.apply([ack, listedAs(definition, name, parkedBy(error, name, 0))]);
      break;
    }
    const state = present?.state ?? null;
    if (present === null || state === null || state.v !== definition.version || state.parked) {
      await store.apply([ack]);
      break;
    }
    const asked = await commit(store, key, present.id, token(), state);
    if (asked === null) continue;
    const now = millisecondsOf(asked);
    const park = async (error: unknown): Promise<boolean> => {
      const parked = parkedBy(error, name, now);
      const effects = [ack, listedAs(definition, name, parked)];
      return (await commit(store, key, asked, token(), { ...state, parked }, effects)) !== null;
    };
    if (state.next > now) {
      // A timer of before a change, or the clock was set back: the schedule's own timer is set again.
      const effects = [ack, tick(definition.name, state.v, name, state.next)];
      const wanted = task.publishedAt.getTime() >= state.next ? effects : [ack];
      if ((await commit(store, key, asked, token(), state, wanted)) !== null) break;
      continue;
    }
    let due: number[];
    let next: number | null;
    try {
      due = dueTimes(state, now);
      next = clockOf(state).next(now);
    } catch (error) {
      if (await park(error)) break;
      continue;
    }
    const effects: JournalEffect[] = [ack];
    let { last, skipped } = state;
    let refused: { error: unknown } | null = null;
    for (const at of due) {
      if (
        state.overlap === 'skip' &&
        last !== undefined &&
        (await isRunning(store, definition.name, last))
      ) {
        skipped++;
        continue;
      }
      const id = `${name}-${new Date(at).toISOString()}`;
      if ((await store.length(journalKey(definition.name, id))) > 0) continue;
      const beginning = { definition, id, input: state.input, more: { cause: { id: key } } };
      try {
        const record = await firstRecord(beginning, mostBytes);
        effects.push(...startAsEffects(definition.name, id, record, token()));
      } catch (error) {
        refused = { error };
        break;
      }
      last = id;
      // One that begins now is running for those that follow.
      if (state.overlap === 'skip') {
        skipped += due.length - due.indexOf(at) - 1;
        break;
      }
    }
    if (refused !== null) {
      if (await park(refused.error)) break;
      continue;
    }
    if (next !== null) effects.push(tick(definition.name, state.v, name, next));
    const { last: _, ...rest } = state;
    const changed: State = {
      ...rest,
      ...(last === undefined ? {} : { last }),
      ...(next === null ? { over: true } : { next }),
      skipped,
    };
    if ((await commit(store, key, asked, token(), changed, effects)) !== null) break;
  }
  task.settledByCommit();
}

/** Asking for the time is a commit: two that ask in step would refuse each other's next one for ever. */
async function apart(scheduler: Scheduler, tries: number): Promise<void> {
  if (tries > 0) await pause(scheduler, 1 + scheduler.fraction() * Math.min(1000, 10 * 2 ** tries));
}

/** The times that have come since the state's next one, as many as are made up for; the oldest first. */
function dueTimes(state: State, now: number): number[] {
  const times = clockOf(state).newest(state.next, now, state.catchUp + 1);
  if (times.length === 0) times.push(state.next);
  const last = times.at(-1) as number;
  if (now - last <= LATE_MS) {
    // The newest is on time; those before were missed.
    const missed = times.slice(0, -1);
    const kept = state.catchUp === 0 ? [] : missed.slice(-state.catchUp);
    return state.overlap === 'skip' ? [last] : [...kept, last];
  }
  return state.catchUp === 0 ? [] : times.slice(-state.catchUp);
}

/** `at`: unix ms. */
function parkedBy(error: unknown, name: string, at: number): Parked {
  const { message, code = 'INTERNAL' } = recordOfError(error);
  const why = `schedule ${name} starts nothing: ${message}; set it again, or remove it`;
  return { why, code, at };
}

/** Its entry in the list of parked ones: so whatever shows parked instances shows it. */
function listedAs(
  { name: workflow, version: v }: AnyWorkflow,
  name: string,
  { why, code }: Parked,
): JournalEffect {
  const fields = listFields({ id: name, v, why: why.slice(0, 1000), code, s: 1 });
  return { kind: 'add', key: listKey(workflow, 'parked'), fields };
}

async function isRunning(store: JournalStore, name: string, id: string): Promise<boolean> {
  const standing = await standingOf(store, journalKey(name, id));
  return standing !== null && standing.phase.end === null;
}

function tick(workflow: string, v: number, name: string, at: number): JournalEffect {
  return {
    kind: 'add',
    key: queueKey(workflow, v),
    fields: taskFields({ id: name, k: 'tick' }),
    at,
  };
}

async function read(
  store: JournalStore,
  key: string,
): Promise<{ id: string; state: State | null } | null> {
  const [entry] = await store.read(key, { newestFirst: true, limit: 1 });
  return entry === undefined ? null : { id: entry.id, state: stateIn(entry.fields.d) };
}

/** Null where another program wrote it. */
function stateIn(text = ''): State | null {
  try {
    const state: State = JSON.parse(text);
    const { cron, timeZone, next, v, catchUp } = state;
    const areTexts = [cron, timeZone].every((each) => typeof each === 'string');
    const areNumbers = [next, v, catchUp].every((each) => Number.isFinite(each));
    return areTexts && areNumbers ? state : null;
  } catch {
    return null;
  }
}

async function commit(
  store: JournalStore,
  key: string,
  last: string,
  token: string,
  state: State,
  effects: readonly JournalEffect[] = [],
): Promise<string | null> {
  const records = [{ t: 'schedule', d: JSON.stringify(state) }];
  const reply = await store.commit({ key, last, records, restart: true, token, effects });
  return reply === null ? null : (reply.ids[0] as string);
}

function isSame(state: State, fixed: Omit<State, 'next' | 'skipped'>): boolean {
  const { next, last, skipped, parked, over, ...rest } = state;
  // One that is parked is tried again.
  if (parked !== undefined) return false;
  const sorted = (value: object) => JSON.stringify(Object.entries(value).sort());
  return next > 0 && sorted(rest) === sorted(fixed);
}

function infoOf(name: string, of: { name: string; version: number }, state: State): ScheduleInfo {
  const { cron, timeZone, overlap, catchUp, next, last, parked, over } = state;
  return {
    name,
    workflow: of.name,
    version: of.version,
    ...{ cron, timeZone, overlap, catchUp, next: new Date(next) },
    status: parked !== undefined ? 'parked' : over === true ? 'over' : 'active',
    ...(last === undefined ? {} : { last }),
    ...(parked === undefined ? {} : { reason: parked.why, code: parked.code }),
  };
}

function clockOf({ cron, timeZone }: { cron: string; timeZone: string }): CronClock {
  return new CronClock(cron, timeZone);
}

const scheduleTable: OptionTable = {
  cron: { kind: 'text' },
  timeZone: { kind: 'text' },
  overlap: { kind: 'one of', values: ['skip', 'allow'] },
  catchUp: count(0, 1000),
  input: { kind: 'other', check: () => {} },
};
