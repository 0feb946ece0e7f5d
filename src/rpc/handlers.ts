/**
 * The types of handlers and clients that follow from a contract.
 *
 * Types only, so that a missing or misnamed method, a wrong request and a wrong reply are errors of
 * the compiler on both sides.
 */
import type { MethodKind } from '../transport/transport.ts';
import type { CallContext } from './context.ts';
import type { Contract, Method, RequestOf, ResponseOf } from './contract.ts';
import type { Metadata } from './metadata.ts';

export type UnaryHandler = (request: unknown, context: CallContext) => unknown;
export type StreamHandler = (
  requests: AsyncIterable<unknown>,
  context: CallContext,
) => AsyncIterable<unknown>;

type MaybePromise<T> = T | Promise<T>;
type Items<T> = AsyncIterable<T> | Iterable<T>;

export type HandlerOf<M> =
  M extends Method<infer Kind extends MethodKind, infer _Q, infer _R, infer _E>
    ? {
        unary: (request: RequestOf<M>, context: CallContext) => MaybePromise<ResponseOf<M>>;
        serverStream: (
          request: RequestOf<M>,
          context: CallContext,
        ) => MaybePromise<Items<ResponseOf<M>>>;
        clientStream: (
          requests: AsyncIterable<RequestOf<M>>,
          context: CallContext,
        ) => MaybePromise<ResponseOf<M>>;
        bidi: (
          requests: AsyncIterable<RequestOf<M>>,
          context: CallContext,
        ) => MaybePromise<Items<ResponseOf<M>>>;
      }[Kind]
    : never;

/** What `handle` takes: every struct of the contract with every method. */
export type HandlersOf<C extends Contract> = {
  readonly [S in keyof C & string]: { readonly [M in keyof C[S] & string]: HandlerOf<C[S][M]> };
};

export interface CallOptions {
  /** Until the call must have ended, retries included. Default: the method's, else 5 000 ms. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly metadata?: Readonly<Record<string, string>> | Metadata;
  /** For the consistent hash: calls of one key go to one node. */
  readonly key?: string;
  /** Only nodes that pass. */
  readonly filters?: readonly import('../selector/selector.ts').Filter[];
  /** Only this address, without registry and selector; go-micro's WithAddress. */
  readonly address?: string;
  /** Equal for every attempt, so that the server can tell a retry. Default: made where retries may happen. */
  readonly idempotencyKey?: string;
  /** Content type of the request; default: the client's codec. */
  readonly contentType?: string;
  /** Called with the metadata of the reply. */
  readonly onMetadata?: (metadata: Metadata) => void;
}

/** A stream of replies: iterate it; leaving the loop cancels the handler. */
export interface ReplyStream<T> extends AsyncIterableIterator<T> {
  /** Metadata that came with the first reply, or at the end of an empty stream. */
  readonly metadata: Promise<Metadata>;
  cancel(): void;
}

export type ClientMethod<M> =
  M extends Method<infer Kind extends MethodKind, infer _Q, infer _R, infer _E>
    ? {
        unary: UnaryCaller<RequestOf<M>, ResponseOf<M>>;
        serverStream: StreamCaller<RequestOf<M>, ResponseOf<M>>;
        clientStream: (
          requests: Items<RequestOf<M>>,
          options?: CallOptions,
        ) => Promise<ResponseOf<M>>;
        bidi: (requests: Items<RequestOf<M>>, options?: CallOptions) => ReplyStream<ResponseOf<M>>;
      }[Kind]
    : never;

type UnaryCaller<Request, Response> = undefined extends Request
  ? (request?: Request, options?: CallOptions) => Promise<Response>
  : (request: Request, options?: CallOptions) => Promise<Response>;
type StreamCaller<Request, Response> = undefined extends Request
  ? (request?: Request, options?: CallOptions) => ReplyStream<Response>
  : (request: Request, options?: CallOptions) => ReplyStream<Response>;

export type ClientOf<C extends Contract> = {
  readonly [S in keyof C & string]: { readonly [M in keyof C[S] & string]: ClientMethod<C[S][M]> };
};
