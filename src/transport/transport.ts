/**
 * The Transport: how a call reaches the node that runs its handler.
 *
 * Contract only. A transport carries opaque message bodies, metadata, deadlines, cancellation and
 * errors; what they mean is rpc's business. Invariants, which the transport suite checks: each call
 * ends exactly once, for both sides; a call with a `timeoutMs` ends by then, whatever the peer does;
 * a sender of a stream holds at most the peer's window of bytes plus one message; a call that failed
 * with `sent: 'no'` has reached no handler.
 */
import type { ErrorCode } from '../errors.ts';
import { RivuletError, type RivuletErrorOptions } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { TlsOptions } from './tls.ts';

export type MethodKind = 'unary' | 'serverStream' | 'clientStream' | 'bidi';

/** Names are lower-case, as gRPC sends them; what a person reads or writes ignores case. */
export type Metadata = Readonly<Record<string, string>>;

export const NO_METADATA: Metadata = Object.freeze(Object.create(null));

export interface OutgoingCall {
  readonly service: string;
  /** `Struct.Method`. */
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly contentType: string;
  readonly metadata: Metadata;
  /** Milliseconds until the call must have ended; null for a stream without a deadline. */
  readonly timeoutMs: number | null;
  readonly signal: AbortSignal | null;
  /** The one request of `unary` and `serverStream`; null for the others. */
  readonly body: Uint8Array | null;
}

/** The one reply of a unary call. */
export interface Reply {
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly body: Uint8Array;
}

export interface ReplyHead {
  readonly contentType: string;
  readonly metadata: Metadata;
}

/** A call with a stream in one direction or both, as its caller sees it. */
export interface Call {
  /** Resolves with the first message or before it; rejects as the call does. */
  readonly head: Promise<ReplyHead>;
  /** Replies in order. Leaving the loop cancels the call. Throws what the call failed with. */
  readonly messages: AsyncIterableIterator<Uint8Array>;
  /** Resolves when the peer has ended, with what it said at its end. */
  readonly trailers: Promise<Metadata>;
  /** Resolves when the next message may be sent. Rejects once the call has ended. */
  send(body: Uint8Array): Promise<void>;
  /** No more messages of the caller. */
  end(): void;
  /** Ends the call on both sides. */
  cancel(reason?: RivuletError): void;
}

/** What receives the end of a unary call: one of both, once, perhaps before `send` returns. Neither throws. */
export interface ReplyReceiver {
  onReply(reply: Reply): void;
  /** CallError for what the peer said, RivuletError otherwise. */
  onFailure(error: Error): void;
}

/** A connection to one node, or to whatever the broker chooses. */
export interface Channel {
  /** Calls that have not ended. */
  readonly load: number;
  /** A unary call. Rejects with CallError for what the peer said, with RivuletError otherwise. */
  request(call: OutgoingCall): Promise<Reply>;
  /** As `request` without a promise, where the channel can; throws what `request` rejects with at once. */
  send?(call: OutgoingCall, receiver: ReplyReceiver): void;
  /** A call with a stream in one direction or both. */
  call(call: OutgoingCall): Call;
  /** Lets calls finish for at most `drainMs`, then ends them. Default 0. */
  close(drainMs?: number): Promise<void>;
}

/** A call as the server receives it. */
export interface IncomingCall {
  /** The service that was asked for, where the transport carries it. */
  readonly service: string;
  readonly endpoint: string;
  /** Null where the wire does not say: the method's own kind decides. */
  readonly kind: MethodKind | null;
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly timeoutMs: number | null;
  readonly peer: { readonly address: string };
  /** True for calls within one process, whose bodies are values (codec/value.ts). */
  readonly carriesValues?: boolean;
  /** The request of a unary call or of a server stream, when it has come whole. */
  readonly body: Uint8Array | null;
  /** The caller's messages; for a call with a `body`, that one message. */
  readonly messages: AsyncIterableIterator<Uint8Array>;
  /** Calls back once when the caller cancels or is lost; at once if it already has. */
  onCancel(listener: (reason: RivuletError) => void): void;
  /** The one reply of a unary call or client stream; ends the call. */
  reply(reply: Reply): void;
  /** Sends the head of a reply stream; optional, before the first `send`. */
  head(head: ReplyHead): void;
  /** Resolves when the next message may be sent. Rejects once the call has ended. */
  send(body: Uint8Array): Promise<void>;
  /** Ends a reply stream. */
  end(trailers: Metadata): void;
  /** Ends the call with an error. */
  fail(failure: CallFailure): void;
}

export type CallHandler = (call: IncomingCall) => void;

/** What a transport may ask of a method where its wire does not say everything of a call. */
export interface ServedMethod {
  readonly kind: MethodKind;
  /** Whether its messages have protobuf types. */
  readonly isProto: boolean;
}

export interface ListenOptions {
  /** host:port; port 0 chooses one. */
  readonly address: string;
  readonly handler: CallHandler;
  /** Certificates: with them every connection is TLS. */
  readonly tls?: TlsOptions | undefined;
  /** Null for an endpoint that is not served. */
  readonly methods?: (endpoint: string) => ServedMethod | null;
  /** What gRPC's reflection and health report of this node. */
  readonly described?: DescribedServices;
  /** Given to peers that must prove that they found this process in the registry. */
  readonly token?: string;
  readonly nodeId?: string;
  /** Registry name of the service, for transports that reach it by name. */
  readonly service?: string;
}

/** The services of a node as gRPC's tools know them. */
export interface DescribedServices {
  /** Full names, `orders.OrderSrv`. */
  readonly services: readonly string[];
  /** Serialised google.protobuf.FileDescriptorProto of each file that they need; made when it is read. */
  readonly files: readonly Uint8Array[];
  /** Whether the service takes calls: what its health is. */
  readonly isHealthy: () => boolean;
}

export interface Listener {
  /** host:port as bound. */
  readonly address: string;
  /** Node metadata that a caller needs to dial this listener. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Refuses new calls, lets those in flight finish for at most `drainMs`, then ends them. */
  close(drainMs?: number): Promise<void>;
}

export interface DialOptions {
  readonly timeoutMs?: number;
  /** Called once when the connection is lost or the peer asks callers to leave. */
  readonly onGone?: () => void;
  /** Ends the dial: its client closes. Without effect once it has ended. */
  readonly signal?: AbortSignal;
}

export interface Transport {
  /** `local`, `tcp`, `broker`, `grpc`, `http`, `ws`, `udp`. */
  readonly name: string;
  listen(options: ListenOptions): Promise<Listener>;
  /** Rejects with CONNECTION_FAILED, `sent: 'no'`. */
  dial(node: ServiceNode, options?: DialOptions): Promise<Channel>;
  /** Whether the node's record says how to dial it by this transport. */
  canDial(node: ServiceNode): boolean;
}

/** What a server says of a call that failed: go-micro's error, our code, and typed data. */
export interface CallFailure {
  readonly code: ErrorCode;
  /** go-micro's id: the service or component that failed. */
  readonly id: string;
  /** go-micro's code, an HTTP status. */
  readonly status: number;
  readonly detail: string;
  /** Name of a typed error of the contract; its data is in `body`. */
  readonly name?: string | undefined;
  readonly body?: Uint8Array | undefined;
  readonly contentType?: string | undefined;
  readonly metadata?: Metadata | undefined;
  /** `no` where the server refused the call before its handler ran. */
  readonly sent?: 'no' | 'maybe' | undefined;
}

/** A failure that a peer sent. */
export class CallError extends RivuletError {
  readonly failure: CallFailure;

  constructor(failure: CallFailure, options: RivuletErrorOptions = {}) {
    // A code such as NO_RESPONDERS may come from a call that the handler made: only the peer knows.
    super(failure.code, failure.detail, { sent: failure.sent ?? 'maybe', ...options });
    this.failure = failure;
  }
}
