/**
 * What a handler is given beside its request: the caller, the deadline and the metadata.
 *
 * Invariant: what a handler does not ask for is not made; a signal exists from the first look at it.
 * Cost: one object per call.
 */
import { setMaxListeners } from 'node:events';
import type { RivuletError } from '../errors.ts';
import type { IncomingCall, MethodKind } from '../transport/transport.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { Metadata } from './metadata.ts';
import type { OpenSpan } from './seen/spans.ts';

export interface CallContext {
  readonly service: string;
  /** `Struct.Method`. */
  readonly endpoint: string;
  readonly method: MethodKind;
  readonly metadata: Metadata;
  /** Sent with the reply: at its head for unary calls, at the first message or the end of streams. */
  readonly responseMetadata: Metadata;
  /** Aborted when the caller cancels, is lost, or its deadline passes. */
  readonly signal: AbortSignal;
  /** By this machine's clock; null without a deadline. */
  readonly deadline: Date | null;
  /** Milliseconds until the deadline; infinite without one. */
  remainingMs(): number;
  readonly peer: { readonly address: string; readonly service: string | null };
  /** 1 for the first attempt of a call that is retried. */
  readonly attempt: number;
  /** Equal for every attempt of one call. */
  readonly idempotencyKey: string | null;
  readonly log: Log;
}

/** What of pino's logger a handler may use. */
export interface Log {
  debug(fields: object | string, text?: string): void;
  info(fields: object | string, text?: string): void;
  warn(fields: object | string, text?: string): void;
  error(fields: object | string, text?: string): void;
}

export const quietLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** Names of metadata that rpc itself reads and writes. */
export const METADATA = {
  fromService: 'micro-from-service',
  attempt: 'rivulet-attempt',
  idempotencyKey: 'idempotency-key',
} as const;

/** What of its server a context reads. */
export interface ContextHost {
  /** Of the service. */
  readonly name: string;
  readonly scheduler: Scheduler;
  logOf(endpoint: string, span: OpenSpan | null): Log;
}

/** The call that the context is of. */
export interface ContextCall {
  readonly incoming: IncomingCall;
  readonly kind: MethodKind;
  readonly metadata: Metadata;
  /** Monotonic milliseconds; infinite without a deadline. */
  readonly deadline: number;
  readonly span: OpenSpan | null;
}

export class ServerContext implements CallContext {
  readonly #host: ContextHost;
  readonly #call: ContextCall;
  #responseMetadata: Metadata | null = null;
  #controller: AbortController | null = null;
  #ended: RivuletError | null = null;
  #log: Log | null = null;

  constructor(host: ContextHost, call: ContextCall) {
    this.#host = host;
    this.#call = call;
  }

  get service(): string {
    return this.#host.name;
  }

  get endpoint(): string {
    return this.#call.incoming.endpoint;
  }

  get method(): MethodKind {
    return this.#call.kind;
  }

  get metadata(): Metadata {
    return this.#call.metadata;
  }

  get responseMetadata(): Metadata {
    this.#responseMetadata ??= new Metadata();
    return this.#responseMetadata;
  }

  /** Null while the handler has set none. */
  get writtenMetadata(): Metadata | null {
    return this.#responseMetadata;
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      // Every call that the handler makes listens to it.
      setMaxListeners(0, this.#controller.signal);
      if (this.#ended !== null) this.#controller.abort(this.#ended);
    }
    return this.#controller.signal;
  }

  get deadlineAt(): number {
    return this.#call.deadline;
  }

  get deadline(): Date | null {
    const left = this.remainingMs();
    return left === Number.POSITIVE_INFINITY ? null : new Date(this.#host.scheduler.now() + left);
  }

  remainingMs(): number {
    const deadlineAt = this.#call.deadline;
    if (deadlineAt === Number.POSITIVE_INFINITY) return deadlineAt;
    return Math.max(0, deadlineAt - this.#host.scheduler.monotonic());
  }

  get peer(): { readonly address: string; readonly service: string | null } {
    return {
      address: this.#call.incoming.peer.address,
      service: this.metadata.get(METADATA.fromService) ?? null,
    };
  }

  get attempt(): number {
    const attempt = Number(this.metadata.get(METADATA.attempt) ?? 1);
    return Number.isSafeInteger(attempt) && attempt > 0 ? attempt : 1;
  }

  get idempotencyKey(): string | null {
    return this.metadata.get(METADATA.idempotencyKey) ?? null;
  }

  get log(): Log {
    this.#log ??= this.#host.logOf(this.endpoint, this.#call.span);
    return this.#log;
  }

  get isAborted(): boolean {
    return this.#ended !== null;
  }

  /** Ends the call for its handler. */
  abort(reason: RivuletError): void {
    if (this.#ended !== null) return;
    this.#ended = reason;
    this.#controller?.abort(reason);
  }
}
