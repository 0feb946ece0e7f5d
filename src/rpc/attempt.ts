/**
 * Attempts of a call: what one needs, and what gives it nodes, channels and limits.
 *
 * Contract only: `client.ts` gives attempts, `client-unary.ts` and `client-stream.ts` use them.
 */
import type { Codec } from '../codec/codec.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Outcome } from '../selector/selector.ts';
import type { Channel } from '../transport/transport.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import type { AnyMethod } from './contract.ts';
import type { CallOptions } from './handlers.ts';
import type { Policies } from './policies/policies.ts';
import type { OpenSpan } from './seen/spans.ts';

/** What of a call its attempts need. */
export interface CallTarget {
  readonly service: string;
  readonly endpoint: string;
  readonly method: AnyMethod;
  readonly options: CallOptions;
  readonly signal: AbortSignal | undefined;
  /** Ends what `signal` costs the signals that it is made of; there where it is made of several. */
  readonly endSignal?: (() => void) | undefined;
  /** Monotonic milliseconds. */
  readonly startedAt: number;
  /** Of the whole call; null where calls are not recorded. */
  readonly span?: OpenSpan | null;
}

/** What one attempt of a call needs. */
export interface Attempt {
  readonly channel: Channel;
  readonly codec: Codec;
  readonly contentType: string;
  /** Reports how it ended, once. */
  readonly done: (outcome: Outcome, error?: unknown) => void;
  /** Reports that the node answers, where the call may last for long after it. */
  readonly answered?: (() => void) | undefined;
}

export interface AttemptSource {
  readonly isClosed: boolean;
  readonly maxMessageBytes: number;
  readonly policies: Policies;
  readonly scheduler: Scheduler;
  /** Monotonic milliseconds at which the call must have ended; infinite for a stream without one. */
  deadlineOf(call: CallTarget): number;
  /** Attempts in all that a call of the method may have. */
  attemptsOf(method: AnyMethod): number;
  /** Milliseconds left, null without a deadline. Throws TIMEOUT when none is left. */
  left(deadline: number, endpoint: string): number | null;
  /** The function that gives a node per attempt; a promise only where the nodes must be read first. */
  nodes(call: CallTarget, deadline: number): (() => ServiceNode) | Promise<() => ServiceNode>;
  /** A channel to the next node, and the codec for it. */
  attempt(call: CallTarget, next: () => ServiceNode, deadline: number): Attempt | Promise<Attempt>;
  /** The call has ended; null for one that succeeded. */
  ended(call: CallTarget, error: unknown): void;
}
