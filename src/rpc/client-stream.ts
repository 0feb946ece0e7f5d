/**
 * Streaming calls at the client: requests go out as they may, replies are read as they come.
 *
 * Invariants: the caller's iterable is read no faster than the server takes messages; when the call
 * ends, by either side, the iterable's `return` is called; leaving the loop over the replies cancels
 * the handler; a stream is never attempted again once a message has left; the node is marked when the
 * call ends, read or not, and one that has answered is sound, however much was read. Cost: per message one
 * encoding or decoding, and one promise for what has come already.
 */
import { shown } from '../client/option-table.ts';
import type { Codec } from '../codec/codec.ts';
import { validate } from '../codec/standard-schema.ts';
import { RivuletError } from '../errors.ts';
import { READY } from '../flow/ready.ts';
import { ReceiveQueue } from '../flow/receive-queue.ts';
import type { Call, OutgoingCall } from '../transport/transport.ts';
import { errorText } from '../util/error-text.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import type { Attempt, AttemptSource, CallTarget } from './attempt.ts';
import { asServiceError } from './errors-wire.ts';
import type { ReplyStream } from './handlers.ts';
import { Metadata } from './metadata.ts';
import { isFree, isNodeless, NONE, OK, outcomeOf } from './outcome.ts';
import { settleSoon } from './policies/ends.ts';
import type { ServiceError } from './service-error.ts';

export interface StreamRequest extends CallTarget {
  /** The one request of a server stream, else the iterable of requests. */
  readonly request: unknown;
  readonly metadata: Metadata;
  /** What is wrong with the call itself: it is not sent. */
  readonly failure?: unknown;
}

/** How long a reader waits for the next message before it takes the peer for dead. */
const IDLE_MS = 60_000;

export function openStream(
  client: AttemptSource,
  request: StreamRequest,
  onEnd: (error: unknown) => void,
): ReplyStream<unknown> | Promise<unknown> {
  const stream = new Replies(client, request, onEnd);
  return request.method.kind === 'clientStream' ? onlyReply(stream, request.endpoint) : stream;
}

/** The reply counts when the call has ended well: a peer may send one and fail. */
async function onlyReply(stream: Replies, endpoint: string): Promise<unknown> {
  const first = await stream.next();
  if (!first.done && (await stream.next()).done) return first.value;
  stream.cancel();
  const text = first.done
    ? `${endpoint} ended without a reply`
    : `${endpoint} gave more than one reply`;
  throw asServiceError(new RivuletError('PROTOCOL', text), null, null);
}

interface Opened {
  readonly call: Call;
  readonly codec: Codec;
}

class Replies implements ReplyStream<unknown> {
  readonly metadata: Promise<Metadata>;
  readonly #request: StreamRequest;
  readonly #onEnd: (error: unknown) => void;
  readonly #opening: Promise<Opened>;
  #opened: Opened | null = null;
  /** Reads that wait: what came meanwhile is theirs. */
  #reads = 0;
  #call: Call | null = null;
  /** Ends the wait for a node or a channel. */
  #stopOpening: (error: RivuletError) => void = () => {};
  /** Marks the node; null before it is there, and once it is done. */
  #done: Attempt['done'] | null = null;
  #hasAnswered = false;
  /** The reader has received the end or the error. */
  #isOver = false;
  /** The call has ended, read or not. */
  #hasEnded = false;
  #isCancelled = false;
  /** The caller's messages while there may be more. */
  #requests: AsyncIterator<unknown> | null = null;
  /** Monotonic milliseconds at which the reader began to wait; null while it does not. */
  #waitingSince: number | null = null;
  #sentAt = Number.NEGATIVE_INFINITY;
  #stopIdle: () => void = () => {};
  readonly #now: () => number;
  readonly #maxBytes: number;

  constructor(client: AttemptSource, request: StreamRequest, onEnd: (error: unknown) => void) {
    this.#request = request;
    this.#onEnd = onEnd;
    this.#now = () => client.scheduler.monotonic();
    this.#maxBytes = client.maxMessageBytes;
    this.#opening = new Promise((resolve, reject) => {
      this.#stopOpening = reject;
      this.#open(client).then(
        (opened) => {
          this.#opened = opened;
          resolve(opened);
        },
        (error) => settleSoon(() => reject(error)),
      );
    });
    this.metadata = this.#opening.then(async ({ call }) => {
      const { metadata } = await call.head;
      const trailers = Object.keys(metadata).length === 0 ? await call.trailers : metadata;
      return Metadata.fromWire(trailers);
    });
    // A caller that reads only the replies gets the failure there.
    this.metadata.catch(() => {});
    this.#opening.catch((error) => this.#onEnd(this.#isCancelled ? null : error));
  }

  next(): Promise<IteratorResult<unknown>> {
    const opened = this.#opened;
    const { response } = this.#request.method;
    if (opened !== null && this.#reads === 0 && response.schema === null) {
      const { messages } = opened.call;
      const body = messages instanceof ReceiveQueue ? messages.take() : undefined;
      if (body !== undefined) {
        try {
          this.#checkSize(body, 'a reply of');
          const value = opened.codec.decode(body, response.type);
          return Promise.resolve({ done: false, value });
        } catch (error) {
          return Promise.reject(this.#failed(error, opened.codec));
        }
      }
    }
    return this.#nextLater();
  }

  async #nextLater(): Promise<IteratorResult<unknown>> {
    const { method, endpoint } = this.#request;
    let codec: Codec | null = null;
    this.#waitingSince = this.#now();
    this.#reads++;
    try {
      const opened = await this.#opening;
      codec = opened.codec;
      const { done, value } = await opened.call.messages.next();
      this.#waitingSince = null;
      if (done) {
        this.#finish(null);
        return { done: true, value: undefined };
      }
      this.#hasAnswered = true;
      this.#checkSize(value, 'a reply of');
      const decoded = codec.decode(value, method.response.type);
      const { schema } = method.response;
      const item =
        schema === null ? decoded : await validate(schema, decoded, `a reply of ${endpoint}`);
      return { done: false, value: item };
    } catch (error) {
      throw this.#failed(error, codec);
    } finally {
      this.#reads--;
    }
  }

  /** Ends the call for its reader. A call that never opened has reported its end already. */
  #failed(error: unknown, codec: Codec | null): ServiceError {
    if (this.#call !== null && codec !== null) this.#finish(error);
    this.cancel();
    return asServiceError(error, this.#request.method, codec);
  }

  async return(): Promise<IteratorResult<unknown>> {
    this.cancel();
    await this.#opening.then(
      () => this.#finish(null),
      () => {},
    );
    return { done: true, value: undefined };
  }

  cancel(): void {
    if (this.#isCancelled) return;
    this.#isCancelled = true;
    if (!this.#hasEnded) this.#call?.cancel();
    // Without effect once it is open.
    const text = `the caller of ${this.#request.endpoint} left before it was sent`;
    if (this.#call === null) this.#stopOpening(new RivuletError('ABORTED', text, { sent: 'no' }));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Values of calls within the process have no size. */
  #checkSize(body: unknown, what: string): void {
    if (!(body instanceof Uint8Array) || body.length <= this.#maxBytes) return;
    const text = `${what} ${this.#request.endpoint} has ${body.length} bytes; at most ${this.#maxBytes} are taken (maxMessageBytes)`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }

  async #open(client: AttemptSource): Promise<Opened> {
    const { endpoint, method, failure } = this.#request;
    if (failure !== undefined) throw failure;
    client.policies.rateLimits.pass(endpoint, method);
    client.policies.budget.earn();
    const deadline = client.deadlineOf(this.#request);
    let next = await client.nodes(this.#request, deadline);
    let isFresh = false;
    for (let number = 1; ; number++) {
      try {
        const attempt = await client.attempt(this.#request, next, deadline);
        return await this.#begin(client, attempt, deadline);
      } catch (error) {
        if (!isFresh && !this.#isCancelled && isNodeless(error)) {
          isFresh = true;
          number--;
          next = await client.nodes(this.#request, deadline);
          continue;
        }
        if (!this.#mayRetry(client, error, number, deadline)) throw error;
      }
    }
  }

  /**
   * One attempt. A server stream has begun when its head is there, so that a node that refuses it has
   * another one asked; the others have begun when they are sent, because their requests are read once.
   */
  async #begin(client: AttemptSource, attempt: Attempt, deadline: number): Promise<Opened> {
    const { service, endpoint, method, request, metadata, signal } = this.#request;
    const { channel, codec, contentType, done, answered } = attempt;
    try {
      if (this.#isCancelled) {
        throw new RivuletError('ABORTED', `the caller of ${endpoint} left`, { sent: 'no' });
      }
      const isServerStream = method.kind === 'serverStream';
      const body = isServerStream ? codec.encode(request, method.request.type) : null;
      this.#checkSize(body, 'the request to');
      const outgoing: OutgoingCall = {
        service,
        endpoint,
        kind: method.kind,
        contentType,
        metadata: metadata.toWire(),
        timeoutMs: client.left(deadline, endpoint),
        signal: signal ?? null,
        body,
      };
      const call = channel.call(outgoing);
      this.#call = call;
      this.#watchIdle(client.scheduler, call);
      if (isServerStream) await call.head;
      else void this.#sendAll(call, codec, request);
      this.#done = done;
      call.head.then(
        () => {
          this.#hasAnswered = true;
          answered?.();
        },
        () => {},
      );
      call.trailers.then(
        () => this.#ended(null),
        (error) => this.#ended(error),
      );
      return { call, codec };
    } catch (error) {
      this.#stopIdle();
      done(this.#isCancelled || signal?.aborted ? NONE : outcomeOf(error), error);
      throw asServiceError(error, method, codec);
    }
  }

  /** Only what provably reached no handler is sent again. */
  #mayRetry(client: AttemptSource, error: unknown, number: number, deadline: number): boolean {
    const { method, signal } = this.#request;
    return (
      error instanceof RivuletError &&
      error.retryable &&
      error.sent === 'no' &&
      error.code !== 'CIRCUIT_OPEN' &&
      !signal?.aborted &&
      !this.#isCancelled &&
      number < client.attemptsOf(method) &&
      client.scheduler.monotonic() < deadline &&
      (isFree(error) || client.policies.budget.take())
    );
  }

  /** Ends a stream whose reader has waited too long without a message in either direction. */
  #watchIdle(scheduler: Scheduler, call: Call): void {
    const { idleTimeoutMs = IDLE_MS } = this.#request.method.options;
    if (idleTimeoutMs === Number.POSITIVE_INFINITY) return;
    const look = () => {
      const now = scheduler.monotonic();
      const since = this.#waitingSince === null ? now : Math.max(this.#waitingSince, this.#sentAt);
      const left = since + idleTimeoutMs - now;
      if (left > 0) {
        this.#stopIdle = scheduler.after(left, look, false);
        return;
      }
      const text = `${this.#request.endpoint} sent nothing for ${idleTimeoutMs} ms (idleTimeoutMs)`;
      call.cancel(new RivuletError('TIMEOUT', text));
    };
    this.#stopIdle = scheduler.after(idleTimeoutMs, look, false);
  }

  async #sendAll(call: Call, codec: Codec, requests: unknown): Promise<void> {
    const { method, endpoint } = this.#request;
    try {
      const iterator = iteratorOf(requests, endpoint);
      this.#requests = iterator;
      for (;;) {
        const { done, value } = await this.#nextRequest(iterator);
        if (this.#hasEnded || this.#isOver) return;
        if (done) break;
        const body = codec.encode(value, method.request.type);
        this.#checkSize(body, 'a message to');
        const sent = call.send(body);
        if (sent !== READY) await sent;
        this.#sentAt = this.#now();
        if (this.#hasEnded || this.#isOver) return;
      }
      call.end();
    } catch (error) {
      this.#leaveRequests();
      // The peer ended the call: its own outcome stands. Else the caller's iterable failed.
      if (this.#isOver || this.#hasEnded) return;
      const known = error instanceof RivuletError ? error : null;
      const text = `the caller's stream to ${endpoint} failed: ${errorText(error)}`;
      call.cancel(known ?? new RivuletError('ABORTED', text, { cause: error }));
    }
  }

  /** The iterator's `return` is not called after it has ended or failed. */
  async #nextRequest(iterator: AsyncIterator<unknown>): Promise<IteratorResult<unknown>> {
    try {
      const result = await iterator.next();
      if (result.done) this.#requests = null;
      return result;
    } catch (error) {
      this.#requests = null;
      throw error;
    }
  }

  /** Also where it is waited for: a source of events then ends the wait. */
  #leaveRequests(): void {
    const requests = this.#requests;
    this.#requests = null;
    if (requests === null) return;
    // What the caller's iterable says to it changes nothing any more.
    (async () => requests.return?.())().catch(() => {});
  }

  /** The call is over; the reader may have yet to learn how. */
  #ended(error: unknown): void {
    this.#hasEnded = true;
    // The reader may never come.
    this.#request.endSignal?.();
    this.#stopIdle();
    this.#leaveRequests();
    this.#mark(error);
    // A reader that left asks for nothing more.
    if (this.#isCancelled) this.#finish(null);
  }

  /** Tells how it ended, as its reader learnt it. */
  #finish(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopIdle();
    this.#leaveRequests();
    this.#mark(error);
    this.#onEnd(error);
  }

  #mark(error: unknown): void {
    const done = this.#done;
    this.#done = null;
    if (done === null) return;
    if (error === null || this.#isCancelled) {
      done(this.#isCancelled && !this.#hasAnswered ? NONE : OK);
    } else done(this.#request.signal?.aborted ? NONE : outcomeOf(error), error);
  }
}

function iteratorOf(items: unknown, endpoint: string): AsyncIterator<unknown> {
  const given = items as Partial<AsyncIterable<unknown> & Iterable<unknown>> | null | undefined;
  const asynchronous = given?.[Symbol.asyncIterator]?.();
  if (asynchronous !== undefined) return asynchronous;
  if (given?.[Symbol.iterator] !== undefined) return oneByOne(given as Iterable<unknown>);
  const text = `the requests of ${endpoint} are an iterable, not ${shown(items)}`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}

async function* oneByOne(items: Iterable<unknown>): AsyncGenerator<unknown, void, void> {
  yield* items;
}
