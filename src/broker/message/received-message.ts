/**
 * A received message (of a delivery, a request or a reply), which reads its body as text, JSON or bytes.
 *
 * Invariant: a body that cannot be decoded is DECODING_FAILED, never replaced characters or `undefined`;
 * the error names the message and never shows the body.
 * Cost: one object; a body is decoded each time it is read, and never before.
 */
import { RivuletError } from '../../errors.ts';
import type { RawMessage } from './message.ts';

export interface ReceivedMessage extends RawMessage {
  /** The body as text. Throws DECODING_FAILED where it is not UTF-8. */
  text(): string;
  /** The body parsed as JSON. Throws DECODING_FAILED where it is not. */
  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse and fetch's json()
  json<Value = any>(): Value;
  /** The body as it came. */
  bytes(): Uint8Array;
}

/** Names the message in error texts. */
export interface MessageOrigin {
  readonly topic: string;
  /** Absent for requests and replies. */
  readonly id?: string;
}

export class Received implements ReceivedMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  declare readonly key?: string;
  readonly #origin: MessageOrigin;

  constructor({ headers, body, key }: RawMessage, origin: MessageOrigin) {
    this.headers = headers;
    this.body = body;
    if (key !== undefined) this.key = key;
    this.#origin = origin;
  }

  text(): string {
    return textOf(this.body, this.#origin);
  }

  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse
  json<Value = any>(): Value {
    return jsonOf(this, this.#origin) as Value;
  }

  bytes(): Uint8Array {
    return this.body;
  }
}

/** A byte order mark is part of a text, so that what was published as text comes back the same. */
const exact = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** In JSON it is not, and some editors write one. */
const lenient = new TextDecoder('utf-8', { fatal: true });

export function textOf(body: Uint8Array, origin: MessageOrigin): string {
  return decode(exact, body, origin);
}

export function jsonOf({ headers, body }: RawMessage, origin: MessageOrigin): unknown {
  if (body.length === 0) throw failed(origin, 'cannot be read as JSON: its body is empty');
  const text = decode(lenient, body, origin);
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own error quotes the body.
    const type = headers['Content-Type'];
    const kind = type === undefined ? '' : `, Content-Type ${JSON.stringify(type.slice(0, 100))}`;
    throw failed(origin, `is not JSON (${body.length} bytes${kind})`);
  }
}

function decode(decoder: typeof exact, body: Uint8Array, origin: MessageOrigin): string {
  try {
    return decoder.decode(body);
  } catch (cause) {
    const isTooLong = (cause as { code?: string }).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA';
    const what = isTooLong ? `is too long for a text (${body.length} bytes)` : 'is not UTF-8';
    throw failed(origin, `${what}: bytes() gives it as it is`, cause);
  }
}

function failed({ topic, id }: MessageOrigin, text: string, cause?: unknown): RivuletError {
  const which = id === undefined ? `a message on ${topic}` : `message ${id} of ${topic}`;
  return new RivuletError('DECODING_FAILED', `${which} ${text}`, { cause });
}
