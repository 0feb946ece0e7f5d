/**
 * gRPC at the caller: one HTTP/2 session to one node.
 *
 * Invariants: after GOAWAY no call begins here; a node of ours that is silent for `LOST_AFTER_MS`
 * while calls are in flight is lost. Go's servers end a session that is pinged more often than they
 * like, so they are not: there the deadline ends a call. Bound: `MAX_CALLS`. Cost: Node's http2.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import { encodeTimeout, isCarried, toHeaderValue } from '../headers.ts';
import { refusedCall } from '../refused-call.ts';
import type { Call, Channel, OutgoingCall, Reply, ReplyReceiver } from '../transport.ts';
import {
  type GrpcClientCall,
  type GrpcClientCallSetup,
  GrpcStreamCall,
  GrpcUnaryCall,
} from './grpc-client-call.ts';
import { checkLength } from './grpc-framing.ts';
import {
  encodeGrpcTimeout,
  grpcTypeOf,
  isGrpcHeader,
  KIND_HEADER,
  pathOf,
} from './grpc-headers.ts';

const MAX_CALLS = 10_000;
const PING_EVERY_MS = 1000;
/** A ping waits behind what was sent before it, which a busy peer takes seconds to read. */
const LOST_AFTER_MS = 10_000;

export interface GrpcClientSetup {
  readonly scheduler: Scheduler;
  readonly peer: string;
  readonly maxMessageBytes: number;
  readonly isSecure: boolean;
  /** A node of ours: it may be pinged, and takes the kind of a call. */
  readonly isOurs: boolean;
  /** Bytes that came from the peer so far. */
  readonly bytesRead: () => number;
  readonly onGone: () => void;
}

export class GrpcClient implements Channel {
  readonly #session: ClientHttp2Session;
  readonly #setup: GrpcClientSetup;
  readonly #timeouts: Timeouts;
  readonly #calls = new Set<GrpcClientCall>();
  #isLeaving = false;
  #stopPing: (() => void) | null = null;
  /** Milliseconds without an answer, counted in turns of the timer: the loop may have been busy. */
  #silentFor = 0;
  #heard = 0;
  #whenIdle: (() => void) | null = null;

  constructor(session: ClientHttp2Session, setup: GrpcClientSetup) {
    this.#session = session;
    this.#setup = setup;
    this.#timeouts = new Timeouts(setup.scheduler);
    session.on('error', (cause) => this.#lost(`the connection failed: ${cause.message}`, cause));
    session.once('goaway', () => this.#leave());
    session.once('close', () => this.#lost('the peer closed the connection'));
  }

  get load(): number {
    return this.#calls.size;
  }

  request(call: OutgoingCall): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.send(call, { onReply: resolve, onFailure: reject });
    });
  }

  send(call: OutgoingCall, receiver: ReplyReceiver): void {
    this.#begin(call, (stream, setup) => new GrpcUnaryCall(stream, call, setup, receiver));
  }

  call(call: OutgoingCall): Call {
    try {
      return this.#begin(call, (stream, setup) => new GrpcStreamCall(stream, call, setup));
    } catch (error) {
      return refusedCall(error as RivuletError);
    }
  }

  async close(drainMs = 0): Promise<void> {
    this.#isLeaving = true;
    if (this.#calls.size > 0 && drainMs > 0 && !this.#session.destroyed) {
      await new Promise<void>((resolve) => {
        const stop = this.#setup.scheduler.after(drainMs, resolve);
        this.#whenIdle = () => {
          stop();
          resolve();
        };
      });
    }
    const closed = new RivuletError('CLOSED', 'the client closed the connection');
    for (const call of [...this.#calls]) call.fail(closed);
    this.#stopPing?.();
    if (!this.#session.destroyed) this.#session.destroy();
  }

  #begin<C extends GrpcClientCall>(
    call: OutgoingCall,
    make: (stream: ClientHttp2Stream, setup: GrpcClientCallSetup) => C,
  ): C {
    const { peer, maxMessageBytes } = this.#setup;
    this.#checkOpen();
    if (call.signal?.aborted) {
      const text = `the call of ${call.service} ${call.endpoint} was aborted`;
      throw new RivuletError('ABORTED', text, { cause: call.signal.reason, sent: 'no' });
    }
    if (call.body !== null) checkLength(call.body, maxMessageBytes);
    const { stream, reset } = this.#request(call);
    const made = make(stream, {
      reset,
      timeouts: this.#timeouts,
      maxMessageBytes,
      peer,
      onEnd: this.#onEnd,
    });
    this.#calls.add(made);
    made.begin();
    this.#watch();
    return made;
  }

  readonly #onEnd = (call: GrpcClientCall): void => {
    if (this.#calls.delete(call) && this.#calls.size === 0) this.#idle();
  };

  /** A stream, and what resets it. */
  #request(call: OutgoingCall): { stream: ClientHttp2Stream; reset: () => void } {
    const headers = this.#headersOf(call);
    if (call.body !== null) {
      const stream = this.#session.request(headers, { endStream: false });
      return { stream, reset: () => stream.close(constants.NGHTTP2_CANCEL) };
    }
    // Its side is open: ended by a signal, the stream is reset; ended by `close`, Node tells the peer
    // first that it was whole.
    const controller = new AbortController();
    const { signal } = controller;
    const stream = this.#session.request(headers, { endStream: false, signal });
    return { stream, reset: () => controller.abort() };
  }

  #checkOpen(): void {
    const { peer } = this.#setup;
    if (this.#session.destroyed || this.#session.closed) {
      const text = `the connection to ${peer} was closed`;
      throw new RivuletError('CONNECTION_FAILED', text, { sent: 'no' });
    }
    if (this.#isLeaving) {
      throw new RivuletError('UNAVAILABLE', `the node at ${peer} takes no more calls`, {
        sent: 'no',
      });
    }
    if (this.#calls.size >= MAX_CALLS) {
      const text = `${MAX_CALLS} calls are in flight to ${peer}`;
      throw new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
    }
  }

  #headersOf({
    service,
    endpoint,
    kind,
    contentType,
    metadata,
    timeoutMs,
  }: OutgoingCall): OutgoingHttpHeaders {
    const headers: OutgoingHttpHeaders = {
      ':method': 'POST',
      ':path': toHeaderValue('path', pathOf(service, endpoint)),
      ':scheme': this.#setup.isSecure ? 'https' : 'http',
    };
    for (const name of Object.keys(metadata)) {
      if (!isCarried(name) || isGrpcHeader(name)) continue;
      headers[name] = toHeaderValue(name, metadata[name] as string);
    }
    headers['content-type'] = grpcTypeOf(contentType);
    headers['x-content-type'] = contentType;
    if (this.#setup.isOurs) headers[KIND_HEADER] = kind;
    headers.te = 'trailers';
    headers['grpc-accept-encoding'] = 'identity,gzip,deflate';
    if (timeoutMs !== null) {
      headers['grpc-timeout'] = encodeGrpcTimeout(timeoutMs);
      headers.timeout = encodeTimeout(timeoutMs);
    }
    return headers;
  }

  /** Calls have begun: a peer that allows it is asked for a sign of life until none is left. */
  #watch(): void {
    if (!this.#setup.isOurs || this.#stopPing !== null) return;
    this.#silentFor = 0;
    this.#schedulePing();
  }

  #schedulePing(): void {
    const { scheduler, peer } = this.#setup;
    this.#stopPing = scheduler.after(PING_EVERY_MS, () => {
      this.#stopPing = null;
      if (this.#calls.size === 0 || this.#session.destroyed) return;
      const heard = this.#setup.bytesRead();
      if (heard !== this.#heard) this.#silentFor = 0;
      this.#heard = heard;
      if (this.#silentFor >= LOST_AFTER_MS) {
        this.#lost(`the peer ${peer} has been silent for ${LOST_AFTER_MS} ms`);
        return;
      }
      this.#silentFor += PING_EVERY_MS;
      // Its answer counts as bytes, as everything else that comes.
      this.#session.ping(() => {});
      this.#schedulePing();
    });
  }

  #leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#setup.onGone();
    if (this.#calls.size === 0) this.#idle();
  }

  #idle(): void {
    this.#whenIdle?.();
    this.#whenIdle = null;
    if (this.#isLeaving && !this.#session.destroyed) this.#session.close();
  }

  #lost(text: string, cause?: Error): void {
    const wasLeaving = this.#isLeaving;
    this.#isLeaving = true;
    // The streams say first whether the peer got them.
    const error = new RivuletError('RESPONDER_LOST', text, cause ? { cause } : undefined);
    for (const call of [...this.#calls]) call.fail(error);
    this.#stopPing?.();
    if (!this.#session.destroyed) this.#session.destroy();
    if (!wasLeaving) this.#setup.onGone();
  }
}
