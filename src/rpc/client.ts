/**
 * go-micro's Client: calls of any service, found by name.
 *
 * Invariants: a call ends within its timeout, attempts and waits included; it is attempted again only
 * where the last attempt provably ran no handler, or the method is idempotent; each node that was
 * chosen is marked once; every error is a ServiceError. Cost: a unary call over an open channel is
 * one encoding, one frame, one decoding and a handful of promises.
 */
import { Codecs } from '../codec/by-content-type.ts';
import type { Codec } from '../codec/codec.ts';
import { validate } from '../codec/standard-schema.ts';
import { copyCodec, shareCodec } from '../codec/value.ts';
import { RivuletError } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Outcome, Selector } from '../selector/selector.ts';
import type { Channel, OutgoingCall, Transport } from '../transport/transport.ts';
import { pause, type Scheduler } from '../util/scheduler.ts';
import { systemScheduler } from '../util/system-scheduler.ts';
import { currentAmbient, MARGIN_MS } from './ambient.ts';
import { openStream } from './client-stream.ts';
import { Connections } from './connections.ts';
import { METADATA } from './context.ts';
import { type AnyMethod, type Contract, contractName, methodsOf, unary } from './contract.ts';
import { asServiceError } from './errors-wire.ts';
import type { CallOptions, ClientOf, ReplyStream } from './handlers.ts';
import { Metadata } from './metadata.ts';
import { OK, outcomeOf } from './outcome.ts';
import { type ClientWrapper, wrapClient } from './wrappers.ts';

export interface ClientOptions {
  readonly selector: Selector;
  /** In order of preference; the first that can reach a node is used. */
  readonly transports: readonly Transport[];
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
  /** Sent as Micro-From-Service. */
  readonly fromService?: string;
  /** Calls to nodes of this process: their values are copied, or shared. Default copied. */
  readonly local?: 'copy' | 'share';
}

const RETRY_MIN_MS = 20;
const RETRY_MAX_MS = 500;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
const JSON_TYPE = 'application/json';
const PROTO_TYPE = 'application/protobuf';

/** Untyped calls: JSON both ways. */
const ANY_UNARY: AnyMethod = unary<unknown, unknown>();

/** What one attempt of a call needs. */
export interface Attempt {
  readonly channel: Channel;
  readonly codec: Codec;
  readonly contentType: string;
  /** Says how it ended, once. */
  readonly done: (outcome: Outcome) => void;
}

export class Client {
  readonly codecs: Codecs;
  readonly #options: ClientOptions;
  readonly #scheduler: Scheduler;
  readonly #connections: Connections;
  readonly #wrappers: readonly ClientWrapper[];
  readonly #values: Codec;
  readonly #contentType: string;
  #isClosed = false;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.codecs = options.codecs ?? new Codecs();
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#wrappers = options.wrappers ?? [];
    this.#values = options.local === 'share' ? shareCodec : copyCodec;
    this.#contentType = options.contentType ?? JSON_TYPE;
    this.#connections = new Connections({
      transports: options.transports,
      scheduler: this.#scheduler,
      dialTimeoutMs: options.dialTimeoutMs ?? 5000,
      maxChannels: options.poolSize ?? 100,
    });
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
    try {
      metadata = this.#metadata(options);
    } catch (error) {
      // A stream reports everything where it is read.
      if (!isStream) return Promise.reject(error);
      throw error;
    }
    const run = () =>
      isStream || method.kind === 'clientStream'
        ? this.#stream(service, endpoint, method, request, metadata, options)
        : this.#unary(service, endpoint, method, request, metadata, options);
    if (this.#wrappers.length === 0) return run();
    const call = { service, endpoint, kind: method.kind, request, metadata };
    return wrapClient(this.#wrappers, call, run);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#connections.close();
    await this.#options.selector.close();
  }

  #metadata(options: CallOptions): Metadata {
    const metadata = new Metadata(options.metadata);
    const { fromService } = this.#options;
    if (fromService !== undefined) metadata.set(METADATA.fromService, fromService);
    if (options.idempotencyKey !== undefined) {
      metadata.set(METADATA.idempotencyKey, options.idempotencyKey);
    }
    return metadata;
  }

  /** Monotonic milliseconds at which the call must have ended; infinite for a stream without one. */
  deadlineOf(method: AnyMethod, options: CallOptions, endpoint: string): number {
    const isUnary = method.kind === 'unary';
    const timeoutMs =
      options.timeoutMs ??
      method.options.timeoutMs ??
      (isUnary ? (this.#options.requestTimeoutMs ?? 5000) : Number.POSITIVE_INFINITY);
    if (
      !(timeoutMs > 0) ||
      (timeoutMs > MAX_TIMEOUT_MS && timeoutMs !== Number.POSITIVE_INFINITY)
    ) {
      const text = `timeoutMs of ${endpoint} must be above 0 and at most ${MAX_TIMEOUT_MS}, not ${timeoutMs}`;
      throw new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
    }
    const own = this.#scheduler.monotonic() + timeoutMs;
    const outer = currentAmbient()?.deadline ?? Number.POSITIVE_INFINITY;
    return Math.min(own, outer - MARGIN_MS);
  }

  async #unary(
    service: string,
    endpoint: string,
    method: AnyMethod,
    request: unknown,
    metadata: Metadata,
    options: CallOptions,
  ): Promise<unknown> {
    let codec: Codec | null = null;
    try {
      const deadline = this.deadlineOf(method, options, endpoint);
      const next = await this.nodes(service, options);
      const attempts = method.options.retry?.attempts ?? 1 + (this.#options.retries ?? 1);
      for (let number = 1; ; number++) {
        if (number > 1) metadata.set(METADATA.attempt, String(number));
        try {
          const attempt = await this.attempt(service, next, method, options);
          codec = attempt.codec;
          return await this.#once(
            attempt,
            service,
            endpoint,
            method,
            request,
            metadata,
            deadline,
            options,
          );
        } catch (error) {
          if (number >= attempts || !this.#mayRetry(error, method, options)) throw error;
          await this.#waitBefore(number, method, deadline, options, error);
        }
      }
    } catch (error) {
      throw asServiceError(error, method, codec);
    }
  }

  /** One attempt of a unary call over an open channel. */
  async #once(
    { channel, codec, contentType, done }: Attempt,
    service: string,
    endpoint: string,
    method: AnyMethod,
    request: unknown,
    metadata: Metadata,
    deadline: number,
    options: CallOptions,
  ): Promise<unknown> {
    let outcome: Outcome = OK;
    try {
      const body = codec.encode(request, method.request.type);
      const call: OutgoingCall = {
        service,
        endpoint,
        kind: 'unary',
        contentType,
        metadata: metadata.toWire(),
        timeoutMs: this.left(deadline, endpoint),
        signal: options.signal ?? null,
        body,
      };
      const reply = await channel.request(call);
      options.onMetadata?.(Metadata.fromWire(reply.metadata));
      const value = codec.decode(reply.body, method.response.type);
      const { schema } = method.response;
      return schema === null ? value : await validate(schema, value, `the reply of ${endpoint}`);
    } catch (error) {
      outcome = outcomeOf(error);
      throw error;
    } finally {
      done(outcome);
    }
  }

  #stream(
    service: string,
    endpoint: string,
    method: AnyMethod,
    request: unknown,
    metadata: Metadata,
    options: CallOptions,
  ): ReplyStream<unknown> | Promise<unknown> {
    return openStream(this, { service, endpoint, method, request, metadata, options });
  }

  /** The function that gives a node per attempt. */
  async nodes(service: string, options: CallOptions): Promise<() => ServiceNode> {
    if (this.#isClosed) throw new RivuletError('CLOSED', 'the client is closed', { sent: 'no' });
    const { address } = options;
    if (address !== undefined) {
      const node: ServiceNode = { id: address, address, metadata: { 'rivulet.tcp': address } };
      return () => node;
    }
    return this.#options.selector.select(service, {
      ...(options.filters === undefined ? {} : { filters: options.filters }),
      ...(options.key === undefined ? {} : { key: options.key }),
    });
  }

  /** A channel to the next node, and the codec for it. */
  async attempt(
    service: string,
    next: () => ServiceNode,
    method: AnyMethod,
    options: CallOptions,
  ): Promise<Attempt> {
    const node = next();
    const { selector } = this.#options;
    const mark = options.address === undefined;
    const done = (outcome: Outcome) => {
      if (mark) selector.mark(service, node, outcome);
    };
    try {
      const connected = this.#connections.to(node);
      const { channel, transport } = connected instanceof Promise ? await connected : connected;
      if (transport.name === 'local') {
        const [contentType = ''] = this.#values.contentTypes;
        return { channel, codec: this.#values, contentType, done };
      }
      const contentType =
        options.contentType ?? (method.request.type ? PROTO_TYPE : this.#contentType);
      const codec = this.codecs.find(contentType) ?? (await this.codecs.load(contentType));
      return { channel, codec, contentType, done };
    } catch (error) {
      done(outcomeOf(error));
      throw error;
    }
  }

  /** Milliseconds left, null without a deadline. Throws TIMEOUT when none is left. */
  left(deadline: number, endpoint: string): number | null {
    if (deadline === Number.POSITIVE_INFINITY) return null;
    const left = deadline - this.#scheduler.monotonic();
    if (left > 0) return left;
    const text = `the deadline of the call of ${endpoint} has passed before it was sent`;
    throw new RivuletError('TIMEOUT', text, { sent: 'no' });
  }

  #mayRetry(error: unknown, method: AnyMethod, options: CallOptions): boolean {
    if (this.#isClosed || options.signal?.aborted) return false;
    if (!(error instanceof RivuletError) || !error.retryable) return false;
    return error.sent === 'no' || method.options.idempotent === true;
  }

  /** Waits with jitter, or throws the error of the last attempt when there is no time for another. */
  async #waitBefore(
    number: number,
    method: AnyMethod,
    deadline: number,
    options: CallOptions,
    error: unknown,
  ): Promise<void> {
    const { minMs = RETRY_MIN_MS, maxMs = RETRY_MAX_MS } = method.options.retry ?? {};
    const full = Math.min(maxMs, minMs * 2 ** (number - 1));
    const wait = full * (0.5 + this.#scheduler.fraction() / 2);
    if (this.#scheduler.monotonic() + wait >= deadline) throw error;
    await pause(this.#scheduler, wait, options.signal).catch(() => {
      throw error;
    });
  }
}
