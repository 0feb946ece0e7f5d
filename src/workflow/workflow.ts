/**
 * What a program writes: definitions of workflows, signals, and what a workflow's function may do.
 *
 *   export const order = workflow({ name: 'order', version: 3, input: OrderInput }, async (wf, input) => {
 *     const paid = await wf.step('charge', ({ key }) => psp.charge(input.card, key));
 *     const decision = await wf.wait(approved, { timeoutMs: DAY });
 *     return { paid, decision };
 *   });
 *
 * The one rule: the function awaits operations of `wf` and nothing else; everything that reads a clock,
 * draws a number or talks to the world stands inside a step. Then Promise.all, Promise.race, loops and
 * try/catch mean what they mean everywhere.
 * Invariant: a definition is data; nothing here runs anything.
 */

import type { Message } from '../broker/message/message.ts';
import type { Backoff, PublishOptions } from '../broker/options/options.ts';
import type { Topic } from '../broker/topics/topic.ts';
import {
  checkOptions,
  count,
  delay,
  invalid,
  type OptionTable,
  shown,
  timeout,
} from '../client/option-table.ts';
import {
  type InputOf,
  isStandardSchema,
  type OutputOf,
  type StandardSchema,
} from '../codec/standard-schema.ts';
import type { AnyMethod, RequestOf, ResponseOf } from '../rpc/contract.ts';
import { checkName, checkVersion } from './journal/keys.ts';

export interface RetryPolicy {
  /** Attempts in all, the first one included. Default 10. */
  readonly attempts?: number;
  /** Default 500 ms to 60 s, doubled each time, with jitter. */
  readonly backoff?: Partial<Backoff>;
}

export interface StepContext {
  /** `name/id/n`: the same for every attempt of this step, so that a callee can tell a repetition. */
  readonly key: string;
  /** Aborts when the step's time is up, the instance is cancelled, or another worker has it. */
  readonly signal: AbortSignal;
  /** 1 for the first. */
  readonly attempt: number;
}

export interface StepOptions<T> {
  /** Of one attempt. Default 300 000. */
  readonly timeoutMs?: number;
  readonly retry?: RetryPolicy;
  /** Undoes the step when the instance fails or is cancelled later; newest first. */
  readonly compensate?: (result: T, step: StepContext) => unknown;
  /**
   * After a crash in mid-step: `again` (the default) runs it again with the same key; `throw` records its
   * beginning first and raises STEP_INTERRUPTED, for what must not happen twice.
   */
  readonly interrupted?: 'again' | 'throw';
  /** The record rides with the next one: fewer writes, and the step may run again after a crash. */
  readonly lazy?: boolean;
}

export interface CallOptions<T> extends StepOptions<T> {
  /** Metadata of the request. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Calls of one key go to one node. */
  readonly key?: string;
}

export interface ChildOptions {
  /** Default `<id of the parent>.<number of the operation>`. */
  readonly id?: string;
}

export interface WorkflowPublishOptions extends Pick<PublishOptions, 'delayMs' | 'deliverAt'> {
  readonly headers?: Readonly<Record<string, string>>;
  readonly key?: string;
}

/** What a workflow's function may do. Every operation resolves only after its record is safe. */
export interface WorkflowContext {
  readonly name: string;
  readonly id: string;
  readonly version: number;
  /** Runs code of yours: at least once, with a stable `key`; its result is recorded once. */
  step<T>(
    name: string,
    run: (step: StepContext) => T | Promise<T>,
    options?: StepOptions<NoInfer<T>>,
  ): Promise<T>;
  /** Calls a method of a service; the step's key is the call's idempotency key. */
  call<M extends AnyMethod>(
    method: M,
    ...args: undefined extends RequestOf<M>
      ? [request?: RequestOf<M>, options?: CallOptions<ResponseOf<M>>]
      : [request: RequestOf<M>, options?: CallOptions<ResponseOf<M>>]
  ): Promise<ResponseOf<M>>;
  /** The next signal of this name; those that came early wait. */
  wait<T>(signal: Signal<T>): Promise<T>;
  /** Undefined when the time is up. */
  wait<T>(
    signal: Signal<T>,
    options: { readonly timeoutMs?: number | undefined },
  ): Promise<T | undefined>;
  sleep(ms: number): Promise<void>;
  sleepUntil(time: Date | number): Promise<void>;
  /** A message in the same commit as its record: exactly once. */
  publish<T>(topic: Topic<T, unknown>, value: T, options?: WorkflowPublishOptions): Promise<void>;
  publish(topic: string, message: Message, options?: WorkflowPublishOptions): Promise<void>;
  /** Starts an instance of another workflow and waits for its result. Cancelled with this one. */
  child<I, R>(definition: Workflow<I, R>, ...args: StartArguments<I, ChildOptions>): Promise<R>;
  /** Starts an instance of another workflow and does not wait. */
  start<I, R>(
    definition: Workflow<I, R>,
    ...args: StartArguments<I, ChildOptions>
  ): Promise<{ readonly name: string; readonly id: string }>;
  /** Sets what `handle.state()` answers; it needs no worker to be read. */
  state(value: unknown): void;
  /** Unix ms by the broker's clock, the same on replay. */
  now(): number;
  /** In [0, 1), the same on replay. */
  random(): number;
  uuid(): string;
  /**
   * True for instances that have not passed here with the code before the change, the same each time:
   * `if (wf.changed('tax-2026')) newWay(); else oldWay();`
   */
  changed(patch: string): boolean;
  /** Ends this run and begins the next one of the same id with an empty journal; signals are kept. */
  continueAsNew(input?: unknown): Promise<never>;
}

export type StartArguments<Input, Options> = undefined extends Input
  ? [input?: Input, options?: Options]
  : [input: Input, options?: Options];

interface CommonOptions {
  readonly name: string;
  /** A whole number; default 1. Instances keep the version with which they were started. */
  readonly version?: number;
  /** The result is checked with it. */
  readonly output?: StandardSchema<unknown, unknown>;
  /** Earlier versions whose instances this worker finishes. */
  // biome-ignore lint/suspicious/noExplicitAny: definitions of any types
  readonly older?: readonly Workflow<any, any>[];
  /** Of every step that says nothing else. */
  readonly retry?: RetryPolicy;
  /** Until an instance, or each of its runs, must have ended; then it is cancelled. Default: no limit. */
  readonly timeoutMs?: number;
  /** How long journals of ended instances are kept. Default 30 days. */
  readonly retentionMs?: number;
  /** Instances that one worker has awake at once. Default 100. */
  readonly concurrency?: number;
}

export interface Workflow<Input = unknown, Output = unknown> {
  readonly name: string;
  readonly version: number;
  readonly options: ResolvedWorkflowOptions;
  readonly run: (wf: WorkflowContext, input: unknown) => unknown;
  /** For inference only; never there at run time. */
  readonly '~types'?: { readonly input: Input; readonly output: Output };
}

// biome-ignore lint/suspicious/noExplicitAny: a workflow of any types
export type AnyWorkflow = Workflow<any, any>;
export type InputOfWorkflow<W> = W extends Workflow<infer Input, infer _> ? Input : never;
export type OutputOfWorkflow<W> = W extends Workflow<infer _, infer Output> ? Output : never;

export interface ResolvedRetry {
  readonly attempts: number;
  readonly backoff: Backoff;
}

export interface ResolvedWorkflowOptions {
  readonly input: StandardSchema | null;
  readonly output: StandardSchema | null;
  readonly older: readonly AnyWorkflow[];
  readonly retry: ResolvedRetry;
  readonly timeoutMs: number | null;
  readonly retentionMs: number;
  readonly concurrency: number;
}

/** A kind of message to an instance. */
export interface Signal<T> {
  readonly name: string;
  readonly schema: StandardSchema<unknown, T> | null;
  /** For inference only; never there at run time. */
  readonly '~value'?: T;
}

/** With a schema of the input, from which its type comes; or with the type of the function's parameter. */
export function workflow<Schema extends StandardSchema<unknown, unknown>, Output>(
  options: CommonOptions & { readonly input: Schema },
  run: (wf: WorkflowContext, input: OutputOf<Schema>) => Output | Promise<Output>,
): Workflow<InputOf<Schema>, Output>;
export function workflow<Input, Output>(
  options: CommonOptions & { readonly input?: undefined },
  run: (wf: WorkflowContext, input: Input) => Output | Promise<Output>,
): Workflow<Input, Output>;
export function workflow(
  options: CommonOptions & { readonly input?: StandardSchema | undefined },
  run: (wf: WorkflowContext, input: never) => unknown,
): AnyWorkflow {
  checkOptions(workflowTable, options);
  checkName(options?.name);
  const {
    name,
    version = 1,
    input,
    output,
    older = [],
    timeoutMs,
    retentionMs,
    concurrency,
  } = options;
  checkVersion(version);
  if (typeof run !== 'function') {
    throw invalid(`${name}: the second argument is the workflow's function, not ${shown(run)}`);
  }
  const versions = new Set([version]);
  for (const each of older) {
    if (each.name !== name) throw invalid(`older: ${each.name} is no earlier version of ${name}`);
    if (versions.has(each.version)) {
      throw invalid(`${name}: version ${each.version} is there twice`);
    }
    versions.add(each.version);
  }
  return {
    name,
    version,
    run: run as AnyWorkflow['run'],
    options: {
      input: input ?? null,
      output: output ?? null,
      older,
      retry: resolveRetry(options.retry),
      timeoutMs: timeoutMs ?? null,
      retentionMs: retentionMs ?? 30 * 86_400_000,
      concurrency: concurrency ?? 100,
    },
  };
}

/** `signal<{ ok: boolean }>('approved')`, or with a Standard Schema, from which the type then comes. */
export function signal<T = undefined>(
  name: string,
  schema?: StandardSchema<unknown, T>,
): Signal<T> {
  checkName(name, 'a signal');
  if (schema !== undefined && !isStandardSchema(schema)) {
    throw invalid(`signal ${name}: the second argument is a Standard Schema`);
  }
  return { name, schema: schema ?? null };
}

export function isWorkflow(value: unknown): value is AnyWorkflow {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as AnyWorkflow).name === 'string' &&
    typeof (value as AnyWorkflow).run === 'function' &&
    typeof (value as AnyWorkflow).options === 'object'
  );
}

/** Definitions and their `older`, each version once. */
export function allVersions(definitions: readonly AnyWorkflow[]): AnyWorkflow[] {
  const found = new Map<string, AnyWorkflow>();
  const add = (definition: AnyWorkflow): void => {
    const label = `${definition.name}@${definition.version}`;
    const present = found.get(label);
    if (present === definition) return;
    if (present !== undefined) throw invalid(`there are two definitions of ${label}`);
    found.set(label, definition);
    for (const each of definition.options.older) add(each);
  };
  for (const each of definitions) add(each);
  return [...found.values()];
}

const DEFAULT_BACKOFF: Backoff = { minMs: 500, maxMs: 60_000, factor: 2, jitter: true };

export function resolveRetry(policy: RetryPolicy | undefined, base?: ResolvedRetry): ResolvedRetry {
  const { attempts = base?.attempts ?? 10, backoff = {} } = policy ?? {};
  const merged = { ...(base?.backoff ?? DEFAULT_BACKOFF), ...backoff };
  // One bound that was given alone moves the default of the other, never itself.
  if (merged.minMs > merged.maxMs) {
    if (backoff.maxMs === undefined)
      return { attempts, backoff: { ...merged, maxMs: merged.minMs } };
    if (backoff.minMs === undefined)
      return { attempts, backoff: { ...merged, minMs: merged.maxMs } };
    throw invalid(`retry.backoff: minMs (${merged.minMs}) is above maxMs (${merged.maxMs})`);
  }
  return { attempts, backoff: merged };
}

const backoffTable: OptionTable = {
  minMs: timeout(0),
  maxMs: delay(),
  factor: { kind: 'number', min: 1, max: 1000, integer: false, unit: '' },
  jitter: { kind: 'boolean' },
};
const retryTable: OptionTable = {
  attempts: count(1, 1_000_000),
  backoff: { kind: 'group', table: backoffTable },
};

function checkSchema(value: unknown, name: string): void {
  if (!isStandardSchema(value)) throw invalid(`${name} is a Standard Schema, not ${shown(value)}`);
}

const workflowTable: OptionTable = {
  name: { kind: 'text' },
  version: { kind: 'other', check: checkVersion },
  input: { kind: 'other', check: checkSchema },
  output: { kind: 'other', check: checkSchema },
  older: {
    kind: 'other',
    check: (value) => {
      if (!Array.isArray(value) || !value.every(isWorkflow)) {
        throw invalid('older is an array of workflows');
      }
    },
  },
  retry: { kind: 'group', table: retryTable },
  timeoutMs: { ...delay(), min: 1 },
  retentionMs: delay(),
  concurrency: count(1, 100_000),
};

const functionRow = {
  kind: 'other',
  check: (value: unknown, name: string) => {
    if (typeof value !== 'function') throw invalid(`${name} is a function, not ${shown(value)}`);
  },
} as const;

const stepTable: OptionTable = {
  timeoutMs: timeout(),
  retry: { kind: 'group', table: retryTable },
  compensate: functionRow,
  interrupted: { kind: 'one of', values: ['again', 'throw'] },
  lazy: { kind: 'boolean' },
};
const callTable: OptionTable = {
  ...stepTable,
  metadata: { kind: 'other', check: () => {} },
  key: { kind: 'text' },
};

const publishTable: OptionTable = {
  headers: { kind: 'other', check: () => {} },
  key: { kind: 'text' },
  delayMs: delay(),
  deliverAt: {
    kind: 'other',
    check: (value, name) => {
      if (value instanceof Date && !Number.isNaN(value.getTime())) return;
      throw invalid(`${name} is a date, not ${shown(value)}`);
    },
  },
};

export const checkPublishOptions = (options: unknown): void => checkOptions(publishTable, options);
export const checkStepOptions = (options: unknown): void => checkOptions(stepTable, options);
export const checkCallOptions = (options: unknown): void => checkOptions(callTable, options);
export const checkWaitOptions = (options: unknown): void =>
  checkOptions({ timeoutMs: delay() }, options);
export const checkChildOptions = (options: unknown): void =>
  checkOptions({ id: { kind: 'text' } }, options);
