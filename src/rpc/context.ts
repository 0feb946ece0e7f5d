/**
 * What a handler is given beside its request: who calls, until when, with which metadata.
 *
 * Invariant: what a handler does not ask for is not made; a signal exists from the first look at it.
 * Cost: one object per call.
 */
import type { RivuletError } from '../errors.ts';
import type { MethodKind } from '../transport/transport.ts';
import { Metadata } from './metadata.ts';

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

export interface ContextSetup {
  readonly service: string;
  readonly endpoint: string;
  readonly method: MethodKind;
  readonly metadata: Metadata;
  /** Monotonic milliseconds; infinite without a deadline. */
  readonly deadlineAt: number;
  readonly peerAddress: string;
  readonly log: Log;
  readonly monotonic: () => number;
  readonly now: () => number;
}

export class ServerContext implements CallContext {
  readonly #setup: ContextSetup;
  #responseMetadata: Metadata | null = null;
  #controller: AbortController | null = null;
  #ended: RivuletError | null = null;

  constructor(setup: ContextSetup) {
    this.#setup = setup;
  }

  get service(): string {
    return this.#setup.service;
  }

  get endpoint(): string {
    return this.#setup.endpoint;
  }

  get method(): MethodKind {
    return this.#setup.method;
  }

  get metadata(): Metadata {
    return this.#setup.metadata;
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
      if (this.#ended !== null) this.#controller.abort(this.#ended);
    }
    return this.#controller.signal;
  }

  get deadlineAt(): number {
    return this.#setup.deadlineAt;
  }

  get deadline(): Date | null {
    const left = this.remainingMs();
    return left === Number.POSITIVE_INFINITY ? null : new Date(this.#setup.now() + left);
  }

  remainingMs(): number {
    const { deadlineAt, monotonic } = this.#setup;
    if (deadlineAt === Number.POSITIVE_INFINITY) return deadlineAt;
    return Math.max(0, deadlineAt - monotonic());
  }

  get peer(): { readonly address: string; readonly service: string | null } {
    return {
      address: this.#setup.peerAddress,
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
    return this.#setup.log;
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
