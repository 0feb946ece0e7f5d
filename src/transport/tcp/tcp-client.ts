/**
 * The caller's end of a TCP connection of ours: many calls over one socket.
 *
 * Holds: the calls in flight by their stream number. Invariants: stream numbers are odd and rise;
 * every call ends once, by its reply, an error, its deadline, its signal, or the end of the
 * connection; a call that ends early sends CANCEL, so that the handler stops; after GOAWAY no call
 * begins here. Bound: `MAX_STREAMS` calls. Cost: one map entry and one deadline per call.
 */
import type { Duplex } from 'node:stream';
import { type ErrorCode, errorTable, RivuletError } from '../../errors.ts';
import { Deferred } from '../../util/time/deferred.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { type Expiring, type Timeout, Timeouts } from '../../util/time/timeouts.ts';
import { MessageQueue } from '../message-queue.ts';
import { SendWindow } from '../send-window.ts';
import {
  type Call,
  CallError,
  type Channel,
  type Metadata,
  NO_METADATA,
  type OutgoingCall,
  type Reply,
  type ReplyHead,
  type ReplyReceiver,
} from '../transport.ts';
import { FramedSocket, type FramedSocketOwner } from './framed-socket.ts';
import { Frame, type FrameReader, KINDS, MAX_FRAME, VERSION } from './tcp-frame.ts';

export const WINDOW = 256 * 1024;
const MAX_STREAMS = 10_000;

/** What a call in flight must take from the connection. */
interface Stream {
  onFrame(frame: FrameReader): void;
  /** Ends the call with this error; the caller has sent to the peer what the peer needs. */
  fail(error: RivuletError): void;
}

export interface TcpClientOptions {
  readonly scheduler: Scheduler;
  readonly token: string;
  readonly nodeId: string;
  readonly peer: string;
  /** The first bytes of the connection, where the carrier does not say what it carries. */
  readonly preface: string;
  /** As of FramedSocket. */
  readonly largestWrite?: number | undefined;
  readonly onGone: () => void;
}

export class TcpClient implements Channel, FramedSocketOwner {
  readonly #frames: FramedSocket;
  readonly #timeouts: Timeouts;
  readonly #options: TcpClientOptions;
  readonly #streams = new Map<number, Stream>();
  #nextStream = 1;
  #peerWindow = 0;
  #isLeaving = false;
  #greeted: { resolve: () => void; reject: (error: Error) => void } | null = null;
  #whenIdle: (() => void) | null = null;

  constructor(socket: Duplex, options: TcpClientOptions) {
    this.#options = options;
    this.#timeouts = new Timeouts(options.scheduler);
    const { peer, scheduler, largestWrite } = options;
    this.#frames = new FramedSocket(socket, peer, this, scheduler, { largestWrite });
    if (options.preface !== '') socket.write(options.preface);
  }

  get load(): number {
    return this.#streams.size + (this.#greeted === null ? 0 : 1);
  }

  /** Exchanges HELLO. Rejects with CONNECTION_FAILED when the peer is another node than the record names. */
  greet(timeoutMs: number): Promise<void> {
    const { writer } = this.#frames;
    writer.begin(Frame.HELLO, 0);
    writer.u8(VERSION);
    writer.u32(WINDOW);
    writer.u32(MAX_FRAME);
    writer.text(this.#options.token);
    writer.text(this.#options.nodeId);
    writer.u8(0);
    writer.end();
    this.#frames.flush(true);
    return new Promise((resolve, reject) => {
      const stop = this.#timeouts.add(timeoutMs, () => {
        const text = `${this.#frames.peer} did not greet within ${timeoutMs} ms`;
        this.#frames.destroy(new RivuletError('CONNECTION_FAILED', text));
      });
      this.#greeted = {
        resolve: () => {
          stop();
          this.#greeted = null;
          resolve();
        },
        reject: (error) => {
          stop();
          this.#greeted = null;
          reject(error);
        },
      };
    });
  }

  request(call: OutgoingCall): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.send(call, { onReply: resolve, onFailure: reject });
    });
  }

  send(call: OutgoingCall, receiver: ReplyReceiver): void {
    const refusal = this.#refusal();
    if (refusal !== null) {
      receiver.onFailure(refusal);
      return;
    }
    const id = this.#nextStream;
    this.#nextStream += 2;
    const unary = new UnaryCall(this, id, call, receiver);
    this.#begin(id, unary, call);
    unary.watch(this.#timeouts);
  }

  call(call: OutgoingCall): Call {
    const refusal = this.#refusal();
    const id = this.#nextStream;
    this.#nextStream += 2;
    const stream = new StreamCall(this, id, call, this.#peerWindow);
    if (refusal !== null) stream.fail(refusal);
    else {
      this.#begin(id, stream, call);
      stream.watch(this.#timeouts);
    }
    return stream;
  }

  async close(drainMs = 0): Promise<void> {
    this.#isLeaving = true;
    if (this.#streams.size > 0 && drainMs > 0 && !this.#frames.isClosed) {
      await new Promise<void>((resolve) => {
        const stop = this.#options.scheduler.after(drainMs, resolve);
        this.#whenIdle = () => {
          stop();
          resolve();
        };
      });
    }
    this.#frames.close(new RivuletError('CLOSED', 'the client closed the connection'));
  }

  onFrame(frame: FrameReader): void {
    if (frame.stream !== 0) {
      // A frame for a call that has ended here was on its way when it ended.
      this.#streams.get(frame.stream)?.onFrame(frame);
    } else if (frame.type === Frame.HELLO) this.#onHello(frame);
    else if (frame.type === Frame.GOAWAY) this.#leave();
    else if (frame.type === Frame.ERROR) {
      const error = readFailure(frame);
      const text = `${this.#frames.peer} refused the connection: ${error.message}`;
      this.#frames.destroy(new RivuletError('CONNECTION_FAILED', text, { cause: error }));
    }
  }

  onClosed(error: RivuletError): void {
    this.#isLeaving = true;
    this.#greeted?.reject(
      error.code === 'CONNECTION_FAILED'
        ? error
        : new RivuletError('CONNECTION_FAILED', error.message, { cause: error }),
    );
    for (const stream of [...this.#streams.values()]) stream.fail(error);
    this.#streams.clear();
    this.#options.onGone();
    this.#idle();
  }

  /** The call has ended; `cancel` says so to the peer. */
  forget(id: number, cancel: boolean): void {
    if (!this.#streams.delete(id)) return;
    if (cancel && !this.#frames.isClosed) {
      this.#frames.writer.begin(Frame.CANCEL, id);
      this.#frames.writer.end();
      this.#frames.flush(false);
    }
    if (this.#streams.size === 0) this.#idle();
  }

  more(id: number, body: Uint8Array): void {
    if (!this.#streams.has(id)) return;
    this.#frames.writer.begin(Frame.MORE, id);
    this.#frames.writer.end(body);
    this.#frames.flushMessage();
  }

  /** As `sent`, and no sooner than the socket has room: the peer's window may be larger than what it reads. */
  whenRoom(sent: Promise<void>): Promise<void> {
    return this.#frames.whenRoom(sent);
  }

  endOf(id: number): void {
    if (!this.#streams.has(id)) return;
    this.#frames.writer.begin(Frame.END, id);
    this.#frames.writer.headers(NO_METADATA);
    this.#frames.writer.end();
    this.#frames.flush(this.#streams.size === 1);
  }

  grant(id: number, bytes: number): void {
    if (!this.#streams.has(id)) return;
    this.#frames.writer.begin(Frame.GRANT, id);
    this.#frames.writer.u32(bytes);
    this.#frames.writer.end();
    this.#frames.flush(false);
  }

  #begin(id: number, stream: Stream, call: OutgoingCall): void {
    const { writer } = this.#frames;
    writer.begin(Frame.OPEN, id);
    writer.u8(KINDS.indexOf(call.kind));
    writer.pair(call.service, call.endpoint);
    writer.varint(call.timeoutMs === null ? 0 : Math.max(1, Math.ceil(call.timeoutMs)));
    writer.contentType(call.contentType);
    writer.headers(call.metadata);
    writer.end(call.body);
    this.#streams.set(id, stream);
    this.#frames.watch();
    this.#frames.flush(this.#streams.size === 1);
  }

  #refusal(): RivuletError | null {
    const { error } = this.#frames;
    if (error !== null) {
      return new RivuletError('CONNECTION_FAILED', error.message, { cause: error, sent: 'no' });
    }
    if (this.#isLeaving) {
      const text = `the node at ${this.#frames.peer} takes no more calls`;
      return new RivuletError('UNAVAILABLE', text, { sent: 'no' });
    }
    if (this.#streams.size >= MAX_STREAMS) {
      const text = `${MAX_STREAMS} calls are in flight to ${this.#frames.peer}`;
      return new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
    }
    if (this.#frames.isFull) {
      const text = `${this.#frames.peer} does not read what was sent to it`;
      return new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
    }
    return null;
  }

  #onHello(frame: FrameReader): void {
    const version = frame.u8();
    if (version !== VERSION) {
      const text = `${this.#frames.peer} speaks version ${version} of our framing; this is ${VERSION}`;
      this.#frames.destroy(new RivuletError('CONNECTION_FAILED', text));
      return;
    }
    this.#peerWindow = frame.u32();
    this.#greeted?.resolve();
  }

  #leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#options.onGone();
    if (this.#streams.size === 0) this.#frames.close();
  }

  #idle(): void {
    this.#whenIdle?.();
    this.#whenIdle = null;
    if (this.#isLeaving && this.#streams.size === 0) this.#frames.close();
  }
}

/** What both kinds of call need: a deadline, a signal, and an end that comes once. */
abstract class ClientStream implements Stream, Expiring {
  protected readonly client: TcpClient;
  protected readonly id: number;
  protected readonly call: OutgoingCall;
  protected isOver = false;
  #timeout: Timeout | null = null;
  #unwatch: (() => void) | null = null;

  constructor(client: TcpClient, id: number, call: OutgoingCall) {
    this.client = client;
    this.id = id;
    this.call = call;
  }

  watch(timeouts: Timeouts): void {
    const { timeoutMs, signal, service, endpoint } = this.call;
    if (timeoutMs !== null) this.#timeout = timeouts.start(timeoutMs, this);
    if (signal === null) return;
    const abort = () => {
      const text = `the call of ${service} ${endpoint} was aborted`;
      this.giveUp(new RivuletError('ABORTED', text, { cause: signal.reason }));
    };
    this.#unwatch = onAbort(signal, abort);
  }

  /** The deadline has passed. */
  expire(): void {
    const { timeoutMs, service, endpoint } = this.call;
    const ms = Math.round(timeoutMs ?? 0);
    this.giveUp(
      new RivuletError('TIMEOUT', `${service} ${endpoint} did not answer within ${ms} ms`),
    );
  }

  /** Ends the call from this side. */
  protected giveUp(error: RivuletError): void {
    if (this.isOver) return;
    this.finish(true);
    this.fail(error);
  }

  protected finish(cancel: boolean): void {
    this.isOver = true;
    this.#timeout?.cancel();
    this.#unwatch?.();
    this.client.forget(this.id, cancel);
  }

  abstract onFrame(frame: FrameReader): void;
  abstract fail(error: RivuletError): void;
}

class UnaryCall extends ClientStream {
  readonly #receiver: ReplyReceiver;
  /** The receiver has its one answer. */
  #isSettled = false;

  constructor(client: TcpClient, id: number, call: OutgoingCall, receiver: ReplyReceiver) {
    super(client, id, call);
    this.#receiver = receiver;
  }

  onFrame(frame: FrameReader): void {
    if (frame.type === Frame.REPLY) {
      const contentType = frame.contentType();
      const metadata = frame.headers();
      const body = frame.rest();
      this.finish(false);
      this.#isSettled = true;
      this.#receiver.onReply({ contentType, metadata, body });
    } else if (frame.type === Frame.ERROR) {
      this.fail(readFailure(frame));
    } else if (frame.type !== Frame.GRANT) {
      const text = `${this.call.endpoint} answered a unary call with a stream`;
      this.giveUp(new RivuletError('PROTOCOL', text));
    }
  }

  fail(error: RivuletError): void {
    if (!this.isOver) this.finish(false);
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#receiver.onFailure(error);
  }
}

class StreamCall extends ClientStream implements Call {
  readonly head: Promise<ReplyHead>;
  readonly trailers: Promise<Metadata>;
  readonly messages: MessageQueue;
  readonly #window: SendWindow;
  readonly #head = new Deferred<ReplyHead>();
  readonly #trailers = new Deferred<Metadata>();
  #toGrant = 0;
  #hasEnded = false;
  #hasHead = false;

  constructor(client: TcpClient, id: number, call: OutgoingCall, peerWindow: number) {
    super(client, id, call);
    this.head = this.#head.promise;
    this.trailers = this.#trailers.promise;
    this.messages = new MessageQueue({
      limit: WINDOW,
      onConsumed: (bytes) => this.#grant(bytes),
      onLeave: () => this.cancel(),
    });
    this.#window = new SendWindow(peerWindow, (body) => client.more(id, body));
    if (call.body !== null) this.#hasEnded = true;
  }

  send(body: Uint8Array): Promise<void> {
    if (this.#hasEnded) {
      const text = `${this.call.endpoint}: the caller's stream has ended`;
      return Promise.reject(new RivuletError('CLOSED', text));
    }
    if (body.length > MAX_FRAME) {
      const text = `a message of ${body.length} bytes; at most ${MAX_FRAME} can be sent at once`;
      return Promise.reject(new RivuletError('BODY_TOO_LARGE', text));
    }
    const sent = this.#window.send(body, () => tooManyUnsent(this.call.endpoint));
    return this.client.whenRoom(sent);
  }

  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#window.whenEmpty(() => this.client.endOf(this.id));
  }

  cancel(reason?: RivuletError): void {
    const text = `the caller of ${this.call.endpoint} left`;
    this.giveUp(reason ?? new RivuletError('ABORTED', text));
  }

  onFrame(frame: FrameReader): void {
    switch (frame.type) {
      case Frame.MORE:
        this.#onMessage(frame.rest());
        break;
      case Frame.HEAD:
        this.#onHead({ contentType: frame.contentType(), metadata: frame.headers() });
        break;
      case Frame.GRANT:
        this.#window.grant(frame.u32());
        break;
      case Frame.END:
        this.#finished(frame.headers());
        break;
      case Frame.REPLY: {
        const contentType = frame.contentType();
        const metadata = frame.headers();
        this.#onHead({ contentType, metadata });
        this.#onMessage(frame.rest());
        this.#finished(NO_METADATA);
        break;
      }
      case Frame.ERROR: {
        const error = readFailure(frame);
        this.finish(false);
        this.fail(error);
        break;
      }
      default: {
        const text = `frame ${frame.type} has no place in a call`;
        this.giveUp(new RivuletError('PROTOCOL', text));
      }
    }
  }

  fail(error: RivuletError): void {
    if (!this.isOver) this.finish(false);
    this.#head.reject(error);
    this.#trailers.reject(error);
    this.messages.fail(error);
    this.#window.fail(error);
  }

  #onMessage(body: Uint8Array): void {
    if (!this.#hasHead) this.#onHead({ contentType: this.call.contentType, metadata: NO_METADATA });
    this.messages.push(body);
  }

  #onHead(head: ReplyHead): void {
    this.#hasHead = true;
    this.#head.resolve(head);
  }

  #finished(trailers: Metadata): void {
    this.#head.resolve({ contentType: this.call.contentType, metadata: NO_METADATA });
    this.finish(false);
    this.#trailers.resolve(trailers);
    this.messages.end();
    this.#window.fail(new RivuletError('CLOSED', `${this.call.endpoint} has ended the call`));
  }

  /** Half a window at a time: a grant per message would double the frames. */
  #grant(bytes: number): void {
    this.#toGrant += bytes;
    if (this.#toGrant < WINDOW / 2 || this.isOver) return;
    this.client.grant(this.id, this.#toGrant);
    this.#toGrant = 0;
  }
}

/** The error that an ERROR frame says. */
export function readFailure(frame: FrameReader): CallError {
  const code = frame.text();
  const id = frame.text();
  const status = frame.varint();
  const detail = frame.text();
  const notSent = (frame.u8() & 1) === 1;
  const name = frame.text();
  const metadata = frame.headers();
  const body = frame.rest();
  return new CallError({
    code: Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'RESPONDER_FAILED',
    id,
    status,
    detail,
    sent: notSent ? 'no' : 'maybe',
    name: name === '' ? undefined : name,
    metadata,
    body: body.length === 0 ? undefined : body,
  });
}

export function tooManyUnsent(endpoint: string): RivuletError {
  const text = `${endpoint}: too many messages wait to be sent; await send() before the next one`;
  return new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' });
}
