/**
 * The deterministic half of an instance: a workflow's function, its operations, and the records of the
 * journal applied to them one by one, live and on replay by the same code.
 *
 * Invariants: the function advances only while a record is applied, and everything that an operation
 * resolves with comes out of a record; the next record is applied when the function waits for one
 * again, and not before. So equal journals give equal runs. Time is the id of the newest record.
 * What the code asks for is compared with the journal (asked-operations.ts).
 * Cost: O(1) for a record, besides the operations that wait for a time.
 */
import { createHash } from 'node:crypto';
import { Random } from '../../util/random.ts';
import { Cancelled, errorOfRecord } from '../errors.ts';
import type {
  JournalRecord,
  Note,
  OperationKind,
  Records,
  SignalRecord,
} from '../journal/records.ts';
import type { AnyWorkflow, StepContext, StepOptions, WorkflowContext } from '../workflow.ts';
import { AskedOperations } from './asked-operations.ts';

export interface Operation {
  readonly n: number;
  readonly kind: OperationKind | 'undo';
  readonly name: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** When a sleep ends, a wait gives up, or a step is tried again. */
  deadline?: number | undefined;
  /** Of the attempt that runs or comes next. */
  attempt: number;
  /** The life that recorded the beginning of this attempt. */
  begunBy?: string | undefined;
  run?: ((step: StepContext) => unknown) | undefined;
  options?: StepOptions<unknown> | undefined;
  /** What the executor is to do, for the kinds that are not steps. */
  readonly request?: unknown;
}

export type FlowOutcome =
  | { readonly kind: 'returned'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly error: unknown }
  | { readonly kind: 'continued'; readonly input: unknown };

interface Compensation {
  readonly n: number;
  readonly name: string;
  readonly result: unknown;
  readonly compensate: (result: unknown, step: StepContext) => unknown;
  done: boolean;
  /** All attempts have failed: the message of the last one. */
  failed: string | null;
}

const NEVER = Number.POSITIVE_INFINITY;
const NOTHING = new Promise<never>(() => {});
const SIGNAL_IDS = 10_000;
/** Operations that are refused after a cancel, before nothing more is answered. */
const MOST_REFUSED = 100;
export class Flow {
  readonly definition: AnyWorkflow;
  readonly name: string;
  readonly id: string;
  readonly start: Records['start'];
  /** Of wf.random and wf.uuid. */
  readonly seed: string;
  /** Unix ms of the newest record. */
  now: number;
  /** Asked for and not resolved, by number; compensations have negative numbers. */
  readonly pending = new Map<number, Operation>();
  /** Operations that something has to be done for. */
  readonly fresh = new Set<Operation>();
  readonly mail: SignalRecord[];
  readonly seen: Set<string>;
  readonly compensations: Compensation[] = [];
  /** Started, waited for and not ended, by the number of the operation. */
  readonly children = new Map<number, { name: string; id: string; version: number }>();
  outcome: FlowOutcome | null = null;
  cancelled: string | null = null;
  paused = false;
  /** The id of the newest record of `wf.state`. */
  stateAt: string | null = null;
  /** Called when a cancel aborts what runs. */
  onCancel: (error: Cancelled) => void = () => {};
  readonly #asked: AskedOperations;
  readonly #deadline: number;
  /** Pending operations that have a deadline. */
  readonly #timed = new Set<Operation>();
  readonly #childrenDone = new Map<number, Records['child']>();
  readonly #patches = new Map<string, boolean>();
  readonly #random: Random;
  #uuids = 0;
  #refusals = 0;

  constructor(
    definition: AnyWorkflow,
    id: string,
    start: JournalRecord & { kind: 'start' },
    records: readonly JournalRecord[],
  ) {
    this.definition = definition;
    this.name = definition.name;
    this.id = id;
    this.start = start.data;
    this.now = Math.max(start.at, start.data.startAt ?? 0);
    this.mail = [...(start.data.mail ?? [])];
    this.seen = new Set(start.data.seen);
    const { timeoutMs } = start.data;
    this.#deadline = timeoutMs === undefined ? NEVER : this.now + timeoutMs;
    this.seed = start.data.seed ?? `${definition.name}/${id}/${start.id}`;
    this.#random = new Random(seedOf(this.seed));
    this.#asked = new AskedOperations(records);
  }

  /** Calls the function; it waits for a record, or has ended, when this resolves. */
  async begin(context: WorkflowContext, input: unknown): Promise<void> {
    let running: Promise<unknown>;
    try {
      running = Promise.resolve(this.definition.run(context, input));
    } catch (error) {
      running = Promise.reject(error);
    }
    running.then(
      (value) => {
        this.outcome ??= { kind: 'returned', value };
      },
      (error) => {
        this.outcome ??= { kind: 'threw', error };
      },
    );
    await this.#untilIdle();
  }

  /** The earliest time at which something happens by itself; Infinity for never. */
  get nextDeadline(): number {
    // What has returned or thrown, or was cancelled, is not cancelled when its time is up.
    let next = this.cancelled === null && this.outcome === null ? this.#deadline : NEVER;
    for (const { deadline = NEVER } of this.#timed) if (deadline < next) next = deadline;
    return next;
  }

  /** Applies one record; throws Mismatch where the code does not follow the journal. */
  async apply(record: JournalRecord): Promise<void> {
    const { o, cut } = record.data as { o?: readonly Note[]; cut?: number };
    this.#asked.check(o, cut, this.outcome !== null);
    await this.#passTime(record.at);
    switch (record.kind) {
      case 'begin':
        this.#begun(record.data.n, record.token);
        break;
      case 'suspend':
        for (const n of record.data.unrun ?? []) {
          const op = this.pending.get(n);
          if (op !== undefined) op.begunBy = undefined;
        }
        break;
      case 'step':
        this.#stepDone(record.data);
        break;
      case 'retry': {
        const { n } = record.data;
        const undone = n < 0 ? this.#compensationOf(n) : undefined;
        const op = undone === undefined ? this.pending.get(n) : this.undo(undone);
        if (op === undefined) break;
        op.attempt = record.data.a + 1;
        op.begunBy = undefined;
        op.deadline = record.at + record.data.ms;
        this.#timed.add(op);
        this.fresh.delete(op);
        break;
      }
      case 'publish':
        this.#resolve(record.data.n, undefined);
        break;
      case 'spawn':
        this.#spawned(record.data);
        break;
      case 'child':
        this.#childDone(record.data);
        break;
      case 'state':
        this.stateAt = record.id;
        this.#resolve(record.data.n, undefined);
        break;
      case 'signal':
        this.#signalled(record.data);
        break;
      case 'cancel':
        this.#cancel(record.data.reason);
        break;
      case 'pause':
        this.paused = true;
        break;
      case 'resume':
        this.paused = false;
        break;
      default:
        break;
    }
    await this.#untilIdle();
  }

  /** How many operations the code has asked for. */
  get asked(): number {
    return this.#asked.count;
  }

  /** Asked for and not in the journal yet. */
  get notes(): Note[] {
    return this.#asked.notes;
  }

  /** Whether a pending operation ends by an event from outside: a signal or the end of a child. */
  get waits(): boolean {
    for (const { kind } of this.pending.values()) {
      if (kind === 'wait' || kind === 'child') return true;
    }
    return false;
  }

  /** Operations whose beginning is recorded, and which have no record of an end. */
  get begun(): number[] {
    const begun: number[] = [];
    for (const { n, begunBy } of this.pending.values()) if (begunBy !== undefined) begun.push(n);
    return begun;
  }

  /** Compensations that are still to run, newest first. */
  get undone(): Compensation | undefined {
    return this.compensations.findLast(({ done }) => !done);
  }

  /** Makes the operation that undoes a step; its number is the step's, negated. */
  undo(compensation: Compensation): Operation {
    const { n, name, result, compensate } = compensation;
    const present = this.pending.get(-n);
    if (present !== undefined) return present;
    const op: Operation = {
      n: -n,
      kind: 'undo',
      name,
      attempt: 1,
      resolve: () => {},
      reject: () => {},
      run: (step) => compensate(result, step),
    };
    this.pending.set(op.n, op);
    this.fresh.add(op);
    return op;
  }

  // ---- What the context calls

  ask(kind: OperationKind, name: string, more: Partial<Operation> = {}): Promise<unknown> {
    const n = this.#asked.next(kind, name);
    if (n === 0) return NOTHING;
    if (this.cancelled !== null) return this.#refused(this.cancelled);
    if (more.deadline !== undefined && more.deadline <= this.now) {
      if (kind === 'sleep') return Promise.resolve();
    }
    const promise = new Promise((resolve, reject) => {
      const op: Operation = { n, kind, name, resolve, reject, attempt: 1, ...more };
      this.pending.set(n, op);
      if (op.deadline !== undefined) this.#timed.add(op);
      if (kind !== 'wait' && kind !== 'sleep') this.fresh.add(op);
    });
    return watched(promise);
  }

  /** A loop that catches each Cancelled and asks again would hold this process for ever. */
  #refused(reason: string): Promise<unknown> {
    const error = new Cancelled(reason);
    if (++this.#refusals <= MOST_REFUSED) return watched(Promise.reject(error));
    this.outcome ??= { kind: 'threw', error };
    return NOTHING;
  }

  wait(name: string, deadline: number | undefined): Promise<unknown> {
    const at = this.mail.findIndex((each) => each.name === name);
    if (at < 0 || this.cancelled !== null) {
      if (deadline !== undefined && deadline <= this.now && this.cancelled === null) {
        return this.#asked.next('wait', name) === 0 ? NOTHING : Promise.resolve(undefined);
      }
      return this.ask('wait', name, { deadline });
    }
    if (this.#asked.next('wait', name) === 0) return NOTHING;
    const [signal] = this.mail.splice(at, 1);
    return Promise.resolve(signal?.value);
  }

  setState(value: unknown): void {
    const n = this.#asked.next('state', '');
    if (n === 0) return;
    const nothing = () => {};
    const op: Operation = {
      ...{ n, kind: 'state', name: '', attempt: 1, request: value },
      ...{ resolve: nothing, reject: nothing },
    };
    this.pending.set(n, op);
    this.fresh.add(op);
  }

  changed(patch: string): boolean {
    const known = this.#patches.get(patch);
    if (known !== undefined) return known;
    const expected = this.#asked.expected;
    // The journal goes on with something else: this instance passed here before the change.
    const isNew = expected === undefined || (expected[1] === 'changed' && expected[2] === patch);
    this.#patches.set(patch, isNew);
    if (isNew) this.#asked.next('changed', patch);
    return isNew;
  }

  continueAsNew(input: unknown): Promise<never> {
    if (this.cancelled !== null) return this.#refused(this.cancelled) as Promise<never>;
    this.outcome ??= { kind: 'continued', input };
    return NOTHING;
  }

  fraction(): number {
    return this.#random.fraction();
  }

  uuid(): string {
    const hash = createHash('sha256')
      .update(`${this.seed}/${this.#uuids++}`)
      .digest();
    hash[6] = ((hash[6] as number) & 0x0f) | 0x40;
    hash[8] = ((hash[8] as number) & 0x3f) | 0x80;
    const text = hash.toString('hex');
    return [
      text.slice(0, 8),
      text.slice(8, 12),
      text.slice(12, 16),
      text.slice(16, 20),
      text.slice(20, 32),
    ].join('-');
  }

  // ---- Records

  #begun(n: number, token: string): void {
    const op = this.pending.get(n);
    if (op === undefined) return;
    op.begunBy = token;
    this.fresh.add(op);
  }

  #compensationOf(n: number): Compensation | undefined {
    return this.compensations.find((each) => each.n === -n);
  }

  #stepDone({ n, ok, e }: Records['step']): void {
    const undone = n < 0 ? this.#compensationOf(n) : undefined;
    if (undone !== undefined) {
      undone.done = e === undefined;
      undone.failed = e?.message ?? null;
    }
    const op = this.pending.get(n);
    if (op === undefined) return;
    this.#forget(op);
    if (e !== undefined) {
      op.reject(errorOfRecord(e));
      return;
    }
    const compensate = op.options?.compensate;
    if (compensate !== undefined) {
      this.compensations.push({
        n,
        name: op.name,
        result: ok,
        compensate,
        done: false,
        failed: null,
      });
    }
    op.resolve(ok);
  }

  #spawned({ n, name, id, e }: Records['spawn']): void {
    const op = this.pending.get(n);
    if (op === undefined) return;
    this.fresh.delete(op);
    if (e !== undefined) {
      this.#forget(op);
      op.reject(errorOfRecord(e));
    } else if (op.kind === 'start') {
      this.#resolve(n, { name, id });
    } else {
      const { definition } = op.request as { definition: AnyWorkflow };
      this.children.set(n, { name, id, version: definition.version });
      const early = this.#childrenDone.get(n);
      this.#childrenDone.delete(n);
      if (early?.id === id) this.#childDone(early);
    }
  }

  #childDone(record: Records['child']): void {
    const { n, id, outcome } = record;
    // Of a run before this one, whose operations had the same numbers.
    if ((record.run ?? 0) !== (this.start.run ?? 0)) return;
    const op = this.pending.get(n);
    const child = this.children.get(n);
    if (op?.kind !== 'child' || child === undefined) {
      // Its start was forgotten by a retry; it is there when it is asked for again.
      if (op === undefined || op.kind === 'child') this.#childrenDone.set(n, record);
      return;
    }
    if (child.id !== id) return;
    this.children.delete(n);
    this.#forget(op);
    if (outcome.status === 'completed') op.resolve(outcome.value);
    else op.reject(errorOfRecord(outcome.error));
  }

  #signalled(signal: SignalRecord): void {
    if (signal.id !== undefined) {
      if (this.seen.has(signal.id)) return;
      this.seen.add(signal.id);
      if (this.seen.size > SIGNAL_IDS) {
        for (const oldest of this.seen) {
          this.seen.delete(oldest);
          break;
        }
      }
    }
    for (const op of this.pending.values()) {
      if (op.kind !== 'wait' || op.name !== signal.name) continue;
      this.#resolve(op.n, signal.value);
      return;
    }
    this.mail.push(signal);
  }

  #cancel(reason: string): void {
    if (this.cancelled !== null) return;
    this.cancelled = reason;
    const error = new Cancelled(reason);
    for (const op of [...this.pending.values()]) {
      // Nothing cancels a compensation. What a step has done it says in its record.
      if (op.kind === 'undo' || op.kind === 'state') continue;
      const isStep = op.kind === 'step' || op.kind === 'call';
      if (isStep && op.deadline === undefined) continue;
      this.#forget(op);
      op.reject(error);
    }
    // It has not begun its next run: it ends here, and what this run did is undone.
    if (this.outcome?.kind === 'continued') this.outcome = { kind: 'threw', error };
    this.onCancel(error);
  }

  #resolve(n: number, value: unknown): void {
    const op = this.pending.get(n);
    if (op === undefined) return;
    this.#forget(op);
    op.resolve(value);
  }

  #forget(op: Operation): void {
    this.pending.delete(op.n);
    this.fresh.delete(op);
    this.#timed.delete(op);
  }

  /** Everything that was to happen by then happens, in the order of its time. */
  async #passTime(to: number): Promise<void> {
    for (;;) {
      let first: Operation | null = null;
      for (const op of this.#timed) {
        const { deadline = NEVER } = op;
        if (deadline <= to && deadline < (first?.deadline ?? NEVER)) first = op;
      }
      const cancelsFirst =
        this.cancelled === null &&
        this.#deadline <= to &&
        this.outcome === null &&
        (first === null || this.#deadline <= (first.deadline as number));
      if (cancelsFirst) {
        this.now = Math.max(this.now, this.#deadline);
        this.#cancel(`it had ${this.start.timeoutMs} ms, and they are over`);
      } else if (first !== null) {
        this.now = Math.max(this.now, first.deadline as number);
        this.#timeIsUp(first);
      } else break;
      await this.#untilIdle();
    }
    this.now = Math.max(this.now, to);
  }

  #timeIsUp(op: Operation): void {
    op.deadline = undefined;
    this.#timed.delete(op);
    if (op.kind === 'sleep' || op.kind === 'wait') this.#resolve(op.n, undefined);
    else this.fresh.add(op);
  }

  /** Until every promise that is settled has been reacted to. */
  async #untilIdle(): Promise<void> {
    await new Promise<void>((resolve) => process.nextTick(resolve));
    this.#asked.throwMismatch();
  }

  /** Nothing more is asked for by the function: it is dropped. */
  drop(): void {
    this.#asked.end();
  }
}

/** A promise that the function may never look at does not end the process. */
function watched<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** FNV-1a. */
function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}
