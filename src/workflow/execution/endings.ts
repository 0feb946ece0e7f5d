/**
 * Builds the commits that end, suspend or continue an instance. They hold its outcome, the records that tell its
 * parent and its children, its suspension, and the beginning of its next run.
 */
import type { JournalEffect, JournalTask } from '../../broker/journal.ts';
import { validate } from '../../codec/standard-schema.ts';
import { Cancelled, recordOfError } from '../errors.ts';
import { journalKey, listKey, queueKey } from '../journal/keys.ts';
import {
  type Outcome,
  type Records,
  rawFields,
  type TimerMark,
  taskFields,
  taskName,
} from '../journal/records.ts';
import { listedResult, listFields } from '../journal/starting.ts';
import { stored } from '../journal/values.ts';
import type { AnyWorkflow } from '../workflow.ts';
import { awaitedIn } from './awaited.ts';
import type { Flow } from './flow.ts';

/** The outcome as it is stored; a result that does not fit its schema is a failure. */
export async function outcomeOf(
  outcome: NonNullable<Flow['outcome']>,
  flow: Flow,
  definition: AnyWorkflow,
  what: string,
  mostBytes: number,
): Promise<Outcome> {
  if (outcome.kind === 'threw') {
    const isCancelled = flow.cancelled !== null && outcome.error instanceof Cancelled;
    const status = isCancelled ? 'cancelled' : 'failed';
    return { status, error: recordOfError(outcome.error) };
  }
  const value = outcome.kind === 'returned' ? outcome.value : undefined;
  try {
    const { output } = definition.options;
    const checked = output === null ? value : await validate(output, value, what);
    const kept = stored(checked, what, mostBytes);
    return { status: 'completed', ...(kept === undefined ? {} : { value: kept }) };
  } catch (error) {
    return { status: 'failed', error: recordOfError(error) };
  }
}

/** The effects of an end: they list the instance as ended, set its expiry, and tell its parent and children. */
export function endEffects(
  flow: Flow,
  { version, options: { retentionMs } }: AnyWorkflow,
  outcome: Outcome,
  from: number,
  token: () => string,
): JournalEffect[] {
  const { name, id } = flow;
  const listed = { id, v: version, from, status: outcome.status };
  const more =
    outcome.status === 'completed'
      ? listedResult(outcome.value)
      : {
          why: outcome.error.message.slice(0, 500),
          ...(outcome.error.code === undefined ? {} : { code: outcome.error.code }),
        };
  const cutoff = Math.max(0, flow.now - retentionMs);
  return [
    {
      kind: 'add',
      key: listKey(name, 'done'),
      fields: listFields({ ...listed, ...more }),
      dropBefore: `${cutoff}-0`,
    },
    { kind: 'expire', key: journalKey(name, id), afterMs: retentionMs },
    ...parentEffects(flow, id, outcome, token),
    ...cancelEffects(flow, `${name}/${id}`, token),
  ];
}

/** The result as a record of the parent's journal, and the task that wakes the parent. */
function parentEffects(
  flow: Flow,
  id: string,
  outcome: Outcome,
  token: () => string,
): JournalEffect[] {
  const { parent } = flow.start;
  if (parent === undefined || parent.n === 0) return [];
  const { n, run } = parent;
  const record = { n, id, ...(run === undefined ? {} : { run }), outcome };
  return [
    {
      kind: 'add',
      key: journalKey(parent.name, parent.id),
      fields: rawFields('child', record, token()),
      onlyIfThere: true,
      tell: true,
    },
    {
      kind: 'add',
      key: queueKey(parent.name, parent.version),
      fields: taskFields({ id: parent.id, k: 'wake' }),
    },
  ];
}

/** Children that a cancelled instance waited for are cancelled too. `parent` is `name/id`. */
export function cancelEffects(flow: Flow, parent: string, token: () => string): JournalEffect[] {
  if (flow.cancelled === null) return [];
  const reason = `its parent ${parent} was cancelled: ${flow.cancelled}`;
  return [...flow.children.values()].flatMap(({ name, id, version }) => [
    {
      kind: 'add' as const,
      key: journalKey(name, id),
      fields: rawFields('cancel', { reason }, token()),
      onlyIfThere: true,
      tell: true,
    },
    { kind: 'add' as const, key: queueKey(name, version), fields: taskFields({ id, k: 'wake' }) },
  ]);
}

/** Why an instance is suspended, where it does not just wait. */
export type SuspendReason = 'paused' | 'leaving' | undefined;

export function suspension(
  flow: Flow,
  task: JournalTask,
  timer: TimerMark | null,
  why: SuspendReason,
): Records['suspend'] {
  // Nothing runs: a pause or the end of this worker came before they did.
  const unrun = flow.begun;
  const on = awaitedIn(flow.pending.values());
  return {
    v: flow.definition.version,
    task: taskName(task),
    ...(unrun.length === 0 ? {} : { unrun }),
    ...(on.length === 0 ? {} : { on }),
    ...(timer === null ? {} : { at: timer.at }),
    ...(timer?.name == null ? {} : { timer: timer.name }),
    ...(why === undefined ? {} : { why }),
  };
}

/** What the first record of the next run takes over from this one. `startAt`, `listedAt`: Unix ms. */
export function nextRun(flow: Flow, startAt: number, listedAt: number, task: JournalTask) {
  const { parent, cause, run = 0, first = startAt } = flow.start;
  return {
    ...(parent === undefined ? {} : { parent }),
    ...(cause === undefined ? {} : { cause }),
    run: run + 1,
    first,
    listed: listedAt,
    task: taskName(task),
    mail: flow.mail,
    seen: [...flow.seen].slice(-1000),
  };
}
