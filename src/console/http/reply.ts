/**
 * Replies of the console: headers that every one of them has, JSON, errors, bytes to be saved.
 *
 * Invariants: no reply has a CORS header; a body of a message leaves only as an attachment; an error that
 * is not of the table is INTERNAL and does not show a stack. A client that reads nothing for 30 s is cut
 * off.
 */
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ErrorCode, errorTable, RivuletError } from '../../errors.ts';
import type { ApiError } from '../api-types.ts';

const CONTENT_SECURITY_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
  "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
  "require-trusted-types-for 'script'; trusted-types 'none'";

const EVERY_REPLY = {
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
} as const;

/** A client has this long to read a reply; then its connection is closed. */
const STALLED_MS = 30_000;

export type Headers = Readonly<Record<string, string | readonly string[]>>;

/** A reply that is not JSON. */
export class RawReply {
  readonly status: number;
  readonly body: Uint8Array | string;
  readonly headers: Headers;

  constructor(status: number, body: Uint8Array | string, headers: Headers) {
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

export function send(
  response: ServerResponse,
  status: number,
  body: Uint8Array | string,
  headers: Headers,
): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, {
    ...EVERY_REPLY,
    'cache-control': 'no-store',
    'content-length': Buffer.byteLength(body),
    ...(headers as Record<string, string>),
  });
  const { socket } = response.req;
  const timer = setTimeout(() => socket.destroy(), STALLED_MS);
  timer.unref();
  response.once('close', () => clearTimeout(timer));
  if (response.req.method === 'HEAD' || status === 204) response.end();
  else response.end(body);
}

export function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Headers = {},
): void {
  const body = JSON.stringify(value);
  send(response, status, body, { 'content-type': 'application/json; charset=utf-8', ...headers });
}

/** The headers of a reply that stays open. */
export function openStream(response: ServerResponse, type: string): void {
  response.writeHead(200, { ...EVERY_REPLY, 'cache-control': 'no-store', 'content-type': type });
  response.flushHeaders();
}

export function sendError(response: ServerResponse, error: unknown, headers: Headers = {}): void {
  const shown = apiError(error);
  const status = STATUS[shown.code] ?? errorTable[shown.code as ErrorCode].http;
  sendJson(response, status, shown, headers);
}

/** 499 is no status that a proxy knows. */
const STATUS: Record<string, number> = { ABORTED: 503 };

export function apiError(error: unknown): ApiError {
  if (error instanceof RivuletError) {
    const message = error.message.replace(/^[A-Z]{3,} /, '');
    return { code: error.code, message, hint: hintOf(error) };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'INTERNAL', message, hint: '' };
}

/** An error with a sentence on what to do. */
export function hinted(code: ErrorCode, message: string, hint: string): RivuletError {
  return Object.assign(new RivuletError(code, message), { hint });
}

function hintOf(error: RivuletError): string {
  const own = (error as unknown as { hint?: unknown }).hint;
  return typeof own === 'string' ? own : (HINTS[error.code] ?? '');
}

const HINTS: Partial<Record<ErrorCode, string>> = {
  AUTHENTICATION_FAILED: 'Log in with a user of the server, or send Basic or Bearer credentials.',
  PERMISSION_DENIED: 'Ask an administrator of the server for a rule that allows it (ACL SETUSER).',
  LIMIT_EXCEEDED: 'Wait a moment and try again.',
  NOT_CONNECTED: 'The broker cannot be reached now; the console tries again by itself.',
  CONNECTION_FAILED: 'The broker cannot be reached now; the console tries again by itself.',
  WRITES_REFUSED: 'See why under "server": memory or disk is short, or the disk has failed.',
  TIMEOUT: 'Try again; if it stays, look at "server" for what takes long.',
};

const LARGEST_BODY = 8 * 1024 * 1024;

/** The request's body. Rejects with BODY_TOO_LARGE. */
export async function readBytes(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LARGEST_BODY) {
      throw new RivuletError('BODY_TOO_LARGE', `a body has at most ${LARGEST_BODY} bytes here`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The request's body as JSON. Rejects with BODY_TOO_LARGE, DECODING_FAILED. */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const bytes = await readBytes(request);
  // Other bytes would become U+FFFD, and so the name of another topic.
  if (!isUtf8(bytes)) throw new RivuletError('DECODING_FAILED', 'the body is no UTF-8');
  try {
    return JSON.parse(bytes.toString());
  } catch (error) {
    throw new RivuletError('DECODING_FAILED', `the body is no JSON: ${(error as Error).message}`);
  }
}
