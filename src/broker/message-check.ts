/**
 * A message as it was when the caller gave it.
 *
 * Checks what the caller wrote and takes a copy, so that what the caller writes into its objects
 * afterwards changes nothing. Every broker refuses the same with INVALID_ARGUMENT.
 * Cost: one copy of the headers, and of the body where `copyBody`.
 */

import { shown } from '../client/option-table.ts';
import { RivuletError } from '../errors.ts';
import type { Message } from './message.ts';
import { isWellFormed } from './text.ts';

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

/** Missing headers are no headers. A header `__proto__` would not survive every language: refused. */
export function ownMessage(message: unknown, copyBody: boolean): Message {
  if (typeof message !== 'object' || message === null) {
    throw invalid(`a message is an object with a body, not ${shown(message)}`);
  }
  const { headers, body, key } = message as Partial<Message>;
  if (!(body instanceof Uint8Array)) {
    throw invalid(`the body of a message is bytes (Uint8Array), not ${shown(body)}`);
  }
  const ownHeaders = copyOfHeaders(headers);
  const ownBody = copyBody ? Buffer.from(body) : body;
  if (key === undefined) return { headers: ownHeaders, body: ownBody };
  if (typeof key !== 'string') throw invalid(`the key of a message is text, not ${shown(key)}`);
  if (!isWellFormed(key)) throw invalid('the key of a message holds half a character');
  return { headers: ownHeaders, body: ownBody, key };
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
