/**
 * The live half of an instance that this worker has: steps run, their records are committed, and what the
 * commit brought is applied to the flow.
 *
 *   replay ─> run what was asked for ─> commit ─> apply ─┐
 *              ^                                         │
 *              └───────────────────────────────────────┘   until it ends, suspends, parks or is fenced off
 *
 * Invariants: one commit at a time, on the last id seen. A refused commit means that another has written:
 * what came is taken in first (signals, cancels), and a record of another worker ends this execution
 * without a trace. A suspended instance holds nothing here. The task is acknowledged by the commit that
 * ends, suspends or parks the instance, never before.
 * Cost: one commit for the steps that end while the last commit was on its way; O(1) for each step.
 */
import type { JournalEffect, JournalTask } from '../../broker/journal.ts';
import { validate } from '../../codec/standard-schema.ts';
import { RivuletError } from '../../errors.ts';
import { recordOfError } from '../errors.ts';
import { journalKey, listKey, queueKey, WORKERS } from '../journal/keys.ts';
import { findListed, listedAt } from '../journal/listing.ts';
import { effective } from '../journal/phase.ts';
import {
  type JournalRecord,
  type Outcome,
  type Records,
  type TimerMark,
  taskFields,
  timerAfter,
  timerOf,
} from '../journal/records.ts';
import { stateIn } from '../journal/standing.ts';
import { firstRecord, listFields } from '../journal/starting.ts';
import type { AnyWorkflow } from '../workflow.ts';
import { Mismatch } from './asked-operations.ts';
import { contextOf } from './context.ts';
import {
  cancelEffects,
  endEffects,
  nextRun,
  outcomeOf,
  type SuspendReason,
  suspension,
} from './endings.ts';
import { Flow, type Operation } from './flow.ts';
import { type ExecutionHost, Fenced, Gone, type Item, Lost, type Stopped } from './host.ts';
import { JournalWatch } from './journal-watch.ts';
import { type CommitOptions, JournalWriter, recordOf } from './journal-writer.ts';
import { parkLost } from './lost-instance.ts';
import { publishItem, type Spawner, spawnItem } from './prepared-items.ts';
import { RecordQueue } from './record-queue.ts';
import { StepRunner, UNDO_ATTEMPTS } from './step-runner.ts';
import { Wake } from './wake.ts';

/** A wait for no longer than this is waited for here; a longer one suspends. */
const SHORT_SLEEP_MS = 1000;
/** How long the function may await something that is no operation before it is parked. */
const FOREIGN_MS = 60_000;
/** Meanwhile it is looked at this often, at the least. */
const FOREIGN_LOOK_MS = 100;
/**
 * After a tick that came too early by the broker's clock; twice as long after each further one, because that clock
 * may have been set back by hours.
 */
const TICK_AGAIN_MS = 5;
const LONGEST_TICK_MS = 10_000;

export class Execution {
  readonly name: string;
  readonly id: string;
  readonly key: string;
  task: JournalTask;
  /** The commit that suspends, parks or ends the instance is on its way, or done. */
  isStopping = false;
  readonly #definition: AnyWorkflow;
  readonly #host: ExecutionHost;
  readonly #journal: JournalWriter;
  readonly #steps: StepRunner;
  readonly #wake: Wake;
  /** When the first record was committed, unix ms. */
  readonly #startAt: number;
  /** About when its entry in the list of running ones was added, unix ms. */
  readonly #listedAt: number;
  readonly #flow: Flow;
  #records: readonly JournalRecord[];
  readonly #queue = new RecordQueue();
  /** Operations whose record is being made. */
  #preparing = 0;
  #news = false;
  #leaving = false;
  #dead = false;
  #timer: TimerMark | null;
  readonly #watch: JournalWatch;
  readonly #spawner: Spawner;
  /** The time of the code at the last tick, Unix ms, and how long the next one is kept back if that is still so. */
  #ticked = { at: Number.NEGATIVE_INFINITY, waitMs: TICK_AGAIN_MS };

  constructor(
    host: ExecutionHost,
    definition: AnyWorkflow,
    id: string,
    task: JournalTask,
    records: readonly JournalRecord[],
    prefix: string,
    last: string,
  ) {
    this.#host = host;
    this.#definition = definition;
    this.name = definition.name;
    this.id = id;
    this.key = journalKey(definition.name, id);
    this.task = task;
    this.#records = effective(records);
    this.#startAt = records[0]?.at ?? 0;
    this.#listedAt = listedAt(records);
    this.#timer = timerOf(records);
    this.#wake = new Wake(host.scheduler);
    const flow = () => this.#flow;
    const isDead = () => this.#dead;
    this.#journal = new JournalWriter({
      host,
      definition,
      id,
      prefix,
      base: last,
      flow,
      isDead,
      putBack: (items) => this.#requeue(items),
      onForeign: (record) => {
        this.#timer = timerAfter(record, this.#timer);
      },
    });
    this.#steps = new StepRunner({
      host,
      definition,
      id,
      prefix,
      flow,
      isDead,
      put: (item) => this.#put(item),
      onBegin: () => this.#watch.soon(),
    });
    this.#watch = new JournalWatch(host, this.key, {
      isNeeded: () => this.#steps.size > 0 && !this.#dead,
      onNews: () => this.poke(),
    });
    this.#flow = this.#newFlow();
    this.#spawner = { host, definition, flow: this.#flow, token: () => this.#journal.token() };
  }

  /** Until the instance stops here. Never rejects. */
  async run(): Promise<Stopped> {
    let as: Stopped = 'failed';
    try {
      as = await this.#drive();
    } catch (error) {
      as = await this.#stoppedBy(error);
    }
    this.#flow.drop();
    this.#steps.abort(new RivuletError('ABORTED', 'the instance is no longer this worker’s'));
    this.#watch.end();
    if (!this.#dead) this.#host.observe({ kind: 'stopped', as });
    return as;
  }

  /** The newest record that it has seen. */
  get last(): string {
    return this.#journal.last;
  }

  /** Whether a record says that another worker has had the instance since. */
  isPast(records: readonly JournalRecord[]): boolean {
    return records.some((record) => this.#journal.isAnothers(record));
  }

  /** There may be news in the journal. */
  poke(): void {
    this.#news = true;
    this.#wake.happen();
  }

  /** The worker ends: another one gets the instance when its function waits next. */
  leave(): void {
    this.#leaving = true;
    this.#wake.happen();
  }

  /** For tests: as if the process had ended. */
  kill(): void {
    this.#dead = true;
    this.#wake.happen();
  }

  // ---- Replay

  #newFlow(): Flow {
    const [start] = this.#records as [JournalRecord & { kind: 'start' }];
    const flow = new Flow(this.#definition, this.id, start, this.#records);
    flow.onCancel = (error) => {
      this.#steps.abort(error);
    };
    return flow;
  }

  async #replay(): Promise<void> {
    const { scheduler } = this.#host;
    const from = scheduler.monotonic();
    const flow = this.#flow;
    const { input: schema } = this.#definition.options;
    const given = flow.start.input;
    const input =
      schema === null
        ? given
        : await validate(schema, given, `the input of ${this.name}/${this.id}`);
    await flow.begin(contextOf(flow, this.#host.mostBytes), input);
    for (const record of this.#records.slice(1)) await flow.apply(record);
    this.#host.observe({
      kind: 'replay',
      records: this.#records.length,
      ms: scheduler.monotonic() - from,
    });
    this.#records = [];
  }

  // ---- The loop

  async #drive(): Promise<Stopped> {
    await this.#replay();
    const flow = this.#flow;
    for (;;) {
      if (this.#dead) throw new Gone();
      if (this.#news) {
        this.#news = false;
        await this.#journal.readTail();
        continue;
      }
      if (!this.#leaving && !(flow.paused && flow.cancelled === null)) this.#begin();
      // Not a promise where there is none: a step that ends meanwhile would pass for a later one.
      const { lazyNext } = this.#queue;
      if (lazyNext !== undefined) {
        await this.#applyLazy(lazyNext);
        continue;
      }
      // The record of the end may go with the last ones, but names the newest state.
      const isOver = flow.outcome?.kind === 'returned' && !this.#queue.hasState;
      if (!isOver && (this.#queue.isFull || this.#queue.hasNew)) {
        await this.#journal.commit(this.#queue.take());
        continue;
      }
      const busy = this.#steps.size + this.#preparing > 0;
      // A pause holds the next run back as it does a step.
      const isPaused = flow.paused && flow.cancelled === null;
      const isHeld = isPaused && flow.outcome?.kind === 'continued';
      if (flow.outcome !== null && !isHeld && !(this.#leaving && flow.undone !== undefined)) {
        const stopped = await this.#towardsEnd(busy);
        if (stopped !== null) return stopped;
        continue;
      }
      if (busy) {
        await this.#event(flow.nextDeadline);
        continue;
      }
      if (this.#leaving || isPaused) {
        const stopped = await this.#suspend(this.#leaving ? 'leaving' : 'paused');
        if (stopped) return this.#leaving ? 'left' : 'suspended';
        continue;
      }
      if (flow.pending.size === 0) {
        await this.#foreign();
        continue;
      }
      const next = flow.nextDeadline;
      if (!flow.waits && next - this.#journal.now <= SHORT_SLEEP_MS) {
        await this.#event(next);
        continue;
      }
      if (await this.#suspend(undefined)) return 'suspended';
    }
  }

  /** Starts whatever the code has newly asked for. */
  #begin(): void {
    const flow = this.#flow;
    for (const op of [...flow.fresh]) {
      if (op.kind !== 'undo' && flow.outcome !== null) {
        // Nothing waits for it any more, and what has failed is being undone.
        if (op.kind !== 'state' && op.kind !== 'start' && op.kind !== 'publish') {
          flow.fresh.delete(op);
          continue;
        }
      }
      flow.fresh.delete(op);
      switch (op.kind) {
        case 'step':
        case 'call':
        case 'undo':
          this.#steps.begin(op);
          break;
        case 'state':
          this.#queueState(op);
          break;
        case 'publish':
          void this.#prepare(op, () => publishItem(op, this.#host.mostBytes));
          break;
        case 'child':
        case 'start':
          void this.#prepare(op, () => spawnItem(op, this.#spawner));
          break;
        default:
          break;
      }
    }
  }

  /** Lazy records at the head of the queue: the code goes on before they are committed. */
  async #applyLazy(item: Item): Promise<void> {
    // What the code has asked for until here is noted with this record: on replay it comes first.
    const o = this.#flow.notes.splice(0);
    const data = o.length === 0 ? item.data : { ...(item.data as object), o };
    // No time passes for the code: the commit, whose time it would be, is still to come.
    const at = this.#flow.now;
    const { last } = this.#journal;
    this.#queue.applied(item, data, at, last);
    // The code may change what it is given, and the record is written later.
    await this.#flow.apply(recordOf(last, '', item.kind, structuredClone(data), at));
  }

  #queueState(op: Operation): void {
    const v = op.request;
    this.#put({ kind: 'state', data: { n: op.n, ...(v === undefined ? {} : { v }) } });
  }

  /** Work before a record that takes time and has no effect outside. */
  async #prepare(op: Operation, work: () => Promise<Item>): Promise<void> {
    this.#preparing++;
    try {
      const item = await work();
      if (this.#flow.pending.has(op.n)) this.#queue.put(item);
    } catch (error) {
      const data = { n: op.n, a: 1, ms: 0, e: recordOfError(error) };
      if (this.#flow.pending.has(op.n)) this.#queue.put({ kind: 'step', data });
    }
    this.#preparing--;
    this.#wake.happen();
  }

  // ---- Ends

  /** The function has returned or thrown. Null = something has to be done first. */
  async #towardsEnd(busy: boolean): Promise<Stopped | null> {
    const flow = this.#flow;
    const { outcome } = flow;
    if (outcome === null) return null;
    if (outcome.kind === 'threw') {
      // What runs may have an effect, which is then to be undone.
      if (busy) {
        if (flow.cancelled === null) {
          const error = new RivuletError('ABORTED', 'the workflow has failed');
          this.#steps.abort(error, { butUndo: true });
        }
        await this.#event(flow.nextDeadline);
        return null;
      }
      const { undone } = flow;
      if (undone !== undefined) return this.#compensate(undone);
    }
    if (this.#preparing > 0) {
      await this.#event(flow.nextDeadline);
      return null;
    }
    if (outcome.kind === 'continued')
      return (await this.#continue(outcome.input)) ? 'suspended' : null;
    const what = `the result of ${this.name}/${this.id}`;
    const { mostBytes } = this.#host;
    const kept = await outcomeOf(outcome, flow, this.#definition, what, mostBytes);
    return (await this.#end(kept)) ? 'ended' : null;
  }

  async #compensate(compensation: NonNullable<Flow['undone']>): Promise<Stopped | null> {
    const flow = this.#flow;
    const { failed } = compensation;
    if (failed !== null) {
      const text = `the compensation of step "${compensation.name}" (${compensation.n}) failed ${UNDO_ATTEMPTS} times: ${failed}`;
      await this.#park('COMPENSATION_FAILED', text, compensation.n);
      return 'parked';
    }
    const op = flow.undo(compensation);
    if (op.deadline === undefined) return null;
    if (op.deadline - this.#journal.now <= SHORT_SLEEP_MS) {
      await this.#event(op.deadline);
      return null;
    }
    return (await this.#suspend(undefined)) ? 'suspended' : null;
  }

  async #end(outcome: Outcome): Promise<boolean> {
    const from = this.#flow.start.first ?? this.#startAt;
    const token = () => this.#journal.token();
    const effects = [
      ...(await this.#withdraw()),
      ...endEffects(this.#flow, this.#definition, outcome, from, token),
    ];
    return this.#stop({ kind: 'end', data: outcome, effects });
  }

  /** Timer and entry in the list of running ones. */
  async #withdraw(): Promise<JournalEffect[]> {
    const { name, id } = this;
    const key = listKey(name, 'running');
    const listed = await findListed(this.#host.store, key, id, this.#listedAt);
    const ids = listed === null ? [] : [listed];
    return [
      ...(ids.length === 0 ? [] : [{ kind: 'delete', key, ids } as const]),
      ...this.#dropTimer(),
    ];
  }

  #dropTimer(): JournalEffect[] {
    const timer = this.#timer;
    if (timer?.name == null) return [];
    return [{ kind: 'unschedule', key: this.#queueKey, name: timer.name }];
  }

  get #queueKey(): string {
    return queueKey(this.name, this.#definition.version);
  }

  async #continue(input: unknown): Promise<boolean> {
    const flow = this.#flow;
    let record: Records['start'];
    try {
      const more = nextRun(flow, this.#startAt, this.#listedAt, this.task);
      const beginning = { definition: this.#definition, id: this.id, input, more };
      record = await firstRecord(beginning, this.#host.mostBytes);
    } catch (error) {
      flow.outcome = { kind: 'threw', error };
      return false;
    }
    const effects: JournalEffect[] = [
      ...this.#dropTimer(),
      { kind: 'add', key: this.#queueKey, fields: taskFields({ id: this.id, k: 'start' }) },
    ];
    return this.#stop({ kind: 'start', data: record, effects }, { restart: true });
  }

  /** True when the instance is suspended; false when something has come that is to be looked at first. */
  async #suspend(why: SuspendReason): Promise<boolean> {
    const flow = this.#flow;
    const at = flow.nextDeadline;
    const wantsTimer = why === undefined && at !== Number.POSITIVE_INFINITY;
    if (wantsTimer && this.#timer?.at !== at) {
      const effects: JournalEffect[] = [
        ...this.#dropTimer(),
        { kind: 'add', key: this.#queueKey, fields: taskFields({ id: this.id, k: 'timer' }), at },
      ];
      // What is queued was applied before: without it the notes of this record would have a gap.
      const items = [...this.#queue.take(), { kind: 'timer', data: { at }, effects } as const];
      const reply = await this.#journal.commit(items, { reconsider: this.#requeue });
      if (reply === null) return false;
      // The timer's is the last one.
      const name = reply.added.at(-1) ?? null;
      // An id in place of a name: it was due at once.
      this.#timer = { name: name?.startsWith('s') === true ? name : null, at };
      if (flow.nextDeadline !== at || flow.fresh.size > 0 || this.#news) return false;
    }
    const timer = wantsTimer && this.#timer !== null ? this.#timer : null;
    const data = suspension(flow, this.task, timer, why);
    const effects: JournalEffect[] =
      why === 'leaving'
        ? [{ kind: 'add', key: this.#queueKey, fields: taskFields({ id: this.id, k: 'again' }) }]
        : [];
    if (!wantsTimer) effects.push(...this.#dropTimer());
    if (flow.cancelled !== null) {
      const token = () => this.#journal.token();
      effects.push(...cancelEffects(flow, `${this.name}/${this.id}`, token));
    }
    return this.#stop({ kind: 'suspend', data, effects });
  }

  async #park(code: string, why: string, n?: number): Promise<void> {
    const from = this.#flow.start.first ?? this.#startAt;
    const listed = { id: this.id, v: this.#definition.version, from, why, code };
    // Where the code does not follow the journal, the flow has not come to the newest state.
    const st = this.#records.length > 0 ? stateIn(this.#records) : this.#flow.stateAt;
    const data = { why, code, ...(n === undefined ? {} : { n }), ...(st === null ? {} : { st }) };
    const effects: JournalEffect[] = [
      ...(await this.#withdraw()),
      { kind: 'add', key: listKey(this.name, 'parked'), fields: listFields(listed) },
    ];
    while (!(await this.#stop({ kind: 'parked', data, effects }, { blind: true }))) {
      // Another program wrote in between; its record is in the journal for the next retry.
    }
  }

  /** A commit with the acknowledgement of the task; false when the tail has changed. */
  async #stop(item: Item, options: Omit<CommitOptions, 'reconsider'> = {}): Promise<boolean> {
    const ack = { kind: 'ack', key: this.task.topic, group: WORKERS, id: this.task.id } as const;
    const withAck = { ...item, effects: [...(item.effects ?? []), ack] };
    if (this.#queue.hasState) {
      // It is recorded first, or, where the code does not follow the journal, asked for again later.
      if (options.blind !== true) return false;
      this.#queue.dropStates();
    }
    // What is queued belongs to the journal that a further run replaces, and stays until it has.
    const items = options.restart === true ? [withAck] : [...this.#queue.take(), withAck];
    this.isStopping = true;
    const reply = await this.#journal.commit(items, { ...options, reconsider: this.#requeue });
    if (reply === null) {
      this.isStopping = false;
      return false;
    }
    this.task.settledByCommit();
    return true;
  }

  /** Queued items stay queued, except those that stop this execution. */
  readonly #requeue = (left: readonly Item[]): void => {
    this.#queue.putBack(left.filter(({ kind }) => !STOPS.has(kind)));
  };

  #put(item: Item): void {
    this.#queue.put(item);
    this.#wake.happen();
  }

  // ---- Waiting

  /** Until something happens, or the broker's clock should have reached `deadline`: then a tick. */
  async #event(deadline: number): Promise<void> {
    const { now } = this.#flow;
    const kept = this.#ticked.at === now ? this.#ticked.waitMs : TICK_AGAIN_MS;
    const wait = Math.max(kept, Math.ceil(deadline - this.#journal.now));
    const isOver = await this.#wake.next(wait);
    const isLate = isOver && deadline <= this.#journal.now + TICK_AGAIN_MS;
    if (!isLate || this.#dead) return;
    this.#ticked = { at: now, waitMs: Math.min(LONGEST_TICK_MS, 2 * kept) };
    this.#queue.put({ kind: 'tick', data: {} });
  }

  /** The function has asked for nothing and has not ended: it awaits what is no operation. */
  async #foreign(): Promise<void> {
    const { scheduler } = this.#host;
    const flow = this.#flow;
    let isOver = false;
    const cancel = scheduler.after(FOREIGN_MS, () => {
      isOver = true;
      this.#wake.happen();
    });
    // No event says when the function goes on: it is looked at.
    let wait = 1;
    while (flow.pending.size === 0 && flow.outcome === null && !isOver && !this.#dead) {
      if (this.#news || this.#leaving) break;
      await this.#wake.peek(wait);
      wait = Math.min(FOREIGN_LOOK_MS, wait * 2);
    }
    cancel();
    if (isOver) {
      throw new Mismatch(
        flow.asked + 1,
        `after ${flow.asked} operations the code awaits something that is no operation of wf, for ${FOREIGN_MS} ms: do it inside a step`,
      );
    }
  }

  // ---- What went wrong

  async #stoppedBy(error: unknown): Promise<Stopped> {
    if (this.#dead || error instanceof Gone) return 'lost';
    if (error instanceof Fenced) return 'fenced';
    try {
      if (error instanceof Lost) {
        const { version } = this.#definition;
        await parkLost(this.#host.store, this, version, this.#listedAt, error.message);
        this.task.settledByCommit();
        return 'parked';
      }
      if (error instanceof Mismatch) {
        await this.#park('NONDETERMINISTIC', error.message, error.n);
        return 'parked';
      }
      if (error instanceof RivuletError && error.code === 'VALIDATION_FAILED') {
        await this.#park('VALIDATION_FAILED', error.message);
        return 'parked';
      }
    } catch (later) {
      if (later instanceof Fenced) return 'fenced';
      if (!this.#dead) this.#host.warn(later);
      return 'lost';
    }
    this.#host.warn(error);
    return 'lost';
  }
}

/** Records after which the worker has the instance no longer. */
const STOPS: ReadonlySet<string> = new Set(['end', 'suspend', 'parked', 'start', 'timer']);
