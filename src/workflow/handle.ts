/**
 * One instance, as a program outside of it has it: signals, results, and what an operator does.
 *
 * Invariant: whatever resolved is on disk. Everything that changes an instance is one conditional commit
 * to its journal; nothing here needs a worker.
 * Cost: a signal reads one or two records and writes one; signals of one turn to one instance share a
 * commit. `result`, `state` and `info` take two to four reads; `history`, `retry` and `fork` read all.
 */
import type { JournalEffect, JournalStore } from '../broker/journal.ts';
import {
  checkOptions,
  invalid,
  LONGEST_TIMEOUT_MS,
  shown,
  timeout,
} from '../client/option-table.ts';
import { validate } from '../codec/standard-schema.ts';
import { RivuletError } from '../errors.ts';
import { onAbort } from '../util/time/on-abort.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { causeOf } from './cause.ts';
import { damaged, errorOfRecord, notFound, Refusals } from './errors.ts';
import { type HistoryEvent, historyOf } from './history.ts';
import { type InstanceInfo, readInfo } from './instance-info.ts';
import { checkId, checkName, checkVersion, journalKey, listKey, queueKey } from './journal/keys.ts';
import { findListed, listedAt, stoppedAt } from './journal/listing.ts';
import { noteVersion } from './journal/names.ts';
import {
  cutAt,
  effective,
  failedOperation,
  firstUndone,
  phaseOf,
  type WorkflowStatus,
} from './journal/phase.ts';
import {
  type Cause,
  fieldsOf,
  isWorkers,
  type JournalRecord,
  type Marks,
  type Note,
  type RecordKind,
  type Records,
  readRecords,
  type SignalRecord,
  type Since,
  taskFields,
  timerOf,
} from './journal/records.ts';
import {
  readState,
  type Standing,
  type StartEntry,
  sinceOf,
  standingOf,
  startIn,
  stateIn,
} from './journal/standing.ts';
import { listFields, startEffects } from './journal/starting.ts';
import { stored } from './journal/values.ts';
import { batched } from './signal-batches.ts';
import type { Signal } from './workflow.ts';

export interface SignalOptions {
  /** A second signal of the same id is passed over. */
  readonly id?: string;
  /** The message that led to it. Default: the one that the running code handles. */
  readonly cause?: Cause;
}

export interface ResultOptions {
  /** How long this caller waits; the instance goes on. Default: for ever. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface HandleSetup {
  readonly store: JournalStore;
  readonly scheduler: Scheduler;
  readonly mostBytes: number;
  readonly token: () => string;
}

export class WorkflowHandle<Output = unknown> {
  readonly name: string;
  readonly id: string;
  readonly #setup: HandleSetup;
  readonly #key: string;

  constructor(setup: HandleSetup, name: string, id: string) {
    this.#setup = setup;
    this.name = name;
    this.id = id;
    this.#key = journalKey(name, id);
  }

  /**
   * Resolves once the signal is stored: it is not lost, and it waits where the instance does not wait for
   * it yet. Rejects with NOT_FOUND, ENDED, or VALIDATION_FAILED.
   */
  async signal<T>(
    signal: Signal<T> | string,
    ...[value, options]: undefined extends T
      ? [value?: T, options?: SignalOptions]
      : [value: T, options?: SignalOptions]
  ): Promise<void> {
    const name = typeof signal === 'string' ? signal : signal?.name;
    if (typeof name !== 'string') throw invalid(`a signal is needed, not ${shown(signal)}`);
    // No workflow can wait for another one.
    checkName(name, 'a signal');
    checkOptions({ id: { kind: 'text' }, cause: { kind: 'other', check: () => {} } }, options);
    const what = `signal ${name} to ${this.name}/${this.id}`;
    const cause = causeOf(options?.cause);
    let kept = stored(value, what, this.#setup.mostBytes);
    if (typeof signal !== 'string' && signal.schema !== null) {
      kept = stored(await validate(signal.schema, kept, what), what, this.#setup.mostBytes);
    }
    const record: SignalRecord = {
      name,
      ...(kept === undefined ? {} : { value: kept }),
      ...(options?.id === undefined ? {} : { id: options.id }),
      ...(cause === undefined ? {} : { cause }),
    };
    const bytes = JSON.stringify(record).length;
    await batched(this.#setup.store, this.#key, record, bytes, (records) =>
      this.#control('signal', records),
    );
  }

  /** The result; rejects with what the workflow threw, Cancelled, NOT_FOUND, TIMEOUT or ABORTED. */
  async result(options: ResultOptions = {}): Promise<Output> {
    checkOptions({ timeoutMs: timeout(), signal: { kind: 'signal' } }, options);
    const end = await this.#ended(options);
    if (end.status === 'completed') return end.value as Output;
    throw errorOfRecord(end.error);
  }

  /** The last value given to `wf.state`; undefined where there is none. */
  async state<T = unknown>(): Promise<T | undefined> {
    const standing = await this.#standing();
    return (await readState(this.#setup.store, this.#key, standing)) as T | undefined;
  }

  async history(): Promise<HistoryEvent[]> {
    return historyOf(await this.#records());
  }

  /**
   * @internal Whether it was started with this input; true where its journal does not say so any more, because
   * it has continued as new or is gone.
   */
  async hasBegunWith(input: unknown): Promise<boolean> {
    const [first] = readRecords(await this.#setup.store.read(this.#key, { limit: 1 }));
    if (first?.kind !== 'start' || first.data.run !== undefined) return true;
    return JSON.stringify(first.data.input) === JSON.stringify(input);
  }

  /** Where the instance stands. */
  async info(): Promise<InstanceInfo> {
    return readInfo(this.#setup.store, this.name, this.id);
  }

  async status(): Promise<WorkflowStatus> {
    return (await this.info()).status;
  }

  /** Its running step is aborted, Cancelled is thrown in the function, and compensations run. */
  async cancel(reason = 'cancelled'): Promise<void> {
    if (typeof reason !== 'string') throw invalid(`a reason is a text, not ${shown(reason)}`);
    await this.#control('cancel', [{ reason: reason.slice(0, 4096) }]);
  }

  /** No further step begins until `resume`; time goes on. */
  async pause(): Promise<void> {
    await this.#control('pause', [{}]);
  }

  async resume(): Promise<void> {
    await this.#control('resume', [{}]);
  }

  /**
   * Goes on with a parked, failed or cancelled instance; what its operations from `from` on (a step's
   * name or number) gave is forgotten. Default: a parked one goes on where it was, another one at the
   * operation that failed.
   */
  async retry(options: { readonly from?: string | number } = {}): Promise<void> {
    checkOptions({ from: { kind: 'other', check: checkFrom } }, options);
    await this.#again(options.from, []);
  }

  /** Takes a stopped instance up again, and cancels it where `cancels` are given. */
  async #again(
    given: string | number | undefined,
    cancels: readonly Records['cancel'][],
  ): Promise<void> {
    for (const refusals = new Refusals(); ; ) {
      const refused = await this.#tryAgain(given, cancels);
      if (refused === null) return;
      if (refusals.isHopeless(refused)) throw damaged(this.#key, refused);
    }
  }

  /** Null when it is done; the newest id where the commit was refused. */
  async #tryAgain(
    given: string | number | undefined,
    cancels: readonly Records['cancel'][],
  ): Promise<string | null> {
    const { store, token } = this.#setup;
    const entries = await store.read(this.#key);
    const all = readRecords(entries);
    if (all.length === 0) throw notFound(this.name, this.id);
    const phase = phaseOf(all);
    if (phase.end === null && phase.parked === null) {
      const text = `${this.name}/${this.id} is ${phase.status}: only what is parked, failed or cancelled can be retried; cancel it first`;
      throw new RivuletError('FAILED_PRECONDITION', text);
    }
    if (phase.end !== null && cancels.length > 0) {
      throw new RivuletError('ENDED', `${this.name}/${this.id} has ${phase.end.status}`);
    }
    if (phase.end?.status === 'completed' && given === undefined) {
      const text = `${this.name}/${this.id} has completed: say from which operation to retry`;
      throw new RivuletError('FAILED_PRECONDITION', text);
    }
    const kept = effective(all);
    const from =
      given !== undefined
        ? operationNumber(kept, given)
        : phase.end === null
          ? undefined
          : (failedOperation(kept) ?? Number.MAX_SAFE_INTEGER);
    const first = startOf(all);
    const started = first.data.first ?? first.at;
    const list = listKey(this.name, phase.end === null ? 'parked' : 'done');
    const last = (entries.at(-1) as { id: string }).id;
    const listed = await findListed(store, list, this.id, stoppedAt(all));
    const effects: JournalEffect[] = [
      ...(listed === null ? [] : [{ kind: 'delete', key: list, ids: [listed] } as const]),
      {
        kind: 'add',
        key: listKey(this.name, 'running'),
        fields: listFields({ id: this.id, v: phase.version, from: started }),
      },
      { kind: 'expire', key: this.#key, afterMs: null },
      this.#task(phase.version, 'again'),
    ];
    const st = stateIn(cutAt(kept, from));
    const data: Records['again'] = {
      ...(from === undefined ? {} : { from }),
      ...(phase.version === first.data.v ? {} : { ver: phase.version }),
      ...(st === null ? {} : { st }),
    };
    const records = [fieldsOf('again', data), ...cancels.map((each) => fieldsOf('cancel', each))];
    const commit = { key: this.#key, last, records, effects, token: token() };
    return (await store.commit(commit)) === null ? last : null;
  }

  /**
   * A new instance with the history of this one before operation `from`, for example to try other code on
   * it. Default: all of it, or what comes before the first operation that was undone. This one is left as it is.
   */
  async fork(
    options: {
      readonly from?: string | number;
      readonly version?: number;
      readonly id?: string;
    } = {},
  ): Promise<WorkflowHandle<Output>> {
    checkOptions(
      {
        from: { kind: 'other', check: checkFrom },
        version: { kind: 'other', check: checkVersion },
        id: { kind: 'text', check: (value) => checkId(value) },
      },
      options,
    );
    const { store, token, scheduler } = this.#setup;
    const kept = effective(await this.#records());
    const first = startOf(kept);
    // What was undone is no result any more: a fork that had it would go on as if it were one.
    const from =
      options.from === undefined
        ? (firstUndone(kept) ?? Number.MAX_SAFE_INTEGER)
        : operationNumber(kept, options.from);
    const id = options.id ?? `${this.id}-fork-${scheduler.uniqueName().slice(0, 8)}`;
    const { parent: _, ...given } = first.data;
    const start: Records['start'] = {
      ...given,
      v: options.version ?? phaseOf(kept).version,
      first: first.data.first ?? first.at,
      forkOf: this.id,
      seed: first.data.seed ?? `${this.name}/${this.id}/${first.id}`,
    };
    const { startAt: _startAt, listed: _listed, ...now } = start;
    // What its workers held is theirs: timers, claims and suspensions are not copied.
    const skipped = new Set(['claim', 'timer', 'suspend', 'move', 'pause', 'resume']);
    const before = cutAt(kept, from);
    const awaited = childrenAwaited(before);
    const copied = before.map((record) =>
      skipped.has(record.kind) || awaited.has(record)
        ? ({ ...record, kind: 'tick', data: notesOf(record) } as JournalRecord)
        : record,
    );
    // Its code has begun at the time that it waited for.
    const begunAt = kept.some(({ kind }) => isWorkers(kind))
      ? Math.max(first.at, first.data.startAt ?? 0)
      : first.at;
    const records = copied.map((record) => ({
      ...fieldsOf(
        record.kind as 'start',
        (record.kind === 'start' ? now : unmarked(record.data)) as never,
      ),
      at: String(record.kind === 'start' ? begunAt : record.at),
    }));
    const state = copied.findLastIndex(({ kind }) => kind === 'state');
    const marks = state < 0 ? {} : { st: copied.length - state };
    // It is idle until its task is taken.
    records.push({
      ...fieldsOf('suspend', { v: now.v, ...marks }),
      at: String(copied.at(-1)?.at ?? first.at),
    });
    const key = journalKey(this.name, id);
    await noteVersion(this.#setup, this.name, now.v);
    const effects = startEffects(this.name, id, now).map((effect) =>
      effect.kind === 'add' && effect.key === queueKey(this.name, now.v)
        ? { ...effect, fields: taskFields({ id, k: 'again' }) }
        : effect,
    );
    const made = await store.commit({ key, last: '0-0', records, effects, token: token() });
    if (made === null) {
      throw new RivuletError('ALREADY_EXISTS', `there is an instance ${this.name}/${id} already`);
    }
    return new WorkflowHandle(this.#setup, this.name, id);
  }

  /**
   * For `move`: the instance goes on with another version, where no worker has it. False = one has.
   * `records` are all of its journal, and `last` is the newest id.
   */
  async moveTo(version: number, last: string, records: readonly JournalRecord[]): Promise<boolean> {
    const { store, token } = this.#setup;
    const phase = phaseOf(records);
    const isParked = phase.status === 'parked';
    const list = listKey(this.name, isParked ? 'parked' : 'running');
    const near = isParked ? stoppedAt(records) : listedAt(records);
    const listed = await findListed(store, list, this.id, near);
    const first = startOf(records);
    const { parked } = phase;
    const fields = listFields({
      id: this.id,
      v: version,
      from: first.data.first ?? first.at,
      ...(parked === null ? {} : { why: parked.why, code: parked.code }),
    });
    const timer = timerOf(records)?.name ?? null;
    const queue = queueKey(this.name, phase.version);
    const effects: JournalEffect[] = [
      ...(timer === null ? [] : [{ kind: 'unschedule', key: queue, name: timer } as const]),
      ...(listed === null ? [] : [{ kind: 'delete', key: list, ids: [listed] } as const]),
      { kind: 'add', key: list, fields },
      ...(isParked ? [] : [this.#task(version, 'again')]),
    ];
    await noteVersion(this.#setup, this.name, version);
    const moved = [fieldsOf('move', { to: version, ...sinceOf(records) })];
    const commit = { key: this.#key, last, records: moved, effects, token: token() };
    return (await store.commit(commit)) !== null;
  }

  async #records(): Promise<JournalRecord[]> {
    const records = readRecords(await this.#setup.store.read(this.#key));
    if (records.length === 0) throw notFound(this.name, this.id);
    return records;
  }

  #task(version: number, k: 'wake' | 'again'): JournalEffect {
    return {
      kind: 'add',
      key: queueKey(this.name, version),
      fields: taskFields({ id: this.id, k }),
    };
  }

  /** Adds records that do not come from a worker; the instance must not have ended. */
  async #control<K extends 'signal' | 'cancel' | 'pause' | 'resume'>(
    kind: K,
    data: readonly Records[K][],
  ): Promise<void> {
    const { store, token } = this.#setup;
    const key = this.#key;
    const own = token();
    for (const refusals = new Refusals(); ; ) {
      const { last, phase, since } = await this.#standing();
      if (phase.end !== null) {
        throw new RivuletError('ENDED', `${this.name}/${this.id} has ${phase.end.status}`);
      }
      const isParked = phase.status === 'parked';
      if (isParked && kind === 'pause') {
        const text = `${this.name}/${this.id} is parked, so there is nothing to pause: retry or cancel it`;
        throw new RivuletError('FAILED_PRECONDITION', text);
      }
      if (isParked && kind === 'cancel') {
        return this.#again(undefined, data as readonly Records['cancel'][]);
      }
      // One that a worker has sees it at its next commit; one that already has a task will be looked at.
      const isTold = phase.asleep && phase.news && kind === 'signal';
      const mustWake = !isParked && !isTold && (phase.asleep || kind !== 'signal');
      const version = phase.version || (await this.#start()).data.v;
      const effects = mustWake ? [this.#task(version, 'wake')] : [];
      const records = data.map((each) => fieldsOf<RecordKind>(kind, { ...each, since }));
      if ((await store.commit({ key, last, records, effects, token: own })) !== null) return;
      if (refusals.isHopeless(last)) throw damaged(key, last);
    }
  }

  async #standing(): Promise<Standing> {
    const standing = await standingOf(this.#setup.store, this.#key);
    if (standing === null) throw notFound(this.name, this.id);
    return standing;
  }

  async #start(): Promise<StartEntry> {
    const first = await startIn(this.#setup.store, this.#key);
    if (first === null) throw notFound(this.name, this.id);
    return first;
  }

  async #ended({ timeoutMs, signal }: ResultOptions): Promise<Records['end']> {
    const { store, scheduler } = this.#setup;
    signal?.throwIfAborted();
    const present = await this.#endNow();
    if (present !== null) return present;
    let isOver = false;
    let changed = false;
    let tell = () => {};
    const onNews = () => {
      changed = true;
      tell();
    };
    const end = await store.watch(this.#key, onNews);
    const stop = () => {
      isOver = true;
      tell();
    };
    // It may have aborted while the watch was made.
    const unwatch = signal === undefined ? () => {} : onAbort(signal, stop);
    const cancel =
      timeoutMs === undefined
        ? () => {}
        : scheduler.after(Math.min(timeoutMs, LONGEST_TIMEOUT_MS), stop);
    try {
      for (;;) {
        changed = false;
        const found = await this.#endNow();
        if (found !== null) return found;
        if (isOver) break;
        if (!changed) {
          await new Promise<void>((resolve) => {
            tell = resolve;
            if (changed || isOver) resolve();
          });
        }
      }
    } finally {
      end();
      cancel();
      unwatch();
    }
    if (signal?.aborted === true) throw signal.reason;
    const { status, reason } = await this.info();
    const where = reason === undefined ? status : `${status}: ${reason}`;
    throw new RivuletError(
      'TIMEOUT',
      `${this.name}/${this.id} has no result after ${timeoutMs} ms; it is ${where}`,
    );
  }

  /** Null while it runs. */
  async #endNow(): Promise<Records['end'] | null> {
    const { phase } = await this.#standing();
    return phase.end;
  }
}

function startOf(records: readonly JournalRecord[]): JournalRecord & { kind: 'start' } {
  const [first] = records;
  if (first?.kind === 'start') return first;
  throw new RivuletError('STORAGE_DAMAGED', 'the journal does not begin with a start');
}

/** Marks name records of the journal that they are in. */
function unmarked(data: object): object {
  const { st, p, ver, since, ...rest } = data as Marks & { since?: Since };
  return rest;
}

/** Starts of children that have not ended: those tell the parent that started them, and no fork of it. */
function childrenAwaited(records: readonly JournalRecord[]): Set<JournalRecord> {
  const run = startOf(records).data.run ?? 0;
  const ended = new Set<number>();
  const children = new Set<number>();
  for (const { kind, data } of records) {
    // One of a run before had the same number.
    if (kind === 'child' && (data.run ?? 0) === run) ended.add(data.n);
    for (const [n, asked] of (data as { o?: readonly Note[] }).o ?? []) {
      if (asked === 'child') children.add(n);
    }
  }
  return new Set(
    records.filter(
      ({ kind, data }) =>
        kind === 'spawn' && data.e === undefined && children.has(data.n) && !ended.has(data.n),
    ),
  );
}

function notesOf(record: JournalRecord): { o?: readonly Note[] } {
  const { o } = record.data as { o?: readonly Note[] };
  return o === undefined ? {} : { o };
}

function operationNumber(records: readonly JournalRecord[], from: string | number): number {
  if (typeof from === 'number') return from;
  const known: string[] = [];
  for (const { data } of records) {
    for (const [n, , name] of (data as { o?: readonly Note[] }).o ?? []) {
      if (name === from) return n;
      if (name !== '') known.push(name);
    }
  }
  const has = [...new Set(known)].slice(0, 20).join(', ');
  throw new RivuletError('NOT_FOUND', `no operation is called ${shown(from)}; there are: ${has}`);
}

function checkFrom(value: unknown, name: string): void {
  const isNumber = Number.isInteger(value) && (value as number) >= 1;
  if (isNumber || (typeof value === 'string' && value !== '')) return;
  throw invalid(`${name} is the name of a step or the number of an operation, not ${shown(value)}`);
}
