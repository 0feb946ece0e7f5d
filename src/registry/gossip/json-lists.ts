/**
 * The members of the lists of a JSON object, `{name: [member, …], …}`, each found without reading the rest.
 *
 * `JSON.parse` of a long state holds the event loop until all of it is read; here the caller may let the loop
 * turn after each member. Invariants: each member is the text between its commas, to be read by `JSON.parse`,
 * so that one that is no JSON hides no other; a value that is no list has no members. Throws `Malformed`
 * where the object itself is none, or ends too early. Cost: one look at each byte outside texts.
 */
import { Malformed } from './wire/raw-msgpack.ts';

export interface ListMember {
  readonly name: string;
  /** JSON, unless its writer made a mistake. */
  readonly bytes: Buffer;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Yields null after each value that is no list. */
export function* listMembers(json: Uint8Array): Generator<ListMember | null, void> {
  const bytes = Buffer.from(json.buffer, json.byteOffset, json.length);
  let at = afterSpace(bytes, 0);
  if (bytes[at] !== OPEN_OBJECT) throw new Malformed('it is no JSON object');
  at = afterSpace(bytes, at + 1);
  while (bytes[at] !== CLOSE_OBJECT) {
    const end = endOfText(bytes, at);
    const name = nameOf(bytes.subarray(at, end));
    at = afterSpace(bytes, end);
    if (bytes[at] !== COLON) throw new Malformed(`it has no value at byte ${at}`);
    at = afterSpace(bytes, at + 1);
    if (bytes[at] === OPEN_LIST) {
      at = afterSpace(bytes, at + 1);
      while (bytes[at] !== CLOSE_LIST) {
        const last = endOfValue(bytes, at);
        yield { name, bytes: bytes.subarray(at, last) };
        at = afterComma(bytes, last, CLOSE_LIST);
      }
      at++;
    } else {
      at = endOfValue(bytes, at);
      yield null;
    }
    at = afterComma(bytes, at, CLOSE_OBJECT);
  }
  at = afterSpace(bytes, at + 1);
  if (at < bytes.length) throw new Malformed(`it goes on at byte ${at}`);
}

function nameOf(bytes: Buffer): string {
  try {
    return JSON.parse(bytes.toString()) as string;
  } catch {
    throw new Malformed('it has a name that is no text');
  }
}

/** The place of what follows a comma; or of the end, where there is none. */
function afterComma(bytes: Buffer, from: number, end: number): number {
  const at = afterSpace(bytes, from);
  if (bytes[at] === end) return at;
  if (bytes[at] !== COMMA) throw new Malformed(`it has no comma at byte ${at}`);
  const next = afterSpace(bytes, at + 1);
  if (bytes[next] === end) throw new Malformed(`it has nothing after the comma at byte ${at}`);
  return next;
}

function afterSpace(bytes: Buffer, from: number): number {
  let at = from;
  while (isSpace(bytes[at])) at++;
  return at;
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** The place after the quote that ends a text. */
function endOfText(bytes: Buffer, from: number): number {
  if (bytes[from] !== QUOTE) throw new Malformed(`it has no text at byte ${from}`);
  for (let at = bytes.indexOf(QUOTE, from + 1); at >= 0; at = bytes.indexOf(QUOTE, at + 1)) {
    let first = at;
    while (bytes[first - 1] === BACKSLASH) first--;
    // An even number of backslashes are backslashes, and the quote ends the text.
    if ((at - first) % 2 === 0) return at + 1;
  }
  throw new Malformed('it ends within a text');
}

/** The place of the comma or bracket after a value. */
function endOfValue(bytes: Buffer, from: number): number {
  let depth = 0;
  let at = from;
  while (at < bytes.length) {
    const byte = bytes[at] as number;
    if (byte === QUOTE) at = endOfText(bytes, at);
    else {
      const isEnd = byte === CLOSE_OBJECT || byte === CLOSE_LIST;
      if (depth === 0 && (isEnd || byte === COMMA)) return at;
      if (isEnd) depth--;
      else if (byte === OPEN_OBJECT || byte === OPEN_LIST) depth++;
      at++;
    }
  }
  throw new Malformed('it ends within a value');
}
