/**
 * Instances of one version that go on with another one's code.
 *
 * Invariant: an instance moves only where the code of the new version follows its journal, and no worker has
 * it. Cost: the whole journal of each instance is read and replayed, without effects.
 */
import { checkOptions, count, invalid, type OptionTable } from '../client/option-table.ts';
import { dryRun } from './execution/dry-run.ts';
import { type HandleSetup, WorkflowHandle } from './handle.ts';
import { journalKey } from './journal/keys.ts';
import { listRuns } from './journal/listing.ts';
import { effective, phaseOf } from './journal/phase.ts';
import { readRecords } from './journal/records.ts';
import { type AnyWorkflow, allVersions } from './workflow.ts';

export interface MoveOptions {
  readonly from: number;
  readonly to: number;
  /** Only replays, and says what would happen. */
  readonly check?: boolean;
}

export interface MoveReport {
  readonly moved: readonly string[];
  /** Instances whose journal the new code does not follow, and how they differ. */
  readonly differs: readonly { readonly id: string; readonly why: string }[];
  /** A worker has them just now, or their journal is gone. */
  readonly busy: readonly string[];
}

/** The definition of the version to move to: the one given, or one of its `older`. */
export function targetOf(definition: AnyWorkflow, options: MoveOptions): AnyWorkflow {
  checkOptions(moveTable, options);
  const { to } = options;
  const target = allVersions([definition]).find(({ version }) => version === to);
  if (target !== undefined) return target;
  throw invalid(`${definition.name}: there is no version ${to} among the given ones`);
}

export async function moveInstances(
  target: AnyWorkflow,
  { from, to, check = false }: MoveOptions,
  setup: HandleSetup,
): Promise<MoveReport> {
  const { name } = target;
  const { store, mostBytes } = setup;
  const report = {
    moved: [] as string[],
    differs: [] as { id: string; why: string }[],
    busy: [] as string[],
  };
  for (const status of ['running', 'parked'] as const) {
    for await (const { id, schedule } of listRuns(store, { name, status })) {
      if (schedule === true) continue;
      const entries = await store.read(journalKey(name, id));
      const records = readRecords(entries);
      if (records.length === 0) {
        report.busy.push(id);
        continue;
      }
      const phase = phaseOf(records);
      if (phase.version !== from) continue;
      const { mismatch } = await dryRun(target, id, effective(records), mostBytes);
      if (mismatch !== null) {
        report.differs.push({ id, why: mismatch.message });
        continue;
      }
      const rests = phase.asleep || !phase.started;
      if (check && rests) report.moved.push(id);
      else if (!rests) report.busy.push(id);
      else {
        const last = (entries.at(-1) as { id: string }).id;
        const done = await new WorkflowHandle(setup, name, id).moveTo(to, last, records);
        (done ? report.moved : report.busy).push(id);
      }
    }
  }
  return report;
}

const moveTable: OptionTable = {
  from: count(1, 2 ** 31 - 1),
  to: count(1, 2 ** 31 - 1),
  check: { kind: 'boolean' },
};
