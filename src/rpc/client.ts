/**
 * go-micro's Client: calls of any service, found by name.
 *
 * Invariants: a call ends within its timeout, attempts and waits included; it is attempted again only
 * where the last attempt provably ran no handler, or the method is idempotent; each node that was
 * chosen is marked once; every error is a ServiceError. Cost: a unary call over an open channel is
 * one encoding, one frame, one decoding and one promise.
 */

import { currentScope } from '../broker/dispatch/scope.ts';
import { shown } from '../client/option-table.ts';
import { Codecs } from '../codec/by-content-type.ts';
import type { Codec } from '../codec/codec.ts';
import { copyCodec, shareCodec } from '../codec/value.ts';
import { RivuletError } from '../errors.ts';
import { isServiceName } from '../registry/record.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Outcome, Selector } from '../selector/selector.ts';
import { nodeAt } from '../transport/protocols.ts';
import type { Transport } from '../transport/transport.ts';
import { firstAbort } from '../util/time/on-abort.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { Timeouts } from '../util/time/timeouts.ts';
import type { Attempt, AttemptSource, CallTarget } from './attempt.ts';
import { openStream } from './client-stream.ts';
import { callUnary, type UnaryRequest } from './client-unary.ts';
import { type Connected, Connections } from './connections.ts';
import { METADATA } from './context.ts';
import {
  type AnyMethod,
  type Contract,
  contractName,
  isEndpoint,
  methodsOf,
  unary,
} from './contract.ts';
import { MARGIN_MS, within } from './deadline.ts';
import { asServiceError } from './errors-wire.ts';
import type { CallOptions, ClientOf } from './handlers.ts';
import { Metadata } from './metadata.ts';
import { NONE, outcomeOfDial } from './outcome.ts';
import type { Breaker } from './policies/breaker.ts';
import { rejectSoon } from './policies/ends.ts';
import { Policies, type PolicyOptions } from './policies/policies.ts';
import type { OpenSpan, Tracer } from './seen/spans.ts';
import { type ClientWrapper, wrapClient } from './wrappers.ts';

export interface ClientOptions {
  readonly selector: Selector;
  /** In order of preference; the first that can reach a node is used. */
  readonly transports: readonly Transport[] | (() => Promise<readonly Transport[]>);
  readonly codecs?: Codecs;
  /** Content type of requests whose method is not protobuf's. Default application/json. */
  readonly contentType?: string;
  readonly scheduler?: Scheduler;
  readonly wrappers?: readonly ClientWrapper[];
  /** Default 5 000. */
  readonly requestTimeoutMs?: number;
  /** Default 5 000. */
  readonly dialTimeoutMs?: number;
  /** Attempts after the first one. Default 1, go-micro v2's. */
  readonly retries?: number;
  /** Channels kept open. Default 100, go-micro's pool size. */
  readonly poolSize?: number;
  /** How long a channel without calls is kept. Default 60 000, go-micro's pool TTL. */
  readonly poolTtlMs?: number;
  /** Sent as Micro-From-Service; a function where it is known only later. */
  readonly fromService?: string | (() => string | null);
  /**
   * Gives the node that represents all nodes of a service, where the transport itself chooses among
   * them. Used for calls that ask for no particular node; they need no registry then.
   */
  readonly anyNode?: (service: string) => ServiceNode | Promise<ServiceNode>;
  /** host:port to which every call goes; the peer there finds the node, and repeats calls. */
  readonly proxy?: string;
  /** Largest message that is sent or accepted. Default: what the transport carries. */
  readonly maxMessageBytes?: number;
  readonly policies?: PolicyOptions | Policies;
  /** Gives every call its trace. Default: calls carry none. */
  readonly tracer?: Tracer;
  /** Called when a call has ended, with null for what succeeded. */
  readonly onCall?: (service: string, endpoint: string, ms: number, error: unknown) => void;
  /** Calls to nodes of this process: their values are copied, or shared. Default copied. */
  readonly local?: 'copy' | 'share';
}

const MAX_TIMEOUT_MS = 2 ** 31 - 1;
/** Nodes that one attempt tries to reach. */
const MOST_DIALS = 5;
const JSON_TYPE = 'application/json';
const PROTO_TYPE = 'application/protobuf';

/** Untyped calls: JSON both ways. */
const ANY_UNARY: AnyMethod = unary<unknown, unknown>();

export class Client implements AttemptSource {
  readonly codecs: Codecs;
  readonly scheduler: Scheduler;
  readonly policies: Policies;
  readonly #options: ClientOptions;
  readonly #timeouts: Timeouts;
  readonly #connections: Connections;
  readonly #wrappers: readonly ClientWrapper[];
  readonly #values: Codec;
  readonly #contentType: string;
  #isClosed = false;
  #fromService: string | null = null;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.codecs = options.codecs ?? new Codecs();
    this.scheduler = options.scheduler ?? systemScheduler;
    this.policies =
      options.policies instanceof Policies
        ? options.policies
        : new Policies(this.scheduler, options.policies);
    this.#timeouts = new Timeouts(this.scheduler);
    this.#wrappers = options.wrappers ?? [];
    this.#values = options.local === 'share' ? shareCodec : copyCodec;
    this.#contentType = options.contentType ?? JSON_TYPE;
    this.#connections = new Connections({
      transports: options.transports,
      scheduler: this.scheduler,
      dialTimeoutMs: options.dialTimeoutMs ?? 5000,
      maxChannels: options.poolSize ?? 100,
      ...(options.poolTtlMs === undefined ? {} : { idleMs: options.poolTtlMs }),
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get maxMessageBytes(): number {
    return this.#options.maxMessageBytes ?? Number.POSITIVE_INFINITY;
  }

  /** The typed client of a contract. */
  of<C extends Contract>(contract: C): ClientOf<C> {
    const service = contractName(contract);
    const made: Record<string, Record<string, unknown>> = {};
    for (const [endpoint, method] of methodsOf(contract)) {
      const [struct = '', name = ''] = endpoint.split('.');
      made[struct] ??= {};
      made[struct][name] = (request: unknown, options?: CallOptions) =>
        this.invoke(service, endpoint, method, request, options);
    }
    return made as ClientOf<C>;
  }

  /** An untyped unary call. */
  call<Response = unknown>(
    service: string,
    endpoint: string,
    request?: unknown,
    options?: CallOptions,
  ): Promise<Response> {
    const wrong = nameError(service, endpoint);
    if (wrong !== null) return rejectSoon(asServiceError(wrong, null, null));
    return this.invoke(service, endpoint, ANY_UNARY, request, options) as Promise<Response>;
  }

  /** A call of any kind: a promise of the reply, or the stream of replies. */
  invoke(
    service: string,
    endpoint: string,
    method: AnyMethod,
    request: unknown,
    options: CallOptions = {},
  ): unknown {
    const isStream = method.kind === 'serverStream' || method.kind === 'bidi';
    let metadata: Metadata;
    let signal: AbortSignal | undefined;
    let span: OpenSpan | null;
    try {
      metadata = this.#metadata(method, options);
      signal = options.signal ?? currentScope()?.signal() ?? undefined;
      span = this.#options.tracer?.beginCall(service, endpoint, metadata) ?? null;
    } catch (error) {
      return this.#refuse({ service, endpoint, method, options }, error);
    }
    const startedAt = this.scheduler.monotonic();
    const call = { service, endpoint, method, request, metadata, options, signal, startedAt, span };
    if (this.#wrappers.length === 0) return this.#run(call);
    const seen = { service, endpoint, kind: method.kind, request, metadata };
    const wrapped = () => wrapClient(this.#wrappers, seen, () => this.#run(call));
    // A wrapper that throws rejects the call, as everything else does.
    return isStream ? wrapped() : (async () => wrapped())();
  }

  /** A call whose options are wrong fails as every other does: its promise, or the first read. */
  #refuse(target: Omit<CallTarget, 'signal' | 'startedAt'>, error: unknown): unknown {
    const started = { signal: undefined, startedAt: this.scheduler.monotonic() };
    const call = { ...target, ...started, request: undefined, metadata: new Metadata() };
    if (target.method.kind !== 'unary') {
      return openStream(this, { ...call, failure: error }, (ended) => this.ended(call, ended));
    }
    const failure = asServiceError(error, null, null);
    this.ended(call, failure);
    return rejectSoon(failure);
  }

  #run(given: UnaryRequest): unknown {
    let call = given;
    try {
      call = withBothSignals(given);
    } catch (error) {
      return this.#refuse(given, error);
    }
    return call.method.kind === 'unary'
      ? callUnary(this, call)
      : openStream(this, call, (error) => this.ended(call, error));
  }

  /** The call has ended; null for one that succeeded. */
  ended({ service, endpoint, startedAt, span, endSignal }: CallTarget, error: unknown): void {
    endSignal?.();
    const { onCall, tracer } = this.#options;
    if (onCall !== undefined) {
      onCall(service, endpoint, this.scheduler.monotonic() - startedAt, error);
    }
    if (span) tracer?.end(span, error, this.scheduler.monotonic(), 'call');
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#connections.close();
    await this.#options.selector.close();
  }

  #metadata(method: AnyMethod, options: CallOptions): Metadata {
    const metadata = new Metadata(options.metadata);
    const { fromService } = this.#options;
    if (fromService !== undefined) {
      const name = typeof fromService === 'string' ? fromService : fromService();
      if (name !== null) this.#setFromService(metadata, name);
    }
    if (options.idempotencyKey !== undefined) {
      metadata.set(METADATA.idempotencyKey, options.idempotencyKey);
    } else if (method.options.idempotent === true && !metadata.has(METADATA.idempotencyKey)) {
      // Only these may reach a handler twice.
      metadata.set(METADATA.idempotencyKey, this.scheduler.uniqueName());
    }
    return metadata;
  }

  /** The name is checked once, not at every call. */
  #setFromService(metadata: Metadata, name: string): void {
    if (name === this.#fromService) metadata.put(METADATA.fromService, name);
    else metadata.set(METADATA.fromService, name);
    this.#fromService = name;
  }

  /** Monotonic milliseconds at which the call must have ended; infinite for a stream without one. */
  deadlineOf({ method, options, endpoint, startedAt }: CallTarget): number {
    const isUnary = method.kind === 'unary';
    const timeoutMs =
      options.timeoutMs ??
      method.options.timeoutMs ??
      (isUnary ? (this.#options.requestTimeoutMs ?? 5000) : Number.POSITIVE_INFINITY);
    if (
      typeof timeoutMs !== 'number' ||
      !(timeoutMs > 0) ||
      (timeoutMs > MAX_TIMEOUT_MS && timeoutMs !== Number.POSITIVE_INFINITY)
    ) {
      const text = `timeoutMs of ${endpoint} must be above 0 and at most ${MAX_TIMEOUT_MS}, not ${shown(timeoutMs)}`;
      throw new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
    }
    const own = startedAt + timeoutMs;
    const outer = currentScope()?.deadline ?? Number.POSITIVE_INFINITY;
    return Math.min(own, outer - MARGIN_MS);
  }

  /** Attempts in all that a call of the method may have. */
  attemptsOf(method: AnyMethod): number {
    if (this.#options.proxy !== undefined) return 1;
    return method.options.retry?.attempts ?? 1 + (this.#options.retries ?? 1);
  }

  /**
   * The function that gives a node per attempt; a promise, which ends with the deadline (monotonic
   * milliseconds), only where the nodes must be read first.
   */
  nodes(call: CallTarget, deadline: number): (() => ServiceNode) | Promise<() => ServiceNode> {
    const { service, endpoint, options, signal } = call;
    const left = this.left(deadline, endpoint);
    if (this.#isClosed) throw new RivuletError('CLOSED', 'the client is closed', { sent: 'no' });
    const address = options.address ?? this.#options.proxy;
    if (address !== undefined) {
      const node = nodeAt(address);
      return () => node;
    }
    const { anyNode, selector } = this.#options;
    if (anyNode !== undefined && options.filters === undefined && options.key === undefined) {
      const node = anyNode(service);
      if (!(node instanceof Promise)) return () => node;
      const always = node.then((found) => () => found);
      return within(always, left, signal, this.#timeouts, endpoint);
    }
    const known = selector.selectNow?.(service, options) ?? null;
    if (known !== null) return known;
    return within(selector.select(service, options), left, signal, this.#timeouts, endpoint);
  }

  /**
   * A channel to the next node, and the codec for it; a promise only where the node must be dialled or
   * the codec loaded. A node that cannot be dialled has the next one tried at once, each once: nothing
   * has left, so this is no repetition.
   */
  attempt(call: CallTarget, next: () => ServiceNode, deadline: number): Attempt | Promise<Attempt> {
    const chosen = this.#choose(call, next);
    const connected = this.#connections.to(chosen.node);
    if (!(connected instanceof Promise)) {
      const contentType = this.#contentTypeOf(call, connected);
      const codec = this.#codecOf(contentType, connected);
      if (codec !== undefined) {
        const { done, answered } = chosen;
        return { channel: connected.channel, codec, contentType, done, answered };
      }
    } else connected.catch(() => {});
    return this.#attemptLater(call, chosen, next, deadline);
  }

  async #attemptLater(
    call: CallTarget,
    first: Chosen,
    next: () => ServiceNode,
    deadline: number,
  ): Promise<Attempt> {
    const failed = new Set<string>();
    let chosen: Chosen = first;
    for (;;) {
      const { node, done } = chosen;
      const wasLate = this.scheduler.monotonic() >= deadline;
      try {
        return await this.#reach(call, chosen, deadline);
      } catch (error) {
        done(wasLate || call.signal?.aborted ? NONE : outcomeOfDial(error), error);
        failed.add(node.id);
        const isUnreachable = error instanceof RivuletError && error.code === 'CONNECTION_FAILED';
        if (!isUnreachable || call.signal?.aborted || failed.size >= MOST_DIALS) throw error;
        let following: ServiceNode | null = next();
        if (failed.has(following.id)) {
          // Every node was tried.
          if (this.#isSelected(call)) this.#options.selector.mark(call.service, following, NONE);
          throw error;
        }
        chosen = this.#choose(call, () => {
          const node = following ?? next();
          following = null;
          return node;
        });
      }
    }
  }

  async #reach(
    call: CallTarget,
    { node, done, answered }: Chosen,
    deadline: number,
  ): Promise<Attempt> {
    const { endpoint, signal } = call;
    const left = this.left(deadline, endpoint);
    const dialled = this.#connections.to(node);
    const connected =
      dialled instanceof Promise
        ? await within(dialled, left, signal, this.#timeouts, endpoint)
        : dialled;
    const contentType = this.#contentTypeOf(call, connected);
    const codec = this.#codecOf(contentType, connected) ?? (await this.codecs.load(contentType));
    return { channel: connected.channel, codec, contentType, done, answered };
  }

  #contentTypeOf({ options, method }: CallTarget, { transport }: Connected): string {
    if (transport.name === 'local') return this.#values.contentTypes[0] as string;
    return options.contentType ?? (method.request.type ? PROTO_TYPE : this.#contentType);
  }

  /** Undefined for a codec that has yet to be loaded. */
  #codecOf(contentType: string, { transport }: Connected): Codec | undefined {
    return transport.name === 'local' ? this.#values : this.codecs.find(contentType);
  }

  /** Whether the selector chose the node, and wants to know how its call ended. */
  #isSelected({ options }: CallTarget): boolean {
    return options.address === undefined && this.#options.proxy === undefined;
  }

  /** The next node whose circuit lets a call through. Throws CIRCUIT_OPEN when none does. */
  #choose(call: CallTarget, next: () => ServiceNode): Chosen {
    const { service } = call;
    const { selector } = this.#options;
    const { breaker } = this.policies;
    const isSelected = this.#isSelected(call);
    let refused: Set<string> | null = null;
    for (;;) {
      const node = next();
      // It represents all nodes, among which the broker chooses: one that fails must not close them all.
      if (node.id === service) return { node, done: nothing };
      if (breaker === null || breaker.size === 0) {
        // No node has failed lately: its key is needed only when this call fails.
        const done = (outcome: Outcome, error?: unknown) => {
          if (isSelected) selector.mark(service, node, outcome);
          if (breaker === null || ((error ?? null) === null && breaker.size === 0)) return;
          breaker.end(`${service}\n${node.id}`, failed(outcome, error, breaker), false);
        };
        return { node, done };
      }
      const key = `${service}\n${node.id}`;
      const isProbe = breaker.isProbe(key);
      if (breaker.admit(key)) {
        const done = (outcome: Outcome, error?: unknown) => {
          if (isSelected) selector.mark(service, node, outcome);
          breaker.end(key, failed(outcome, error, breaker), isProbe);
        };
        // A stream that probes the node has shown that it answers long before it ends.
        return isProbe ? { node, done, answered: () => breaker.end(key, false) } : { node, done };
      }
      if (isSelected) selector.mark(service, node, NONE);
      if (refused?.has(node.id)) {
        const ms = Math.ceil(breaker.retryAfterMs(key));
        const text = `the circuit of every node of ${service} is open: they did not answer; one is probed in ${ms} ms`;
        throw new RivuletError('CIRCUIT_OPEN', text, { sent: 'no' });
      }
      refused ??= new Set();
      refused.add(node.id);
    }
  }

  /** Milliseconds left, null without a deadline. Throws TIMEOUT when none is left. */
  left(deadline: number, endpoint: string): number | null {
    if (deadline === Number.POSITIVE_INFINITY) return null;
    const left = deadline - this.scheduler.monotonic();
    if (left > 0) return left;
    const text = `the deadline of the call of ${endpoint} has passed before it was sent`;
    throw new RivuletError('TIMEOUT', text, { sent: 'no' });
  }
}

/** A node that may be called, and what says how the call to it ended. */
interface Chosen {
  readonly node: ServiceNode;
  readonly done: Attempt['done'];
  readonly answered?: Attempt['answered'];
}

const nothing = () => {};

function nameError(service: string, endpoint: string): RivuletError | null {
  const text = !isServiceName(service)
    ? `${shown(service)} is no service name: it has 1 to 255 bytes without spaces, control characters and "/"`
    : !isEndpoint(endpoint)
      ? `${shown(endpoint)} is no endpoint: it must be Struct.Method`
      : null;
  return text === null ? null : new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
}

/** For the breaker; null says nothing. */
function failed({ result }: Outcome, error: unknown, breaker: Breaker): boolean | null {
  if (result === 'none') return null;
  // A node that says that it leaves has answered; the selector passes it over.
  if (error instanceof RivuletError && error.code === 'UNAVAILABLE') return null;
  if (result !== 'ok') return true;
  return error !== undefined && error !== null && breaker.isFailure(error);
}

/**
 * The caller's own signal may live for long, and so may that of the call that its handler serves: what
 * follows both ends with this call.
 */
function withBothSignals(call: UnaryRequest): UnaryRequest {
  const { signal: own } = call.options;
  const outer = own === undefined ? null : (currentScope()?.signal() ?? null);
  if (own === undefined || outer === null || own === outer) return call;
  const { signal, end } = firstAbort(own, outer);
  return { ...call, signal, endSignal: end };
}
