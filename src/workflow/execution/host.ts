/**
 * What an execution is given by its worker, what it reports, and the ways in which it stops.
 */
import type { JournalEffect, JournalStore } from '../../broker/journal.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { RecordKind } from '../journal/records.ts';
import type { CallRequest } from './context.ts';

export interface ExecutionHost {
  readonly store: JournalStore;
  readonly scheduler: Scheduler;
  /** Largest value that is stored, bytes. */
  readonly mostBytes: number;
  readonly call: (request: CallRequest, key: string, signal: AbortSignal) => Promise<unknown>;
  /** Receives each step, replay and stop with its duration. */
  readonly observe: (event: ExecutionEvent) => void;
  /** Receives an error that ended an execution without parking the instance; its task is delivered again. */
  readonly warn: (error: unknown) => void;
  /** Runs a step, call or compensation, for a trace; returns what `run` returns. */
  readonly aroundStep?: ((step: StepFacts, run: () => unknown) => unknown) | undefined;
  /** For tests: a step, call or compensation begins. */
  readonly onStep?: ((key: string, attempt: number) => void) | undefined;
  /** For tests: called around each commit. */
  readonly onCommit?:
    | ((moment: 'before' | 'after', kinds: readonly string[]) => void | Promise<void>)
    | undefined;
}

/** One attempt of a step, call or compensation. */
export interface StepFacts {
  readonly workflow: string;
  readonly id: string;
  readonly name: string;
  readonly attempt: number;
  /** Of the message that led to the instance. */
  readonly traceparent: string | undefined;
}

export type ExecutionEvent =
  | { readonly kind: 'step'; readonly name: string; readonly ms: number; readonly ok: boolean }
  | { readonly kind: 'replay'; readonly records: number; readonly ms: number }
  | { readonly kind: 'woken'; readonly lagMs: number }
  | { readonly kind: 'stopped'; readonly as: Stopped };

export type Stopped = 'ended' | 'suspended' | 'parked' | 'fenced' | 'left' | 'lost' | 'failed';

/** A record to be committed, with what belongs to the same commit. */
export interface Item {
  readonly kind: RecordKind;
  readonly data: unknown;
  readonly effects?: readonly JournalEffect[];
  readonly also?: readonly { readonly key: string; readonly last: string }[];
  /** It may be applied before it is committed; and it was. */
  readonly lazy?: boolean;
  readonly applied?: boolean;
  /** The time of the code when it was applied before its commit, Unix ms: a replay takes it again. */
  readonly at?: number;
  /** The newest record that the code had seen then: a replay applies it right after that one. */
  readonly after?: string;
}

/** Another worker has the instance. */
export class Fenced extends Error {}
/** The journal is not there any more, or takes no record: another program has removed records of it. */
export class Lost extends Error {}
/** This process gives up without a record: its broker is closed. */
export class Gone extends Error {}
