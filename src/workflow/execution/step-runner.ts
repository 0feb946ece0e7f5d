/**
 * Steps, calls and compensations of one instance: run once each at a time, with a deadline.
 *
 * Invariants: what a step returns, throws or fails to do in time becomes one record; a step that was
 * given up writes nothing; after a cancel a step that does not notice is waited for `ABORT_GRACE_MS`.
 * Cost: one timer and one AbortController for each running step.
 */
import { type Backoff, backoffMs } from '../../broker/options/options.ts';
import { RivuletError } from '../../errors.ts';
import { Cancelled, isTerminal, recordOfError } from '../errors.ts';
import { stored } from '../journal/values.ts';
import { type AnyWorkflow, resolveRetry } from '../workflow.ts';
import type { CallRequest } from './context.ts';
import type { Flow, Operation } from './flow.ts';
import type { ExecutionHost, Item, StepFacts } from './host.ts';

/** How long a step that was aborted may take to notice. */
const ABORT_GRACE_MS = 10_000;
const DEFAULT_STEP_MS = 300_000;
export const UNDO_ATTEMPTS = 10;

export interface StepRunnerSetup {
  readonly host: ExecutionHost;
  readonly definition: AnyWorkflow;
  readonly id: string;
  /** Begins the token of every commit of this life of the instance. */
  readonly prefix: string;
  readonly flow: () => Flow;
  readonly isDead: () => boolean;
  /** Receives the record of a step that has ended or is to be tried again. */
  readonly put: (item: Item) => void;
  /** Called when a step begins. */
  readonly onBegin: () => void;
}

export class StepRunner {
  readonly #setup: StepRunnerSetup;
  readonly #running = new Map<Operation, AbortController>();

  constructor(setup: StepRunnerSetup) {
    this.#setup = setup;
  }

  /** Steps that run. */
  get size(): number {
    return this.#running.size;
  }

  begin(op: Operation): void {
    if (this.#running.has(op)) return;
    const { flow, put, prefix } = this.#setup;
    const { cancelled } = flow();
    if (cancelled !== null && op.kind !== 'undo') {
      this.#ended(op, 0, { e: recordOfError(new Cancelled(cancelled)) });
      return;
    }
    if (op.options?.interrupted === 'throw') {
      if (op.begunBy === undefined) {
        put({ kind: 'begin', data: { n: op.n } });
        return;
      }
      if (!op.begunBy.startsWith(prefix)) {
        const text = `step "${op.name}" (${op.n}) was running when its worker ended; whether it had an effect is not known`;
        const error = new RivuletError('STEP_INTERRUPTED', text);
        this.#ended(op, 0, { e: recordOfError(error) });
        return;
      }
    }
    void this.#run(op);
  }

  /** Aborts what runs; compensations too unless `butUndo`. */
  abort(error: unknown, { butUndo = false } = {}): void {
    for (const [op, controller] of this.#running) {
      if (!butUndo || op.kind !== 'undo') controller.abort(error);
    }
  }

  async #run(op: Operation): Promise<void> {
    const { host, definition, id } = this.#setup;
    const { scheduler } = host;
    const controller = new AbortController();
    this.#running.set(op, controller);
    this.#setup.onBegin();
    const key = `${definition.name}/${id}/${op.n}`;
    host.onStep?.(key, op.attempt);
    const from = scheduler.monotonic();
    let cancelTimer = () => {};
    let result: { ok?: unknown } | { failure: unknown };
    try {
      const start = (): unknown =>
        op.kind === 'call'
          ? host.call(op.request as CallRequest, key, controller.signal)
          : op.run?.({ key, signal: controller.signal, attempt: op.attempt });
      const { aroundStep } = host;
      const work = aroundStep === undefined ? start() : aroundStep(this.#factsOf(op), start);
      let value: unknown;
      if (!isPromise(work)) value = await work;
      else {
        // What has returned already is neither late nor aborted: it needs no timer.
        const { late, cancel } = this.#lateness(op, controller);
        cancelTimer = cancel;
        value = await Promise.race([work, late]);
      }
      const kept =
        op.kind === 'undo'
          ? undefined
          : stored(value, `the result of step "${op.name}" (${op.n})`, host.mostBytes);
      result = kept === undefined ? {} : { ok: kept };
    } catch (failure) {
      result = { failure };
    }
    cancelTimer();
    this.#running.delete(op);
    if (this.#setup.isDead()) return;
    const ms = Math.round(scheduler.monotonic() - from);
    host.observe({ kind: 'step', name: op.name, ms, ok: !('failure' in result) });
    if (!('failure' in result)) {
      this.#ended(op, ms, result);
      return;
    }
    this.#failed(op, ms, result.failure);
  }

  /** `late` rejects when the time of the attempt is up, or when it does not notice a cancel. */
  #lateness(
    op: Operation,
    controller: AbortController,
  ): { readonly late: Promise<never>; readonly cancel: () => void } {
    const { host, flow } = this.#setup;
    const { scheduler } = host;
    const timeoutMs = op.options?.timeoutMs ?? DEFAULT_STEP_MS;
    let cancelTimer = () => {};
    const late = new Promise<never>((_, reject) => {
      cancelTimer = scheduler.after(timeoutMs, () => {
        const text = `step "${op.name}" (${op.n}) took longer than ${timeoutMs} ms`;
        const error = new RivuletError('TIMEOUT', text);
        controller.abort(error);
        reject(error);
      });
      controller.signal.addEventListener('abort', () => {
        if (flow().cancelled === null || op.kind === 'undo') return;
        // A step that does not notice is not waited for for ever.
        cancelTimer();
        cancelTimer = scheduler.after(ABORT_GRACE_MS, () =>
          reject(new Cancelled(flow().cancelled ?? 'cancelled')),
        );
      });
    });
    late.catch(() => {});
    return { late, cancel: () => cancelTimer() };
  }

  #factsOf({ name, attempt }: Operation): StepFacts {
    const { definition, id, flow } = this.#setup;
    const { traceparent } = flow().start.cause ?? {};
    return { workflow: definition.name, id, name, attempt, traceparent };
  }

  #failed(op: Operation, ms: number, failure: unknown): void {
    const { host, definition, put } = this.#setup;
    const { cancelled } = this.#setup.flow();
    const base = definition.options.retry;
    const retry =
      op.kind === 'undo'
        ? { ...base, attempts: UNDO_ATTEMPTS }
        : resolveRetry(op.options?.retry, base);
    const isCancelled = cancelled !== null && op.kind !== 'undo';
    const last = op.attempt >= retry.attempts || isCancelled || isFinal(op, failure);
    const e = recordOfError(isCancelled ? new Cancelled(cancelled as string) : failure);
    if (last) {
      this.#ended(op, ms, { e });
      return;
    }
    const wait = backoffMs(retry.backoff as Backoff, op.attempt, host.scheduler.fraction());
    put({ kind: 'retry', data: { n: op.n, a: op.attempt, ms: wait, e } });
  }

  #ended(op: Operation, ms: number, result: { ok?: unknown; e?: unknown }): void {
    const data = { n: op.n, a: op.attempt, ms, ...result };
    this.#setup.put({ kind: 'step', data, lazy: op.options?.lazy === true && !('e' in result) });
  }
}

function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as Promise<unknown> | undefined)?.then === 'function';
}

/** Whether another attempt would not help. */
function isFinal(op: Operation, failure: unknown): boolean {
  if (op.kind === 'undo') return false;
  if (isTerminal(failure)) return true;
  if (!(failure instanceof RivuletError)) return false;
  if (failure.code === 'VALIDATION_FAILED' || failure.code === 'BODY_TOO_LARGE') return true;
  return op.kind === 'call' && !failure.retryable && failure.code !== 'INTERNAL';
}
