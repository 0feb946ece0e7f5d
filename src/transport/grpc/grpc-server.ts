/**
 * gRPC at the server: HTTP/2 sessions and the calls in them.
 *
 * Holds: the sessions of one listener. Invariants: any path whose last dotted part and method are an
 * endpoint reaches it; gRPC's own services (health, reflection) are known by their whole path. Bounds:
 * `MAX_STREAMS` calls, `MAX_HELD_BYTES` of requests and unread messages, and 64 KiB of headers a session; a peer that resets streams, repeats SETTINGS or
 * sends frames without end loses its connection, and so does one that answers no PING. Cost: Node's
 * http2, and a PING for each session every `PING_MS`.
 */
import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import { MAX_HEADER_BYTES } from '../headers.ts';
import { HeldBytes } from '../held-bytes.ts';
import type { Door } from '../port.ts';
import { peerOf, startsWith } from '../tcp/tcp.ts';
import type { CallHandler, ListenOptions, ServedMethod } from '../transport.ts';
import { isGrpcType, parsePath } from './grpc-headers.ts';
import { GrpcServerCall, PAUSE_BYTES } from './grpc-server-call.ts';
import { percentEncode } from './grpc-status.ts';
import { PeerLimits } from './peer-limits.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
/** No request of HTTP/1 begins with these bytes. */
const KNOWN_BY = PREFACE.slice(0, 14);
const MAX_STREAMS = 10_000;
/** A peer that has not answered a PING by the next one is gone. */
const PING_MS = 30_000;
/** As tcp's, or two messages where one may be larger. */
const MAX_HELD_BYTES = 256 * 1024 * 1024;
/** Bytes that all calls of a session may have sent and we have not read. */
const SESSION_WINDOW = 8 * 1024 * 1024;

/** A service that is known by its whole path, beside those of the node's contracts. */
export interface GrpcRoute {
  readonly method: ServedMethod;
  readonly handler: CallHandler;
}

export interface GrpcDoorSetup {
  readonly scheduler: Scheduler;
  readonly maxMessageBytes: number;
  /** Of a session; default `MAX_HELD_BYTES`. */
  readonly maxHeldBytes?: number;
  /** By path, `/grpc.health.v1.Health/Check`. */
  readonly routes: (path: string) => GrpcRoute | null;
}

interface SessionParts {
  readonly peer: string;
  readonly limits: PeerLimits;
  readonly timeouts: Timeouts;
  readonly held: HeldBytes;
}

export class GrpcDoor implements Door {
  readonly #options: ListenOptions;
  readonly #setup: GrpcDoorSetup;
  readonly #sessions = new Set<ServerHttp2Session>();

  constructor(options: ListenOptions, setup: GrpcDoorSetup) {
    this.#options = options;
    this.#setup = setup;
  }

  recognises(first: Uint8Array): boolean | null {
    return startsWith(first, KNOWN_BY);
  }

  accept(socket: Socket, first: Buffer): void {
    const peer = peerOf(socket);
    socket.unshift(first);
    const session = performServerHandshake(socket, {
      settings: {
        maxConcurrentStreams: MAX_STREAMS,
        initialWindowSize: PAUSE_BYTES,
        maxHeaderListSize: MAX_HEADER_BYTES,
      },
      // Megabytes of what the session holds; beyond it the peer receives ENHANCE_YOUR_CALM.
      maxSessionMemory: 64,
    });
    const limits = new PeerLimits(this.#setup.scheduler, () => {
      session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    });
    const timeouts = new Timeouts(this.#setup.scheduler);
    const { maxMessageBytes, maxHeldBytes = MAX_HELD_BYTES } = this.#setup;
    const held = new HeldBytes(Math.max(maxHeldBytes, 2 * maxMessageBytes));
    this.#sessions.add(session);
    session.once('close', () => this.#sessions.delete(session));
    session.on('error', () => session.destroy());
    session.on(
      'stream',
      (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, raw: string[]) =>
        this.#onStream(stream, headers, raw, { peer, limits, timeouts, held }),
    );
    endWhenSilent(session, this.#setup.scheduler);
    session.setLocalWindowSize(SESSION_WINDOW);
    session.on('remoteSettings', () => limits.onSettings());
  }

  metadata(): Record<string, string> {
    return {};
  }

  async close(drainMs: number): Promise<void> {
    await Promise.all([...this.#sessions].map((session) => this.#leave(session, drainMs)));
  }

  /** GOAWAY, then the calls in flight, then the end. */
  async #leave(session: ServerHttp2Session, drainMs: number): Promise<void> {
    if (session.destroyed) return;
    await new Promise<void>((resolve) => {
      const stop = this.#setup.scheduler.after(drainMs, () => session.destroy());
      session.once('close', () => {
        stop();
        resolve();
      });
      session.close();
    });
  }

  #onStream(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    rawHeaders: readonly string[],
    { peer, limits, timeouts, held }: SessionParts,
  ): void {
    const contentType = String(headers['content-type'] ?? '');
    if (headers[':method'] !== 'POST' || !isGrpcType(contentType)) {
      stream.on('error', () => {});
      stream.respond({ ':status': headers[':method'] === 'POST' ? 415 : 405 }, { endStream: true });
      stream.close();
      return;
    }
    const full = String(headers[':path']);
    const route = this.#setup.routes(full);
    const path = parsePath(full);
    if (path === null) {
      stream.on('error', () => {});
      const detail = `malformed path ${full.slice(0, 200)}: it must be /Service/Method`;
      const status = { 'grpc-status': '12', 'grpc-message': percentEncode(detail) };
      stream.respond(
        { ':status': 200, 'content-type': contentType, ...status },
        { endStream: true },
      );
      stream.close();
      return;
    }
    const call = new GrpcServerCall(stream, {
      path,
      headers,
      rawHeaders,
      peer,
      method: route?.method ?? this.#options.methods?.(path.endpoint) ?? null,
      maxMessageBytes: this.#setup.maxMessageBytes,
      handler: route?.handler ?? this.#options.handler,
      scheduler: this.#setup.scheduler,
      timeouts,
      held,
      onReset: () => limits.onReset(),
    });
    call.begin();
  }
}

/**
 * Ends a session whose peer answers nothing. After a frame that breaks HTTP/2's rules Node sends GOAWAY
 * and then neither reads nor closes: without this such a connection would stay for ever.
 */
function endWhenSilent(session: ServerHttp2Session, scheduler: Scheduler): void {
  let isHeard = true;
  let stop = () => {};
  const ask = () => {
    if (session.destroyed) return;
    if (!isHeard) {
      session.destroy();
      return;
    }
    isHeard = false;
    session.ping((error) => {
      isHeard = error === null;
    });
    stop = scheduler.after(PING_MS, ask, false);
  };
  stop = scheduler.after(PING_MS, ask, false);
  session.once('close', () => stop());
}
