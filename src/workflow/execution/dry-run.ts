/**
 * A replay without effects: whether code follows a journal, and what it would do next.
 *
 * `verify`, `move --check` and tests use it. No step runs, nothing is committed.
 */
import { validate } from '../../codec/standard-schema.ts';
import type { JournalRecord } from '../journal/records.ts';
import type { AnyWorkflow } from '../workflow.ts';
import { Mismatch } from './asked-operations.ts';
import { contextOf } from './context.ts';
import { Flow } from './flow.ts';

export interface DryRun {
  /** Null where the code follows the journal. */
  readonly mismatch: Mismatch | null;
  /** What the code waits for after the last record, as `step "charge"`. */
  readonly pending: readonly string[];
}

/** `most`: the largest value that is stored, bytes, as for the run that is compared. */
export async function dryRun(
  definition: AnyWorkflow,
  id: string,
  records: readonly JournalRecord[],
  most: number,
): Promise<DryRun> {
  const [start] = records as [JournalRecord & { kind: 'start' }];
  const flow = new Flow(definition, id, start, records);
  try {
    const { input: schema } = definition.options;
    const given = start.data.input;
    const input = schema === null ? given : await validate(schema, given, `the input of ${id}`);
    await flow.begin(contextOf(flow, most), input);
    for (const record of records.slice(1)) if (record.kind !== 'end') await flow.apply(record);
    const pending = [...flow.pending.values()].map(({ kind, name }) => `${kind} ${name}`.trim());
    return { mismatch: null, pending };
  } catch (error) {
    if (error instanceof Mismatch) return { mismatch: error, pending: [] };
    throw error;
  } finally {
    flow.drop();
  }
}
