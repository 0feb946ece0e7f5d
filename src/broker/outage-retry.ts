/**
 * Calls that wait for the broker to come back: tried again on retryable errors until their time is up.
 *
 * Calls of one queue (the publishes of one topic) keep their order: while one waits for its next
 * attempt, those that came after it wait behind it, and they are tried again in the order in which
 * they were made, each as soon as the one before has succeeded or is on its way.
 * Invariants: a call ends once, with its result, its error, its abort or NOT_CONNECTED and the last
 * cause; at most `maxPendingPublishes` wait between attempts, those beyond fail at once; a queue has
 * one timer, and exists while calls wait in it.
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

export interface Work<V, T> {
  /** For its errors: what was to be done. */
  readonly what: string;
  /** Calls with the same name keep their order; null = this one waits for no other. */
  readonly queue: string | null;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | null;
  readonly once: () => Promise<V>;
  /** What of its result the caller gets. */
  readonly told: (value: V) => T;
  /** Called when it has ended, however that was. */
  readonly ended?: () => void;
}

export class OutageRetry {
  readonly timeouts: Timeouts;
  /** As they are now: they may change until connect. */
  readonly options: () => BrokerOptions;
  /** Why there is no use in waiting any more; null while there is. */
  readonly over: (cause: unknown) => RivuletError | null;
  /** Calls that have failed once, or came after such a one, and wait for the broker to come back. */
  waiting = 0;
  readonly #queues = new Map<string, RetryQueue>();
  /** Every call that has not ended, in the order in which they were made. */
  readonly #calls = new Set<Call<unknown, unknown>>();
  #made = 0;

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
      const call = new Call(this, work, this.#made++, resolve, reject);
      this.#calls.add(call as Call<unknown, unknown>);
      call.start();
    });
  }

  /** Ends every call that has not ended. */
  failAll(error: RivuletError): void {
    for (const call of [...this.#calls]) call.fail(error);
  }

  ended(call: object): void {
    this.#calls.delete(call as Call<unknown, unknown>);
  }

  /** The queue of that name, if calls wait in it. */
  queue(name: string): RetryQueue | undefined {
    return this.#queues.get(name);
  }

  queueFor(name: string): RetryQueue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = new RetryQueue(this, () => this.#queues.delete(name));
      this.#queues.set(name, queue);
    }
    return queue;
  }
}

interface Queued {
  readonly order: number;
  /** Tries again. `done` is called when the attempt has succeeded, failed for good or failed again. */
  attempt(done: (again: boolean) => void): void;
}

/** The calls of one name that wait, in order. */
class RetryQueue {
  readonly #retry: OutageRetry;
  readonly #empty: () => void;
  readonly #waiting: Queued[] = [];
  #failures = 0;
  /** Attempts that are on their way: their successors are tried only after the first has succeeded. */
  #trying = 0;
  #probing = false;
  #cancelTimer: (() => void) | null = null;

  constructor(retry: OutageRetry, empty: () => void) {
    this.#retry = retry;
    this.#empty = empty;
  }

  /** Whether a new call has to wait behind others. */
  get blocked(): boolean {
    return this.#waiting.length > 0 || this.#probing;
  }

  /** In its place by the order in which the calls were made. */
  add(call: Queued): void {
    let at = this.#waiting.length;
    while (at > 0 && (this.#waiting[at - 1] as Queued).order > call.order) at--;
    this.#waiting.splice(at, 0, call);
    if (this.#trying === 0) this.#later();
  }

  remove(call: Queued): void {
    const at = this.#waiting.indexOf(call);
    if (at >= 0) this.#waiting.splice(at, 1);
    this.#check();
  }

  #later(): void {
    if (this.#cancelTimer !== null || this.#waiting.length === 0) return;
    const { scheduler } = this.#retry.options();
    const wait = backoffMs(BETWEEN_ATTEMPTS, ++this.#failures, scheduler.fraction());
    this.#cancelTimer = scheduler.after(wait, () => {
      this.#cancelTimer = null;
      this.#probe();
    });
  }

  /** The first one alone; when it has succeeded, the others right after one another. */
  #probe(): void {
    const first = this.#waiting.shift();
    if (first === undefined) {
      this.#check();
      return;
    }
    this.#trying++;
    this.#probing = true;
    first.attempt((again) => {
      this.#trying--;
      this.#probing = false;
      if (again) this.add(first);
      else this.#flush();
    });
  }

  #flush(): void {
    this.#failures = 0;
    const all = this.#waiting.splice(0);
    let failed = false;
    for (const call of all) {
      if (failed) {
        this.add(call);
        continue;
      }
      this.#trying++;
      call.attempt((again) => {
        this.#trying--;
        if (again) {
          failed = true;
          this.add(call);
        }
        if (this.#trying === 0) this.#later();
        this.#check();
      });
    }
    this.#check();
  }

  #check(): void {
    if (this.#waiting.length > 0 || this.#trying > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#empty();
  }
}

class Call<V, T> implements Queued {
  readonly order: number;
  readonly #retry: OutageRetry;
  readonly #work: Work<V, T>;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  #over = false;
  #waits = false;
  #queue: RetryQueue | null = null;
  #attempt = 0;
  #lastError: unknown;
  #abort: (() => void) | null = null;
  #cancelTimeout: (() => void) | null = null;
  #cancelPause: (() => void) | null = null;

  constructor(
    retry: OutageRetry,
    work: Work<V, T>,
    order: number,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ) {
    this.#retry = retry;
    this.#work = work;
    this.order = order;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    const { signal, timeoutMs, queue } = this.#work;
    if (signal !== null) {
      this.#abort = () => {
        const text = `${this.#work.what} was aborted`;
        this.fail(new RivuletError('ABORTED', text, { cause: signal.reason }));
      };
      if (signal.aborted) {
        this.#abort();
        return;
      }
      signal.addEventListener('abort', this.#abort, { once: true });
    }
    this.#cancelTimeout = this.#retry.timeouts.add(timeoutMs, () => {
      const text = `${this.#work.what} could not be done within ${timeoutMs} ms: the broker cannot be reached`;
      this.fail(new RivuletError('NOT_CONNECTED', text, { cause: this.#lastError }));
    });
    const before = queue === null ? undefined : this.#retry.queue(queue);
    if (before === undefined || !before.blocked) this.attempt(null);
    else this.#join(before, new RivuletError('NOT_CONNECTED', 'calls before this one wait'));
  }

  attempt(done: ((again: boolean) => void) | null): void {
    if (this.#over) {
      done?.(false);
      return;
    }
    this.#attempt++;
    let work: Promise<V>;
    try {
      work = this.#work.once();
    } catch (error) {
      this.#failed(error, done);
      return;
    }
    work.then(
      (value) => {
        if (this.#end()) this.#resolve(this.#work.told(value));
        done?.(false);
      },
      (error) => this.#failed(error, done),
    );
  }

  #failed(error: unknown, done: ((again: boolean) => void) | null): void {
    if (this.#over || !isOutage(error)) {
      this.fail(error);
      done?.(false);
      return;
    }
    if (done !== null) {
      this.#lastError = error;
      const over = this.#retry.over(error);
      if (over !== null) this.fail(over);
      done(over === null);
      return;
    }
    const { queue } = this.#work;
    if (queue !== null) this.#join(this.#retry.queueFor(queue), error);
    else if (this.#mayWait(error)) {
      const { scheduler } = this.#retry.options();
      const wait = backoffMs(BETWEEN_ATTEMPTS, this.#attempt, scheduler.fraction());
      this.#cancelPause = scheduler.after(wait, () => this.attempt(null));
    }
  }

  #join(queue: RetryQueue, cause: unknown): void {
    if (!this.#mayWait(cause)) return;
    this.#queue = queue;
    queue.add(this);
  }

  /** False, and the call has ended, where this outage is not waited for. */
  #mayWait(cause: unknown): boolean {
    const retry = this.#retry;
    const over = retry.over(cause);
    if (over !== null) {
      this.fail(over);
      return false;
    }
    this.#lastError = cause;
    if (this.#waits) return true;
    const { maxPendingPublishes } = retry.options();
    if (retry.waiting >= maxPendingPublishes) {
      const text = `${maxPendingPublishes} calls wait for the broker to come back already`;
      this.fail(new RivuletError('LIMIT_EXCEEDED', text, { cause }));
      return false;
    }
    this.#waits = true;
    retry.waiting++;
    return true;
  }

  fail(error: unknown): void {
    if (this.#end()) this.#reject(error);
  }

  #end(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#cancelTimeout?.();
    this.#cancelPause?.();
    if (this.#waits) this.#retry.waiting--;
    if (this.#abort !== null) this.#work.signal?.removeEventListener('abort', this.#abort);
    this.#queue?.remove(this);
    this.#retry.ended(this);
    this.#work.ended?.();
    return true;
  }
}
