/**
 * mucp over HTTP/1.1 at the server: one POST is one unary call.
 *
 * Holds: connections and the calls that have not ended. Invariants: the status is 200 whether a call
 * failed or not, as go-micro's clients expect, and a failure is in Micro-Error; a request is answered
 * in the order of its connection; a caller that is gone cancels its call. Bounds: `maxMessageBytes` a
 * request, 64 KiB of headers, `REQUEST_MS` until a request has come whole. Cost: node:http's own.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { RivuletError } from '../../errors.ts';
import { atMost } from '../../util/time/at-most.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import {
  decodeTimeout,
  isCarried,
  MAX_HEADER_BYTES,
  metadataFrom,
  titleCase,
  toHeaderValue,
} from '../headers.ts';
import { inflate } from '../inflate.ts';
import { OneMessage } from '../one-message.ts';
import { type Door, FIRST_BYTES_MS } from '../port.ts';
import { peerOf } from '../tcp/tcp.ts';
import type {
  CallFailure,
  CallHandler,
  IncomingCall,
  ListenOptions,
  Metadata,
  Reply,
} from '../transport.ts';
import { failureHeaders, isMucpHeader, MUCP, readMucp } from './mucp-headers.ts';

/** Where nothing else is set. */
export const MAX_BODY = 16 * 1024 * 1024;
const REQUEST_MS = 60_000;
/** Longer than go-micro's pools keep a connection, so that the caller is the one that closes it. */
const KEEP_ALIVE_MS = 120_000;
/** How long connections without a call are left when the node stops. */
const IDLE_MS = 1000;
const METHODS = /^(POST|PUT|PATCH|DELETE|HEAD|OPTIONS|CONNECT|TRACE|GET) /;
const JSON_TYPE = 'application/json';

export class MucpDoor implements Door {
  readonly #handler: CallHandler;
  readonly #scheduler: Scheduler;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** The connections of requests that are not answered yet, and how many of each. */
  readonly #busy = new Map<Socket, number>();
  #running = 0;
  readonly #maxBytes: number;
  #isLeaving = false;
  #whenIdle: (() => void) | null = null;
  #whenGone: (() => void) | null = null;

  constructor({ handler }: ListenOptions, scheduler: Scheduler, maxMessageBytes = MAX_BODY) {
    this.#maxBytes = maxMessageBytes;
    this.#handler = handler;
    this.#scheduler = scheduler;
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: FIRST_BYTES_MS,
        requestTimeout: REQUEST_MS,
        keepAliveTimeout: KEEP_ALIVE_MS,
        connectionsCheckingInterval: 1000,
      },
      (request, response) => void this.#onRequest(request, response),
    );
    this.#server.maxHeadersCount = 1000;
    // The server is given its connections; what watches their deadlines starts with this event.
    this.#server.emit('listening');
  }

  recognises(first: Uint8Array): boolean | null {
    const text = Buffer.from(first).toString('latin1', 0, 8);
    if (METHODS.test(text)) return true;
    // HTTP/2's preface, which is not whole yet.
    if (text.startsWith('PRI ')) return false;
    // An unknown method, or the single line of HTTP/0.9, is answered with 400 by the parser.
    return /^[A-Z]{1,7}$/.test(text) ? null : /^[A-Z]{2,8}[ \r\n]/.test(text);
  }

  accept(socket: Socket, first: Buffer): void {
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#whenGone?.();
    });
    socket.unshift(first);
    this.#server.emit('connection', socket);
  }

  metadata(): Record<string, string> {
    return {};
  }

  /**
   * The port takes no more connections by now. A request may be on its way on a connection that looks
   * idle: it is answered, with the word that the connection closes, so that no call fails.
   */
  async close(drainMs: number): Promise<void> {
    this.#isLeaving = true;
    const graceMs = Math.min(drainMs, IDLE_MS);
    if (this.#sockets.size > 0) {
      await atMost(this.#scheduler, graceMs, (resolve) => {
        this.#whenGone = resolve;
      });
    }
    // Node takes a connection for idle whose answer was made and has not left.
    for (const socket of this.#sockets) if (!this.#busy.has(socket)) socket.destroySoon();
    if (this.#running > 0) {
      await atMost(this.#scheduler, drainMs - graceMs, (resolve) => {
        this.#whenIdle = resolve;
      });
    }
    for (const socket of this.#sockets) socket.destroySoon();
    // The answer to `close` is an error where the server never listened; its timer ends with it.
    this.#server.close(() => {});
  }

  async #onRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#isLeaving) response.shouldKeepAlive = false;
    if (request.method !== 'POST') {
      response.writeHead(405, { Allow: 'POST', Connection: 'close' });
      response.end('mucp calls are POST requests\n');
      return;
    }
    const { socket } = request;
    this.#running++;
    this.#busy.set(socket, (this.#busy.get(socket) ?? 0) + 1);
    response.once('close', () => {
      const left = (this.#busy.get(socket) ?? 1) - 1;
      if (left > 0) this.#busy.set(socket, left);
      else this.#busy.delete(socket);
      if (--this.#running === 0) this.#whenIdle?.();
    });
    const read = (name: string) => {
      const value = request.headers[name];
      return Array.isArray(value) ? value.join(', ') : value;
    };
    const call = new MucpCall(request, response, read);
    try {
      const timeoutMs = decodeTimeout(read('timeout'));
      const body = await bodyOf(request, read('content-encoding'), this.#maxBytes);
      if (body !== null) call.begin(body, timeoutMs, this.#handler);
    } catch (error) {
      call.fail(failureFrom(error));
    }
  }
}

/** Null when the caller has left. */
function bodyOf(
  request: IncomingMessage,
  encoding: string | undefined,
  maxBytes: number,
): Promise<Uint8Array | null> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= maxBytes) chunks.push(chunk);
      else {
        request.removeAllListeners('data');
        request.pause();
        const text = `the request has more than ${maxBytes} bytes (maxMessageBytes)`;
        reject(new RivuletError('BODY_TOO_LARGE', text, { sent: 'no' }));
      }
    });
    request.once('end', () => {
      const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, length);
      try {
        const isPlain = encoding === undefined || encoding === '' || encoding === 'identity';
        resolve(isPlain ? body : inflate(encoding, body, maxBytes));
      } catch (error) {
        reject(error);
      }
    });
    request.once('close', () => resolve(null));
    request.on('error', () => resolve(null));
  });
}

class MucpCall implements IncomingCall {
  readonly service: string;
  readonly endpoint: string;
  readonly kind = 'unary';
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly peer: { readonly address: string };
  timeoutMs: number | null = null;
  body: Uint8Array | null = null;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #id: string | undefined;
  #isOver = false;
  #cancelled: RivuletError | null = null;
  #listeners: ((reason: RivuletError) => void)[] = [];

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    read: (name: string) => string | undefined,
  ) {
    this.#request = request;
    this.#response = response;
    this.#id = readMucp(read, MUCP.id);
    this.service = readMucp(read, MUCP.service) ?? '';
    this.endpoint = readMucp(read, MUCP.endpoint) ?? readMucp(read, MUCP.method) ?? '';
    this.contentType = read('content-type') ?? JSON_TYPE;
    this.metadata = metadataFrom(request.rawHeaders, isMucpHeader);
    this.peer = { address: peerOf(request.socket) };
    response.once('close', () => {
      if (!this.#isOver) this.#cancel();
    });
  }

  begin(body: Uint8Array, timeoutMs: number | null, handler: CallHandler): void {
    if (this.#isOver) return;
    this.body = body;
    this.timeoutMs = timeoutMs;
    if (this.endpoint === '') {
      const detail = `the header ${MUCP.endpoint} is missing: it says Struct.Method`;
      this.fail({
        code: 'INVALID_ARGUMENT',
        id: 'go.micro.server',
        status: 400,
        detail,
        sent: 'no',
      });
    } else handler(this);
  }

  get messages(): OneMessage {
    return new OneMessage(this.body);
  }

  onCancel(listener: (reason: RivuletError) => void): void {
    if (this.#cancelled !== null) listener(this.#cancelled);
    else this.#listeners.push(listener);
  }

  reply({ contentType, metadata, body }: Reply): void {
    if (this.#isOver) return;
    const headers = ['Content-Type', contentType];
    try {
      for (const name of Object.keys(metadata)) {
        if (!isCarried(name) || isMucpHeader(name)) continue;
        headers.push(titleCase(name), toHeaderValue(name, metadata[name] as string));
      }
    } catch (error) {
      this.fail(failureFrom(error));
      return;
    }
    this.#write(headers, body);
  }

  head(): void {}

  send(): Promise<void> {
    const text = `mucp over HTTP carries one reply per call: call ${this.endpoint} by tcp, grpc or ws`;
    return Promise.reject(new RivuletError('UNSUPPORTED', text));
  }

  end(): void {
    const detail = `${this.endpoint} ended without a reply`;
    this.fail({ code: 'INTERNAL', id: 'go.micro.server', status: 500, detail });
  }

  fail(failure: CallFailure): void {
    if (this.#isOver) return;
    const contentType = failure.contentType ?? this.contentType;
    this.#write(['Content-Type', contentType, ...failureHeaders(failure)], failure.body);
  }

  #write(headers: string[], body: Uint8Array = NOTHING): void {
    this.#isOver = true;
    // A content type of another program's making must not leave the caller without an answer.
    headers[1] = HEADER_TEXT.test(headers[1] as string) ? (headers[1] as string) : JSON_TYPE;
    if (this.#id !== undefined) headers.push(MUCP.id, this.#id);
    headers.push('Content-Length', String(body.length));
    // What was not read of a request that is too large must not be taken for the next one.
    if (!this.#request.complete) this.#response.shouldKeepAlive = false;
    if (this.#response.destroyed) return;
    this.#response.writeHead(200, headers);
    this.#response.end(body);
  }

  #cancel(): void {
    this.#isOver = true;
    const reason = new RivuletError('ABORTED', 'the caller closed the connection');
    this.#cancelled = reason;
    for (const listener of this.#listeners.splice(0)) listener(reason);
  }
}

const NOTHING = new Uint8Array(0);
const HEADER_TEXT = /^[\t\x20-\x7e]+$/;

function failureFrom(error: unknown): CallFailure {
  const known = error instanceof RivuletError ? error : null;
  return {
    code: known?.code ?? 'INTERNAL',
    id: 'go.micro.server',
    status: known?.microCode ?? 500,
    detail: known?.message ?? 'the request could not be read',
    sent: known?.sent,
  };
}
