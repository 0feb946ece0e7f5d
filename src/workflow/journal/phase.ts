/**
 * What a journal says about its instance, without running its code: where it stands, and which records
 * still count after it was retried.
 */
import type { JournalRecord, Marks, Note, Records, Since } from './records.ts';
import { compareIds, isWorkers } from './records.ts';

export type WorkflowStatus = 'running' | 'paused' | 'parked' | 'completed' | 'failed' | 'cancelled';

export interface Phase {
  readonly status: WorkflowStatus;
  readonly version: number;
  /** A worker has written something. */
  readonly started: boolean;
  /** No worker has it: a task, a timer or a signal brings it to one. */
  readonly asleep: boolean;
  /** Something came since a worker last had it. */
  readonly news: boolean;
  readonly cancelled: boolean;
  readonly resumed: boolean;
  /** Claims since the last record that was progress. */
  readonly claims: number;
  readonly lastWorker: string | null;
  /** The task of the worker that has it; null where it was not taken up since it began or rested. */
  readonly ownTask: string | null;
  readonly parked: Records['parked'] | null;
  readonly end: Records['end'] | null;
}

/** The task of a claim that an earlier version wrote. */
export const NOT_NAMED = '';

/** `since`: what is known of the records between the first one given and the second. */
export function phaseOf(records: readonly JournalRecord[], since: Since | null = null): Phase {
  const phase = {
    status: 'running' as WorkflowStatus,
    version: 0,
    started: false,
    asleep: false,
    news: false,
    cancelled: false,
    resumed: false,
    claims: 0,
    lastWorker: null as string | null,
    ownTask: null as string | null,
    parked: null as Records['parked'] | null,
    end: null as Records['end'] | null,
  };
  for (const [i, record] of records.entries()) {
    const { kind } = record;
    if (i === 1 && since !== null) {
      if (since.v !== undefined) phase.version = since.v;
      if (since.n !== undefined) phase.news = true;
      if (since.p === 1 && phase.status === 'running') phase.status = 'paused';
      if (since.p === 0 && phase.status === 'paused') phase.status = 'running';
    }
    if (isWorkers(kind)) {
      const { ver, p } = record.data as Marks;
      phase.started = true;
      phase.asleep = false;
      phase.news = false;
      if (ver !== undefined) phase.version = ver;
      if (p !== undefined && phase.status === 'running') phase.status = 'paused';
      if (kind === 'claim') {
        phase.claims++;
        phase.lastWorker = record.data.w;
        phase.ownTask = record.data.task ?? NOT_NAMED;
      } else phase.claims = 0;
    }
    switch (kind) {
      case 'start':
        phase.version = record.data.v;
        break;
      case 'suspend':
        phase.asleep = true;
        phase.ownTask = null;
        phase.version = record.data.v;
        if (record.data.why === 'paused' && phase.status === 'running') phase.status = 'paused';
        break;
      case 'parked':
        phase.status = 'parked';
        phase.parked = record.data;
        phase.asleep = true;
        break;
      case 'end':
        phase.status = record.data.status;
        phase.end = record.data;
        break;
      case 'again':
        phase.status = 'running';
        phase.parked = null;
        phase.end = null;
        phase.asleep = true;
        phase.news = true;
        // Parked in its compensations, it goes on with them.
        phase.cancelled &&= record.data.from === undefined;
        if (record.data.ver !== undefined) phase.version = record.data.ver;
        break;
      case 'move':
        phase.version = record.data.to;
        phase.news = true;
        break;
      case 'pause':
        if (phase.status === 'running') phase.status = 'paused';
        break;
      case 'resume':
        if (phase.status === 'paused') phase.status = 'running';
        phase.resumed = true;
        phase.news = true;
        break;
      case 'cancel':
        phase.cancelled = true;
        phase.news = true;
        break;
      case 'signal':
      case 'child':
      case 'due':
        phase.news = true;
        break;
      default:
        break;
    }
  }
  return phase;
}

/** The records that count, in the order in which the code saw them: what a retry has made void is left out. */
export function effective(records: readonly JournalRecord[]): JournalRecord[] {
  let kept: JournalRecord[] = [];
  for (const record of asSeen(records)) {
    if (record.kind === 'again') kept = cutAt(kept, record.data.from);
    else kept.push(record);
  }
  return kept;
}

/** A lazy record was applied before those that others wrote until it was stored. */
function asSeen(records: readonly JournalRecord[]): readonly JournalRecord[] {
  if (!records.some(({ after }) => after !== undefined)) return records;
  const seen: JournalRecord[] = [];
  for (const record of records) {
    const { after } = record;
    let at = seen.length;
    if (after !== undefined) {
      // Those that were applied before this one, and stored with it, stay before it.
      while (at > 0 && isUnseen(seen[at - 1] as JournalRecord, after)) at--;
    }
    seen.splice(at, 0, record);
  }
  return seen;
}

function isUnseen(record: JournalRecord, after: string): boolean {
  return record.after === undefined && compareIds(record.id, after) > 0;
}

/** Without results of operations from `from` on, and without the end that they led to. */
export function cutAt(
  records: readonly JournalRecord[],
  from: number | undefined,
): JournalRecord[] {
  const ends = new Set(['end', 'parked', 'cancel', 'pause', 'resume']);
  if (from === undefined) {
    // Parked: everything counts but the parking, and the attempts of the compensation that failed for good. What
    // was cancelled stays so: some of it may be undone already.
    const kept = records.filter(({ kind }) => kind === 'cancel' || !ends.has(kind));
    const failed = kept.findLast(({ kind, data }) => {
      const { n = 0, e } = data as { n?: number; e?: unknown };
      return kind === 'step' && n < 0 && e !== undefined;
    });
    if (failed === undefined) return kept;
    const { n: again } = failed.data as { n: number };
    return kept.flatMap((record) => {
      const { n, o } = record.data as { n?: number; o?: readonly Note[] };
      if (n !== again) return [record];
      // It may contain the notes of operations that count.
      return o === undefined ? [] : [{ ...record, kind: 'tick', data: { o } } as JournalRecord];
    });
  }
  return records.flatMap((record) => {
    const { kind } = record;
    if (ends.has(kind)) return [];
    const { n, o } = record.data as { n?: number; o?: readonly Note[] };
    const isVoid = n !== undefined && kind !== 'child' && (n < 0 || n >= from);
    if (!isVoid && o === undefined) return [record];
    const notes = (o ?? []).filter(([at]) => at < from);
    const { o: _, ...data } = record.data as { o?: unknown };
    // A void record may contain the notes of operations that count.
    if (isVoid && notes.length === 0) return [];
    const rest = isVoid ? {} : data;
    // The code may have asked for operations before and after `from` at once, and will again.
    const cut = notes.length < (o ?? []).length ? { cut: from } : {};
    const made = { ...record, data: notes.length === 0 ? rest : { ...rest, o: notes, ...cut } };
    return [isVoid ? { ...made, kind: 'tick' } : made] as JournalRecord[];
  });
}

/** The first operation that a compensation has undone, or has begun to undo; undefined where there is none. */
export function firstUndone(records: readonly JournalRecord[]): number | undefined {
  const undone = records.map(({ data }) => -((data as { n?: number }).n ?? 0)).filter((n) => n > 0);
  return undone.length === 0 ? undefined : undone.reduce((a, b) => Math.min(a, b));
}

/**
 * The default of `retry`: the first operation whose failure the function did not go on after, or the
 * first one that was undone.
 */
export function failedOperation(records: readonly JournalRecord[]): number | undefined {
  let failed: number[] = [];
  let last: number | undefined;
  for (const { kind, data } of records) {
    const { n, e, o } = data as { n?: number; e?: unknown; o?: readonly Note[] };
    // What is asked for after a failure says that the function went on.
    if (o !== undefined) failed = [];
    if (n === undefined) continue;
    const hasFailed =
      ((kind === 'step' || kind === 'spawn') && e !== undefined) ||
      (kind === 'child' && (data as Records['child']).outcome.status !== 'completed');
    if (n > 0 && hasFailed) {
      failed.push(n);
      last = n;
    }
  }
  return firstUndone(records) ?? (failed.length > 0 ? Math.min(...failed) : last);
}
