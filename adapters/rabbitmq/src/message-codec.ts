/**
 * Messages in AMQP's form: the body unchanged, each header as an AMQP header, as go-micro writes them.
 *
 * Headers that AMQP or RabbitMQ cannot carry under their own name (an empty name, a name above 255
 * bytes, a name with a meaning to the broker) are sent as JSON in the header `x-rivulet-headers`.
 * Headers that only this adapter uses begin with `x-rivulet-` and are never passed to an application.
 * Invariant: `decode` never throws, whatever another program has published.
 */
import { createHash } from 'node:crypto';
import type { MessageProperties, Options } from 'amqplib';
import { type RawMessage, RivuletError } from 'rivulet/adapter';

export const wireHeaders = {
  key: 'x-rivulet-key',
  /** JSON of the headers that AMQP cannot carry under their own name. */
  headers: 'x-rivulet-headers',
  /** In the queue of a pattern: a topic whose messages go to the topic's own group from here on. */
  split: 'x-rivulet-split',
  /** Attempts before this copy was published. */
  attempts: 'x-rivulet-attempts',
  /** On a retry: the round of the group's queue, which a replay changes. */
  round: 'x-rivulet-round',
  /** The topic, on messages whose routing key is a queue's name. */
  topic: 'x-rivulet-topic',
  /** On a mark, by which a reader of a stream sees where the stream ended when it began to read. */
  mark: 'x-rivulet-mark',
  /** On a delayed publish: when it goes to its topic, Unix time in ms. */
  dueAt: 'x-rivulet-due-at',
  /** On a delayed publish: how often its topic had been deleted when it was published. */
  deletions: 'x-rivulet-deletions',
  /** On a message that was delayed: when it went to its topic, Unix time in ms. */
  storedAt: 'x-rivulet-stored-at',
} as const;

const LONGEST_NAME = 255;
/** The latest second that a Date can represent. */
const MAX_SECONDS = 8.64e12;
/**
 * amqplib writes all headers of a message into one buffer of 64 KiB. 8 KiB are reserved for the headers
 * of retries, delays and dead letters, so that every message that is accepted fits as each of those.
 */
const MAX_HEADER_BYTES = 56 * 1024;
/** Bytes of a header beside its name and value. */
const HEADER_BYTES = 6;
/** Prefix of the headers that the library adds to dead letters, requests and replies. */
const LIBRARY = 'rivulet-';
const RESERVED =
  /^(x-rivulet-.*|x-death|x-(first|last)-death-.*|x-delivery-count|x-acquired-count|x-stream-.*|x-opt-.*|CC|BCC|)$/;

/**
 * The properties to publish a message with; `id` becomes its messageId. Throws BODY_TOO_LARGE when
 * headers and key exceed 56 KiB.
 */
export function encode(message: RawMessage, id: string, extra: Headers = {}): Options.Publish {
  const headers: Record<string, unknown> = { ...extra };
  let others: Record<string, string> | undefined;
  let bytes = message.key === undefined ? 0 : sizeOf(wireHeaders.key, message.key);
  for (const name in message.headers) {
    const value = message.headers[name] as string;
    if (RESERVED.test(name) || Buffer.byteLength(name) > LONGEST_NAME) {
      others ??= {};
      others[name] = value;
    } else {
      headers[name] = value;
      if (!name.startsWith(LIBRARY)) bytes += sizeOf(name, value);
    }
  }
  if (others !== undefined) {
    const text = JSON.stringify(others);
    headers[wireHeaders.headers] = text;
    bytes += sizeOf(wireHeaders.headers, text);
  }
  if (bytes > MAX_HEADER_BYTES) {
    const text = `headers and key of ${bytes} bytes: on RabbitMQ they may have ${MAX_HEADER_BYTES} together; put the rest into the body`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }
  if (message.key !== undefined) headers[wireHeaders.key] = message.key;
  return {
    headers,
    messageId: id,
    timestamp: Math.floor(timeOfId(id) / 1000),
    persistent: true,
    mandatory: true,
  };
}

function sizeOf(name: string, value: string): number {
  return Buffer.byteLength(name) + Buffer.byteLength(value) + HEADER_BYTES;
}

export type Headers = Readonly<Record<string, unknown>>;

interface AmqpMessage {
  readonly content: Buffer;
  readonly properties: MessageProperties;
  readonly fields: { readonly routingKey: string };
}

export interface WireMessage {
  readonly id: string;
  readonly publishedAt: number;
  readonly message: RawMessage;
  /** All headers, those of this adapter included. */
  readonly headers: Headers;
}

/** Decodes any AMQP message. One without a messageId gets an id from its content. */
export function decode(received: AmqpMessage): WireMessage {
  const all = (received.properties.headers ?? {}) as Headers;
  const headers: Record<string, string> = {};
  for (const name in all) {
    if (!RESERVED.test(name)) headers[name] = textOf(all[name]);
  }
  Object.assign(headers, headersIn(all[wireHeaders.headers]));
  const key = all[wireHeaders.key];
  const message: RawMessage = {
    headers,
    body: received.content,
    ...(typeof key === 'string' ? { key } : {}),
  };
  const id = textOf(received.properties.messageId ?? '') || foreignId(received);
  const seconds = Number(received.properties.timestamp ?? 0);
  const isTime = seconds > 0 && seconds < MAX_SECONDS;
  return {
    id,
    publishedAt: timeOfId(id) || (isTime ? seconds * 1000 : 0),
    message,
    headers: all,
  };
}

/** The attempts that a retry records in its headers; 0 for any other message. */
export function attemptsOf(headers: Headers): number {
  const attempts = Number(headers[wireHeaders.attempts]);
  return Number.isSafeInteger(attempts) && attempts > 0 ? attempts : 0;
}

/** The headers that were sent as JSON. Text that is no such JSON is kept as a header. */
function headersIn(text: unknown): Record<string, string> {
  if (text === undefined) return {};
  try {
    const found: unknown = JSON.parse(String(text));
    if (typeof found === 'object' && found !== null && !Array.isArray(found)) {
      return Object.fromEntries(Object.entries(found).map(([name, of]) => [name, textOf(of)]));
    }
  } catch {
    // Another program wrote it.
  }
  return { [wireHeaders.headers]: textOf(text) };
}

/** A header of another program may have any AMQP type. */
function textOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if (Buffer.isBuffer(value)) return value.toString();
  return JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each));
}

/** The Unix time in ms at which an id of this adapter was made; 0 for any other id. */
export function timeOfId(id: string): number {
  return /^\d{13,15}-/.test(id) ? Number.parseInt(id, 10) : 0;
}

function foreignId({ content, properties }: AmqpMessage): string {
  const hash = createHash('sha256').update(content);
  hash.update(JSON.stringify([properties.timestamp, properties.correlationId]));
  return `foreign-${hash.digest('hex').slice(0, 24)}`;
}

/** When a message was stored in its topic's log, Unix time in ms: after its delay, if it had one. */
export function storedAtOf({ headers, publishedAt }: WireMessage): number {
  const storedAt = Number(headers[wireHeaders.storedAt]);
  return Number.isSafeInteger(storedAt) && storedAt > 0 ? storedAt : publishedAt;
}
