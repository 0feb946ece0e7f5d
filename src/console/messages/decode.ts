/**
 * A body in a form to be shown.
 *
 * `auto`: what the content type says; else protobuf where the topic has a type; else JSON, text, msgpack,
 * hex, the first that fits the whole body. A decoder that was asked for and fails shows hex and its error.
 * Invariants: never throws, never runs what it reads; what is shown is text; bodies nested too deep to be
 * walked are shown as they came; a body above LARGEST_DECODED is never decoded, because parsing 40 MB holds
 * the loop for seconds. Cost: one pass over the body; previews of texts and large bodies read 256 bytes.
 */
import { isUtf8 } from 'node:buffer';
import { msgpackCodec } from '../../codec/msgpack.ts';
import type { Decoded, Decoder } from '../api-types.ts';
import type { Masks } from './mask.ts';
import { plain } from './plain-value.ts';
import type { ProtoTypes } from './proto-types.ts';

export interface DecodeSetup {
  readonly masks: Masks;
  readonly protos: ProtoTypes | null;
}

export interface DecodeWish {
  readonly topic: Buffer;
  readonly contentType: string | null;
  readonly decoder: Decoder;
  /** Bytes, or characters, of text that are wanted. */
  readonly limit: number;
  /** With line breaks. */
  readonly isPretty: boolean;
}

type Value = { readonly value: unknown; readonly as: Decoded['as'] };

/** Larger bodies are shown as their first bytes, and have no `json` in filters. */
const LARGEST_DECODED = 1024 * 1024;
const TOO_LARGE = 'a body above 1 MiB is not decoded: download it';
const HIDDEN = '(hidden: it cannot be decoded, and may hold values that are masked for you)';

export function decode(body: Uint8Array, wish: DecodeWish, setup: DecodeSetup): Decoded {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (bytes.length === 0) return shown('empty', '', wish.limit);
  const { masks } = setup;
  if (masks.hidesBodies) return masked(bytes, wish, setup);
  if (wish.decoder === 'hex') return shown('hex', hexOf(bytes, wish.limit), wish.limit, bytes);
  if (wish.decoder === 'text') return shown('text', startOf(bytes, wish.limit), wish.limit, bytes);
  if (bytes.length > LARGEST_DECODED) return undecoded(bytes, wish);
  try {
    const { value, as } = valueIn(bytes, wish, setup);
    if (as === 'text') return shown('text', startOf(bytes, wish.limit), wish.limit, bytes);
    if (as === 'hex') return shown('hex', hexOf(bytes, wish.limit), wish.limit, bytes);
    // A body that is JSON already is shown as it was written: no number is rounded.
    const asCame = as === 'json' && !wish.isPretty;
    const text = asCame ? startOf(bytes, wish.limit) : write(value, wish.isPretty);
    return shown(as, text ?? startOf(bytes, wish.limit), wish.limit, asCame ? bytes : undefined);
  } catch (error) {
    const hex = shown('hex', hexOf(bytes, wish.limit), wish.limit, bytes);
    return { ...hex, error: (error as Error).message };
  }
}

/** The first bytes of a large body, as what they look like. */
function undecoded(bytes: Buffer, { decoder, limit }: DecodeWish): Decoded {
  const start = startOf(bytes, limit);
  const isText = !start.includes(REPLACED) && !bytes.subarray(0, limit).some(isControl);
  const as = isText ? 'text' : 'hex';
  const found = shown(as, isText ? start : hexOf(bytes, limit), limit, bytes);
  return decoder === 'auto' ? found : { ...found, error: TOO_LARGE };
}

/** The decoded body, masked; undefined where it is none that has parts, or too large. */
export function decodedValue(
  body: Uint8Array,
  wish: Pick<DecodeWish, 'topic' | 'contentType'>,
  setup: DecodeSetup,
): unknown {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (bytes.length === 0 || bytes.length > LARGEST_DECODED) return undefined;
  try {
    const { value, as } = valueIn(bytes, { ...wish, decoder: 'auto' }, setup);
    if (as === 'text' || as === 'hex') return undefined;
    setup.masks.apply(value);
    return value;
  } catch {
    return undefined;
  }
}

function masked(bytes: Buffer, wish: DecodeWish, setup: DecodeSetup): Decoded {
  const decoder = wish.decoder === 'hex' || wish.decoder === 'text' ? 'auto' : wish.decoder;
  try {
    if (bytes.length > LARGEST_DECODED) throw new Error(TOO_LARGE);
    const { value, as } = valueIn(bytes, { ...wish, decoder }, setup);
    const isStructure = typeof value === 'object' && value !== null;
    if (as !== 'text' && as !== 'hex') {
      const isMasked = setup.masks.apply(value);
      const text = write(value, wish.isPretty);
      if (text !== null || !isStructure) {
        return { ...shown(as, text ?? String(value), wish.limit), masked: isMasked };
      }
    }
  } catch {
    // Hidden below.
  }
  return { as: 'text', text: HIDDEN, cut: false, error: null, masked: true };
}

function valueIn(
  bytes: Buffer,
  { topic, contentType, decoder }: Pick<DecodeWish, 'topic' | 'contentType' | 'decoder'>,
  { protos }: DecodeSetup,
): Value {
  if (decoder === 'json') return { value: JSON.parse(bytes.toString()), as: 'json' };
  if (decoder === 'msgpack') return { value: msgpackOf(bytes), as: 'msgpack' };
  if (decoder === 'proto') {
    if (protos === null) throw new Error('no .proto files are loaded: start with --proto DIR');
    return { value: protos.decode(topic, bytes), as: 'proto' };
  }
  const type = (contentType ?? '').toLowerCase();
  if (/\bjson\b/.test(type)) return { value: JSON.parse(bytes.toString()), as: 'json' };
  if (/msgpack/.test(type)) return { value: msgpackOf(bytes), as: 'msgpack' };
  if (protos?.has(topic)) return { value: protos.decode(topic, bytes), as: 'proto' };
  if (type.startsWith('text/')) return { value: null, as: 'text' };
  return guess(bytes);
}

function guess(bytes: Buffer): Value {
  const isText = isUtf8(bytes);
  if (isText && JSON_START.test(bytes.toString('latin1', 0, 64))) {
    try {
      return { value: JSON.parse(bytes.toString()), as: 'json' };
    } catch {
      // A text that begins like JSON.
    }
  }
  if (isText && !bytes.subarray(0, SNIFFED).some(isControl)) return { value: null, as: 'text' };
  try {
    const value = msgpackOf(bytes);
    if (typeof value === 'object' && value !== null) return { value, as: 'msgpack' };
  } catch {
    // Some other form.
  }
  return { value: null, as: 'hex' };
}

const JSON_START = /^\s*(?:[{["\d-]|true\b|false\b|null\b)/;
const SNIFFED = 4096;

function isControl(byte: number): boolean {
  return byte < 32 && byte !== 9 && byte !== 10 && byte !== 13;
}

function msgpackOf(bytes: Buffer): unknown {
  return plain(msgpackCodec.decode(bytes), 0);
}

/** Null: it is nested too deep to be written. Without line breaks where they would be most of it. */
function write(value: unknown, isPretty: boolean): string | null {
  try {
    const text = JSON.stringify(value) ?? null;
    if (!isPretty || text === null || indentOf(text) > MOST_INDENT) return text;
    return JSON.stringify(value, null, 2);
  } catch {
    return null;
  }
}

/** Characters that line breaks and indents add to a JSON text: its parts times their depths. */
function indentOf(json: string): number {
  let [depth, added, isText] = [0, 0, false];
  for (let at = 0; at < json.length && added <= MOST_INDENT; at++) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) isText = !isText;
    else if (isText) at += code === BACKSLASH ? 1 : 0;
    else if (code === OPEN || code === OPEN_OBJECT) added += 1 + 2 * ++depth;
    else if (code === CLOSE || code === CLOSE_OBJECT) added += 1 + 2 * --depth;
    else if (code === COMMA) added += 1 + 2 * depth;
  }
  return added;
}

const MOST_INDENT = 4 * LARGEST_DECODED;
const [QUOTE, BACKSLASH, COMMA] = [34, 92, 44];
const [OPEN, CLOSE, OPEN_OBJECT, CLOSE_OBJECT] = [91, 93, 123, 125];

/** The first bytes as text, without half a character at the end. */
function startOf(bytes: Buffer, limit: number): string {
  if (bytes.length <= limit) return bytes.toString();
  let end = limit;
  while (end > 0 && end > limit - 4 && (bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end);
}

function hexOf(bytes: Buffer, limit: number): string {
  return bytes.toString('hex', 0, Math.floor(limit / 2));
}

/** `bytes`: the text is the first of these. */
function shown(as: Decoded['as'], text: string, limit: number, bytes?: Buffer): Decoded {
  const length = as === 'hex' ? limit / 2 : limit;
  const isCut = bytes === undefined ? text.length > limit : bytes.length > length;
  const cut = text.length > limit ? text.slice(0, limit).replace(HALF, '') : text;
  return { as, text: cut, cut: isCut, error: null, masked: false };
}

/** What replaces bytes that are no UTF-8. */
const REPLACED = '\ufffd';
const HALF = /[\ud800-\udbff]$/;
