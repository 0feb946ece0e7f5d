/**
 * Topics over HTTP: server-sent events and WebSocket, resumable with the id of the last message.
 *
 * `GET /_/topics/TOPIC`, `?from=earliest|ID`, header `Last-Event-ID`. Invariants: only topics that the
 * option `topics` names; ids are the broker's, so a client that connects again receives each message that
 * the topic still has, and a `gap` where messages may be lost; a comment every `heartbeatMs` keeps
 * proxies from ending an idle stream.
 */
import { isUtf8 } from 'node:buffer';
import type { WebSocket } from 'ws';
import { compilePattern } from '../../broker/topics/topics.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import { type Exchange, headerOf } from '../exchange.ts';
import { sseEvent, startEventStream } from '../handlers/server-sent-events.ts';
import { HttpError } from '../http-error.ts';
import type { GatewayLimits } from '../limits.ts';
import { isLong, sendTo, writeTo } from '../stalled.ts';
import type { TopicHub } from './topic-hub.ts';
import type { TopicGap, TopicMessage, TopicReader } from './topic-reader.ts';

/** How much later the broker's clock may be. */
const CLOCKS_DIFFER_MS = 86_400_000;

export class TopicStreams {
  readonly #hub: TopicHub;
  readonly #isShown: (topic: string) => boolean;
  readonly #limits: Pick<GatewayLimits, 'heartbeatMs' | 'stalledMs'>;
  readonly #sockets = new WeakSet<WebSocket>();

  /** `patterns` are the topics that clients may read: `news.>`. */
  constructor(
    hub: TopicHub,
    patterns: readonly string[],
    limits: Pick<GatewayLimits, 'heartbeatMs' | 'stalledMs'>,
  ) {
    this.#hub = hub;
    this.#limits = limits;
    const shown = patterns.map(compilePattern);
    this.#isShown = (topic) => shown.some((matches) => matches(topic));
  }

  /** Rejects with 404 for topics that are not shown. */
  async open(topic: string, query: URLSearchParams, lastId: string): Promise<TopicReader> {
    if (!this.#isShown(topic)) throw new HttpError(404, 'there is no such topic here');
    return this.#hub.read(topic, positionOf(query, lastId));
  }

  async serveEvents(exchange: Exchange, topic: string): Promise<void> {
    const lastId = headerOf(exchange.request, 'last-event-id');
    const reader = await this.open(topic, exchange.query, lastId);
    const forget = onAbort(exchange.signal, () => reader.end());
    startEventStream(exchange.reply);
    const { raw } = exchange.reply;
    reader.onSlow = () => raw.destroy();
    let isWriting = false;
    // A comment between two pieces of an event would end it.
    const beat = setInterval(() => isWriting || raw.write(':\n\n'), this.#limits.heartbeatMs);
    try {
      for await (const message of reader) {
        isWriting = true;
        await writeTo(raw, events.of(message), this.#limits.stalledMs);
        isWriting = false;
      }
    } finally {
      clearInterval(beat);
      forget();
      raw.end();
    }
  }

  /** Whether the socket reads a topic: it is closed behind the last message of its queue. */
  serves(socket: WebSocket): boolean {
    return this.#sockets.has(socket);
  }

  async serveSocket(socket: WebSocket, reader: TopicReader): Promise<void> {
    this.#sockets.add(socket);
    reader.onSlow = () => socket.terminate();
    socket.on('close', () => reader.end());
    socket.on('error', () => reader.end());
    for await (const message of reader) {
      // Resolves when it is with the operating system, so that a slow client fills its own queue.
      await sendTo(socket, socketMessages.of(message), this.#limits.stalledMs);
    }
    socket.close(1001, 'the gateway is stopping');
  }
}

/** The position after which a client goes on. Throws 400 for what is no position. */
function positionOf(query: URLSearchParams, lastId: string) {
  const from = lastId || query.get('last-event-id') || query.get('from') || 'new';
  if (from === 'new' || from === 'earliest') return from;
  if (isOfTheFuture(from)) {
    throw new HttpError(
      400,
      'the id is later than every message can be: begin with earliest or new',
    );
  }
  if (/^[\w.:-]{1,100}$/.test(from)) return { id: from };
  throw new HttpError(400, 'from is earliest, new, or the id of a message');
}

/** A client that waits for what comes after it would get nothing, and not know it. */
function isOfTheFuture(id: string): boolean {
  const [, ms] = /^(\d+)-\d+$/.exec(id) ?? [];
  return ms !== undefined && Number(ms) > Date.now() + CLOCKS_DIFFER_MS;
}

/**
 * The long texts of messages, which the clients of a message share while any of them is sent one: line ends make an
 * event seven times as long as its body, and control characters a message of a WebSocket six times.
 */
class LongTexts {
  readonly #known = new WeakMap<TopicMessage | TopicGap, WeakRef<Buffer>>();
  readonly #make: (message: TopicMessage | TopicGap) => string;

  constructor(make: (message: TopicMessage | TopicGap) => string) {
    this.#make = make;
  }

  of(message: TopicMessage | TopicGap): string | Buffer {
    const known = this.#known.get(message)?.deref();
    if (known !== undefined) return known;
    const text = this.#make(message);
    if (!isLong(text)) return text;
    const bytes = Buffer.from(text);
    this.#known.set(message, new WeakRef(bytes));
    return bytes;
  }
}

const events = new LongTexts((message) =>
  sseEvent(
    'gap' in message
      ? { event: 'gap', data: JSON.stringify(message.gap) }
      : { id: message.id, data: messageText(message) },
  ),
);

const socketMessages = new LongTexts((message) =>
  JSON.stringify('gap' in message ? message : shownMessage(message)),
);

/** The data of an event: the body where it is text, else an object with its base64. */
function messageText({ body }: TopicMessage): string {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return isUtf8(bytes)
    ? bytes.toString()
    : JSON.stringify({ bodyBase64: bytes.toString('base64') });
}

function shownMessage({ topic, id, publishedAt, key, headers, body }: TopicMessage) {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const content = isUtf8(bytes)
    ? { body: bytes.toString() }
    : { bodyBase64: bytes.toString('base64') };
  return { topic, id, time: publishedAt.toISOString(), key, headers, ...content };
}
