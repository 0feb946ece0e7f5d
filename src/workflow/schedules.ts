/**
 * Schedules: instances that begin at times of a cron expression, in a time zone.
 *
 * A schedule is a journal of one record, its state, and one timer, the next tick. A tick is one commit on
 * that state: the instance, the next state and the next timer, or nothing; so with any number of workers a
 * tick starts one instance. The broker's clock decides what is due; what was missed is caught up with, at
 * most `catchUp` runs of it. Daylight saving is croner's: a time that does not exist moves, one that is
 * there twice happens once.
 */
import { Cron } from 'croner';
import type { JournalEffect, JournalStore, JournalTask } from '../broker/journal.ts';
import { NO_RECORD } from '../broker/journal.ts';
import { checkOptions, count, invalid, type OptionTable, shown } from '../client/option-table.ts';
import { pause, type Scheduler } from '../util/time/scheduler.ts';
import { messageOf } from './errors.ts';
import { checkName, journalKey, queueKey, scheduleKey, WORKERS } from './journal/keys.ts';
import { phaseOf } from './journal/phase.ts';
import { millisecondsOf, readRecords, taskFields } from './journal/records.ts';
import { firstRecord, startAsEffects } from './journal/starting.ts';
import { stored } from './journal/values.ts';
import type { AnyWorkflow } from './workflow.ts';

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
  readonly next: Date;
  /** The id of the instance that was started last. */
  readonly last?: string;
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
  for (let tries = 0; ; tries++) {
    await apart(scheduler, tries);
    const present = await read(store, key);
    if (present !== null && isSame(present.state, fixed))
      return infoOf(name, definition, present.state);
    const last = present?.id ?? NO_RECORD;
    // Its id is the broker's time.
    const asked = await commit(
      store,
      key,
      last,
      token(),
      present?.state ?? { ...fixed, next: 0, skipped: 0 },
    );
    if (asked === null) continue;
    const now = millisecondsOf(asked);
    const next = nextAfter(fixed, now);
    if (next === null) throw invalid(`schedule ${name}: ${cron} has no time that is to come`);
    const kept = present?.state.last === undefined ? {} : { last: present.state.last };
    const state: State = { ...fixed, ...kept, next, skipped: present?.state.skipped ?? 0 };
    const done = await commit(store, key, asked, token(), state, [
      tick(definition.name, definition.version, name, next),
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
  const isThere = (await store.length(key)) > 0;
  // The timer that is left finds nothing.
  await store.remove([key]);
  return isThere;
}

export async function listSchedules(store: JournalStore): Promise<ScheduleInfo[]> {
  const found: ScheduleInfo[] = [];
  for (const key of await store.keys('wf:{*}:s:*')) {
    const [, workflow, name] = /^wf:\{([^{}]+)\}:s:(.+)$/.exec(key) ?? [];
    const present = await read(store, key);
    if (workflow === undefined || name === undefined || present === null) continue;
    found.push(infoOf(name, { name: workflow, version: present.state.v }, present.state));
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
    if (present === null || present.state.v !== definition.version) {
      await store.apply([ack]);
      break;
    }
    const { state } = present;
    const asked = await commit(store, key, present.id, token(), state);
    if (asked === null) continue;
    const now = millisecondsOf(asked);
    if (state.next > now) {
      // A timer of before a change, or the clock was set back: the schedule's own timer is set again.
      const effects = [ack, tick(definition.name, state.v, name, state.next)];
      const wanted = task.publishedAt.getTime() >= state.next ? effects : [ack];
      if ((await commit(store, key, asked, token(), state, wanted)) !== null) break;
      continue;
    }
    const due = dueTimes(state, now);
    const effects: JournalEffect[] = [ack];
    let { last, skipped } = state;
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
      const more = { cause: { id: key } };
      const record = await firstRecord({ definition, id, input: state.input, more }, mostBytes);
      effects.push(...startAsEffects(definition.name, id, record, token()));
      last = id;
      // One that begins now is running for those that follow.
      if (state.overlap === 'skip') {
        skipped += due.length - due.indexOf(at) - 1;
        break;
      }
    }
    const next = nextAfter(state, now);
    if (next !== null) effects.push(tick(definition.name, state.v, name, next));
    const { last: _, ...rest } = state;
    const changed: State = {
      ...rest,
      ...(last === undefined ? {} : { last }),
      next: next ?? Number.MAX_SAFE_INTEGER,
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
  // The newest, and those that may be made up for: never all that were missed.
  const wanted = state.catchUp + 1;
  const times = clockOf(state)
    .previousRuns(wanted, new Date(now + 1000))
    .map((time) => time.getTime())
    .filter((at) => at >= state.next && at <= now)
    .sort((a, b) => a - b);
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

async function isRunning(store: JournalStore, name: string, id: string): Promise<boolean> {
  const records = readRecords(await store.read(journalKey(name, id)));
  if (records.length === 0) return false;
  return phaseOf(records).end === null;
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
): Promise<{ id: string; state: State } | null> {
  const [entry] = await store.read(key, { newestFirst: true, limit: 1 });
  if (entry?.fields.d === undefined) return null;
  return { id: entry.id, state: JSON.parse(entry.fields.d) };
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
  const { next, last, skipped, ...rest } = state;
  const sorted = (value: object) => JSON.stringify(Object.entries(value).sort());
  return next > 0 && sorted(rest) === sorted(fixed);
}

function infoOf(name: string, of: { name: string; version: number }, state: State): ScheduleInfo {
  const { cron, timeZone, overlap, catchUp, next, last } = state;
  return {
    name,
    workflow: of.name,
    version: of.version,
    ...{ cron, timeZone, overlap, catchUp, next: new Date(next) },
    ...(last === undefined ? {} : { last }),
  };
}

function clockOf({ cron, timeZone }: { cron: string; timeZone: string }): Cron {
  try {
    return new Cron(cron, { timezone: timeZone, paused: true });
  } catch (error) {
    throw invalid(`${shown(cron)} in ${shown(timeZone)} is no schedule: ${messageOf(error)}`);
  }
}

/** Unix ms of the first time after; null where there is none. */
function nextAfter(state: { cron: string; timeZone: string }, after: number): number | null {
  return clockOf(state).nextRun(new Date(after))?.getTime() ?? null;
}

const scheduleTable: OptionTable = {
  cron: { kind: 'text' },
  timeZone: { kind: 'text' },
  overlap: { kind: 'one of', values: ['skip', 'allow'] },
  catchUp: count(0, 1000),
  input: { kind: 'other', check: () => {} },
};
