/**
 * Messages as stream entries: what every broker of ours writes and reads.
 *
 * The fields are `headers` (a JSON object; absent when there are none), `key` (absent when there is
 * none) and `body` (the bytes as they are). Any other field is a header: so the fields that the server
 * adds to dead letters are read, and what other programs write comes as headers and body.
 * Cost: a message without headers is one field; nothing is copied.
 */
import { deadLetterHeaders, ONLY_GROUP, type RawMessage } from './message.ts';

const HEADERS = Buffer.from('headers');
const KEY = Buffer.from('key');
const BODY = Buffer.from('body');
const EMPTY = Buffer.alloc(0);
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

/** Appends a message's fields and values, alternating. */
export function encodeMessage(
  fields: (string | number | bigint | Uint8Array)[],
  { headers, key, body }: RawMessage,
): void {
  for (const _ in headers) {
    fields.push('headers', JSON.stringify(headers));
    break;
  }
  if (key !== undefined) fields.push('key', key);
  fields.push('body', body);
}

/** The message of an entry; `fields` are names and values, alternating. Never throws. */
export function decodeMessage(fields: readonly Uint8Array[]): RawMessage {
  let found: [string, string][] | null = null;
  let key: string | undefined;
  let body: Uint8Array = EMPTY;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] as Uint8Array;
    const value = fields[i + 1] as Uint8Array;
    if (is(name, BODY)) body = value;
    else if (is(name, KEY)) key = textOf(value);
    else {
      found ??= [];
      if (is(name, HEADERS)) readHeaders(value, found);
      else found.push([textOf(name), textOf(value)]);
    }
  }
  // One called __proto__ is a header like any other.
  let headers = found === null ? NO_HEADERS : Object.fromEntries(found);
  // A dead letter is for every reader, even where the message was for one group only.
  if (headers[deadLetterHeaders.topic] !== undefined && headers[ONLY_GROUP] !== undefined) {
    const { [ONLY_GROUP]: _, ...others } = headers;
    headers = others;
  }
  return key === undefined ? { headers, body } : { headers, body, key };
}

/** All three names differ in length, and most entries have nothing but a body. */
function is(name: Uint8Array, ours: Buffer): boolean {
  return name.length === ours.length && ours.equals(name);
}

/** A field `headers` of another program, which is no JSON object, is a header of that name. */
function readHeaders(json: Uint8Array, found: [string, string][]): void {
  const text = textOf(json);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      const headers = Object.entries(value);
      if (headers.every(([, each]) => typeof each === 'string')) {
        for (const header of headers) found.push(header);
        return;
      }
    }
  } catch {
    // It is no JSON.
  }
  found.push(['headers', text]);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}
