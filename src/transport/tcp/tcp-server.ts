/**
 * The server's end of a TCP connection of ours: calls that a peer began.
 *
 * Holds: the calls of this peer that have not ended. Invariants: a peer that sends what the protocol
 * does not allow (a number used again, frames after END, more than its credit) loses the connection
 * with PROTOCOL in an ERROR frame, and so does one that has not greeted after `FIRST_BYTES_MS`; each call is
 * handed to the handler once and answered once; a cancelled call sends nothing more; what was answered before
 * a close has been read by its caller, or the drain's time is over. Bounds: `MAX_STREAMS` calls,
 * `MAX_REQUEST_BYTES` of request bodies and `MAX_UNREAD_BYTES` of messages that no handler has read a
 * connection; what is beyond them is refused with LIMIT_EXCEEDED; a peer that does not read its replies is
 * not read either, and its streams wait whatever it granted. Cost: one map entry a call.
 */
import type { Duplex } from 'node:stream';
import { RivuletError } from '../../errors.ts';
import { errorText } from '../../util/error-text.ts';
import { atMost } from '../../util/time/at-most.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { MESSAGE_OVERHEAD, MessageQueue } from '../message-queue.ts';
import { FIRST_BYTES_MS } from '../port.ts';
import { SendWindow } from '../send-window.ts';
import {
  type CallFailure,
  type CallHandler,
  type IncomingCall,
  type Metadata,
  type MethodKind,
  NO_METADATA,
  type Reply,
  type ReplyHead,
} from '../transport.ts';
import { FramedSocket, type FramedSocketOwner } from './framed-socket.ts';
import { tooManyUnsent, WINDOW } from './tcp-client.ts';
import { Frame, type FrameReader, KINDS, MAX_FRAME, protocolError, VERSION } from './tcp-frame.ts';

const MAX_STREAMS = 10_000;
const MAX_REQUEST_BYTES = 64 * 1024 * 1024;
/** The windows of a thousand streams. */
const MAX_UNREAD_BYTES = 256 * 1024 * 1024;
/** A HELLO with a token and the id of a node: from one that has said no token nothing larger is taken. */
const MAX_HELLO_BYTES = 16 * 1024;

export interface TcpServerOptions {
  readonly handler: CallHandler;
  readonly scheduler: Scheduler;
  /** What a HELLO that says a token must say; empty accepts every token. */
  readonly token: string;
  readonly nodeId: string;
  readonly peer: string;
  readonly onClosed: (connection: TcpServerConnection) => void;
  /** As of FramedSocket. */
  readonly largestWrite?: number | undefined;
  /** Default `MAX_UNREAD_BYTES`. */
  readonly maxUnreadBytes?: number;
}

/** How long a caller has to close its connection after GOAWAY. */
const LINGER_MS = 1000;
/** A caller that was sent more than this since it last answered a PING may still be reading. */
const SURELY_READ_BYTES = 64 * 1024;

export class TcpServerConnection implements FramedSocketOwner {
  readonly frames: FramedSocket;
  readonly #options: TcpServerOptions;
  readonly #calls = new Map<number, ServerCall>();
  #lastStream = 0;
  #greeted = false;
  #leaving = false;
  #requestBytes = 0;
  /** Messages of streams that no handler has read. */
  #unreadBytes = 0;
  readonly #stopGreeting: () => void;
  #peerWindow = 0;
  #whenIdle: (() => void) | null = null;
  #whenClosed: (() => void) | null = null;

  constructor(socket: Duplex, options: TcpServerOptions) {
    this.#options = options;
    const { peer, scheduler, largestWrite } = options;
    const writing = { pausesWhenFull: true, largestWrite };
    this.frames = new FramedSocket(socket, peer, this, scheduler, writing);
    this.frames.limitFrames(MAX_HELLO_BYTES);
    const late = () => this.refuse(`no HELLO came within ${FIRST_BYTES_MS} ms`);
    this.#stopGreeting = options.scheduler.after(FIRST_BYTES_MS, late, false);
  }

  get load(): number {
    return this.#calls.size;
  }

  get peerWindow(): number {
    return this.#peerWindow;
  }

  /**
   * Says GOAWAY, waits for the calls in flight, and for the caller to close, which it does once its calls
   * have ended: one that is on its way is then refused, and not lost.
   */
  async close(drainMs: number): Promise<void> {
    const { scheduler } = this.#options;
    const end = scheduler.monotonic() + drainMs;
    this.#leaving = true;
    this.#say(Frame.GOAWAY, 0);
    if (this.#calls.size > 0) {
      await this.#atMost(drainMs, (resolve) => {
        this.#whenIdle = resolve;
      });
    }
    if (this.frames.perhapsUnread > SURELY_READ_BYTES) {
      await this.#atMost(end - scheduler.monotonic(), (resolve) => this.frames.answered(resolve));
    }
    await this.#atMost(Math.min(drainMs, LINGER_MS), (resolve) => {
      this.#whenClosed = resolve;
    });
    this.frames.close(new RivuletError('CLOSED', 'the server is closed'));
  }

  /** Waits until `watch` calls back; not on a connection that is gone. */
  async #atMost(ms: number, watch: (resolve: () => void) => void): Promise<void> {
    if (!this.frames.isClosed) await atMost(this.#options.scheduler, ms, watch);
  }

  onFrame(frame: FrameReader): void {
    if (!this.#greeted) {
      this.#onHello(frame);
      return;
    }
    if (frame.type === Frame.OPEN) {
      this.#onOpen(frame);
      return;
    }
    if (frame.type === Frame.GOAWAY) return;
    const call = this.#calls.get(frame.stream);
    if (call !== undefined) call.onFrame(frame);
    else if (frame.stream > this.#lastStream || frame.stream % 2 === 0) {
      this.refuse(`frame ${frame.type} on stream ${frame.stream}, which was never opened`);
    }
    // Else the call has ended here while the frame was on its way.
  }

  onClosed(error: RivuletError): void {
    const gone = new RivuletError('ABORTED', `the caller is gone: ${error.message}`);
    for (const call of [...this.#calls.values()]) call.cancelled(gone);
    this.#calls.clear();
    this.#stopGreeting();
    this.#options.onClosed(this);
    this.#whenIdle?.();
    this.#whenClosed?.();
  }

  forget(id: number, requestBytes: number): void {
    if (!this.#calls.delete(id)) return;
    this.#requestBytes -= requestBytes;
    if (this.#calls.size === 0) this.#whenIdle?.();
  }

  /** False where more would be unread than may be. */
  hold(bytes: number): boolean {
    const { maxUnreadBytes = MAX_UNREAD_BYTES } = this.#options;
    if (this.#unreadBytes + bytes > maxUnreadBytes) return false;
    this.#unreadBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#unreadBytes -= bytes;
  }

  /** Ends the connection: its peer broke the protocol. */
  refuse(detail: string): void {
    const failure = { code: 'PROTOCOL', id: 'go.micro.server', status: 400, detail } as const;
    writeFailure(this.frames, 0, failure);
    this.frames.destroy(new RivuletError('PROTOCOL', detail));
  }

  #onHello(frame: FrameReader): void {
    if (frame.type !== Frame.HELLO) {
      this.refuse('the first frame is not HELLO');
      return;
    }
    const version = frame.u8();
    this.#peerWindow = frame.u32();
    frame.u32();
    const token = frame.text();
    if (version !== VERSION) {
      this.refuse(`version ${version} of the framing is not known; this is ${VERSION}`);
      return;
    }
    // A caller that knows nothing but the address has no token to say.
    if (this.#options.token !== '' && token !== '' && token !== this.#options.token) {
      this.refuse('the token is not of this process: read the registry again');
      return;
    }
    this.#greeted = true;
    this.#stopGreeting();
    this.frames.limitFrames(MAX_FRAME);
    const { writer } = this.frames;
    writer.begin(Frame.HELLO, 0);
    writer.u8(VERSION);
    writer.u32(WINDOW);
    writer.u32(MAX_FRAME);
    writer.text('');
    writer.text(this.#options.nodeId);
    writer.u8(0);
    writer.end();
    this.frames.flush(true);
    if (this.#leaving) this.#say(Frame.GOAWAY, 0);
  }

  #onOpen(frame: FrameReader): void {
    const id = frame.stream;
    if (id <= this.#lastStream || id % 2 === 0) {
      this.refuse(`stream ${id} cannot be opened after ${this.#lastStream}`);
      return;
    }
    this.#lastStream = id;
    const kind = KINDS[frame.u8()];
    const name = frame.name();
    const timeout = frame.varint();
    const contentType = frame.contentType();
    const metadata = frame.headers();
    if (kind === undefined) {
      this.refuse('a call of a kind that is not known');
      return;
    }
    const hasBody = kind === 'unary' || kind === 'serverStream';
    const body = hasBody ? frame.kept() : null;
    const bytes = body?.length ?? 0;
    const refusal = this.#refusal(bytes);
    if (refusal !== null) {
      writeFailure(this.frames, id, refusal);
      this.frames.flush(false);
      return;
    }
    const space = name.indexOf(' ');
    const call = new ServerCall(this, id, {
      service: space < 0 ? '' : name.slice(0, space),
      endpoint: name.slice(space + 1),
      kind,
      contentType,
      metadata,
      timeoutMs: timeout === 0 ? null : timeout,
      body,
    });
    this.#requestBytes += bytes;
    this.#calls.set(id, call);
    this.frames.watch();
    this.#options.handler(call);
  }

  #refusal(bytes: number): CallFailure | null {
    const because = this.#leaving
      ? (['UNAVAILABLE', 503, 'the node is stopping'] as const)
      : this.#calls.size >= MAX_STREAMS
        ? ([
            'LIMIT_EXCEEDED',
            429,
            `${MAX_STREAMS} calls of this connection are in flight`,
          ] as const)
        : this.#requestBytes + bytes > MAX_REQUEST_BYTES
          ? ([
              'LIMIT_EXCEEDED',
              429,
              `requests of ${MAX_REQUEST_BYTES} bytes are in flight`,
            ] as const)
          : null;
    if (because === null) return null;
    const [code, status, detail] = because;
    return { code, id: 'go.micro.server', status, detail, sent: 'no' };
  }

  #say(type: number, stream: number): void {
    if (this.frames.isClosed) return;
    this.frames.writer.begin(type, stream);
    this.frames.writer.end();
    this.frames.flush(false);
  }
}

interface Opened {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly timeoutMs: number | null;
  readonly body: Uint8Array | null;
}

class ServerCall implements IncomingCall {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly timeoutMs: number | null;
  readonly body: Uint8Array | null;
  readonly #connection: TcpServerConnection;
  readonly #id: number;
  #messages: MessageQueue | null = null;
  #window: SendWindow | null = null;
  #isOver = false;
  #peerEnded: boolean;
  #cancelled: RivuletError | null = null;
  #listeners: ((reason: RivuletError) => void)[] | null = null;
  #toGrant = 0;
  /** What its unread messages count for the connection. */
  #held = 0;

  constructor(connection: TcpServerConnection, id: number, opened: Opened) {
    this.#connection = connection;
    this.#id = id;
    this.service = opened.service;
    this.endpoint = opened.endpoint;
    this.kind = opened.kind;
    this.contentType = opened.contentType;
    this.metadata = opened.metadata;
    this.timeoutMs = opened.timeoutMs;
    this.body = opened.body;
    this.#peerEnded = opened.body !== null;
    if (opened.body === null) this.#queue();
  }

  get peer(): { readonly address: string } {
    return { address: this.#connection.frames.peer };
  }

  get messages(): MessageQueue {
    return this.#queue();
  }

  onCancel(listener: (reason: RivuletError) => void): void {
    if (this.#cancelled !== null) listener(this.#cancelled);
    else {
      this.#listeners ??= [];
      this.#listeners.push(listener);
    }
  }

  reply({ contentType, metadata, body }: Reply): void {
    if (this.#isOver) return;
    const { writer } = this.#connection.frames;
    try {
      writer.begin(Frame.REPLY, this.#id);
      writer.contentType(contentType);
      writer.headers(metadata);
      writer.end(body);
    } catch (error) {
      this.fail(unsendable('the reply', error));
      return;
    }
    this.#finish();
  }

  head({ contentType, metadata }: ReplyHead): void {
    if (this.#isOver) return;
    const { frames } = this.#connection;
    frames.writer.begin(Frame.HEAD, this.#id);
    frames.writer.contentType(contentType);
    frames.writer.headers(metadata);
    frames.writer.end();
    frames.flush(this.#connection.load === 1);
  }

  send(body: Uint8Array): Promise<void> {
    if (this.#isOver) return Promise.reject(this.#cancelled ?? ended(this.endpoint));
    if (body.length > MAX_FRAME) {
      const text = `a message of ${body.length} bytes; at most ${MAX_FRAME} can be sent at once`;
      return Promise.reject(new RivuletError('BODY_TOO_LARGE', text));
    }
    this.#window ??= new SendWindow(this.#connection.peerWindow, (message) => {
      const { frames } = this.#connection;
      frames.writer.begin(Frame.MORE, this.#id);
      frames.writer.end(message);
      frames.flushMessage();
    });
    const sent = this.#window.send(body, () => tooManyUnsent(this.endpoint));
    return this.#connection.frames.whenRoom(sent);
  }

  end(trailers: Metadata): void {
    if (this.#isOver) return;
    const finish = () => {
      if (this.#isOver) return;
      const { frames } = this.#connection;
      frames.writer.begin(Frame.END, this.#id);
      frames.writer.headers(trailers);
      frames.writer.end();
      this.#finish();
    };
    if (this.#window === null) finish();
    else this.#window.whenEmpty(finish);
  }

  fail(failure: CallFailure): void {
    if (this.#isOver) return;
    const { frames } = this.#connection;
    try {
      writeFailure(frames, this.#id, failure);
    } catch (error) {
      writeFailure(frames, this.#id, unsendable(`the error ${String(failure.code)}`, error));
    }
    this.#finish();
  }

  onFrame(frame: FrameReader): void {
    switch (frame.type) {
      case Frame.MORE:
        if (this.#peerEnded) protocolError(`MORE after the end of stream ${this.#id}`);
        this.#onMessage(frame.rest());
        break;
      case Frame.END:
        if (this.#peerEnded) protocolError(`END after the end of stream ${this.#id}`);
        this.#peerEnded = true;
        this.#queue().end();
        break;
      case Frame.GRANT:
        this.#window?.grant(frame.u32());
        break;
      case Frame.CANCEL:
        this.cancelled(new RivuletError('ABORTED', 'the caller cancelled the call'));
        break;
      default:
        protocolError(`frame ${frame.type} has no place in a call`);
    }
  }

  #onMessage(body: Uint8Array): void {
    const cost = body.length + MESSAGE_OVERHEAD;
    if (this.#connection.hold(cost)) {
      this.#held += cost;
      this.#queue().push(body);
      return;
    }
    const detail = `too many messages of this connection are unread: ${this.endpoint} does not read its own`;
    const failure = { code: 'LIMIT_EXCEEDED', id: 'go.micro.server', status: 429, detail } as const;
    writeFailure(this.#connection.frames, this.#id, failure);
    this.#connection.frames.flush(false);
    this.cancelled(new RivuletError('LIMIT_EXCEEDED', detail));
  }

  #release(bytes: number): void {
    const held = Math.min(bytes, this.#held);
    this.#held -= held;
    this.#connection.release(held);
  }

  cancelled(reason: RivuletError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#release(this.#held);
    this.#cancelled = reason;
    this.#window?.fail(reason);
    this.#messages?.abort(reason);
    this.#connection.forget(this.#id, this.body?.length ?? 0);
    for (const listener of this.#listeners ?? []) listener(reason);
  }

  #queue(): MessageQueue {
    if (this.#messages === null) {
      this.#messages = new MessageQueue({
        limit: WINDOW,
        onConsumed: (bytes) => this.#grant(bytes),
        onLeave: () => {},
      });
      if (this.body !== null) {
        this.#messages.push(this.body);
        this.#messages.end();
      }
    }
    return this.#messages;
  }

  #grant(bytes: number): void {
    this.#release(bytes);
    this.#toGrant += bytes;
    if (this.#toGrant < WINDOW / 2 || this.#isOver || this.#peerEnded) return;
    const { frames } = this.#connection;
    frames.writer.begin(Frame.GRANT, this.#id);
    frames.writer.u32(this.#toGrant);
    frames.writer.end();
    frames.flush(false);
    this.#toGrant = 0;
  }

  #finish(): void {
    this.#isOver = true;
    this.#release(this.#held);
    const alone = this.#connection.load === 1;
    this.#connection.frames.flush(alone);
    this.#window?.fail(ended(this.endpoint));
    this.#messages?.abort(ended(this.endpoint));
    this.#connection.forget(this.#id, this.body?.length ?? 0);
  }
}

function ended(endpoint: string): RivuletError {
  return new RivuletError('CLOSED', `the call of ${endpoint} has ended`);
}

/** What the caller gets in place of what has no frame. */
function unsendable(what: string, error: unknown): CallFailure {
  const known = error instanceof RivuletError ? error : null;
  return {
    code: known?.code ?? 'INTERNAL',
    id: 'go.micro.server',
    status: known?.microCode ?? 500,
    detail: `${what} cannot be sent: ${errorText(error)}`,
  };
}

function writeFailure(frames: FramedSocket, stream: number, failure: CallFailure): void {
  if (frames.isClosed) return;
  const { writer } = frames;
  writer.begin(Frame.ERROR, stream);
  writer.text(failure.code);
  writer.text(failure.id.slice(0, 1000));
  writer.varint(failure.status);
  writer.text(failure.detail.slice(0, 8000));
  writer.u8(failure.sent === 'no' ? 1 : 0);
  writer.text(failure.name ?? '');
  writer.headers(failure.metadata ?? NO_METADATA);
  writer.end(failure.body ?? null);
}
