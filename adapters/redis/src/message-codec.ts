/**
 * Messages as stream entries, in our own form and in go-micro's; and as frames of publish/subscribe.
 *
 * Ours: the fields `headers` (JSON, absent when there are none), `key` (absent when there is none)
 * and `body` (the bytes as they are). go-micro's (its events package): one field `event` with the
 * JSON of an Event, whose payload is base64, and `attempt`.
 */
import { randomUUID } from 'node:crypto';
import { deadLetterHeaders, decodeMessage, type RawMessage } from 'rivulet/adapter';

/** Field names and values, alternating. */
export type Fields = (string | Uint8Array)[];

export interface MessageCodec {
  encode(topic: string, message: RawMessage): Fields;
  /** Any entry can be read: one in another form comes as it is, its fields as headers. */
  decode(fields: readonly Buffer[]): RawMessage;
}

export const plainCodec: MessageCodec = {
  encode(_, { headers, key, body }) {
    const fields: Fields = [];
    for (const _name in headers) {
      fields.push('headers', JSON.stringify(headers));
      break;
    }
    if (key !== undefined) fields.push('key', key);
    fields.push('body', asBuffer(body));
    return fields;
  },
  decode: decodeMessage,
};

const KEY_METADATA = 'rivulet-key';

export const goMicroCodec: MessageCodec = {
  encode(topic, { headers, key, body }) {
    const event = {
      ID: randomUUID(),
      Topic: topic,
      Timestamp: new Date().toISOString(),
      Metadata: key === undefined ? headers : { ...headers, [KEY_METADATA]: key },
      Payload: Buffer.from(body).toString('base64'),
    };
    return ['event', JSON.stringify(event), 'attempt', '1'];
  },
  decode(fields) {
    const at = fields.findIndex((name, index) => index % 2 === 0 && name.toString() === 'event');
    if (at < 0) return decodeMessage(fields);
    try {
      const event = JSON.parse(fields[at + 1].toString());
      if (!isTexts(event.Metadata ?? {})) return decodeMessage(fields);
      const { [KEY_METADATA]: key, ...metadata } = event.Metadata ?? {};
      if (typeof (event.Payload ?? '') !== 'string') return decodeMessage(fields);
      const headers = { ...metadata, ...addedByServer(fields) };
      const body = Buffer.from(event.Payload ?? '', 'base64');
      return key === undefined ? { headers, body } : { headers, body, key };
    } catch {
      return decodeMessage(fields);
    }
  },
};

/** Rivulet's own server moves entries to the dead letter as they are, with fields that it adds. */
function addedByServer(fields: readonly Buffer[]): Record<string, string> {
  const added: Record<string, string> = {};
  for (const [name, value] of Object.entries(decodeMessage(fields).headers)) {
    if (!DEAD.has(name)) continue;
    const isOrigin = name === deadLetterHeaders.topic && value.startsWith(STREAM);
    added[name] = isOrigin ? value.slice(STREAM.length) : value;
  }
  return added;
}

const DEAD: ReadonlySet<string> = new Set(Object.values(deadLetterHeaders));
const STREAM = 'stream-';

/** ioredis writes Buffers as they are, and any other array as text. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A message in one piece: length of the head, the head as JSON, the body. */
export function toFrame({ headers, key, body }: RawMessage): Buffer {
  const head = Buffer.from(JSON.stringify(key === undefined ? { headers } : { headers, key }));
  const frame = Buffer.allocUnsafe(4 + head.length + body.length);
  frame.writeUInt32LE(head.length);
  frame.set(head, 4);
  frame.set(body, 4 + head.length);
  return frame;
}

/** null when the bytes are no frame: another program may send anything. */
export function fromFrame(frame: Buffer): RawMessage | null {
  try {
    const end = 4 + frame.readUInt32LE();
    const { headers, key } = JSON.parse(frame.toString('utf8', 4, end));
    if (!isTexts(headers) || (key !== undefined && typeof key !== 'string')) return null;
    const body = frame.subarray(end);
    return key === undefined ? { headers, body } : { headers, body, key };
  } catch {
    return null;
  }
}

function isTexts(value: unknown): value is Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((text) => typeof text === 'string');
}
