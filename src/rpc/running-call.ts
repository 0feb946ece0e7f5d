/**
 * One call that a server runs: from the request's bytes to the handler, and from its result to the reply.
 *
 * Invariants: the call ends once, by its reply, its error, its deadline or its caller; the handler runs
 * at most once, after the request was decoded and validated, and within the call's scope; a call that
 * has ended sends nothing more, and what its handler gave is returned, also while it is waited for. Cost: a unary call with a plain result is this object, its context and
 * one entry in the list of deadlines; a handler that returns a promise adds that promise's `then`.
 */

import {
  currentScope,
  type HandlerFrame,
  runInScope,
  type Scope,
} from '../broker/dispatch/scope.ts';
import type { Codec } from '../codec/codec.ts';
import { validate } from '../codec/standard-schema.ts';
import { RivuletError } from '../errors.ts';
import { READY } from '../flow/ready.ts';
import { type IncomingCall, type MethodKind, NO_METADATA } from '../transport/transport.ts';
import type { Expiring, Timeout, Timeouts } from '../util/time/timeouts.ts';
import { type ContextCall, type ContextHost, ServerContext } from './context.ts';
import type { AnyMethod } from './contract.ts';
import { failureOf } from './errors-wire.ts';
import type { StreamHandler, UnaryHandler } from './handlers.ts';
import { Metadata } from './metadata.ts';
import { type OpenSpan, type Tracer, traceOf } from './seen/spans.ts';
import { type ServerWrapper, wrapServer } from './wrappers.ts';

export interface Endpoint {
  readonly method: AnyMethod;
  readonly handler: UnaryHandler | StreamHandler;
  /** Not advertised in the registry: Debug and the like. */
  readonly internal: boolean;
}

/** What a server lends to its calls. */
export interface CallHost extends ContextHost {
  readonly timeouts: Timeouts;
  readonly tracer: Tracer | null;
  readonly wrappers: readonly ServerWrapper[];
  /** Largest message that is taken or sent. */
  readonly maxMessageBytes: number;
  /** The call has ended; null for one that succeeded. */
  ended(call: RunningCall, error: unknown): void;
}

export class RunningCall implements Scope, Expiring, ContextCall {
  readonly incoming: IncomingCall;
  readonly endpoint: Endpoint;
  /** Monotonic milliseconds. */
  readonly startedAt: number;
  readonly deadline: number;
  readonly span: OpenSpan | null;
  readonly kind: MethodKind;
  readonly metadata: Metadata;
  /** Over the broker the call runs in the handler of its responder. */
  readonly handler: HandlerFrame | null;
  readonly #host: CallHost;
  readonly #codec: Codec;
  readonly #context: ServerContext;
  readonly #timeoutMs: number | null;
  #timeout: Timeout | null = null;
  #isOver = false;
  /** What the handler of a stream gave, until it has ended. */
  #items: AsyncIterator<unknown> | null = null;
  #trace: Readonly<Record<string, string>> | null = null;

  constructor(
    host: CallHost,
    incoming: IncomingCall,
    endpoint: Endpoint,
    codec: Codec,
    startedAt: number,
  ) {
    const { method, internal } = endpoint;
    this.#host = host;
    this.incoming = incoming;
    this.endpoint = endpoint;
    this.#codec = codec;
    this.startedAt = startedAt;
    // A caller without a deadline gets the method's, where it has one.
    this.#timeoutMs = timeoutOf(incoming.timeoutMs) ?? method.options.timeoutMs ?? null;
    this.deadline =
      this.#timeoutMs === null ? Number.POSITIVE_INFINITY : startedAt + this.#timeoutMs;
    this.kind = method.kind;
    this.handler = currentScope()?.handler ?? null;
    this.metadata = Metadata.fromWire(incoming.metadata);
    const { tracer } = host;
    this.span =
      tracer === null || internal
        ? null
        : tracer.begin(incoming.endpoint, this.metadata.get('traceparent'), startedAt);
    this.#context = new ServerContext(host, this);
  }

  signal(): AbortSignal {
    return this.#context.signal;
  }

  get trace(): Readonly<Record<string, string>> | null {
    if (this.span === null) return null;
    this.#trace ??= traceOf(this.span, this.incoming.metadata);
    return this.#trace;
  }

  run(): void {
    this.incoming.onCancel((reason) => {
      this.#abort(reason);
      this.#finish(reason);
    });
    if (this.#isOver) return;
    if (this.#timeoutMs !== null) {
      this.#timeout = this.#host.timeouts.start(this.#timeoutMs, this, this.startedAt);
    }
    const { tracer } = this.#host;
    if (this.span !== null && tracer?.isExternal(this.incoming.metadata)) {
      tracer.run(this.span, this.incoming.metadata, () => runInScope(this, invoke, this));
    } else runInScope(this, invoke, this);
  }

  /** The deadline has passed. */
  expire(): void {
    const text = `${this.incoming.endpoint} did not end within ${Math.round(this.#timeoutMs ?? 0)} ms`;
    const error = new RivuletError('TIMEOUT', text);
    this.#abort(error);
    if (this.#finish(error)) this.incoming.fail(failureOf(error, this.#host.name, null));
  }

  /** What the handler does at the abort belongs to its call, whatever ended that. */
  #abort(reason: RivuletError): void {
    runInScope(this, abort, this, reason);
  }

  /** @internal Within the scope of the call. */
  abortWithin(reason: RivuletError): void {
    this.#context.abort(reason);
    this.#leaveItems().catch(() => {});
  }

  /** A source of events then ends the wait; a generator ends when what it waits for has come. */
  async #leaveItems(): Promise<void> {
    const items = this.#items;
    this.#items = null;
    await items?.return?.();
  }

  /** The handler's next message. Its iterator is not returned after it has ended or failed. */
  async #nextItem(items: AsyncIterator<unknown>): Promise<IteratorResult<unknown>> {
    try {
      const result = await items.next();
      if (result.done) this.#items = null;
      return result;
    } catch (error) {
      this.#items = null;
      throw error;
    }
  }

  /** @internal Within the scope of the call. */
  invoke(): void {
    const { method } = this.endpoint;
    try {
      const { body } = this.incoming;
      if (method.kind === 'clientStream' || method.kind === 'bidi') {
        this.#handle(this.#messages());
      } else if (body === null || method.request.schema !== null) {
        this.#request(body).then(
          (request) => this.#handle(request),
          (error) => this.#fail(error),
        );
      } else this.#handle(this.#decode(body));
    } catch (error) {
      this.#fail(error);
    }
  }

  #handle(request: unknown): void {
    const context = this.#context;
    const { wrappers } = this.#host;
    const { method } = this.endpoint;
    const handler = this.endpoint.handler as UnaryHandler;
    try {
      const result =
        wrappers.length === 0
          ? handler(request, context)
          : wrapServer(wrappers, context, (value) => handler(value, context))(request);
      if (method.kind === 'serverStream' || method.kind === 'bidi') {
        this.#stream(result).then(
          () => this.#finish(null),
          (error) => this.#fail(error),
        );
      } else if (isPromise(result)) {
        // The same promise, where it is one; a thenable may give another thenable, or call back twice.
        Promise.resolve(result).then(
          (value) => this.#reply(value),
          (error) => this.#fail(error),
        );
      } else this.#reply(result);
    } catch (error) {
      this.#fail(error);
    }
  }

  #reply(value: unknown): void {
    if (this.#isOver) return;
    const { contentType } = this.incoming;
    try {
      this.incoming.reply({
        contentType: contentType === '' ? 'application/json' : contentType,
        metadata: this.#context.writtenMetadata?.toWire() ?? NO_METADATA,
        body: this.#encode(value),
      });
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#finish(null);
  }

  /** A request that comes in a separate message, or has a schema. */
  async #request(given: Uint8Array | null): Promise<unknown> {
    let body = given;
    if (body === null) {
      for await (const message of this.incoming.messages) {
        body = message;
        break;
      }
      body ??= new Uint8Array(0);
    }
    const { schema } = this.endpoint.method.request;
    const value = this.#decode(body);
    return schema === null
      ? value
      : await validate(schema, value, `the request of ${this.incoming.endpoint}`);
  }

  #decode(body: Uint8Array): unknown {
    this.#checkSize(body, 'a message to');
    return this.#codec.decode(body, this.endpoint.method.request.type);
  }

  #encode(value: unknown): Uint8Array {
    const body = this.#codec.encode(value, this.endpoint.method.response.type);
    this.#checkSize(body, 'a message of');
    return body;
  }

  /** Values of calls within the process have no size. */
  #checkSize(body: Uint8Array, what: string): void {
    const most = this.#host.maxMessageBytes;
    if (this.incoming.carriesValues === true || !(body.length > most)) return;
    const text = `${what} ${this.incoming.endpoint} has ${body.length} bytes; at most ${most} are taken (maxMessageBytes)`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }

  async *#messages(): AsyncGenerator<unknown, void, void> {
    const { schema } = this.endpoint.method.request;
    const { messages, endpoint } = this.incoming;
    for await (const message of messages) {
      const value = this.#decode(message);
      yield schema === null ? value : await validate(schema, value, `a message to ${endpoint}`);
    }
  }

  async #stream(result: unknown): Promise<void> {
    const call = this.incoming;
    const context = this.#context;
    const items = iteratorOf(await result, call.endpoint);
    this.#items = items;
    let isFirst = true;
    try {
      while (!context.isAborted) {
        const { done, value: item } = await this.#nextItem(items);
        if (done || context.isAborted) break;
        if (isFirst && context.writtenMetadata !== null) {
          call.head({ contentType: call.contentType, metadata: context.writtenMetadata.toWire() });
        }
        isFirst = false;
        const sent = call.send(this.#encode(item));
        if (sent !== READY) await sent;
      }
    } catch (error) {
      // A send that failed because the caller left is no failure of the handler.
      if (context.isAborted) return;
      throw error;
    } finally {
      // What it says to it changes nothing any more.
      await this.#leaveItems().catch(() => {});
    }
    if (context.isAborted) return;
    call.end(isFirst ? (context.writtenMetadata?.toWire() ?? NO_METADATA) : NO_METADATA);
  }

  #fail(error: unknown): void {
    if (this.#finish(error)) this.incoming.fail(failureOf(error, this.#host.name, this.#codec));
  }

  /** False where the call had ended. */
  #finish(error: unknown): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#timeout?.cancel();
    this.#host.ended(this, error);
    return true;
  }
}

function invoke(call: RunningCall): void {
  call.invoke();
}

function abort(call: RunningCall, reason: RivuletError): void {
  call.abortWithin(reason);
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}

/** What a peer said, as far as a timer can wait; null for no number. */
function timeoutOf(ms: number | null): number | null {
  if (ms === null || Number.isNaN(ms)) return null;
  return Math.min(ms, MAX_TIMEOUT_MS);
}

const MAX_TIMEOUT_MS = 2 ** 31 - 1;

function iteratorOf(result: unknown, endpoint: string): AsyncIterator<unknown> {
  if (typeof result === 'object' && result !== null) {
    if (Symbol.asyncIterator in result) {
      return (result as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    }
    if (Symbol.iterator in result) return oneByOne(result as Iterable<unknown>);
  }
  const text = `the handler of ${endpoint} must return an async iterable: write it as async *${endpoint.split('.')[1]}()`;
  throw new RivuletError('INTERNAL', text);
}

/** The items of a list or another iterable; what is a promise is awaited. */
async function* oneByOne(items: Iterable<unknown>): AsyncGenerator<unknown, void, void> {
  yield* items;
}
