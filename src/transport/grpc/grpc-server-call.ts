/**
 * A call of gRPC at the server: one stream of HTTP/2.
 *
 * Invariants: the handler gets a unary call when its request has come whole, a stream of replies with
 * its request, because go-micro's clients do not end their side, and any other stream at once; a request
 * that has not come whole by the call's deadline, or within `REQUEST_MS`, ends it; the call ends once, with
 * trailers; a caller that resets its stream, is gone, or sends what cannot be read cancels it. Bounds: unread
 * messages are `PAUSE_BYTES` and one chunk, because reading stops and HTTP/2's window closes; they, requests
 * and their beginnings count for the session, and a call that takes more than it may is refused with
 * LIMIT_EXCEEDED; unsent messages are a buffer of Node's and what the window lets pass. Cost: Node's http2,
 * and one copy of small replies.
 */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { RivuletError } from '../../errors.ts';
import { READY } from '../../flow/ready.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { Expiring, Timeout, Timeouts } from '../../util/time/timeouts.ts';
import { isCarried, metadataFrom, toHeaderValue } from '../headers.ts';
import { type HeldBytes, keptOf } from '../held-bytes.ts';
import { MessageQueue } from '../message-queue.ts';
import { OneMessage } from '../one-message.ts';
import {
  type CallFailure,
  type CallHandler,
  type IncomingCall,
  type Metadata,
  type MethodKind,
  NO_METADATA,
  type Reply,
  type ReplyHead,
  type ServedMethod,
} from '../transport.ts';
import { checkLength, frameOf, GrpcSplitter } from './grpc-framing.ts';
import {
  type GrpcPath,
  isGrpcHeader,
  KIND_HEADER,
  kindOf,
  messageTypeOf,
  timeoutOf,
} from './grpc-headers.ts';
import { failureTrailers } from './grpc-status.ts';

export const PAUSE_BYTES = 256 * 1024;
const MAX_WAITING = 1024;
const LINGER_MS = 5000;

export interface GrpcCallSetup {
  readonly path: GrpcPath;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly method: ServedMethod | null;
  readonly peer: string;
  readonly maxMessageBytes: number;
  readonly handler: CallHandler;
  readonly scheduler: Scheduler;
  /** Of the session. */
  readonly timeouts: Timeouts;
  readonly held: HeldBytes;
  /** The caller reset the stream, or is gone, before the call had ended. */
  readonly onReset: () => void;
}

/** As mucp's: until a request has come whole, where its call has no deadline. */
const REQUEST_MS = 60_000;

export class GrpcServerCall implements IncomingCall, Expiring {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind | null;
  readonly metadata: Metadata;
  readonly peer: { readonly address: string };
  contentType = '';
  timeoutMs: number | null = null;
  body: Uint8Array | null = null;
  readonly #setup: GrpcCallSetup;
  readonly #stream: ServerHttp2Stream;
  readonly #grpcType: string;
  #messages: MessageQueue | null = null;
  #splitter: GrpcSplitter | null = null;
  /** What it counts for the session. */
  #held = 0;
  /** The wait for the request. */
  #arriving: Timeout | null = null;
  #hasHead = false;
  #hasBegun = false;
  #isOver = false;
  #trailers: Record<string, string> = {};
  #cancelled: RivuletError | null = null;
  #listeners: ((reason: RivuletError) => void)[] = [];
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];

  constructor(stream: ServerHttp2Stream, setup: GrpcCallSetup) {
    this.#stream = stream;
    this.#setup = setup;
    this.service = setup.path.service;
    this.endpoint = setup.path.endpoint;
    // What the caller says comes first: the server refuses a kind that is not the method's.
    this.kind = kindOf(textOf(setup.headers[KIND_HEADER])) ?? setup.method?.kind ?? null;
    this.metadata = metadataFrom(setup.rawHeaders, isGrpcHeader);
    this.peer = { address: setup.peer };
    this.#grpcType = String(setup.headers['content-type']);
    stream.on('error', () => {});
    stream.on('drain', () => {
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    });
    stream.once('close', () => this.#onClose());
  }

  /** Reads the request and hands the call over. */
  begin(): void {
    const { headers, maxMessageBytes } = this.#setup;
    const stream = this.#stream;
    try {
      this.timeoutMs = timeoutOf(textOf(headers['grpc-timeout']), textOf(headers.timeout));
    } catch (error) {
      this.#failWith(error);
      return;
    }
    const isStream = this.kind === 'clientStream' || this.kind === 'bidi';
    const encoding = textOf(headers['grpc-encoding']) ?? 'identity';
    const splitter = new GrpcSplitter(maxMessageBytes, encoding, (body) =>
      isStream ? this.#onMessage(body) : this.#onRequest(body),
    );
    this.#splitter = splitter;
    stream.on('data', (chunk: Buffer) => {
      if (this.#isOver) return;
      try {
        splitter.push(chunk);
        if (!this.#count()) throw this.#tooMuch();
      } catch (error) {
        this.#break(error);
      }
    });
    stream.once('end', () => {
      // A stream that was reset ends here too: its close says why.
      if (this.#isOver || stream.aborted) return;
      if (splitter.isBetween && this.#hasBegun && !isStream) return;
      if (!splitter.isBetween) {
        const text = 'the request ended within a message';
        this.#break(new RivuletError('PROTOCOL', text, { sent: 'no' }));
      } else if (isStream) this.#queue().end();
      else if (this.body === null && this.kind !== null) {
        const text = `${this.endpoint} takes one request, and none came`;
        this.#failWith(new RivuletError('PROTOCOL', text, { sent: 'no' }));
      } else this.#dispatch();
    });
    if (isStream) {
      this.#queue();
      this.#dispatch();
    } else this.#arriving = this.#setup.timeouts.start(this.timeoutMs ?? REQUEST_MS, this);
  }

  /** The request has not come whole in time. */
  expire(): void {
    this.#arriving = null;
    const ms = Math.round(this.timeoutMs ?? REQUEST_MS);
    const text = `the request of ${this.endpoint} did not come whole within ${ms} ms`;
    this.#failWith(new RivuletError('TIMEOUT', text, { sent: 'no' }));
  }

  get messages(): AsyncIterableIterator<Uint8Array> {
    return this.#messages ?? new OneMessage(this.body);
  }

  onCancel(listener: (reason: RivuletError) => void): void {
    if (this.#cancelled !== null) listener(this.#cancelled);
    else this.#listeners.push(listener);
  }

  reply({ contentType, metadata, body }: Reply): void {
    if (this.#isOver) return;
    try {
      checkLength(body, this.#setup.maxMessageBytes);
      this.#respond({ contentType, metadata });
    } catch (error) {
      this.#failWith(error);
      return;
    }
    this.#finish({ 'grpc-status': '0' }, body);
  }

  head(head: ReplyHead): void {
    if (this.#isOver) return;
    try {
      this.#respond(head);
    } catch (error) {
      this.#failWith(error);
    }
  }

  send(body: Uint8Array): Promise<void> {
    if (this.#isOver) return Promise.reject(this.#cancelled ?? this.#ended());
    try {
      checkLength(body, this.#setup.maxMessageBytes);
      this.#respond({ contentType: this.contentType, metadata: NO_METADATA });
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.#waiting.length >= MAX_WAITING) {
      const text = `${this.endpoint}: too many messages wait to be sent; await send() before the next one`;
      return Promise.reject(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
    }
    if (this.#write(body)) return READY;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  end(trailers: Metadata): void {
    if (this.#isOver) return;
    try {
      this.#respond({ contentType: this.contentType, metadata: NO_METADATA });
      this.#finish({ ...carried(trailers), 'grpc-status': '0' });
    } catch (error) {
      this.#failWith(error);
    }
  }

  fail(failure: CallFailure): void {
    if (this.#isOver) return;
    const trailers = { ...safely(failure.metadata), ...failureTrailers(failure) };
    if (this.#hasHead) {
      this.#finish(trailers);
      return;
    }
    this.#isOver = true;
    if (!this.#stream.destroyed && !this.#stream.closed) {
      const head = { ':status': 200, 'content-type': this.#grpcType, ...trailers };
      this.#stream.respond(head, { endStream: true });
      this.#leaveRequest();
    }
    this.#release();
  }

  #failWith(error: unknown): void {
    const known = error instanceof RivuletError ? error : null;
    this.fail({
      code: known?.code ?? 'INTERNAL',
      id: 'go.micro.server',
      status: known?.microCode ?? 500,
      detail: known?.message ?? String(error),
      sent: known?.sent,
    });
  }

  /** Counts what it holds now; false where the session may not hold so much. */
  #count(): boolean {
    const unread = this.#messages?.bytes ?? 0;
    const whole = (this.#splitter?.held ?? 0) + (this.body?.length ?? 0) + unread;
    const held = this.#isOver ? 0 : whole;
    if (!this.#setup.held.change(held - this.#held)) return false;
    this.#held = held;
    return true;
  }

  #tooMuch(): RivuletError {
    const text = `requests and unread messages of this connection take more memory than one may: ${this.endpoint} was not read`;
    const sent = this.#hasBegun ? 'maybe' : 'no';
    return new RivuletError('LIMIT_EXCEEDED', text, { sent });
  }

  /** What the caller sent cannot be read on: the call ends, and its handler learns of it. */
  #break(error: unknown): void {
    const known = error instanceof RivuletError ? error : null;
    const reason = known ?? new RivuletError('INTERNAL', String(error), { cause: error });
    this.#cancelled = reason;
    this.#failWith(reason);
    for (const listener of this.#listeners.splice(0)) listener(reason);
  }

  #dispatch(): void {
    this.#hasBegun = true;
    this.#arrived();
    const { headers, method, handler } = this.#setup;
    const said = textOf(headers['x-content-type']);
    this.contentType = messageTypeOf(this.#grpcType, said, method, this.body);
    handler(this);
  }

  /** Nothing is waited for any more. */
  #arrived(): void {
    this.#arriving?.cancel();
    this.#arriving = null;
  }

  #onRequest(body: Uint8Array): void {
    if (this.body === null) {
      this.body = keptOf(body);
      if (this.kind === null || this.kind === 'serverStream') this.#dispatch();
    } else if (this.kind !== null) {
      const text = `${this.endpoint} takes one request, and a second one came`;
      throw new RivuletError('PROTOCOL', text, { sent: 'no' });
    }
  }

  #onMessage(body: Uint8Array): void {
    const queue = this.#queue();
    queue.push(body);
    if (queue.bytes >= PAUSE_BYTES) this.#stream.pause();
  }

  #queue(): MessageQueue {
    this.#messages ??= new MessageQueue({
      // HTTP/2's window is the limit: reading stops at PAUSE_BYTES.
      limit: Number.POSITIVE_INFINITY,
      onConsumed: () => {
        this.#count();
        if ((this.#messages?.bytes ?? 0) < PAUSE_BYTES / 2) this.#stream.resume();
      },
      onLeave: () => {},
    });
    return this.#messages;
  }

  #respond({ metadata }: ReplyHead): void {
    if (this.#hasHead) return;
    const headers = {
      ':status': 200,
      ...carried(metadata),
      'content-type': this.#grpcType,
      'grpc-accept-encoding': 'identity,gzip,deflate',
    };
    this.#hasHead = true;
    if (this.#stream.destroyed || this.#stream.closed) return;
    this.#stream.respond(headers, { waitForTrailers: true });
    this.#stream.once('wantTrailers', () => {
      if (this.#stream.destroyed || this.#stream.closed) return;
      this.#stream.sendTrailers(this.#trailers);
      this.#leaveRequest();
    });
  }

  /** Whether more may be written at once. */
  #write(body: Uint8Array): boolean {
    let isRoom = true;
    for (const part of frameOf(body)) isRoom = this.#stream.write(part);
    return isRoom;
  }

  #finish(trailers: Record<string, string>, last?: Uint8Array): void {
    this.#isOver = true;
    this.#trailers = trailers;
    if (last !== undefined) this.#write(last);
    this.#stream.end();
    this.#release();
  }

  /**
   * A caller that has yet to end its side: what it sends is dropped, and its stream is reset when it
   * has not ended by itself. A reset at once would overtake the trailers in Node.
   */
  #leaveRequest(): void {
    const stream = this.#stream;
    if (stream.readableEnded || stream.endAfterHeaders) return;
    stream.resume();
    const reset = () => stream.close(constants.NGHTTP2_NO_ERROR);
    const stop = this.#setup.scheduler.after(LINGER_MS, reset, false);
    stream.once('close', stop);
  }

  #onClose(): void {
    if (this.#isOver) {
      this.#release();
      return;
    }
    this.#isOver = true;
    const code = this.#stream.rstCode;
    const how = code === constants.NGHTTP2_CANCEL ? 'cancelled the call' : 'is gone';
    const reason = new RivuletError('ABORTED', `the caller ${how}`);
    this.#cancelled = reason;
    this.#release();
    for (const listener of this.#listeners.splice(0)) listener(reason);
    this.#setup.onReset();
  }

  #release(): void {
    this.#arrived();
    this.#count();
    // An error is costly to make, and a call with one request and one reply has nothing to abort.
    if (this.#messages === null && this.#waiting.length === 0) return;
    const reason = this.#cancelled ?? this.#ended();
    this.#messages?.abort(reason);
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }

  #ended(): RivuletError {
    return new RivuletError('CLOSED', `the call of ${this.endpoint} has ended`);
  }
}

function textOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}

/** Metadata as headers. Throws INVALID_ARGUMENT for what HTTP cannot carry. */
function carried(metadata: Metadata): Record<string, string> {
  const headers: Record<string, string> = Object.create(null);
  for (const name of Object.keys(metadata)) {
    if (isCarried(name) && !isGrpcHeader(name)) {
      headers[name] = toHeaderValue(name, metadata[name] as string);
    }
  }
  return headers;
}

function safely(metadata: Metadata | undefined): Record<string, string> {
  try {
    return carried(metadata ?? NO_METADATA);
  } catch {
    return {};
  }
}
