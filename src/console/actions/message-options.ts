/**
 * A message that a person has written: `body` (text) or `bodyBase64`, `headers`, `key`.
 *
 * Invariants: headers that begin with `rivulet-` are ours and cannot be given; what cannot be stored as it
 * was written (half a character, a header that is no text) is refused, and nothing else is stored for it.
 */

import { encodeMessage } from '../../broker/message/entry.ts';
import { isWellFormed } from '../../broker/message/text.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';
import { RivuletError } from '../../errors.ts';

const MOST_HEADERS = 100;

export interface Written {
  readonly body: Buffer;
  readonly headers: Record<string, string>;
  readonly key?: string;
}

/** Throws INVALID_ARGUMENT. */
export function writtenMessage(options: Readonly<Record<string, unknown>>): Written {
  const { body, bodyBase64, headers, key } = options;
  return {
    body: bodyOf(body, bodyBase64),
    headers: headersOf(headers),
    ...keyOf(key),
  };
}

function keyOf(key: unknown): { key?: string } {
  if (key === undefined || key === null || key === '') return {};
  return { key: text(key, 'key') };
}

function text(value: unknown, name: string): string {
  if (typeof value === 'string' && isWellFormed(value)) return value;
  throw new RivuletError('INVALID_ARGUMENT', `${name} is a text, without half a character`);
}

/** About what the message takes in memory. */
export function writtenBytes({ body, headers, key = '' }: Written): number {
  return body.length + 2 * (JSON.stringify(headers).length + key.length);
}

export function fieldsOf(message: Written): CommandArgument[] {
  const fields: CommandArgument[] = [];
  encodeMessage(fields, message);
  return fields;
}

function bodyOf(given: unknown, base64: unknown): Buffer {
  if (typeof given === 'string') return Buffer.from(text(given, 'body'));
  if (typeof base64 === 'string') {
    const bytes = Buffer.from(base64, 'base64');
    if (bytes.toString('base64').replace(/=+$/, '') === base64.replace(/=+$/, '')) return bytes;
  }
  throw new RivuletError('INVALID_ARGUMENT', 'body (text) or bodyBase64 is needed');
}

function headersOf(given: unknown): Record<string, string> {
  if (given === undefined || given === null) return {};
  if (typeof given !== 'object') {
    throw new RivuletError('INVALID_ARGUMENT', 'headers are an object, or a list of pairs');
  }
  const pairs: [unknown, unknown][] = Array.isArray(given)
    ? given.map((each) => (Array.isArray(each) ? [each[0], each[1]] : [each, undefined]))
    : Object.entries(given as object);
  if (pairs.length > MOST_HEADERS) {
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `a message has at most ${MOST_HEADERS} headers here`,
    );
  }
  for (const [name, value] of pairs) {
    if (typeof name !== 'string' || typeof value !== 'string' || name === '') {
      throw new RivuletError('INVALID_ARGUMENT', 'headers have texts as names and values');
    }
    text(name, 'the name of a header');
    text(value, `the header ${name}`);
    if (name.startsWith('rivulet-')) {
      throw new RivuletError('INVALID_ARGUMENT', `the header ${name} is set by Rivulet alone`);
    }
  }
  return Object.fromEntries(pairs as [string, string][]);
}
