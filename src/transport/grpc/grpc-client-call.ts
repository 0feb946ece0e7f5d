/**
 * A call of gRPC at its caller: one stream of HTTP/2.
 *
 * Invariants: the call ends once, by its trailers, a reset, its deadline, its signal, or the end of
 * the session; one that ends early resets its stream, so that the handler stops; `sent` is `no` only
 * where the peer refused the stream or never got it. Bound: unread replies are `PAUSE_BYTES` and one
 * chunk. Cost: Node's http2.
 */
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from 'node:http2';
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Timeouts } from '../../util/time/timeouts.ts';
import { metadataFrom } from '../headers.ts';
import { MessageQueue } from '../message-queue.ts';
import {
  type Call,
  CallError,
  type Metadata,
  NO_METADATA,
  type OutgoingCall,
  type Reply,
  type ReplyHead,
} from '../transport.ts';
import { checkLength, frameOf, GrpcSplitter } from './grpc-framing.ts';
import { isGrpcHeader, isGrpcType } from './grpc-headers.ts';
import { failureFromTrailers } from './grpc-status.ts';

const PAUSE_BYTES = 256 * 1024;
const MAX_WAITING = 1024;
const READY = Promise.resolve();

export interface GrpcClientCallSetup {
  readonly timeouts: Timeouts;
  readonly maxMessageBytes: number;
  readonly peer: string;
  /** Resets the stream with CANCEL. */
  readonly reset: () => void;
  /** Called once when the call has ended. */
  readonly onEnd: () => void;
}

export class GrpcClientCall implements Call {
  readonly messages: MessageQueue;
  readonly head: Promise<ReplyHead>;
  readonly trailers: Promise<Metadata>;
  readonly #stream: ClientHttp2Stream;
  readonly #call: OutgoingCall;
  readonly #setup: GrpcClientCallSetup;
  #splitter: GrpcSplitter | null = null;
  #headers: IncomingHttpHeaders = {};
  #lastHeaders: IncomingHttpHeaders | null = null;
  #reason: RivuletError | null = null;
  #isOver = false;
  #hasEnded: boolean;
  #stops: (() => void)[] = [];
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  #resolveHead: (head: ReplyHead) => void = () => {};
  #rejectHead: (error: Error) => void = () => {};
  #resolveTrailers: (trailers: Metadata) => void = () => {};
  #rejectTrailers: (error: Error) => void = () => {};

  constructor(stream: ClientHttp2Stream, call: OutgoingCall, setup: GrpcClientCallSetup) {
    this.#stream = stream;
    this.#call = call;
    this.#setup = setup;
    this.#hasEnded = call.body !== null;
    this.head = new Promise((resolve, reject) => {
      this.#resolveHead = resolve;
      this.#rejectHead = reject;
    });
    this.trailers = new Promise((resolve, reject) => {
      this.#resolveTrailers = resolve;
      this.#rejectTrailers = reject;
    });
    // Callers that read only the messages learn of the failure there.
    this.head.catch(() => {});
    this.trailers.catch(() => {});
    this.messages = new MessageQueue({
      // HTTP/2's window is the limit: reading stops at PAUSE_BYTES.
      limit: Number.POSITIVE_INFINITY,
      onConsumed: () => {
        if (this.messages.bytes < PAUSE_BYTES / 2) this.#stream.resume();
      },
      onLeave: () => this.cancel(),
    });
    stream.once('response', (headers) => this.#onResponse(headers));
    stream.once('trailers', (headers) => {
      this.#lastHeaders = headers;
    });
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.once('end', () => this.#onEnd());
    stream.on('drain', () => {
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    });
    stream.on('error', (cause) => this.#lost(cause));
    stream.once('close', () => this.#lost(null));
    this.#watch();
    if (call.body !== null && !this.#isOver) {
      this.#write(call.body);
      stream.end();
    }
  }

  /** The one reply of a unary call. */
  async reply(): Promise<Reply> {
    const { endpoint } = this.#call;
    const first = await this.messages.next();
    // A reply counts when the status has come.
    const second = await this.messages.next();
    const { contentType, metadata } = await this.head;
    if (first.done === true) {
      throw new RivuletError('PROTOCOL', `${endpoint} ended without a reply`);
    }
    if (second.done !== true) {
      this.cancel();
      throw new RivuletError('PROTOCOL', `${endpoint} answered a unary call with a stream`);
    }
    const trailers = await this.trailers;
    const all = Object.keys(trailers).length === 0 ? metadata : { ...metadata, ...trailers };
    return { contentType, metadata: all, body: first.value };
  }

  send(body: Uint8Array): Promise<void> {
    if (this.#isOver || this.#hasEnded) {
      const text = `${this.#call.endpoint}: the caller's stream has ended`;
      return Promise.reject(this.#reason ?? new RivuletError('CLOSED', text));
    }
    try {
      checkLength(body, this.#setup.maxMessageBytes);
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.#waiting.length >= MAX_WAITING) {
      const text = `${this.#call.endpoint}: too many messages wait to be sent; await send() before the next one`;
      return Promise.reject(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
    }
    if (this.#write(body)) return READY;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (!this.#isOver) this.#stream.end();
  }

  cancel(reason?: RivuletError): void {
    const text = `the caller of ${this.#call.endpoint} left`;
    this.#giveUp(reason ?? new RivuletError('ABORTED', text));
  }

  /** The connection is gone. */
  fail(error: RivuletError): void {
    this.#finish(error);
  }

  #watch(): void {
    const { timeoutMs, signal, service, endpoint } = this.#call;
    this.#stops.push(this.#setup.onEnd);
    if (timeoutMs !== null) {
      this.#stops.push(
        this.#setup.timeouts.add(timeoutMs, () => {
          const text = `${service} ${endpoint} did not answer within ${Math.round(timeoutMs)} ms`;
          this.#giveUp(new RivuletError('TIMEOUT', text));
        }),
      );
    }
    if (signal === null) return;
    const abort = () => {
      const text = `the call of ${service} ${endpoint} was aborted`;
      this.#giveUp(new RivuletError('ABORTED', text, { cause: signal.reason }));
    };
    this.#stops.push(onAbort(signal, abort));
  }

  #onResponse(headers: IncomingHttpHeaders): void {
    this.#headers = headers;
    const status = Number(headers[':status']);
    const contentType = String(headers['content-type'] ?? '');
    if (status !== 200 || !isGrpcType(contentType)) {
      const { peer } = this.#setup;
      const text = `${peer} answered with HTTP status ${status} and ${contentType || 'no content type'}: it is no gRPC server`;
      const code = status === 502 || status === 503 || status === 504 ? 'UNAVAILABLE' : 'PROTOCOL';
      this.#giveUp(new RivuletError(code, text));
      return;
    }
    const encoding = String(headers['grpc-encoding'] ?? 'identity');
    this.#splitter = new GrpcSplitter(this.#setup.maxMessageBytes, encoding, (body) => {
      this.messages.push(body);
    });
    // A failure without a message is one block of headers: it is read at the end.
    if (headers['grpc-status'] === undefined) this.#resolveHead(this.#headFrom(headers));
  }

  #headFrom(headers: IncomingHttpHeaders): ReplyHead {
    return { contentType: this.#call.contentType, metadata: metadataOf(headers) };
  }

  #onData(chunk: Buffer): void {
    if (this.#isOver) return;
    try {
      this.#splitter?.push(chunk);
    } catch (error) {
      const known = error instanceof RivuletError ? error : null;
      const text = `${this.#call.endpoint}: the reply cannot be read: ${known?.message ?? error}`;
      this.#giveUp(new RivuletError(known?.code ?? 'PROTOCOL', text, { cause: error }));
      return;
    }
    if (this.messages.bytes >= PAUSE_BYTES) this.#stream.pause();
  }

  #onEnd(): void {
    if (this.#isOver) return;
    const last = this.#lastHeaders ?? this.#headers;
    const failure = failureFromTrailers(last);
    if (failure === undefined) return;
    if (failure !== null) this.#finish(new CallError(failure));
    else if (this.#splitter?.isBetween === false) {
      const text = `${this.#call.endpoint} ended within a message`;
      this.#finish(new RivuletError('PROTOCOL', text));
    } else this.#finish(null, this.#lastHeaders === null ? NO_METADATA : metadataOf(last));
  }

  /** The stream ended without a status. */
  #lost(cause: Error | null): void {
    if (this.#isOver) return;
    const { endpoint } = this.#call;
    const { rstCode, id } = this.#stream;
    if (rstCode === constants.NGHTTP2_REFUSED_STREAM || id === undefined) {
      const text = `${this.#setup.peer} takes no more calls`;
      this.#finish(
        new RivuletError('UNAVAILABLE', text, { sent: 'no', cause: cause ?? undefined }),
      );
      return;
    }
    if (rstCode === constants.NGHTTP2_ENHANCE_YOUR_CALM) {
      const text = `${this.#setup.peer} refused ${endpoint}: too many requests`;
      this.#finish(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
      return;
    }
    const why = cause?.message ?? `the stream was reset with code ${rstCode}`;
    const text = `${endpoint} was lost before it answered: ${why}`;
    this.#finish(new RivuletError('RESPONDER_LOST', text, { cause: cause ?? undefined }));
  }

  /** Ends the call from this side. */
  #giveUp(error: RivuletError): void {
    if (this.#isOver) return;
    this.#finish(error);
  }

  #finish(error: RivuletError | null, trailers: Metadata = NO_METADATA): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reason = error;
    for (const stop of this.#stops.splice(0)) stop();
    if (error === null) {
      this.#resolveHead(this.#headFrom(this.#headers));
      this.#resolveTrailers(trailers);
      this.messages.end();
    } else {
      this.#rejectHead(error);
      this.#rejectTrailers(error);
      this.messages.fail(error);
    }
    const over = error ?? new RivuletError('CLOSED', `${this.#call.endpoint} has ended the call`);
    for (const { reject } of this.#waiting.splice(0)) reject(over);
    if (this.#stream.destroyed) return;
    // A peer that answered before it had read everything is told that no more comes. No reset follows a
    // call that has ended on both sides: servers count resets and end the connection over them.
    if (error !== null && !(error instanceof CallError)) this.#setup.reset();
    else if (!this.#stream.writableEnded) this.#stream.close();
  }

  /** Whether more may be written at once. */
  #write(body: Uint8Array): boolean {
    let isRoom = true;
    for (const part of frameOf(body)) isRoom = this.#stream.write(part);
    return isRoom;
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
