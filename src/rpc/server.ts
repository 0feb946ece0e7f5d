/**
 * go-micro's Server: the endpoints of a service and what happens to a call that reaches it.
 *
 * Holds: per endpoint its method and handler, and how many calls run. Invariants: each call ends
 * once; a handler runs at most once per call; a request is decoded and validated before the handler
 * sees it; a deadline ends the call on this side too, and its handler's signal; while draining,
 * calls are refused with UNAVAILABLE, `sent: 'no'`. Bound: `maxConcurrentCalls`. Cost: a unary call
 * without wrappers and deadline is two promises.
 */
import { Codecs } from '../codec/by-content-type.ts';
import type { Codec } from '../codec/codec.ts';
import { validate } from '../codec/standard-schema.ts';
import { copyCodec, shareCodec } from '../codec/value.ts';
import { RivuletError } from '../errors.ts';
import type { ServiceEndpoint } from '../registry/registry.ts';
import { type IncomingCall, NO_METADATA } from '../transport/transport.ts';
import type { Scheduler } from '../util/scheduler.ts';
import { systemScheduler } from '../util/system-scheduler.ts';
import { Timeouts } from '../util/timeouts.ts';
import { type Ambient, runWithin } from './ambient.ts';
import { type Log, quietLog, ServerContext } from './context.ts';
import { type AnyMethod, type Contract, contractName, isEndpoint, methodsOf } from './contract.ts';
import { failureOf } from './errors-wire.ts';
import type { HandlersOf, StreamHandler, UnaryHandler } from './handlers.ts';
import { Metadata } from './metadata.ts';
import { type ServerWrapper, wrapServer } from './wrappers.ts';

export interface ServerOptions {
  /** Registry name of the service. */
  readonly name: string;
  readonly codecs?: Codecs;
  readonly scheduler?: Scheduler;
  readonly log?: Log;
  readonly wrappers?: readonly ServerWrapper[];
  /** Calls that run at once; more are refused with LIMIT_EXCEEDED. Default 10 000. */
  readonly maxConcurrentCalls?: number;
  /** Called when a call has ended, for statistics and the access log. */
  readonly onCall?: (call: CallRecord) => void;
}

export interface CallRecord {
  readonly endpoint: string;
  readonly peer: string;
  readonly ms: number;
  /** Null when it succeeded. */
  readonly error: unknown;
}

interface Endpoint {
  readonly method: AnyMethod;
  readonly handler: UnaryHandler | StreamHandler;
  /** Not advertised in the registry: Debug and its kin. */
  readonly internal: boolean;
}

export class Server {
  readonly name: string;
  readonly codecs: Codecs;
  readonly #scheduler: Scheduler;
  readonly #timeouts: Timeouts;
  readonly #log: Log;
  readonly #wrappers: readonly ServerWrapper[];
  readonly #max: number;
  readonly #onCall: ((call: CallRecord) => void) | null;
  readonly #endpoints = new Map<string, Endpoint>();
  #running = 0;
  #isDraining = false;
  #whenIdle: (() => void)[] = [];

  constructor(options: ServerOptions) {
    this.name = options.name;
    this.codecs = options.codecs ?? new Codecs();
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#timeouts = new Timeouts(this.#scheduler);
    this.#log = options.log ?? quietLog;
    this.#wrappers = options.wrappers ?? [];
    this.#max = options.maxConcurrentCalls ?? 10_000;
    this.#onCall = options.onCall ?? null;
  }

  /** Calls that have not ended. */
  get running(): number {
    return this.#running;
  }

  get hasEndpoints(): boolean {
    return this.#endpoints.size > 0;
  }

  /**
   * Adds the handlers of a contract. Throws INVALID_ARGUMENT when one is missing or unknown, and
   * ALREADY_EXISTS when an endpoint has a handler.
   */
  handle<C extends Contract>(
    contract: C,
    handlers: HandlersOf<C>,
    { internal = false }: { internal?: boolean } = {},
  ): void {
    const given = handlers as Readonly<Record<string, Readonly<Record<string, unknown>>>>;
    const methods = methodsOf(contract);
    for (const [struct, each] of Object.entries(given)) {
      for (const name of Object.keys(each)) {
        if (!methods.has(`${struct}.${name}`)) {
          const known = [...methods.keys()].join(', ');
          const text = `${contractName(contract)} has no method ${struct}.${name}; its methods are ${known}`;
          throw new RivuletError('INVALID_ARGUMENT', text);
        }
      }
    }
    for (const [endpoint, method] of methods) {
      const [struct = '', name = ''] = endpoint.split('.');
      const handler = given[struct]?.[name];
      if (typeof handler !== 'function') {
        const text = `${contractName(contract)}: there is no handler for ${endpoint}`;
        throw new RivuletError('INVALID_ARGUMENT', text);
      }
      // Handlers of a class keep their `this`.
      this.add(endpoint, method, handler.bind(given[struct]) as UnaryHandler, internal);
    }
  }

  /** Adds one endpoint, for those that are not in a contract. */
  add(
    endpoint: string,
    method: AnyMethod,
    handler: UnaryHandler | StreamHandler,
    internal = false,
  ): void {
    if (!isEndpoint(endpoint)) {
      const text = `${JSON.stringify(endpoint.slice(0, 100))} is no endpoint: it must be Struct.Method`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    if (this.#endpoints.has(endpoint)) {
      throw new RivuletError('ALREADY_EXISTS', `${endpoint} has a handler already`);
    }
    this.#endpoints.set(endpoint, { method, handler, internal });
  }

  method(endpoint: string): AnyMethod | null {
    return this.#endpoints.get(endpoint)?.method ?? null;
  }

  /** What the registry is told of the endpoints. */
  endpoints(describe: (endpoint: string, method: AnyMethod) => ServiceEndpoint): ServiceEndpoint[] {
    return [...this.#endpoints]
      .filter(([, { internal }]) => !internal)
      .map(([endpoint, { method }]) => describe(endpoint, method));
  }

  /** Runs a call that a transport received. Never throws. */
  dispatch(call: IncomingCall): void {
    const endpoint = this.#endpoints.get(call.endpoint);
    const refusal = this.#refusal(call, endpoint);
    if (refusal !== null) {
      call.fail({ ...failureOf(refusal, this.name, null), sent: 'no' });
      this.#record(call, this.#scheduler.monotonic(), refusal);
      return;
    }
    const { method, handler } = endpoint as Endpoint;
    const codec = this.#codecOf(call);
    if (codec !== undefined) {
      this.#run(call, method, handler, codec);
      return;
    }
    // A codec that has yet to be loaded.
    this.codecs.load(call.contentType).then(
      (loaded) => this.#run(call, method, handler, loaded),
      (error) => call.fail({ ...failureOf(error, this.name, null), sent: 'no' }),
    );
  }

  /** Undefined for a codec that has yet to be loaded. */
  #codecOf(call: IncomingCall): Codec | undefined {
    if (call.carriesValues === true) {
      return call.contentType === shareCodec.contentTypes[0] ? shareCodec : copyCodec;
    }
    return this.codecs.find(call.contentType === '' ? 'application/json' : call.contentType);
  }

  /** Refuses new calls and resolves when those that run have ended, or after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    this.#isDraining = true;
    if (this.#running === 0) return;
    await new Promise<void>((resolve) => {
      const stop = this.#scheduler.after(timeoutMs, resolve);
      this.#whenIdle.push(() => {
        stop();
        resolve();
      });
    });
  }

  #refusal(call: IncomingCall, endpoint: Endpoint | undefined): RivuletError | null {
    if (this.#isDraining) return new RivuletError('UNAVAILABLE', `${this.name} is stopping`);
    if (endpoint === undefined) {
      const shown = JSON.stringify(call.endpoint.slice(0, 200));
      const text = `${this.name} has no endpoint ${shown}`;
      return new RivuletError('METHOD_NOT_FOUND', text);
    }
    if (call.kind !== null && call.kind !== endpoint.method.kind) {
      const text = `${call.endpoint} is ${endpoint.method.kind} at the server and ${call.kind} at the caller`;
      return new RivuletError('UNSUPPORTED', text);
    }
    if (this.#running >= this.#max) {
      const text = `${this.name} runs ${this.#max} calls, which is its limit`;
      return new RivuletError('LIMIT_EXCEEDED', text);
    }
    return null;
  }

  #run(
    call: IncomingCall,
    method: AnyMethod,
    handler: UnaryHandler | StreamHandler,
    codec: Codec,
  ): void {
    const startedAt = this.#scheduler.monotonic();
    const { timeoutMs } = call;
    const deadlineAt = timeoutMs === null ? Number.POSITIVE_INFINITY : startedAt + timeoutMs;
    const context = new ServerContext({
      service: this.name,
      endpoint: call.endpoint,
      method: method.kind,
      metadata: Metadata.fromWire(call.metadata),
      deadlineAt,
      peerAddress: call.peer.address,
      log: this.#log,
      monotonic: () => this.#scheduler.monotonic(),
      now: () => this.#scheduler.now(),
    });
    this.#running++;
    let isOver = false;
    let stopTimer: (() => void) | null = null;
    const finish = (error: unknown) => {
      if (isOver) return false;
      isOver = true;
      stopTimer?.();
      this.#running--;
      if (this.#running === 0) for (const idle of this.#whenIdle.splice(0)) idle();
      this.#record(call, startedAt, error);
      return true;
    };
    call.onCancel((reason) => {
      context.abort(reason);
      finish(reason);
    });
    if (timeoutMs !== null) {
      stopTimer = this.#timeouts.add(timeoutMs, () => {
        const text = `${call.endpoint} did not end within ${Math.round(timeoutMs)} ms`;
        const error = new RivuletError('TIMEOUT', text);
        context.abort(error);
        if (finish(error)) call.fail(failureOf(error, this.name, null));
      });
    }
    const invoke = () => this.#invoke(call, method, handler, codec, context);
    const ambient: Ambient = { deadline: deadlineAt, signal: () => context.signal };
    const done = runWithin(ambient, invoke);
    done.then(
      () => finish(null),
      (error) => {
        if (finish(error)) call.fail(failureOf(error, this.name, codec));
      },
    );
  }

  async #invoke(
    call: IncomingCall,
    method: AnyMethod,
    handler: UnaryHandler | StreamHandler,
    codec: Codec,
    context: ServerContext,
  ): Promise<void> {
    const takesStream = method.kind === 'clientStream' || method.kind === 'bidi';
    const request = takesStream
      ? decodeAll(call.messages, codec, method, call.endpoint)
      : await this.#requestOf(call, codec, method);
    const run = (value: unknown) => (handler as UnaryHandler)(value, context);
    const wrapped = this.#wrappers.length === 0 ? run : wrapServer(this.#wrappers, context, run);
    const result = wrapped(request);
    if (method.kind === 'unary' || method.kind === 'clientStream') {
      const value = await result;
      if (context.isAborted) return;
      call.reply({
        contentType: call.contentType === '' ? 'application/json' : call.contentType,
        metadata: context.writtenMetadata?.toWire() ?? NO_METADATA,
        body: codec.encode(value, method.response.type),
      });
    } else await this.#stream(call, result, method, codec, context);
  }

  async #requestOf(call: IncomingCall, codec: Codec, method: AnyMethod): Promise<unknown> {
    let { body } = call;
    if (body === null) {
      for await (const message of call.messages) {
        body = message;
        break;
      }
      body ??= new Uint8Array(0);
    }
    const value = codec.decode(body, method.request.type);
    const { schema } = method.request;
    return schema === null ? value : validate(schema, value, `the request of ${call.endpoint}`);
  }

  async #stream(
    call: IncomingCall,
    result: unknown,
    method: AnyMethod,
    codec: Codec,
    context: ServerContext,
  ): Promise<void> {
    const items = iterableOf(await result, call.endpoint);
    let isFirst = true;
    try {
      for await (const item of items) {
        if (context.isAborted) break;
        if (isFirst && context.writtenMetadata !== null) {
          call.head({ contentType: call.contentType, metadata: context.writtenMetadata.toWire() });
        }
        isFirst = false;
        await call.send(codec.encode(item, method.response.type));
      }
    } catch (error) {
      // A send that failed because the caller left is no failure of the handler.
      if (context.isAborted) return;
      throw error;
    }
    if (context.isAborted) return;
    call.end(isFirst ? (context.writtenMetadata?.toWire() ?? NO_METADATA) : NO_METADATA);
  }

  #record(call: IncomingCall, startedAt: number, error: unknown): void {
    if (this.#onCall === null) return;
    const ms = this.#scheduler.monotonic() - startedAt;
    this.#onCall({ endpoint: call.endpoint, peer: call.peer.address, ms, error });
  }
}

async function* decodeAll(
  messages: AsyncIterable<Uint8Array>,
  codec: Codec,
  method: AnyMethod,
  endpoint: string,
): AsyncGenerator<unknown, void, void> {
  const { schema, type } = method.request;
  for await (const message of messages) {
    const value = codec.decode(message, type);
    yield schema === null ? value : await validate(schema, value, `a message to ${endpoint}`);
  }
}

function iterableOf(result: unknown, endpoint: string): AsyncIterable<unknown> | Iterable<unknown> {
  if (
    typeof result === 'object' &&
    result !== null &&
    (Symbol.asyncIterator in result || Symbol.iterator in result)
  ) {
    return result as AsyncIterable<unknown>;
  }
  const text = `the handler of ${endpoint} must return an async iterable: write it as async *${endpoint.split('.')[1]}()`;
  throw new RivuletError('INTERNAL', text);
}
