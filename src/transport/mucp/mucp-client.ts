/**
 * mucp over HTTP/1.1 at the caller: unary calls to one node.
 *
 * Invariants: one request at a time on a connection, and its reply is the next one there, because
 * go-micro's servers mix up requests that are pipelined and the ids that they echo; of a reply only
 * Micro-Error, Content-Type and metadata are read; a reply's headers are never logged, because
 * go-micro echoes Authorization. Bounds: `MAX_CONNECTIONS` to the node, `MAX_CALLS` in flight. Cost:
 * undici's.
 */
import type { Socket } from 'node:net';
import { type Dispatcher, errors, Pool } from 'undici';
import { RivuletError } from '../../errors.ts';
import type { ServiceNode } from '../../registry/registry.ts';
import { CallsInFlight } from '../../util/time/calls-in-flight.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import {
  encodeTimeout,
  fromHeaderValue,
  isCarried,
  metadataFrom,
  titleCase,
  toHeaderValue,
} from '../headers.ts';
import { refusedCall } from '../refused-call.ts';
import { type Call, CallError, type Channel, type OutgoingCall, type Reply } from '../transport.ts';
import { failureFrom, isMucpHeader, MUCP } from './mucp-headers.ts';
import { MAX_BODY } from './mucp-server.ts';

const MAX_CONNECTIONS = 100;
const MAX_CALLS = 10_000;
/** Shorter than servers keep a connection: the side that sends is the one that closes. */
const KEEP_ALIVE_MS = 55_000;
const MAX_REPLY_HEADERS = 128 * 1024;

export interface MucpClientSetup {
  readonly scheduler: Scheduler;
  readonly isSecure: boolean;
  /** The connection that the dial made, then further ones. */
  readonly connect: () => Promise<Socket>;
  readonly onGone: () => void;
  /** Default 16 MiB. */
  readonly maxMessageBytes?: number | undefined;
}

export class MucpClient implements Channel {
  readonly #setup: MucpClientSetup;
  readonly #node: ServiceNode;
  readonly #pool: Pool;
  readonly #timeouts: Timeouts;
  readonly #maxBytes: number;
  #nextId = 1;
  readonly #calls = new CallsInFlight();
  #isClosed = false;

  constructor(node: ServiceNode, setup: MucpClientSetup) {
    this.#node = node;
    this.#setup = setup;
    this.#timeouts = new Timeouts(setup.scheduler);
    this.#maxBytes = setup.maxMessageBytes ?? MAX_BODY;
    this.#pool = new Pool(`${setup.isSecure ? 'https' : 'http'}://${node.address}`, {
      pipelining: 1,
      connections: MAX_CONNECTIONS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: MAX_REPLY_HEADERS,
      // The call's own deadline ends it.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (_options, callback) => {
        setup.connect().then(
          (socket) => callback(null, socket),
          (error: Error) => callback(error, null),
        );
      },
    });
  }

  get load(): number {
    return this.#calls.count;
  }

  async request(call: OutgoingCall): Promise<Reply> {
    const refusal = this.#refusal(call);
    if (refusal !== null) throw refusal;
    const headers = this.#headersOf(call);
    const controller = new AbortController();
    let reason: RivuletError | null = null;
    const giveUp = (error: RivuletError) => {
      reason ??= error;
      controller.abort();
    };
    const { timeoutMs, signal, service, endpoint } = call;
    const stopTimer =
      timeoutMs === null
        ? null
        : this.#timeouts.add(timeoutMs, () => {
            const text = `${service} ${endpoint} did not answer within ${Math.round(timeoutMs)} ms`;
            giveUp(new RivuletError('TIMEOUT', text));
          });
    const abort = () => {
      const text = `the call of ${service} ${endpoint} was aborted`;
      giveUp(new RivuletError('ABORTED', text, { cause: signal?.reason }));
    };
    const unwatch = signal === null ? null : onAbort(signal, abort);
    this.#calls.begin();
    try {
      const response = await this.#pool.request({
        path: '/',
        method: 'POST',
        headers,
        body: call.body,
        signal: controller.signal,
        responseHeaders: 'raw',
      });
      return await this.#replyFrom(response, call);
    } catch (error) {
      throw reason ?? this.#errorFrom(error);
    } finally {
      stopTimer?.();
      unwatch?.();
      this.#calls.end();
    }
  }

  call(call: OutgoingCall): Call {
    const text = `mucp over HTTP carries one request and one reply: call ${call.endpoint} by grpc, tcp, ws or the broker`;
    return refusedCall(new RivuletError('UNSUPPORTED', text, { sent: 'no' }));
  }

  async close(drainMs = 0): Promise<void> {
    this.#isClosed = true;
    await this.#calls.idle(this.#setup.scheduler, drainMs);
    await this.#pool.destroy(new RivuletError('CLOSED', 'the client closed the connection'));
  }

  #refusal(call: OutgoingCall): RivuletError | null {
    if (this.#isClosed) {
      return new RivuletError('CLOSED', 'the connection was closed', { sent: 'no' });
    }
    if (this.#calls.count >= MAX_CALLS) {
      const text = `${MAX_CALLS} calls are in flight to ${this.#node.address}`;
      return new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
    }
    const length = call.body?.length ?? 0;
    if (length > this.#maxBytes) {
      const text = `the request has ${length} bytes; at most ${this.#maxBytes} can be sent at once (maxMessageBytes)`;
      return new RivuletError('BODY_TOO_LARGE', text, { sent: 'no' });
    }
    return null;
  }

  #headersOf(call: OutgoingCall): string[] {
    const { service, endpoint, contentType, metadata, timeoutMs } = call;
    const headers = ['Content-Type', contentType, 'Accept', contentType];
    headers.push(MUCP.id, String(this.#nextId++), MUCP.service, toHeaderValue('service', service));
    headers.push(MUCP.method, endpoint, MUCP.endpoint, endpoint);
    if (timeoutMs !== null) headers.push(MUCP.timeout, encodeTimeout(timeoutMs));
    for (const name of Object.keys(metadata)) {
      if (!isCarried(name) || isMucpHeader(name)) continue;
      headers.push(titleCase(name), toHeaderValue(name, metadata[name] as string));
    }
    return headers;
  }

  async #replyFrom(response: Dispatcher.ResponseData, call: OutgoingCall): Promise<Reply> {
    const { statusCode, headers, body } = response;
    const pairs = (headers as unknown as Buffer[]).map((each) => each.toString('latin1'));
    const bytes = await bodyOf(body, this.#maxBytes);
    if (statusCode !== 200) throw this.#notMucp(statusCode, bytes);
    const read = (name: string) => {
      for (let i = 0; i < pairs.length; i += 2) {
        if ((pairs[i] as string).toLowerCase() === name) return pairs[i + 1];
      }
      return undefined;
    };
    const failure = failureFrom(read, bytes);
    if (failure !== null) throw new CallError(failure);
    const contentType = read('content-type') ?? call.contentType;
    if (contentType.startsWith('text/plain') && !call.contentType.startsWith('text/plain')) {
      const text = `${this.#node.address} answered with unsupported Content-Type ${fromHeaderValue(contentType)}`;
      throw new RivuletError('UNSUPPORTED', text);
    }
    return { contentType, metadata: metadataFrom(pairs, isMucpHeader), body: bytes };
  }

  /** Not go-micro's answer: what stands before it, or another program at its address. */
  #notMucp(status: number, body: Uint8Array): RivuletError {
    const shown = Buffer.from(body.subarray(0, 200)).toString('utf8');
    const text = `${this.#node.address} answered with HTTP status ${status} instead of a reply: ${shown}`;
    return new RivuletError(status >= 500 ? 'UNAVAILABLE' : 'PROTOCOL', text);
  }

  #errorFrom(error: unknown): RivuletError {
    if (error instanceof RivuletError) {
      if (error.code === 'CONNECTION_FAILED') this.#setup.onGone();
      return error;
    }
    const cause = error instanceof Error ? error : new Error(String(error));
    const { address } = this.#node;
    if (error instanceof errors.ResponseExceededMaxSizeError) {
      return new RivuletError('BODY_TOO_LARGE', `the reply of ${address} is too large`, { cause });
    }
    this.#setup.onGone();
    // The handshake of TLS 1.3 ends for the client before the server has seen its certificate.
    if ('code' in cause && String(cause.code).startsWith('ERR_SSL_')) {
      const text = `${address} refused the connection: ${cause.message}`;
      return new RivuletError('CONNECTION_FAILED', text, { cause, sent: 'no' });
    }
    const text = `the connection to ${address} was lost before its reply: ${cause.message}`;
    return new RivuletError('RESPONDER_LOST', text, { cause });
  }
}

async function bodyOf(body: AsyncIterable<Buffer>, maxBytes: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > maxBytes) {
      const text = `the reply has more than ${maxBytes} bytes (maxMessageBytes)`;
      throw new RivuletError('BODY_TOO_LARGE', text);
    }
    chunks.push(chunk);
  }
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, length);
}
