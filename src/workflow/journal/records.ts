/**
 * The records of a journal: what each kind holds, and how it is written.
 *
 * A record has two fields: `t`, its kind, and `d`, JSON. Where its time is not that of its id, `at` is; where
 * the code saw it before records that stand before it, `after` is the id that it followed. Names inside are
 * short because a journal is mostly names. Invariant: a kind is never given another meaning; a reader passes over what it does not
 * know.
 */
import type { JournalEntry, JournalFields } from '../../broker/journal.ts';
import { TOKEN } from '../../broker/journal.ts';
import type { ErrorRecord } from '../errors.ts';

/** An operation that the code has asked for: number, kind, name. Its record may come much later. */
export type Note = readonly [n: number, kind: OperationKind, name: string, deadline?: number];

export type OperationKind =
  | 'step'
  | 'call'
  | 'wait'
  | 'sleep'
  | 'publish'
  | 'child'
  | 'start'
  | 'state'
  | 'changed';

export interface Cause {
  readonly topic?: string;
  readonly id?: string;
  readonly traceparent?: string;
}

export interface Parent {
  readonly name: string;
  readonly id: string;
  readonly version: number;
  /** The operation of the parent that waits for the end; 0 where none does. */
  readonly n: number;
  /** The operation of the parent that started it. */
  readonly by: number;
  /** How often the parent had continued as new. */
  readonly run?: number;
}

export interface SignalRecord {
  readonly name: string;
  readonly value?: unknown;
  /** Given by the sender: a second one of the same id is passed over. */
  readonly id?: string;
  readonly cause?: Cause;
}

export type Outcome =
  | { readonly status: 'completed'; readonly value?: unknown }
  | { readonly status: 'failed' | 'cancelled'; readonly error: ErrorRecord };

/**
 * What a record of a worker says about the records before it, so that the newest records alone show where
 * an instance is.
 */
export interface Marks {
  /** The version, where it is not the one in the start record. */
  readonly ver?: number;
  /** The newest record of `wf.state` before: its id or, in a fork, how many records before this one it is. */
  readonly st?: string | number;
  /** The instance was paused. */
  readonly p?: 1;
}

/** What a record that does not come from a worker says about the records before it. */
export interface Since {
  /** The id of the newest record that tells where the instance is: a worker's, or the start. */
  readonly b: string;
  /** The version, where it has changed since then. */
  readonly v?: number;
  /** Paused (1) or resumed (0) since then. */
  readonly p?: 0 | 1;
  /** Something has come since then. */
  readonly n?: 1;
}

/** A signal or a child that an instance waits for. */
export interface Awaited {
  readonly kind: 'signal' | 'child';
  readonly name: string;
}

interface FromOutside {
  readonly since?: Since;
}

interface Noted extends Marks {
  /** What the code has asked for since the last commit. */
  readonly o?: readonly Note[];
  /** Of a retry or fork: notes of operations from this number on were removed from `o`. */
  readonly cut?: number;
}

interface Result {
  readonly ok?: unknown;
  readonly e?: ErrorRecord;
}

export interface Records {
  start: {
    readonly v: number;
    readonly input?: unknown;
    readonly parent?: Parent;
    readonly timeoutMs?: number;
    readonly startAt?: number;
    readonly cause?: Cause;
    /** How often the instance has continued as new. */
    readonly run?: number;
    /** About when its entry in the list of running ones was added, unix ms, where that is not now. */
    readonly listed?: number;
    /** Of the runs before: when the first one began, signals not taken yet, ids of signals. */
    readonly first?: number;
    readonly mail?: readonly SignalRecord[];
    readonly seen?: readonly string[];
    readonly forkOf?: string;
    /** The task that the commit of a further run has acknowledged. */
    readonly task?: string;
    /** Of wf.random and wf.uuid, where it is not this instance's own: a fork's is its origin's. */
    readonly seed?: string;
  };
  /**
   * A worker takes the instance up, because of a task of this kind. `task` is its name (taskName): it is pending
   * until the instance is suspended, parked or ended.
   */
  claim: { readonly w: string; readonly k: TaskBody['k']; readonly task?: string } & Marks;
  begin: { readonly n: number } & Noted;
  step: { readonly n: number; readonly a: number; readonly ms: number } & Result & Noted;
  retry: {
    readonly n: number;
    readonly a: number;
    readonly ms: number;
    readonly e: ErrorRecord;
  } & Noted;
  publish: { readonly n: number; readonly topic: string } & Noted;
  spawn: {
    readonly n: number;
    readonly name: string;
    readonly id: string;
    readonly e?: ErrorRecord;
  } & Noted;
  state: { readonly n: number; readonly v?: unknown } & Noted;
  /** Time has passed: nothing else. */
  tick: Noted;
  timer: { readonly at: number } & Noted;
  suspend: {
    readonly v: number;
    readonly timer?: string;
    readonly at?: number;
    readonly why?: 'paused' | 'leaving';
    /** The task that this commit has acknowledged. */
    readonly task?: string;
    /** Operations whose beginning is recorded, and that have not been run. */
    readonly unrun?: readonly number[];
    /** What it waits for, for people: replay does not read it. */
    readonly on?: readonly Awaited[];
  } & Noted;
  end: Outcome & Noted & { readonly s?: never };
  parked: { readonly why: string; readonly code: string; readonly n?: number } & Marks;
  // Records that do not come from the worker that has the instance.
  /** A timer went off while the instance was awake. */
  due: { readonly task?: string } & FromOutside;
  signal: SignalRecord & FromOutside;
  cancel: { readonly reason: string } & FromOutside;
  pause: FromOutside;
  resume: FromOutside;
  /** `run`: how often the parent had continued as new when it started the child. */
  child: {
    readonly n: number;
    readonly id: string;
    readonly run?: number;
    readonly outcome: Outcome;
  };
  /** Results of operations from `from` on are forgotten. */
  again: { readonly from?: number } & Marks;
  move: { readonly to: number } & FromOutside;
}

export type RecordKind = keyof Records;

export type JournalRecord = {
  [K in RecordKind]: {
    readonly id: string;
    readonly at: number;
    readonly token: string;
    readonly kind: K;
    readonly data: Records[K];
    /** The record that the code had seen last when this one was applied, where others stand between them. */
    readonly after?: string;
  };
}[RecordKind];

/** Written only by the worker that has the instance. */
const WORKERS_OWN: ReadonlySet<string> = new Set<RecordKind>([
  'claim',
  'begin',
  'step',
  'retry',
  'publish',
  'spawn',
  'state',
  'tick',
  'timer',
  'suspend',
  'end',
  'parked',
]);

export function isWorkers(kind: RecordKind): boolean {
  return WORKERS_OWN.has(kind);
}

/** The timer that is set for an instance, by what its journal says; null where there is none. */
export interface TimerMark {
  /** Null where it is not known: the task was added at once, or the reply was lost. */
  readonly name: string | null;
  readonly at: number;
}

/** What `record` says about the timer that was set before. */
export function timerAfter(record: JournalRecord, before: TimerMark | null): TimerMark | null {
  switch (record.kind) {
    case 'suspend': {
      const { at, timer } = record.data;
      return at === undefined ? null : { name: timer ?? null, at };
    }
    // It went off, whatever a clock that was set back says; or its commit has taken it back.
    case 'due':
    case 'end':
    case 'parked':
    case 'again':
    case 'move':
    case 'start':
      return null;
    case 'claim':
      return record.data.k === 'timer' ? null : before;
    default:
      return before;
  }
}

interface TaskPlace {
  readonly topic: string;
  readonly id: string;
}

/** How records name a task: `1700000000000-0@v1`. Ids are of one queue, and a version has its own. */
export function taskName({ topic, id }: TaskPlace): string {
  return `${id}@${topic.slice(topic.lastIndexOf(':') + 1)}`;
}

/** Earlier records name the id alone. */
export function isTask(task: TaskPlace, named: string | undefined | null): boolean {
  return named === taskName(task) || named === task.id;
}

/** Whether a commit to the journal has acknowledged the task: a worker that still has it has nothing. */
export function hasDone(records: readonly JournalRecord[], task: TaskPlace): boolean {
  return records.some(({ kind, data }) => {
    if (kind !== 'suspend' && kind !== 'due' && kind !== 'start') return false;
    return isTask(task, (data as { task?: string }).task);
  });
}

/** The timer after all records of a journal, those that a retry has made void too. */
export function timerOf(records: readonly JournalRecord[]): TimerMark | null {
  let timer: TimerMark | null = null;
  for (const record of records) timer = timerAfter(record, timer);
  return timer;
}

/** `at`: the record's time, Unix ms, where that is not the time of its id. */
export function fieldsOf<K extends RecordKind>(
  kind: K,
  data: Records[K],
  at?: number,
): JournalFields {
  const fields = { t: kind, d: JSON.stringify(data) };
  return at === undefined ? fields : { ...fields, at: String(at) };
}

/** As fields of an `add` effect. */
export function rawFields<K extends RecordKind>(
  kind: K,
  data: Records[K],
  token: string,
): string[] {
  return [TOKEN, token, 't', kind, 'd', JSON.stringify(data)];
}

/** Null where it is no record of ours. */
export function readRecord({ id, fields }: JournalEntry): JournalRecord | null {
  const { t, d } = fields;
  if (t === undefined || d === undefined) return null;
  try {
    const data: unknown = JSON.parse(d);
    if (typeof data !== 'object' || data === null) return null;
    // A copied record (fork) keeps its time, a lazy one that of the code when it went on.
    const kept = Number(fields.at);
    const at = Number.isFinite(kept) ? kept : millisecondsOf(id);
    const { after } = fields;
    const more = after === undefined ? {} : { after };
    return { id, at, token: fields[TOKEN] ?? '', kind: t, data, ...more } as JournalRecord;
  } catch {
    return null;
  }
}

export function readRecords(entries: readonly JournalEntry[]): JournalRecord[] {
  return entries.map(readRecord).filter((record) => record !== null);
}

/** Below 0 where `a` is the earlier one. */
export function compareIds(a: string, b: string): number {
  const [ams = '0', aseq = '0'] = a.split('-');
  const [bms = '0', bseq = '0'] = b.split('-');
  return Number(ams) - Number(bms) || Number(aseq) - Number(bseq);
}

export function millisecondsOf(id: string): number {
  return Number(id.slice(0, id.indexOf('-')));
}

/** What a task of a queue says. */
export interface TaskBody {
  readonly id: string;
  /** `start`, `wake` (something came), `timer`, `again` (given back, retried or moved), `tick` of a schedule. */
  readonly k: 'start' | 'wake' | 'timer' | 'again' | 'tick';
}

export function taskFields(body: TaskBody): string[] {
  return ['body', JSON.stringify(body)];
}

export function readTask(body: Uint8Array): TaskBody | null {
  try {
    const value: unknown = JSON.parse(
      Buffer.from(body.buffer, body.byteOffset, body.length).toString(),
    );
    if (typeof value !== 'object' || value === null) return null;
    const { id, k } = value as { id?: unknown; k?: unknown };
    if (typeof id !== 'string' || typeof k !== 'string') return null;
    return { id, k: k as TaskBody['k'] };
  } catch {
    return null;
  }
}
