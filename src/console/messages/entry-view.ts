/**
 * Entries as the API shows them: a row with a preview, or the whole.
 *
 * Invariants: headers and bodies are masked before anything else; a row has at most 4 KiB of headers, so
 * that a page of 100 has a bound. Cost: one decoding of the first bytes an entry.
 */

import { decodeMessage } from '../../broker/message/entry.ts';
import { deadLetterHeaders, type RawMessage } from '../../broker/message/message.ts';
import type { DeadOrigin, Decoder, EntryDetail, EntryRow } from '../api-types.ts';
import type { RawEntry } from '../sources/commands.ts';
import { nameText } from '../topics/names.ts';
import { fieldOf, originTopic } from './dead-fields.ts';
import { type DecodeSetup, decode, decodedValue } from './decode.ts';
import type { Filtered } from './filter.ts';

export const PREVIEW = 256;
/** A larger body is only downloaded. */
const LARGEST_SHOWN = 1024 * 1024;
/** As much of a value as tells that it is larger: for rows and details. */
export const SHOWN_PART: number = LARGEST_SHOWN + 1;
const HEADER_BYTES = 4096;
const HEADER_LENGTH = 1024;

export const EDITED_FROM = 'rivulet-edited-from';
export const REDRIVEN_FROM = 'rivulet-redriven-from';

export function entryRow(
  raw: RawEntry,
  topic: Buffer,
  setup: DecodeSetup,
  decoder: Decoder = 'auto',
): EntryRow {
  const message = decodeMessage(raw.fields);
  const { headers, body, key } = message;
  const type = contentType(message);
  return {
    id: raw.id,
    ...(raw.messageId === undefined ? {} : { messageId: raw.messageId }),
    at: timeOf(raw),
    bytes: raw.whole?.bytes ?? raw.fields.reduce((sum, { length }) => sum + length, 0),
    bodyBytes: raw.whole?.body ?? body.length,
    key: key ?? null,
    headers: shownHeaders(headers, setup, HEADER_BYTES),
    preview: decode(
      body,
      { topic, contentType: type, decoder, limit: PREVIEW, isPretty: false },
      setup,
    ),
    contentType: type,
    traceId: traceIdOf(headers.traceparent),
  };
}

export function entryDetail(
  raw: RawEntry,
  topic: Buffer,
  setup: DecodeSetup,
  decoder: Decoder,
  beside: { readonly previousId: string | null; readonly nextId: string | null },
): EntryDetail {
  const message = decodeMessage(raw.fields);
  const { headers, body } = message;
  const type = contentType(message);
  const wish = { topic, contentType: type, decoder, limit: LARGEST_SHOWN, isPretty: true };
  return {
    ...entryRow(raw, topic, setup, decoder),
    headers: shownHeaders(headers, setup, LARGEST_SHOWN),
    topic: nameText(topic),
    body: body.length > LARGEST_SHOWN ? null : decode(body, wish, setup),
    dead: deadOrigin(headers, raw.fields),
    editedFrom: headers[EDITED_FROM] ?? null,
    redrivenFrom: headers[REDRIVEN_FROM] ?? null,
    cause: headers['rivulet-cause'] ?? null,
    ...beside,
  };
}

/** Null: it is no dead letter. */
export function deadOrigin(
  headers: Readonly<Record<string, string>>,
  fields: readonly Buffer[],
): DeadOrigin | null {
  const topic = originTopic(fields);
  if (topic === null) return null;
  const attempts = Number(headers[deadLetterHeaders.attempts] ?? Number.NaN);
  const at = Date.parse(headers[deadLetterHeaders.time] ?? '');
  return {
    topic: nameText(topic),
    group: nameText(fieldOf(fields, deadLetterHeaders.group) ?? Buffer.alloc(0)),
    id: headers[deadLetterHeaders.id] ?? '',
    reason: headers[deadLetterHeaders.reason] ?? '',
    attempts: Number.isFinite(attempts) ? attempts : null,
    at: Number.isNaN(at) ? null : at,
  };
}

/** The entry as filters see it: masked as the viewer's, decoded once and only when asked. */
export function filtered(raw: RawEntry, topic: Buffer, setup: DecodeSetup): Filtered {
  const message = decodeMessage(raw.fields);
  const { headers, body, key } = message;
  const wish = { topic, contentType: contentType(message) };
  let json: { value: unknown } | null = null;
  return {
    id: raw.id,
    time: timeOf(raw) ?? undefined,
    key,
    size: body.length,
    header(name) {
      if (!Object.hasOwn(headers, name)) return undefined;
      return setup.masks.header(name, headers[name]!);
    },
    get text() {
      if (!setup.masks.hidesBodies) {
        return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();
      }
      return decode(
        body,
        { ...wish, decoder: 'auto', limit: LARGEST_SHOWN, isPretty: false },
        setup,
      ).text;
    },
    get json() {
      json ??= { value: decodedValue(body, wish, setup) };
      return json.value;
    },
  };
}

export function contentType({ headers }: RawMessage): string | null {
  for (const [name, value] of Object.entries(headers)) {
    if (name.toLowerCase() === 'content-type') return value;
  }
  return null;
}

/** The trace of `00-<32 hex>-<16 hex>-01`. */
function traceIdOf(traceparent: string | undefined): string | null {
  return /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-/.exec(traceparent ?? '')?.[1] ?? null;
}

function shownHeaders(
  headers: Readonly<Record<string, string>>,
  { masks }: DecodeSetup,
  bytes: number,
): (readonly [string, string])[] {
  const shown: (readonly [string, string])[] = [];
  let left = bytes;
  for (const [name, value] of Object.entries(headers)) {
    const most = bytes === HEADER_BYTES ? HEADER_LENGTH : bytes;
    const text = masks.header(name, value);
    const cut = text.length > most ? `${text.slice(0, most)}…` : text;
    left -= name.length + cut.length;
    if (left < 0) {
      shown.push(['…', 'there are more headers: open the message']);
      break;
    }
    shown.push([name.slice(0, HEADER_LENGTH), cut]);
  }
  return shown;
}

function timeOf({ id, at }: RawEntry): number | null {
  if (at !== undefined) return at;
  const ms = Number(/^(\d+)-/.exec(id)?.[1] ?? Number.NaN);
  return ms >= 0 && ms <= 8.64e15 ? ms : null;
}
