/**
 * What belongs to the commit that ends an instance: its outcome, the word to its parent, and the cancel of
 * its children.
 */
import type { JournalEffect } from '../../broker/journal.ts';
import { validate } from '../../codec/standard-schema.ts';
import { Cancelled, recordOfError } from '../errors.ts';
import { journalKey, queueKey } from '../journal/keys.ts';
import { type Outcome, rawFields, taskFields } from '../journal/records.ts';
import { stored } from '../journal/values.ts';
import type { AnyWorkflow } from '../workflow.ts';
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

/** The result as a record of the parent's journal, and the task that wakes the parent. */
export function parentEffects(
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
