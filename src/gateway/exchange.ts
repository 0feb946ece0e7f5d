/**
 * One HTTP request on its way through the gateway: what is known of it, and its body when it is read.
 *
 * Invariants: a body of more than `maxBodyBytes` is refused before more of it is kept; a body that does
 * not come within `bodyTimeoutMs` is given up, and takes little more memory than its bytes, in however small
 * pieces it comes; `signal` aborts when the client leaves before its answer. Cost: one object.
 */
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { RivuletError } from '../errors.ts';
import { MAX_FRAME } from '../transport/tcp/tcp-frame.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { Timeouts } from '../util/time/timeouts.ts';
import type { Identity } from './access/authentication.ts';
import type { Rule } from './access/rules.ts';
import { verifyWebhook } from './access/webhook.ts';
import type { Answer } from './answer.ts';
import { HttpError } from './http-error.ts';

export interface Exchange {
  readonly request: IncomingMessage;
  readonly reply: Answer;
  readonly method: string;
  /** As it was sent, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly host: string;
  readonly clientAddress: string;
  /** Whether what a proxy in front says of the client is believed. */
  readonly trustsProxy: boolean;
  readonly rule: Rule;
  readonly identity: Identity;
  /** W3C trace context of this request: the client's, or one made here. */
  readonly traceparent: string;
  /** Aborts when the client is gone. It is its connection's: what listens to it stops at its end. */
  readonly signal: AbortSignal;
}

/** One timer for the bodies of all requests. */
const timeouts = new Timeouts(systemScheduler);

/** Rejects with BODY_TOO_LARGE, TIMEOUT or ABORTED. */
export function readBody(
  request: IncomingMessage,
  maxBytes: number,
  timeoutMs: number,
): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > maxBytes) return Promise.reject(tooLarge(maxBytes));
  return new Promise((resolve, reject) => {
    const pieces = new Pieces();
    let size = 0;
    const late = () => {
      end();
      const text = `the body did not come whole within ${timeoutMs} ms`;
      reject(new RivuletError('TIMEOUT', text, { sent: 'no' }));
    };
    const timer = timeouts.start(timeoutMs, { expire: late });
    const onData = (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) {
        end();
        reject(tooLarge(maxBytes));
      } else pieces.add(chunk);
    };
    const onEnd = () => {
      end();
      resolve(pieces.whole());
    };
    const onGone = () => {
      end();
      reject(new RivuletError('ABORTED', 'the client left before its request was whole'));
    };
    const end = () => {
      timer.cancel();
      request.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone);
    };
    if (
      request.readableEnded ||
      (request.complete && request.readableLength === 0 && !hasBody(request))
    ) {
      onEnd();
      return;
    }
    request.on('data', onData).once('end', onEnd).once('error', onGone).once('close', onGone);
  });
}

/** The pieces of a body. Each is an object of Node's: many small ones are copied together. */
class Pieces {
  readonly #pieces: Buffer[] = [];
  #shared: Buffer = Buffer.alloc(0);
  /** What of the shared memory is in use and not among the pieces yet. */
  #from = 0;
  #to = 0;

  add(piece: Buffer): void {
    if (this.#pieces.length < FEW_PIECES || piece.length >= LARGE_PIECE) {
      this.#endShared();
      this.#pieces.push(piece);
      return;
    }
    if (this.#to + piece.length > this.#shared.length) {
      this.#endShared();
      this.#shared = Buffer.allocUnsafeSlow(SHARED_BYTES);
      this.#from = 0;
      this.#to = 0;
    }
    this.#to += piece.copy(this.#shared, this.#to);
  }

  whole(): Buffer {
    this.#endShared();
    return this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces);
  }

  #endShared(): void {
    if (this.#to > this.#from) this.#pieces.push(this.#shared.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}

const FEW_PIECES = 16;
const LARGE_PIECE = 1024;
const SHARED_BYTES = 64 * 1024;

/** What no transport carries in one message is not read. */
const MAX_CALL_BYTES = MAX_FRAME;

/**
 * The body of a call as it came. Rejects with 401 where the rule asks for a webhook's signature and it is
 * wrong.
 */
export async function bodyOf({ request, rule }: Exchange): Promise<Buffer> {
  const most = Math.min(rule.maxBodyBytes, MAX_CALL_BYTES);
  const body = await readBody(request, most, rule.bodyTimeoutMs);
  for (const each of rule.webhooks) verifyWebhook(each, request.headers, body, Date.now());
  return body;
}

/** Throws 415 for a body that would not be the same as text: an event or go.api.Request holds text. */
export function mustBeText({ request }: Pick<Exchange, 'request'>, body: Buffer): void {
  const encoding = headerOf(request, 'content-encoding');
  if (encoding !== '' && encoding !== 'identity') {
    throw new HttpError(415, 'send the body without Content-Encoding');
  }
  if (!isUtf8(body)) throw new HttpError(415, 'the body is not UTF-8 text: send it as base64');
}

export function headerOf(request: IncomingMessage, name: string): string {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : (value ?? '');
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function tooLarge(maxBytes: number): RivuletError {
  const text = `the body has more than ${maxBytes} bytes`;
  return new RivuletError('BODY_TOO_LARGE', text, { sent: 'no' });
}
