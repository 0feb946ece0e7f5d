/**
 * The answer to one HTTP request, gathered and then written at once.
 *
 * Invariants: it is sent once; a body of known length has its Content-Length; after `hijack` its handler
 * writes to `raw` itself; a client that takes nothing of it for `stalledMs` is disconnected. Cost: one array of
 * headers and one write.
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { endInPieces, isLong } from './stalled.ts';

type HeaderValue = string | number | readonly string[];

/** Up to this many bytes head and body leave in one write. */
const ONE_WRITE = 16 * 1024;

/**
 * Ends an answer with its body. Node writes a head, which is text, and bytes as two pieces, which costs more than
 * both as one text: Latin-1 is bytes as they are.
 */
export function endWith(raw: ServerResponse, body: string | Uint8Array): void {
  if (typeof body === 'string' || body.length > ONE_WRITE) raw.end(body);
  else raw.end(Buffer.from(body.buffer, body.byteOffset, body.length).toString('latin1'), 'latin1');
}

export class Answer {
  readonly raw: ServerResponse;
  #status = 200;
  #isSent = false;
  readonly #headers: [name: string, value: HeaderValue][] = [];
  readonly #stalledMs: number;

  constructor(raw: ServerResponse, stalledMs: number) {
    this.raw = raw;
    this.#stalledMs = stalledMs;
  }

  /** Whether it was sent, or is written by its handler. */
  get sent(): boolean {
    return this.#isSent;
  }

  code(status: number): this {
    this.#status = status;
    return this;
  }

  /** In small letters. A later value replaces an earlier one, but what an answer depends on adds up. */
  header(name: string, value: HeaderValue): this {
    const lower = name.toLowerCase();
    const known = this.#headers.find(([each]) => each === lower);
    if (known === undefined) this.#headers.push([lower, value]);
    else known[1] = lower === 'vary' ? [known[1], value].flat().map(String) : value;
    return this;
  }

  headers(values: Readonly<Record<string, HeaderValue>>): this {
    for (const name in values) this.header(name, values[name] as HeaderValue);
    return this;
  }

  type(contentType: string): this {
    return this.header('content-type', contentType);
  }

  getHeaders(): OutgoingHttpHeaders {
    return Object.fromEntries(this.#headers) as OutgoingHttpHeaders;
  }

  /** The handler writes the answer to `raw` by itself. */
  hijack(): this {
    this.#isSent = true;
    return this;
  }

  /** Text and bytes as they are, everything else as JSON. */
  send(payload?: unknown): void {
    if (this.#isSent) return;
    this.#isSent = true;
    const body = this.#bodyOf(payload);
    // 204 has no length: RFC 9110, 8.6.
    if (this.#status !== 204) {
      const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
      this.#headers.push(['content-length', length]);
    }
    const flat: (string | readonly string[])[] = [];
    for (const [name, value] of this.#headers) {
      if (typeof value !== 'object') flat.push(name, String(value));
      else for (const each of value) flat.push(name, each);
    }
    this.raw.writeHead(this.#status, flat as string[]);
    if (!isLong(body)) endWith(this.raw, body);
    else
      void endInPieces(
        this.raw,
        typeof body === 'string' ? Buffer.from(body) : body,
        this.#stalledMs,
      );
  }

  #bodyOf(payload: unknown): string | Uint8Array {
    if (payload === undefined || payload === '') return '';
    const isKnown = this.#headers.some(([name]) => name === 'content-type');
    if (typeof payload === 'string') {
      if (!isKnown) this.type('text/plain; charset=utf-8');
      return payload;
    }
    if (payload instanceof Uint8Array) {
      if (!isKnown) this.type('application/octet-stream');
      return payload;
    }
    if (!isKnown) this.type('application/json; charset=utf-8');
    return JSON.stringify(payload);
  }
}
