/**
 * A checked copy of the message that a caller gave.
 *
 * Invariants: what the caller writes into its objects after the call changes nothing; every broker
 * refuses the same messages, with INVALID_ARGUMENT.
 * Cost: one copy of the headers, and of the body where `copyBody`.
 */

import { types } from 'node:util';
import { shown } from '../../client/option-table.ts';
import { RivuletError } from '../../errors.ts';
import type { Message, RawMessage } from './message.ts';
import { isWellFormed } from './text.ts';

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

/**
 * Missing headers become none, and text becomes UTF-8. A header `__proto__` is refused, because some
 * clients would lose it.
 */
export function ownMessage(message: unknown, copyBody: boolean): RawMessage {
  if (typeof message !== 'object' || message === null) {
    throw invalid(`a message is an object with a body, not ${shown(message)}`);
  }
  const { headers, body, key } = message as Partial<Message>;
  const ownHeaders = copyOfHeaders(headers);
  const ownBody = bytesOf(body, copyBody);
  if (key === undefined) return { headers: ownHeaders, body: ownBody };
  if (typeof key !== 'string') throw invalid(`the key of a message is text, not ${shown(key)}`);
  if (!isWellFormed(key)) throw invalid('the key of a message holds half a character');
  return { headers: ownHeaders, body: ownBody, key };
}

function bytesOf(body: unknown, copy: boolean): Uint8Array {
  if (typeof body === 'string') {
    if (!isWellFormed(body)) throw invalid('the body of a message holds half a character');
    return Buffer.from(body);
  }
  if (body instanceof Uint8Array) return copy ? Buffer.from(body) : body;
  // A Uint8Array of another realm, as in test runners that use vm contexts.
  if (types.isUint8Array(body)) return Buffer.from(body);
  throw invalid(
    `the body of a message is text or bytes (Uint8Array), not ${shown(body)}; for values there are JSON.stringify and broker.topic()`,
  );
}

function copyOfHeaders(headers: unknown): Readonly<Record<string, string>> {
  if (headers === undefined) return NO_HEADERS;
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) {
    throw invalid(`headers are an object of texts, not ${shown(headers)}`);
  }
  let copy: Record<string, string> | null = null;
  for (const [name, value] of Object.entries(headers)) {
    if (name === '__proto__') throw invalid('a header may not be named __proto__');
    if (typeof value !== 'string') {
      throw invalid(`header ${shown(name)} is text, not ${shown(value)}`);
    }
    if (!isWellFormed(name) || !isWellFormed(value)) {
      throw invalid(`header ${shown(name)} holds half a character`);
    }
    copy ??= {};
    copy[name] = value;
  }
  return copy ?? NO_HEADERS;
}

function invalid(text: string): RivuletError {
  return new RivuletError('INVALID_ARGUMENT', text);
}
