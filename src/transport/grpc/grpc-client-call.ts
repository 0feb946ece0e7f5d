/**
 * Calls of gRPC at their caller: one stream of HTTP/2 each.
 *
 * Invariants: the call ends once, by its trailers, a reset, its deadline, its signal, or the end of
 * the session; one that ends early resets its stream, so that the handler stops; `sent` is `no` only
 * where the peer refused the stream or never got it. Bound: unread replies are `PAUSE_BYTES` and one
 * chunk. Cost: Node's http2; a unary call has no promise of its own.
 */
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from 'node:http2';
import { RivuletError } from '../../errors.ts';
import { READY } from '../../flow/ready.ts';
import { Deferred } from '../../util/time/deferred.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Expiring, Timeout, Timeouts } from '../../util/time/timeouts.ts';
import { metadataFrom } from '../headers.ts';
import { MessageQueue } from '../message-queue.ts';
import {
  type Call,
  CallError,
  type Metadata,
  NO_METADATA,
  type OutgoingCall,
  type ReplyHead,
  type ReplyReceiver,
} from '../transport.ts';
import { checkLength, frameOf, GrpcSplitter } from './grpc-framing.ts';
import { isGrpcHeader, isGrpcType } from './grpc-headers.ts';
import { failureFromTrailers } from './grpc-status.ts';

const PAUSE_BYTES = 256 * 1024;
const MAX_WAITING = 1024;

export interface GrpcClientCallSetup {
  readonly timeouts: Timeouts;
  readonly maxMessageBytes: number;
  readonly peer: string;
  /** Resets the stream with CANCEL. */
  readonly reset: () => void;
  /** Called once when the call has ended. */
  readonly onEnd: (call: GrpcClientCall) => void;
}

/** What every kind of call does; the two below say what becomes of its messages and its end. */
export abstract class GrpcClientCall implements Expiring {
  protected readonly stream: ClientHttp2Stream;
  protected readonly call: OutgoingCall;
  protected readonly setup: GrpcClientCallSetup;
  protected isOver = false;
  #splitter: GrpcSplitter | null = null;
  #headers: IncomingHttpHeaders = {};
  #lastHeaders: IncomingHttpHeaders | null = null;
  #timeout: Timeout | null = null;
  #unwatch: (() => void) | null = null;

  constructor(stream: ClientHttp2Stream, call: OutgoingCall, setup: GrpcClientCallSetup) {
    this.stream = stream;
    this.call = call;
    this.setup = setup;
  }

  /** Listens, starts the deadline, and sends the one request where there is one. */
  begin(): void {
    const { stream, call } = this;
    stream.once('response', (headers) => this.#onResponse(headers));
    stream.once('trailers', (headers) => {
      this.#lastHeaders = headers;
    });
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.once('end', () => this.#onEnd());
    stream.on('error', (cause) => this.#lost(cause));
    stream.once('close', () => this.#lost(null));
    this.#watch();
    if (call.body === null || this.isOver) return;
    this.write(call.body);
    stream.end();
  }

  /** The connection is gone. */
  fail(error: RivuletError): void {
    this.#finish(error);
  }

  /** The deadline has passed. */
  expire(): void {
    const { service, endpoint, timeoutMs } = this.call;
    const text = `${service} ${endpoint} did not answer within ${Math.round(timeoutMs ?? 0)} ms`;
    this.#finish(new RivuletError('TIMEOUT', text));
  }

  /** Ends the call from this side. */
  cancel(reason?: RivuletError): void {
    const text = `the caller of ${this.call.endpoint} left`;
    this.#finish(reason ?? new RivuletError('ABORTED', text));
  }

  protected abstract onHead(head: ReplyHead): void;
  protected abstract onMessage(body: Uint8Array): void;
  /** Whether no more can be taken for now. */
  protected abstract isFull(): boolean;
  /** The call has ended; null for one that succeeded. Called once. */
  protected abstract onOver(error: RivuletError | null, head: ReplyHead, trailers: Metadata): void;

  /** Whether more may be written at once. */
  protected write(body: Uint8Array): boolean {
    let isRoom = true;
    for (const part of frameOf(body)) isRoom = this.stream.write(part);
    return isRoom;
  }

  #watch(): void {
    const { timeoutMs, signal, service, endpoint } = this.call;
    if (timeoutMs !== null) this.#timeout = this.setup.timeouts.start(timeoutMs, this);
    if (signal === null) return;
    const unwatch = onAbort(signal, () => {
      const text = `the call of ${service} ${endpoint} was aborted`;
      this.#finish(new RivuletError('ABORTED', text, { cause: signal.reason }));
    });
    if (this.isOver) unwatch();
    else this.#unwatch = unwatch;
  }

  #onResponse(headers: IncomingHttpHeaders): void {
    this.#headers = headers;
    const status = Number(headers[':status']);
    const contentType = String(headers['content-type'] ?? '');
    if (status !== 200 || !isGrpcType(contentType)) {
      const { peer } = this.setup;
      const text = `${peer} answered with HTTP status ${status} and ${contentType || 'no content type'}: it is no gRPC server`;
      const code = status === 502 || status === 503 || status === 504 ? 'UNAVAILABLE' : 'PROTOCOL';
      this.#finish(new RivuletError(code, text));
      return;
    }
    const encoding = String(headers['grpc-encoding'] ?? 'identity');
    this.#splitter = new GrpcSplitter(this.setup.maxMessageBytes, encoding, (body) =>
      this.onMessage(body),
    );
    // A failure without a message is one block of headers: it is read at the end.
    if (headers['grpc-status'] === undefined) this.onHead(this.#head());
  }

  #head(): ReplyHead {
    return { contentType: this.call.contentType, metadata: metadataOf(this.#headers) };
  }

  #onData(chunk: Buffer): void {
    if (this.isOver) return;
    try {
      this.#splitter?.push(chunk);
    } catch (error) {
      const known = error instanceof RivuletError ? error : null;
      const text = `${this.call.endpoint}: the reply cannot be read: ${known?.message ?? error}`;
      this.#finish(new RivuletError(known?.code ?? 'PROTOCOL', text, { cause: error }));
      return;
    }
    if (this.isFull()) this.stream.pause();
  }

  #onEnd(): void {
    if (this.isOver) return;
    const last = this.#lastHeaders ?? this.#headers;
    const failure = failureFromTrailers(last);
    if (failure === undefined) return;
    if (failure !== null) this.#finish(new CallError(failure));
    else if (this.#splitter?.isBetween === false) {
      const text = `${this.call.endpoint} ended within a message`;
      this.#finish(new RivuletError('PROTOCOL', text));
    } else this.#finish(null, this.#lastHeaders === null ? NO_METADATA : metadataOf(last));
  }

  /** The stream ended without a status. */
  #lost(cause: Error | null): void {
    if (this.isOver) return;
    const { endpoint } = this.call;
    const { rstCode, id } = this.stream;
    if (rstCode === constants.NGHTTP2_REFUSED_STREAM || id === undefined) {
      const text = `${this.setup.peer} takes no more calls`;
      this.#finish(
        new RivuletError('UNAVAILABLE', text, { sent: 'no', cause: cause ?? undefined }),
      );
      return;
    }
    if (rstCode === constants.NGHTTP2_ENHANCE_YOUR_CALM) {
      const text = `${this.setup.peer} refused ${endpoint}: too many requests`;
      this.#finish(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
      return;
    }
    const why = cause?.message ?? `the stream was reset with code ${rstCode}`;
    const text = `${endpoint} was lost before it answered: ${why}`;
    this.#finish(new RivuletError('RESPONDER_LOST', text, { cause: cause ?? undefined }));
  }

  #finish(error: RivuletError | null, trailers: Metadata = NO_METADATA): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#timeout?.cancel();
    this.#unwatch?.();
    this.setup.onEnd(this);
    this.onOver(error, error === null ? this.#head() : NO_HEAD, trailers);
    if (this.stream.destroyed) return;
    // For a peer that answered before it had read everything, this ends the request. No reset follows a
    // call that has ended on both sides: servers count resets and end the connection over them.
    if (error !== null && !(error instanceof CallError)) this.setup.reset();
    else if (!this.stream.writableEnded) this.stream.close();
  }
}

const NO_HEAD: ReplyHead = { contentType: '', metadata: NO_METADATA };

/** A call with one request and one reply. */
export class GrpcUnaryCall extends GrpcClientCall {
  readonly #receiver: ReplyReceiver;
  #body: Uint8Array | null = null;

  constructor(
    stream: ClientHttp2Stream,
    call: OutgoingCall,
    setup: GrpcClientCallSetup,
    receiver: ReplyReceiver,
  ) {
    super(stream, call, setup);
    this.#receiver = receiver;
  }

  protected onHead(): void {}

  protected onMessage(body: Uint8Array): void {
    if (this.#body === null) {
      this.#body = body;
      return;
    }
    const text = `${this.call.endpoint} answered a unary call with a stream`;
    this.cancel(new RivuletError('PROTOCOL', text));
  }

  /** A second message ends it. */
  protected isFull(): boolean {
    return false;
  }

  /** The reply counts when the status has come. */
  protected onOver(error: RivuletError | null, head: ReplyHead, trailers: Metadata): void {
    if (error !== null) {
      this.#receiver.onFailure(error);
      return;
    }
    if (this.#body === null) {
      const text = `${this.call.endpoint} ended without a reply`;
      this.#receiver.onFailure(new RivuletError('PROTOCOL', text));
      return;
    }
    const { contentType, metadata } = head;
    const all = trailers === NO_METADATA ? metadata : { ...metadata, ...trailers };
    this.#receiver.onReply({ contentType, metadata: all, body: this.#body });
  }
}

/** A call with a stream in one direction or both. */
export class GrpcStreamCall extends GrpcClientCall implements Call {
  readonly messages: MessageQueue;
  readonly head: Promise<ReplyHead>;
  readonly trailers: Promise<Metadata>;
  #reason: RivuletError | null = null;
  #hasEnded: boolean;
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  readonly #head = new Deferred<ReplyHead>();
  readonly #trailers = new Deferred<Metadata>();

  constructor(stream: ClientHttp2Stream, call: OutgoingCall, setup: GrpcClientCallSetup) {
    super(stream, call, setup);
    this.#hasEnded = call.body !== null;
    this.head = this.#head.promise;
    this.trailers = this.#trailers.promise;
    this.messages = new MessageQueue({
      // HTTP/2's window is the limit: reading stops at PAUSE_BYTES.
      limit: Number.POSITIVE_INFINITY,
      onConsumed: () => {
        if (this.messages.bytes < PAUSE_BYTES / 2) stream.resume();
      },
      onLeave: () => this.cancel(),
    });
    stream.on('drain', () => {
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    });
  }

  send(body: Uint8Array): Promise<void> {
    if (this.isOver || this.#hasEnded) {
      const text = `${this.call.endpoint}: the caller's stream has ended`;
      return Promise.reject(this.#reason ?? new RivuletError('CLOSED', text));
    }
    try {
      checkLength(body, this.setup.maxMessageBytes);
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.#waiting.length >= MAX_WAITING) {
      const text = `${this.call.endpoint}: too many messages wait to be sent; await send() before the next one`;
      return Promise.reject(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
    }
    if (this.write(body)) return READY;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (!this.isOver) this.stream.end();
  }

  protected onHead(head: ReplyHead): void {
    this.#head.resolve(head);
  }

  protected onMessage(body: Uint8Array): void {
    this.messages.push(body);
  }

  protected isFull(): boolean {
    return this.messages.bytes >= PAUSE_BYTES;
  }

  protected onOver(error: RivuletError | null, head: ReplyHead, trailers: Metadata): void {
    this.#reason = error;
    if (error === null) {
      this.#head.resolve(head);
      this.#trailers.resolve(trailers);
      this.messages.end();
    } else {
      this.#head.reject(error);
      this.#trailers.reject(error);
      this.messages.fail(error);
    }
    if (this.#waiting.length === 0) return;
    const over = error ?? new RivuletError('CLOSED', `${this.call.endpoint} has ended the call`);
    for (const { reject } of this.#waiting.splice(0)) reject(over);
  }
}

function metadataOf(headers: IncomingHttpHeaders): Metadata {
  const pairs: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined) pairs.push(name, String(each));
    }
  }
  return metadataFrom(pairs, isGrpcHeader);
}
