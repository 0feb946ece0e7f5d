/**
 * Retries calls through an outage of the broker, until their time is up.
 *
 * Calls of one queue (the publishes of one topic) keep their order: while a call waits for its next
 * attempt, later calls wait behind it. The first one is tried alone; after it has succeeded the others
 * are sent, in order and without waiting for one another. None is sent while the first attempt of an
 * earlier call has no answer: that one may fail yet, and would then come after it.
 * Invariants: a call ends once: with its result, its error, its abort, or NOT_CONNECTED and the last
 * cause; at most `maxPendingPublishes` wait between attempts, further ones fail at once; a queue has one
 * timer, and exists while calls wait in it.
 * Cost: every publish passes here; one that succeeds at first costs one object, one deadline and one
 * promise.
 */
import { type ErrorCode, RivuletError } from '../../errors.ts';
import type { Expiring, Timeout, Timeouts } from '../../util/time/timeouts.ts';
import { type BrokerOptions, backoffMs } from '../options/options.ts';

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
    throw new RivuletError('ABORTED', 'the signal was aborted before the call', {
      cause: signal.reason,
    });
  }
}

export interface RetryableCall<V, T> {
  /** For its errors: what was to be done. */
  readonly what: string;
  /** Calls of the same queue keep their order; null = this call waits for no other. */
  readonly queue: string | null;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | null;
  /** Calls `done` or `failed` once, or throws. Callbacks: a promise more would cost as much as all else. */
  attempt(done: (value: V) => void, failed: (error: unknown) => void): void;
  /** The caller's result, made of the attempt's. */
  resultOf(value: V): T;
  /** Called once when the call has succeeded, failed or was aborted. */
  ended?(): void;
}

export class OutageRetry {
  readonly timeouts: Timeouts;
  /** A function, because options may change until connect. */
  readonly options: () => BrokerOptions;
  /** The error that ends waiting calls; null while they may be retried. */
  readonly expired: (cause: unknown) => RivuletError | null;
  /** How many calls wait for the end of an outage. */
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
    this.expired = over;
  }

  /** Runs the call's attempt until it succeeds. */
  wait<V, T>(work: RetryableCall<V, T>): Promise<T> {
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

  ended(call: object, queue: string | null): void {
    this.#calls.delete(call as Call<unknown, unknown>);
    if (queue !== null && this.#queues.size > 0) this.#queues.get(queue)?.othersEnded();
  }

  /** The place in the order of the earliest call of that queue whose first attempt has no answer. */
  earliestUnanswered(queue: string): number {
    for (const call of this.#calls) if (call.isUnanswered(queue)) return call.order;
    return Number.POSITIVE_INFINITY;
  }

  /** The queue of that name, if calls wait in it. */
  queue(name: string): RetryQueue | undefined {
    return this.#queues.get(name);
  }

  queueFor(name: string): RetryQueue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = new RetryQueue(this, name, () => this.#queues.delete(name));
      this.#queues.set(name, queue);
    }
    return queue;
  }
}

/**
 * How an attempt ended. `answered`: the broker has taken or refused the call. `again`: another attempt has
 * to follow. `over`: the call was aborted, or its time was up, before there was an answer.
 */
type AttemptEnd = 'answered' | 'again' | 'over';

interface Queued {
  readonly order: number;
  /** Tries again. Calls `done` once, as soon as the call has ended, whatever becomes of the attempt. */
  attempt(done: (end: AttemptEnd) => void): void;
}

/** The waiting calls of one queue, in order. */
class RetryQueue {
  readonly #retry: OutageRetry;
  readonly #name: string;
  readonly #empty: () => void;
  readonly #waiting: Queued[] = [];
  #failures = 0;
  /** How many attempts run. */
  #trying = 0;
  #probing = false;
  /** The first call waits for an earlier one, which has not waited yet. */
  #isBehindOthers = false;
  #cancelTimer: (() => void) | null = null;

  constructor(retry: OutageRetry, name: string, empty: () => void) {
    this.#retry = retry;
    this.#name = name;
    this.#empty = empty;
  }

  /** Whether a new call has to wait behind others. */
  get blocked(): boolean {
    return this.#waiting.length > 0 || this.#probing;
  }

  /** Inserts it by the order of the calls. */
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

  /** A call of this queue has ended, perhaps the one that the first one waits for. */
  othersEnded(): void {
    if (!this.#isBehindOthers || this.#trying > 0) return;
    this.#isBehindOthers = false;
    this.#later();
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

  /** Tries the first call alone. When it has succeeded, tries all others. */
  #probe(): void {
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#check();
      return;
    }
    this.#isBehindOthers = first.order > this.#retry.earliestUnanswered(this.#name);
    if (this.#isBehindOthers) return;
    this.#waiting.shift();
    this.#trying++;
    this.#probing = true;
    first.attempt((end) => {
      this.#trying--;
      this.#probing = false;
      if (end === 'answered') this.#flush();
      else if (end === 'again') this.add(first);
      else {
        this.#later();
        this.#check();
      }
    });
  }

  #flush(): void {
    this.#failures = 0;
    const end = this.#retry.earliestUnanswered(this.#name);
    const count = this.#waiting.findIndex(({ order }) => order > end);
    const all = this.#waiting.splice(0, count < 0 ? this.#waiting.length : count);
    let failed = false;
    for (const call of all) {
      if (failed) {
        this.add(call);
        continue;
      }
      this.#trying++;
      call.attempt((end) => {
        this.#trying--;
        if (end === 'again') {
          failed = true;
          this.add(call);
        }
        if (this.#trying === 0) this.#later();
        this.#check();
      });
    }
    if (this.#trying === 0) this.#later();
    this.#check();
  }

  #check(): void {
    if (this.#waiting.length > 0 || this.#trying > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#empty();
  }
}

class Call<V, T> implements Queued, Expiring {
  readonly order: number;
  readonly #retry: OutageRetry;
  readonly #work: RetryableCall<V, T>;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  #over = false;
  #waits = false;
  #queue: RetryQueue | null = null;
  #attempt = 0;
  #lastError: unknown;
  #abort: (() => void) | null = null;
  #timeout: Timeout | null = null;
  #cancelPause: (() => void) | null = null;
  /** An attempt runs. */
  #isTrying = false;
  /** The queue's, while an attempt of its runs. */
  #attemptDone: ((end: AttemptEnd) => void) | null = null;

  constructor(
    retry: OutageRetry,
    work: RetryableCall<V, T>,
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
    this.#timeout = this.#retry.timeouts.start(timeoutMs, this);
    const before = queue === null ? undefined : this.#retry.queue(queue);
    if (before === undefined || !before.blocked) this.attempt(null);
    else this.#join(before, new RivuletError('NOT_CONNECTED', 'earlier calls wait for the broker'));
  }

  /** Whether this call belongs to the queue, and its own first attempt is unanswered. */
  isUnanswered(queue: string): boolean {
    return this.#isTrying && this.#attemptDone === null && this.#work.queue === queue;
  }

  /** Its time is up. */
  expire(): void {
    const { what, timeoutMs } = this.#work;
    // Without a failure before this one the broker was reached, and is slow or silent.
    const why =
      this.#lastError === undefined
        ? 'the broker has not answered'
        : 'the broker cannot be reached';
    const text = `${what} could not be done within ${timeoutMs} ms: ${why}`;
    this.fail(new RivuletError('NOT_CONNECTED', text, { cause: this.#lastError }));
  }

  attempt(done: ((end: AttemptEnd) => void) | null): void {
    if (this.#over) {
      done?.('over');
      return;
    }
    this.#attempt++;
    this.#attemptDone = done;
    this.#isTrying = true;
    try {
      this.#work.attempt(
        (value) => {
          const attempted = this.#takeDone();
          if (this.#end()) this.#succeed(value);
          attempted?.('answered');
        },
        (error) => this.#failed(error),
      );
    } catch (error) {
      this.#failed(error);
    }
  }

  /** What throws here would end the broker's own loop, which called back. */
  #succeed(value: V): void {
    try {
      this.#resolve(this.#work.resultOf(value));
    } catch (error) {
      this.#reject(error);
    }
  }

  #takeDone(): ((end: AttemptEnd) => void) | null {
    const done = this.#attemptDone;
    this.#attemptDone = null;
    return done;
  }

  #failed(error: unknown): void {
    if (this.#over) return;
    this.#isTrying = false;
    const done = this.#takeDone();
    if (!isOutage(error)) {
      this.fail(error);
      done?.('answered');
      return;
    }
    if (done !== null) {
      this.#lastError = error;
      const over = this.#retry.expired(error);
      if (over !== null) this.fail(over);
      done(over === null ? 'again' : 'over');
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

  /** False where the call may not wait for the end of the outage: then it has failed. */
  #mayWait(cause: unknown): boolean {
    const retry = this.#retry;
    const over = retry.expired(cause);
    if (over !== null) {
      this.fail(over);
      return false;
    }
    this.#lastError = cause;
    if (this.#waits) return true;
    const { maxPendingPublishes } = retry.options();
    if (retry.waiting >= maxPendingPublishes) {
      const text = `the broker cannot be reached, and ${maxPendingPublishes} calls wait for it already (maxPendingPublishes)`;
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
    this.#timeout?.cancel();
    this.#cancelPause?.();
    if (this.#waits) this.#retry.waiting--;
    if (this.#abort !== null) this.#work.signal?.removeEventListener('abort', this.#abort);
    this.#queue?.remove(this);
    this.#retry.ended(this, this.#work.queue);
    this.#work.ended?.();
    // An attempt that runs may never call back: the others of the queue do not wait for it.
    this.#takeDone()?.('over');
    return true;
  }
}
