/** Workflows: counts, instances, the events of one. */
import type { Verb } from './actions.ts';
import type { Decoded } from './decoded.ts';

export interface WorkflowCounts {
  readonly name: string;
  readonly running: number;
  readonly parked: number;
  readonly done: number;
  readonly oldestParkedAt: number | null;
  /** Versions whose tasks no worker takes. */
  readonly waiting: readonly { readonly version: number; readonly tasks: number }[];
}

export interface WorkflowRow {
  readonly name: string;
  readonly id: string;
  readonly version: number;
  readonly status: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly reason: string | null;
  /** The result as one line of JSON, or how many bytes it has; null where there is none. */
  readonly resultText: string | null;
  /** It is a schedule that is parked, and `id` its name. */
  readonly isSchedule: boolean;
}

export interface WorkflowsPage {
  readonly counts: readonly WorkflowCounts[];
  readonly instances: readonly WorkflowRow[];
  /** The value of `after` for the next page. A page of a rare status may be short and have a next one. */
  readonly next: string | null;
}

export interface WorkflowEvent {
  /** Id of the record in the journal. */
  readonly id: string;
  readonly at: number;
  /** `start`, `step`, `retry`, `wait`, `signal`, `message`, `call`, `child`, `parked`, `end`, ... */
  readonly kind: string;
  readonly name: string;
  /** One line. */
  readonly text: string;
  /** The record as JSON, masked as bodies are. */
  readonly record: string;
  /** The message or instance that the record names. */
  readonly link: string | null;
}

export interface WorkflowDetail extends WorkflowRow {
  readonly events: readonly WorkflowEvent[];
  readonly total: number | null;
  /** The value of `after` for the next page of events. */
  readonly next: string | null;
  /** In words: `the signal approved, or a time`. */
  readonly waitsFor: string | null;
  /** Names of the signals that it waits for, as far as its journal says them. */
  readonly signals: readonly string[];
  /** When it goes on by itself. */
  readonly dueAt: number | null;
  readonly input: Decoded | null;
  readonly result: Decoded | null;
  readonly parked: { readonly reason: string; readonly difference: string | null } | null;
  /** Verbs that this state allows. */
  readonly verbs: readonly Verb[];
}
