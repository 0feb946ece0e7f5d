/**
 * A message as AMQP carries it: the body as it is, its headers as headers.
 *
 * That is go-micro's form too. Headers that AMQP or RabbitMQ cannot carry as they are (empty or too
 * long names, names that the broker gives a meaning to) travel as JSON in one header of ours. What
 * only the transport needs begins with `x-rivulet-` and never reaches an application.
 */
import { createHash } from 'node:crypto';
import type { MessageProperties, Options } from 'amqplib';
import { deadLetterHeaders, type Message, RivuletError } from 'rivulet';

export const transport = {
  key: 'x-rivulet-key',
  /** JSON of the headers that cannot travel by themselves. */
  headers: 'x-rivulet-headers',
  /** Attempts so far, of a message that was published again for its next one. */
  attempts: 'x-rivulet-attempts',
  /** The topic, where the routing key is another one. */
  topic: 'x-rivulet-topic',
  /** The end of what a reader of the log wants to see. */
  mark: 'x-rivulet-mark',
  /** Of a message that is not due yet: when, and where it goes then. */
  dueAt: 'x-rivulet-due-at',
  dueExchange: 'x-rivulet-due-exchange',
  dueKey: 'x-rivulet-due-key',
} as const;

const LONGEST_NAME = 255;
/** Headers must fit into one frame, whose usual limit is 128 KiB. */
const MOST_HEADER_BYTES = 120 * 1024;
const BROKERS_OWN =
  /^(x-rivulet-.*|x-death|x-(first|last)-death-.*|x-delivery-count|x-acquired-count|x-stream-.*|x-opt-.*|CC|BCC|)$/;

/** Properties for publishing; `id` identifies the message from now on. */
export function write(message: Message, id: string, extra: Headers = {}): Options.Publish {
  const headers: Record<string, unknown> = { ...extra };
  let others: Record<string, string> | undefined;
  let bytes = 0;
  for (const name in message.headers) {
    const value = message.headers[name];
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
    if (BROKERS_OWN.test(name) || Buffer.byteLength(name) > LONGEST_NAME) {
      others ??= {};
      others[name] = value;
    } else {
      headers[name] = value;
    }
  }
  if (bytes > MOST_HEADER_BYTES) {
    const text = `headers of ${bytes} bytes: RabbitMQ takes at most ${MOST_HEADER_BYTES}`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }
  if (others !== undefined) headers[transport.headers] = JSON.stringify(others);
  if (message.key !== undefined) headers[transport.key] = message.key;
  return {
    headers,
    messageId: id,
    timestamp: Math.floor(timeOfId(id) / 1000),
    persistent: true,
    mandatory: true,
  };
}

export type Headers = Readonly<Record<string, unknown>>;

interface Received {
  readonly content: Buffer;
  readonly properties: MessageProperties;
  readonly fields: { readonly routingKey: string };
}

export interface Read {
  readonly id: string;
  readonly publishedAt: number;
  readonly message: Message;
  readonly transport: Headers;
}

/** Any AMQP message can be read; one that carries no id gets one from what it is. */
export function read(received: Received): Read {
  const all = (received.properties.headers ?? {}) as Headers;
  const headers: Record<string, string> = {};
  for (const name in all) {
    if (!BROKERS_OWN.test(name)) headers[name] = String(all[name]);
  }
  const others = all[transport.headers];
  if (typeof others === 'string') Object.assign(headers, JSON.parse(others));
  const key = all[transport.key];
  const message: Message = {
    headers,
    body: received.content,
    ...(typeof key === 'string' ? { key } : {}),
  };
  const id = received.properties.messageId ?? foreignId(received);
  const seconds = Number(received.properties.timestamp ?? 0);
  return {
    id,
    publishedAt: timeOfId(id) || seconds * 1000,
    message: all['x-death'] === undefined ? message : givenUp(message, id, all),
    transport: all,
  };
}

/** Ids begin with the time of publishing; 0 when this one does not. */
export function timeOfId(id: string): number {
  return /^\d{13,}-/.test(id) ? Number.parseInt(id, 10) : 0;
}

/** What the broker itself made a dead letter of says why in `x-death`. */
function givenUp(message: Message, id: string, all: Headers): Message {
  if (message.headers[deadLetterHeaders.reason] !== undefined) return message;
  const deaths = all['x-death'] as readonly Record<string, unknown>[];
  const death = deaths.find(({ reason }) => reason === 'delivery_limit');
  if (death === undefined) return message;
  const [, group = '', topic = ''] =
    /^rivulet\.group\.(.*):([^:]*)$/.exec(String(death.queue)) ?? [];
  return {
    ...message,
    headers: {
      ...message.headers,
      [deadLetterHeaders.topic]: String(all[transport.topic] ?? topic),
      [deadLetterHeaders.group]: group,
      [deadLetterHeaders.id]: id,
      [deadLetterHeaders.reason]: 'the broker gave up: its delivery limit is reached',
      [deadLetterHeaders.attempts]: String(all['x-delivery-count'] ?? ''),
      [deadLetterHeaders.time]: new Date(
        1000 * Number((death.time as { value?: number } | undefined)?.value ?? 0),
      ).toISOString(),
    },
  };
}

function foreignId({ content, properties }: Received): string {
  const hash = createHash('sha256').update(content);
  hash.update(JSON.stringify([properties.timestamp, properties.correlationId]));
  return `foreign-${hash.digest('hex').slice(0, 24)}`;
}
