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
import { copyCodec, shareCodec } from '../codec/value.ts';
import { RivuletError } from '../errors.ts';
import type { ServiceEndpoint } from '../registry/registry.ts';
import type { IncomingCall } from '../transport/transport.ts';
import { nearestName } from '../util/nearest-name.ts';
import { pause, type Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { Timeouts } from '../util/time/timeouts.ts';
import { type Log, quietLog } from './context.ts';
import { type AnyMethod, type Contract, contractName, isEndpoint, methodsOf } from './contract.ts';
import { failureOf } from './errors-wire.ts';
import type { HandlersOf, StreamHandler, UnaryHandler } from './handlers.ts';
import { RateLimits } from './policies/rate-limit.ts';
import { type CallHost, type Endpoint, RunningCall } from './running-call.ts';
import type { OpenSpan, Tracer } from './seen/spans.ts';
import type { ServerWrapper } from './wrappers.ts';

export interface ServerOptions {
  /** Registry name of the service; a function where it is known only later. */
  readonly name: string | (() => string);
  readonly codecs?: Codecs;
  readonly scheduler?: Scheduler;
  readonly log?: Log | ((endpoint: string, trace: string) => Log);
  readonly wrappers?: readonly ServerWrapper[];
  /** Calls that run at once; more are refused with LIMIT_EXCEEDED. Default 10 000. */
  readonly maxConcurrentCalls?: number;
  /** Largest message that is taken or sent. Default: what the transport carries. */
  readonly maxMessageBytes?: number;
  /** Called when a call of an endpoint that is not internal has ended, for statistics and the access log. */
  readonly onCall?: (call: CallRecord) => void;
  /** Makes a span of each call. Default: traces are neither read nor carried on. */
  readonly tracer?: Tracer;
}

export interface CallRecord {
  /** `unknown` where the service has no such endpoint: a stranger chose the name. */
  readonly endpoint: string;
  readonly peer: string;
  readonly ms: number;
  /** Null when it succeeded. */
  readonly error: unknown;
}

export class Server implements CallHost {
  readonly codecs: Codecs;
  readonly #name: string | (() => string);
  readonly scheduler: Scheduler;
  readonly timeouts: Timeouts;
  readonly wrappers: readonly ServerWrapper[];
  readonly tracer: Tracer | null;
  readonly maxMessageBytes: number;
  readonly #rateLimits: RateLimits;
  readonly #log: Log | ((endpoint: string, trace: string) => Log);
  readonly #max: number;
  readonly #onCall: ((call: CallRecord) => void) | null;
  readonly #endpoints = new Map<string, Endpoint>();
  #running = 0;
  #isDraining = false;
  /** Monotonic milliseconds at which the last call came. */
  #lastCallAt = Number.NEGATIVE_INFINITY;
  #whenIdle: (() => void)[] = [];

  constructor(options: ServerOptions) {
    this.#name = options.name;
    this.codecs = options.codecs ?? new Codecs();
    this.scheduler = options.scheduler ?? systemScheduler;
    this.timeouts = new Timeouts(this.scheduler);
    this.#rateLimits = new RateLimits(this.scheduler);
    this.#log = options.log ?? quietLog;
    this.wrappers = options.wrappers ?? [];
    this.#max = options.maxConcurrentCalls ?? 10_000;
    this.maxMessageBytes = options.maxMessageBytes ?? Number.POSITIVE_INFINITY;
    this.#onCall = options.onCall ?? null;
    this.tracer = options.tracer ?? null;
  }

  get name(): string {
    return typeof this.#name === 'string' ? this.#name : this.#name();
  }

  /** Calls that have not ended. */
  get running(): number {
    return this.#running;
  }

  /** Whether its endpoints go into the registry. */
  get hasEndpoints(): boolean {
    return [...this.#endpoints.values()].some(({ internal }) => !internal);
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
    const given = structsOf(handlers, contractName(contract));
    const methods = methodsOf(contract);
    for (const [struct, each] of Object.entries(given)) {
      for (const name of Object.keys(each)) {
        if (methods.has(`${struct}.${name}`)) continue;
        const known = [...methods.keys()];
        const near = nearestName(`${struct}.${name}`, known);
        const hint =
          near === null ? `its methods are ${known.join(', ')}` : `did you mean ${near}?`;
        const text = `${contractName(contract)} has no method ${struct}.${name}: ${hint}`;
        throw new RivuletError('INVALID_ARGUMENT', text);
      }
    }
    const found: [string, AnyMethod, UnaryHandler][] = [];
    for (const [endpoint, method] of methods) {
      const [struct = '', name = ''] = endpoint.split('.');
      const handler = Object.hasOwn(given, struct) ? given[struct]?.[name] : undefined;
      if (typeof handler !== 'function') {
        const text = `${contractName(contract)}: there is no handler for ${endpoint}`;
        throw new RivuletError('INVALID_ARGUMENT', text);
      }
      this.#check(endpoint);
      // Handlers of a class keep their `this`.
      found.push([endpoint, method, handler.bind(given[struct]) as UnaryHandler]);
    }
    // All or none of a contract.
    for (const [endpoint, method, handler] of found) this.add(endpoint, method, handler, internal);
  }

  /** Adds one endpoint, for those that are not in a contract. */
  add(
    endpoint: string,
    method: AnyMethod,
    handler: UnaryHandler | StreamHandler,
    internal = false,
  ): void {
    this.#check(endpoint);
    this.#endpoints.set(endpoint, { method, handler, internal });
  }

  #check(endpoint: string): void {
    if (!isEndpoint(endpoint)) {
      const text = `${JSON.stringify(endpoint.slice(0, 100))} is no endpoint: it must be Struct.Method`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    if (this.#endpoints.has(endpoint)) {
      throw new RivuletError('ALREADY_EXISTS', `${endpoint} has a handler already`);
    }
  }

  /** Every method that has a handler. */
  get methods(): AnyMethod[] {
    return [...this.#endpoints.values()].map(({ method }) => method);
  }

  method(endpoint: string): AnyMethod | null {
    return this.#endpoints.get(endpoint)?.method ?? null;
  }

  /** The endpoints as the registry stores them. */
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
      this.#refused(call, refusal);
      return;
    }
    const known = endpoint as Endpoint;
    const codec = this.#codecOf(call);
    if (codec !== undefined) {
      this.#run(call, known, codec);
      return;
    }
    // A codec that has yet to be loaded. The call counts as running: a drain waits for it.
    this.#running++;
    this.codecs.load(call.contentType).then(
      (loaded) => this.#run(call, known, loaded, true),
      (error) => {
        this.#left();
        call.fail({ ...failureOf(error, this.name, null), sent: 'no' });
        this.#refused(call, error);
      },
    );
  }

  /** Undefined for a codec that has yet to be loaded. */
  #codecOf(call: IncomingCall): Codec | undefined {
    if (call.carriesValues === true) {
      return call.contentType === shareCodec.contentTypes[0] ? shareCodec : copyCodec;
    }
    return this.codecs.find(call.contentType === '' ? 'application/json' : call.contentType);
  }

  /**
   * Goes on serving until no call has come for `quietMs`, at most `mostMs`: callers that have yet to
   * learn that the node leaves still reach it. At once where no call has come lately.
   */
  async untilQuiet(quietMs: number, mostMs: number): Promise<void> {
    const begin = this.scheduler.monotonic();
    if (this.#lastCallAt + LATELY_MS <= begin) return;
    for (;;) {
      const quietAt = Math.max(this.#lastCallAt, begin) + quietMs;
      const wait = Math.min(quietAt, begin + mostMs) - this.scheduler.monotonic();
      if (!(wait > 0)) return;
      await pause(this.scheduler, wait);
    }
  }

  /** Refuses new calls and resolves when those that run have ended, or after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    this.#isDraining = true;
    if (this.#running === 0) return;
    await new Promise<void>((resolve) => {
      const stop = this.scheduler.after(timeoutMs, resolve);
      this.#whenIdle.push(() => {
        stop();
        resolve();
      });
    });
  }

  #refusal(call: IncomingCall, endpoint: Endpoint | undefined): RivuletError | null {
    if (this.#isDraining) return new RivuletError('UNAVAILABLE', `${this.name} is stopping`);
    if (call.timeoutMs !== null && call.timeoutMs <= 0) {
      return new RivuletError('TIMEOUT', `the deadline of ${call.endpoint} had passed already`);
    }
    if (endpoint === undefined) {
      const shown = JSON.stringify(call.endpoint.slice(0, 200));
      const text = `${this.name} has no endpoint ${shown}`;
      return new RivuletError('METHOD_NOT_FOUND', text);
    }
    if (call.kind !== null && call.kind !== endpoint.method.kind) {
      const text = `${call.endpoint} is ${endpoint.method.kind} at the server and ${call.kind} at the caller`;
      return new RivuletError('UNSUPPORTED', text);
    }
    try {
      this.#rateLimits.pass(call.endpoint, endpoint.method);
    } catch (error) {
      return error as RivuletError;
    }
    if (this.#running >= this.#max) {
      const text = `${this.name} runs ${this.#max} calls, which is its limit`;
      return new RivuletError('LIMIT_EXCEEDED', text);
    }
    return null;
  }

  #run(call: IncomingCall, endpoint: Endpoint, codec: Codec, isCounted = false): void {
    const now = this.scheduler.monotonic();
    this.#lastCallAt = now;
    let running: RunningCall;
    try {
      running = new RunningCall(this, call, endpoint, codec, now);
    } catch (error) {
      if (isCounted) this.#left();
      // Metadata that no client of ours sends.
      call.fail({ ...failureOf(error, this.name, null), sent: 'no' });
      this.#refused(call, error);
      return;
    }
    if (!isCounted) this.#running++;
    running.run();
  }

  /** @internal */
  ended({ incoming, endpoint, startedAt, span }: RunningCall, error: unknown): void {
    this.#left();
    if (endpoint.internal) return;
    const now = this.scheduler.monotonic();
    this.#onCall?.({
      endpoint: incoming.endpoint,
      peer: incoming.peer.address,
      ms: now - startedAt,
      error,
    });
    if (span !== null) this.tracer?.end(span, error, now);
  }

  #left(): void {
    this.#running--;
    if (this.#running > 0 || this.#whenIdle.length === 0) return;
    for (const idle of this.#whenIdle.splice(0)) idle();
  }

  /** @internal */
  logOf(endpoint: string, span: OpenSpan | null): Log {
    return typeof this.#log === 'function' ? this.#log(endpoint, span?.trace ?? '') : this.#log;
  }

  #refused(call: IncomingCall, error: unknown): void {
    const endpoint = this.#endpoints.has(call.endpoint) ? call.endpoint : 'unknown';
    this.#onCall?.({ endpoint, peer: call.peer.address, ms: 0, error });
  }
}

type Handlers = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

function structsOf(handlers: unknown, contract: string): Handlers {
  const isObject = (value: unknown) => typeof value === 'object' && value !== null;
  if (isObject(handlers) && Object.values(handlers as object).every(isObject)) {
    return handlers as Handlers;
  }
  const text = `the handlers of ${contract} are an object with one object of functions per struct`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}

/** A node that had no call for this time, ms, has no callers to wait for. */
const LATELY_MS = 1000;
