/**
 * Calls that wait for the broker to come back: tried again on retryable errors until their time is up.
 *
 * Invariants: a call ends once, with its result, its error, its abort or NOT_CONNECTED and the last
 * cause; at most `maxPendingPublishes` wait between attempts, those beyond fail at once.
 * Cost: every publish comes through here, so a call that succeeds at first is one object, its
 * deadline and one promise more than its work.
 */
import { type ErrorCode, RivuletError } from '../errors.ts';
import { type BrokerOptions, backoffMs } from './options.ts';
import type { Timeouts } from './timeouts.ts';

const BETWEEN_ATTEMPTS = { minMs: 20, maxMs: 500, factor: 2, jitter: true };

const OUTAGES: ReadonlySet<ErrorCode> = new Set([
  'NOT_CONNECTED',
  'CONNECTION_FAILED',
  'GROUP_LOST',
]);

/** Whether the same call may succeed once the broker is back. */
export function isOutage(error: unknown): boolean {
  return error instanceof RivuletError && OUTAGES.has(error.code);
}

export function throwIfAborted(signal: AbortSignal | null): void {
  if (signal?.aborted) {
    throw new RivuletError('ABORTED', 'aborted before it began', { cause: signal.reason });
  }
}

export class Patience {
  readonly timeouts: Timeouts;
  /** As they are now: they may change until connect. */
  readonly options: () => BrokerOptions;
  /** Why there is no use in waiting any more; null while there is. */
  readonly over: (cause: unknown) => RivuletError | null;
  /** Calls that have failed once and wait for the broker to come back. */
  waiting = 0;

  constructor(
    timeouts: Timeouts,
    options: () => BrokerOptions,
    over: (cause: unknown) => RivuletError | null,
  ) {
    this.timeouts = timeouts;
    this.options = options;
    this.over = over;
  }

  /** Resolves to what the work resolves to, once it succeeds. */
  wait<V, T>(work: Work<V, T>): Promise<T> {
    return new Promise((resolve, reject) => {
      new Call(this, work, resolve, reject).start();
    });
  }
}

export interface Work<V, T> {
  /** For its errors: what was to be done. */
  readonly what: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | null;
  readonly once: () => Promise<V>;
  /** What of its result the caller gets. */
  readonly told: (value: V) => T;
  /** Called when it has ended, however that was. */
  readonly ended?: () => void;
}

class Call<V, T> {
  readonly #patience: Patience;
  readonly #work: Work<V, T>;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  #over = false;
  #waits = false;
  #attempt = 0;
  #lastError: unknown;
  #abort: (() => void) | null = null;
  #cancelTimeout: (() => void) | null = null;
  #cancelPause: (() => void) | null = null;

  constructor(
    patience: Patience,
    work: Work<V, T>,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ) {
    this.#patience = patience;
    this.#work = work;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    const { signal, timeoutMs } = this.#work;
    if (signal !== null) {
      this.#abort = () => {
        const text = `${this.#work.what} was aborted`;
        this.#fail(new RivuletError('ABORTED', text, { cause: signal.reason }));
      };
      if (signal.aborted) {
        this.#abort();
        return;
      }
      signal.addEventListener('abort', this.#abort, { once: true });
    }
    this.#cancelTimeout = this.#patience.timeouts.add(timeoutMs, () => {
      const text = `${this.#work.what} could not be done within ${timeoutMs} ms: the broker cannot be reached`;
      this.#fail(new RivuletError('NOT_CONNECTED', text, { cause: this.#lastError }));
    });
    this.#try();
  }

  #try(): void {
    this.#attempt++;
    try {
      this.#work.once().then(
        (value) => {
          if (this.#end()) this.#resolve(this.#work.told(value));
        },
        (error) => this.#failed(error),
      );
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (this.#over) return;
    const refusal = isOutage(error) ? this.#refusal(error) : error;
    if (refusal !== null) {
      this.#fail(refusal);
      return;
    }
    this.#lastError = error;
    const { scheduler } = this.#patience.options();
    const wait = backoffMs(BETWEEN_ATTEMPTS, this.#attempt, scheduler.fraction());
    this.#cancelPause = scheduler.after(wait, () => this.#try());
  }

  /** Why this outage is not waited for. */
  #refusal(cause: unknown): RivuletError | null {
    const patience = this.#patience;
    const over = patience.over(cause);
    if (over !== null || this.#waits) return over;
    const { maxPendingPublishes } = patience.options();
    if (patience.waiting >= maxPendingPublishes) {
      const text = `${maxPendingPublishes} calls wait for the broker to come back already`;
      return new RivuletError('LIMIT_EXCEEDED', text, { cause });
    }
    this.#waits = true;
    patience.waiting++;
    return null;
  }

  #fail(error: unknown): void {
    if (this.#end()) this.#reject(error);
  }

  #end(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#cancelTimeout?.();
    this.#cancelPause?.();
    if (this.#waits) this.#patience.waiting--;
    if (this.#abort !== null) this.#work.signal?.removeEventListener('abort', this.#abort);
    this.#work.ended?.();
    return true;
  }
}
