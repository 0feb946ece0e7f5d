/**
 * A call with one request and one reply, with everything its method and its client ask for.
 *
 * In order: rate limit, cache, a place in the bulkhead, then attempts, each at another node, and perhaps
 * a hedge beside one. Invariants: the call ends within its deadline, waits included; it is attempted
 * again only where the last attempt provably ran no handler, or the method is idempotent, and the budget
 * has one left; each node that was chosen is marked once. Cost: one encoding, one frame, one decoding
 * and one promise.
 */
import { AsyncResource } from 'node:async_hooks';
import type { Codec } from '../codec/codec.ts';
import { validate } from '../codec/standard-schema.ts';
import { RivuletError } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Outcome } from '../selector/selector.ts';
import {
  CallError,
  type OutgoingCall,
  type Reply,
  type ReplyReceiver,
} from '../transport/transport.ts';
import { pause } from '../util/time/scheduler.ts';
import type { Attempt, AttemptSource, CallTarget } from './attempt.ts';
import { METADATA } from './context.ts';
import { asServiceError } from './errors-wire.ts';
import { Metadata } from './metadata.ts';
import { isFree, isNodeless, NONE, OK, outcomeOf } from './outcome.ts';
import { settleSoon } from './policies/ends.ts';
import { hedged } from './policies/hedge.ts';

const RETRY_MIN_MS = 20;
const RETRY_MAX_MS = 500;

export interface UnaryRequest extends CallTarget {
  readonly request: unknown;
  readonly metadata: Metadata;
}

export function callUnary(client: AttemptSource, request: UnaryRequest): Promise<unknown> {
  return new Promise((resolve, reject) => new UnaryCall(client, request, resolve, reject).begin());
}

/**
 * The first attempt runs without promises while all that it needs is there: nodes, channel, codec. What
 * has to wait, and every further attempt, goes on in `#attemptUntilDone`. Its end comes in the context of
 * a socket or a timer: what follows that may call the user's functions runs in the caller's context.
 */
class UnaryCall extends AsyncResource implements ReplyReceiver {
  readonly #client: AttemptSource;
  readonly #request: UnaryRequest;
  readonly #resolve: (value: unknown) => void;
  readonly #reject: (error: unknown) => void;
  /** Of the last attempt: what its error's data is written in. */
  #codec: Codec | null = null;
  /** Under which the answer is kept; null where it is not. */
  #key: string | null = null;
  #hasPlace = false;
  #deadline = 0;
  #bytes = 0;
  #attempts = 0;
  #mayHaveRun = false;
  /** The attempt that runs without promises. */
  #attempt: Attempt | null = null;
  #next: (() => ServiceNode) | null = null;

  constructor(
    client: AttemptSource,
    request: UnaryRequest,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    super('RivuletCall', { requireManualDestroy: true });
    this.#client = client;
    this.#request = request;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(): void {
    const { service, endpoint, method, request, metadata, options, signal } = this.#request;
    const { policies } = this.#client;
    try {
      this.#deadline = this.#client.deadlineOf(this.#request);
      const { cache } = method.options;
      // A caller that asks for certain nodes wants their answer, not another's.
      if (cache !== undefined && options.address === undefined && options.filters === undefined) {
        this.#key = policies.cache.keyOf(service, endpoint, request, metadata);
      }
      if (this.#key !== null) {
        const kept = policies.cache.get(method, this.#key);
        if (kept !== undefined) {
          this.#key = null;
          settleSoon(() => this.#succeed(kept.value));
          return;
        }
      }
      policies.rateLimits.pass(endpoint, method);
      const place = policies.bulkhead?.enter(service, this.#deadline, signal) ?? null;
      if (place !== null) {
        place.then(
          () => this.#enter(),
          (error) => this.#fail(error),
        );
        return;
      }
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#enter();
  }

  #enter(): void {
    this.#hasPlace = true;
    const { method } = this.#request;
    try {
      this.#client.policies.budget.earn(this.#request.startedAt);
      const next = this.#client.nodes(this.#request, this.#deadline);
      if (method.options.hedge !== undefined || next instanceof Promise) {
        this.#goOn(next);
        return;
      }
      this.#next = next;
      this.#attempts = 1;
      const attempt = this.#client.attempt(this.#request, next, this.#deadline);
      if (attempt instanceof Promise || attempt.channel.send === undefined) {
        this.#goOn(next, attempt);
        return;
      }
      this.#attempt = attempt;
      attempt.channel.send(
        this.#outgoing(attempt, this.#request.metadata, this.#request.signal),
        this,
      );
    } catch (error) {
      this.onFailure(error);
    }
  }

  onReply(reply: Reply): void {
    const { method, options } = this.#request;
    if (method.response.schema === null && options.onMetadata === undefined) this.#onReply(reply);
    else this.runInAsyncScope(this.#onReply, this, reply);
  }

  #onReply(reply: Reply): void {
    const attempt = this.#attempt as Attempt;
    const { response } = this.#request.method;
    try {
      let value = this.#read(reply, attempt.codec);
      if (response.schema !== null) {
        value = validate(response.schema, value, `the reply of ${this.#request.endpoint}`);
        if (value instanceof Promise) {
          value
            .then((valid) => this.#onValue(attempt, valid))
            .catch((error) => this.onFailure(error));
          return;
        }
      }
      this.#onValue(attempt, value);
    } catch (error) {
      this.onFailure(error);
    }
  }

  #onValue(attempt: Attempt, value: unknown): void {
    this.#attempt = null;
    attempt.done(OK, null);
    this.#succeed(value);
  }

  /** The attempt that ran without promises has failed, perhaps before it was sent. */
  onFailure(error: unknown): void {
    this.runInAsyncScope(this.#onFailure, this, error);
  }

  #onFailure(error: unknown): void {
    const attempt = this.#attempt;
    this.#attempt = null;
    let failure = error;
    try {
      attempt?.done(this.#request.signal?.aborted ? NONE : outcomeOf(error), error);
    } catch (thrown) {
      // The selector and `isFailure` may be the user's own: the call ends even where they throw.
      failure = thrown;
    }
    if (this.#next === null) this.#fail(failure);
    else this.#goOn(this.#next, Promise.reject(failure));
  }

  /** With promises: `first` is what became of the first attempt, where it has begun. */
  #goOn(
    next: (() => ServiceNode) | Promise<() => ServiceNode>,
    first?: Attempt | Promise<Attempt>,
  ): void {
    this.#attemptUntilDone(next, first).then(
      (value) => this.#succeed(value),
      (error) => this.#fail(this.#ofAllAttempts(error)),
    );
  }

  #succeed(value: unknown): void {
    const { policies } = this.#client;
    if (this.#key !== null) policies.cache.set(this.#request.method, this.#key, value, this.#bytes);
    if (this.#hasPlace) policies.bulkhead?.leave(this.#request.service);
    this.#resolve(value);
    this.#client.ended(this.#request, null);
  }

  #fail(thrown: unknown): void {
    if (this.#hasPlace) this.#client.policies.bulkhead?.leave(this.#request.service);
    const error = asServiceError(thrown, this.#request.method, this.#codec);
    settleSoon(() => this.#reject(error));
    this.#client.ended(this.#request, error);
  }

  /** The last attempt's error; an earlier attempt may have run a handler where the last ran none. */
  #ofAllAttempts(error: unknown): unknown {
    if (!this.#mayHaveRun || !(error instanceof RivuletError) || error.sent === 'maybe')
      return error;
    if (error instanceof CallError) return new CallError({ ...error.failure, sent: 'maybe' });
    return new RivuletError(error.code, error.message, { cause: error, sent: 'maybe' });
  }

  async #attemptUntilDone(
    given: (() => ServiceNode) | Promise<() => ServiceNode>,
    first?: Attempt | Promise<Attempt>,
  ): Promise<unknown> {
    const { endpoint, method, metadata, signal } = this.#request;
    let next = await given;
    let begun = first;
    let isFresh = false;
    const most = this.#client.attemptsOf(method);
    const { hedge } = method.options;
    for (;;) {
      try {
        if (begun !== undefined) {
          const attempt = begun;
          begun = undefined;
          return await this.#exchange(await attempt, metadata, signal);
        }
        if (hedge === undefined) return await this.#once(next, ++this.#attempts, signal);
        const mayHedge = () => this.#attempts < most && this.#client.policies.budget.take();
        return await hedged(this.#client.scheduler, hedge.afterMs, signal, mayHedge, (own) =>
          this.#once(next, ++this.#attempts, own),
        );
      } catch (error) {
        if (!(error instanceof RivuletError) || error.sent !== 'no') this.#mayHaveRun = true;
        if (!isFresh && isNodeless(error)) {
          // While this node was dialled, other nodes may have been registered: the selector is asked once more.
          isFresh = true;
          this.#attempts--;
          next = await this.#client.nodes(this.#request, this.#deadline);
          continue;
        }
        if (this.#attempts >= most || !this.#mayRetry(error)) throw error;
        await this.#waitForRetry(error);
        // The wait may have used up what was left; then the last attempt's error says more.
        if (this.#deadline <= this.#client.scheduler.monotonic()) throw error;
        if (!isFree(error) && !this.#client.policies.budget.take()) {
          throw withoutBudget(error, endpoint);
        }
      }
    }
  }

  /** One attempt, over an open channel or one that is dialled for it. */
  async #once(
    next: () => ServiceNode,
    number: number,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    let { metadata } = this.#request;
    if (number > 1) {
      // An attempt that still runs keeps its own metadata.
      metadata = new Metadata(metadata).set(METADATA.attempt, String(number));
    }
    const target = signal === this.#request.signal ? this.#request : { ...this.#request, signal };
    const attempt = await this.#client.attempt(target, next, this.#deadline);
    return this.#exchange(attempt, metadata, signal);
  }

  async #exchange(
    attempt: Attempt,
    metadata: Metadata,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const { endpoint, method } = this.#request;
    const { channel, codec, done } = attempt;
    let outcome: Outcome = OK;
    let failure: unknown = null;
    try {
      const reply = await channel.request(this.#outgoing(attempt, metadata, signal));
      const value = this.#read(reply, codec);
      const { schema } = method.response;
      return schema === null ? value : await validate(schema, value, `the reply of ${endpoint}`);
    } catch (error) {
      failure = error;
      outcome = signal?.aborted ? NONE : outcomeOf(error);
      throw error;
    } finally {
      done(outcome, failure);
    }
  }

  #outgoing(
    { codec, contentType }: Attempt,
    metadata: Metadata,
    signal: AbortSignal | undefined,
  ): OutgoingCall {
    const { service, endpoint, method, request } = this.#request;
    this.#codec = codec;
    const body = codec.encode(request, method.request.type);
    this.#checkSize(body, 'the request to');
    return {
      service,
      endpoint,
      kind: 'unary',
      contentType,
      metadata: metadata.toWire(),
      timeoutMs: this.#client.left(this.#deadline, endpoint),
      signal: signal ?? null,
      body,
    };
  }

  /** The value of a reply, not yet validated. */
  #read(reply: Reply, codec: Codec): unknown {
    const { options, method } = this.#request;
    this.#bytes = reply.body?.length ?? 0;
    this.#checkSize(reply.body, 'the reply of');
    options.onMetadata?.(Metadata.fromWire(reply.metadata));
    return codec.decode(reply.body, method.response.type);
  }

  /** Values of calls within the process have no size. */
  #checkSize(body: unknown, what: string): void {
    if (!(body instanceof Uint8Array)) return;
    const most = this.#client.maxMessageBytes;
    if (body.length <= most) return;
    const text = `${what} ${this.#request.endpoint} has ${body.length} bytes; at most ${most} are taken (maxMessageBytes)`;
    throw new RivuletError('BODY_TOO_LARGE', text, {
      sent: what === 'the reply of' ? 'maybe' : 'no',
    });
  }

  #mayRetry(error: unknown): boolean {
    if (this.#client.isClosed || this.#request.signal?.aborted) return false;
    if (!(error instanceof RivuletError) || !error.retryable) return false;
    // It opens again later than any retry waits.
    if (error.code === 'CIRCUIT_OPEN') return false;
    return error.sent === 'no' || this.#request.method.options.idempotent === true;
  }

  /** Waits with jitter, or throws the error of the last attempt when there is no time for another. */
  async #waitForRetry(error: unknown): Promise<void> {
    const { scheduler } = this.#client;
    const { minMs = RETRY_MIN_MS, maxMs = RETRY_MAX_MS } = this.#request.method.options.retry ?? {};
    const full = Math.min(maxMs, minMs * 2 ** (this.#attempts - 1));
    const wait = full * (0.5 + scheduler.fraction() / 2);
    if (scheduler.monotonic() + wait >= this.#deadline) throw error;
    await pause(scheduler, wait, this.#request.signal).catch(() => {
      throw error;
    });
  }
}

/** The error of the last attempt, which says why there is no further one. */
function withoutBudget(error: unknown, endpoint: string): unknown {
  if (error instanceof Error && !error.message.includes('retry budget')) {
    error.message += ` (not repeated: the retry budget is used up, ${endpoint})`;
  }
  return error;
}
