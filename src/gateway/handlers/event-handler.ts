/**
 * The event handler: an HTTP request becomes an Event that is published to a topic.
 *
 * go-micro's Event (id, name, timestamp in seconds, header, data), as JSON or as go.api.Event in
 * protobuf. Invariants: the answer is a success only after the broker has the event; a broker that
 * cannot be reached is 503 with Retry-After; requests of one Idempotency-Key are one event, and an event of
 * another name or data under a used key is 422, at another gateway or after a restart too, where the broker's
 * messages can be read by their ids; a batch is one publish. Credentials of the request are in no event.
 */
import { randomUUID } from 'node:crypto';
import type { Broker, Receipt } from '../../broker/broker.ts';
import type { Message } from '../../broker/message/message.ts';
import { checkTopic } from '../../broker/topics/topics.ts';
import { RivuletError } from '../../errors.ts';
import { verifyWebhook } from '../access/webhook.ts';
import { valuesByName } from '../body/request-fields.ts';
import { type Exchange, headerOf, mustBeText, readBody } from '../exchange.ts';
import { canonical, Fields, headersOfClient, pairsOf } from '../forwarding.ts';
import { HttpError } from '../http-error.ts';
import { type EventNames, eventRoute, segmentsOf } from '../routing/names.ts';
import { contentOf, encodeEvent, type GatewayEvent } from './event-message.ts';
import { readOne } from './read-one.ts';
import { digest, reused, UsedKeys } from './used-keys.ts';

export interface EventOptions {
  readonly broker: () => Promise<Broker>;
  readonly names: EventNames;
  readonly codec: 'json' | 'protobuf';
  readonly maxBatch: number;
  readonly maxKeys: number;
  /** Of the query of a GET. */
  readonly maxFields: number;
  /** How long the stored event of a repeated key is read. */
  readonly lookupMs: number;
  readonly now: () => number;
}

const BATCH = /^application\/(x-ndjson|jsonl|x-jsonlines)\b/i;
/** What the message says itself, and credentials. */
const NOT_IN_MESSAGES = /^(content|traceparent|(authorization|cookie|x-api-key)$)/;
const MAX_KEY = 255;

export class EventHandler {
  readonly #options: EventOptions;
  readonly #keys: UsedKeys;

  constructor(options: EventOptions) {
    this.#options = options;
    this.#keys = new UsedKeys(options.maxKeys);
  }

  async handle(exchange: Exchange, namespace: string): Promise<void> {
    const { names } = this.#options;
    const segments = segmentsOf(exchange.path);
    if (segments === null) throw new HttpError(400, 'the path holds what no topic is called');
    const { topic, name } = eventRoute(namespace, segments, names);
    checkTopic(topic);
    const { maxBodyBytes, bodyTimeoutMs } = exchange.rule;
    const body = await readBody(exchange.request, maxBodyBytes, bodyTimeoutMs);
    mustBeText(exchange, body);
    const { webhooks } = exchange.rule;
    const ids = webhooks.map((webhook) =>
      verifyWebhook(webhook, exchange.request.headers, body, this.#options.now()),
    );
    const given = ids.length === 0 ? idempotencyKey(exchange) : (ids.find((id) => id) ?? null);
    const isBatch = BATCH.test(headerOf(exchange.request, 'content-type'));
    const bodies = isBatch ? this.#lines(body) : [this.#dataOf(exchange, body)];
    // A sender of webhooks signs the id with the body, and may send another body with it: Stripe counts
    // the deliveries that are left in it.
    const taken =
      given === null || webhooks.length > 0
        ? null
        : { name: `${topic} ${given}`, content: contentDigest(name, isBatch, bodies) };
    const isKnown = taken === null || this.#keys.isStored(taken.name, taken.content);
    if (taken !== null) this.#keys.add(taken.name, taken.content, false);
    // One walk for the events and their messages.
    const headers = [...headersOfClient(exchange)];
    const header = pairsOf(headers, false);
    const events = bodies.map((data, index) => ({
      id: `${topic}-${name}-${given === null ? randomUUID() : `${given}.${index}`}`,
      name,
      timestamp: Math.floor(this.#options.now() / 1000),
      header,
      data,
    }));
    try {
      await this.#publish(exchange, topic, headers, events, given, isKnown);
      if (taken !== null) this.#keys.add(taken.name, taken.content, true);
    } catch (error) {
      if (taken !== null && isUnstored(error)) this.#keys.giveBack(taken.name, taken.content);
      throw unavailable(error);
    }
  }

  async #publish(
    exchange: Exchange,
    topic: string,
    given: readonly (readonly [string, string[]])[],
    events: readonly GatewayEvent[],
    key: string | null,
    isKnown: boolean,
  ): Promise<void> {
    const { codec } = this.#options;
    const messages = events.map((event): Message => {
      const headers = messageHeaders(exchange, topic, given);
      headers['Micro-Id'] = event.id;
      return encodeEvent(event, codec, headers);
    });
    const broker = await this.#options.broker();
    const receipts = await this.#store(broker, topic, messages, key);
    const isReplay = receipts.every(({ duplicate }) => duplicate);
    // Another process may have taken the key with another body: that event must not be lost in silence.
    if (!isKnown) {
      await mustBeTheSame(broker, topic, receipts, messages, this.#options.lookupMs);
    }
    const { reply } = exchange;
    // The event is stored: a name that a header cannot carry must not make it fail.
    const name = topic.replace(/[^\x21-\x7e]+/g, encodeURIComponent);
    reply.header('micro-topic', name).header('micro-message-id', receipts.at(-1)?.id ?? '');
    if (isReplay && key !== null) reply.header('idempotency-replayed', 'true');
    if (!headerOf(exchange.request, 'accept').includes('application/json')) {
      reply.code(200).send('');
      return;
    }
    const ids = receipts.map(({ id, duplicate }, i) => ({ id, event: events[i]?.id, duplicate }));
    reply.code(200).send({ topic, name: events[0]?.name ?? '', messages: ids });
  }

  /**
   * One publish for all; with a key each has its own id, so that a repetition adds nothing. The first event of a
   * batch has the id of a single one, so that neither takes the key of the other.
   */
  async #store(broker: Broker, topic: string, messages: readonly Message[], key: string | null) {
    const [first] = messages;
    if (key === null) {
      return messages.length === 1
        ? [await broker.publish(topic, first as Message)]
        : broker.publishBatch(topic, messages);
    }
    const publish = (message: Message, index: number) => {
      const id = index === 0 ? `${topic}\n${key}` : `${topic}\n${key}\n${index}`;
      return broker.publish(topic, message, { dedupId: digest(id) });
    };
    return Promise.all(messages.map(publish));
  }

  /** go-micro's data of a GET: its query, as a map of lists. */
  #dataOf({ method, query }: Exchange, body: Buffer): string {
    if (method !== 'GET') return body.toString();
    const values: Record<string, string[]> = Object.create(null);
    for (const [name, all] of valuesByName(query, this.#options.maxFields)) values[name] = all;
    return JSON.stringify(values);
  }

  #lines(body: Buffer): string[] {
    const lines = body
      .toString()
      .split('\n')
      .map((line) => line.replace(/\r$/, ''))
      .filter((line) => line !== '');
    const { maxBatch } = this.#options;
    if (lines.length === 0) throw new HttpError(400, 'the batch has no line');
    if (lines.length > maxBatch) {
      throw new HttpError(
        413,
        `the batch has ${lines.length} lines; at most ${maxBatch} go at once`,
      );
    }
    return lines;
  }
}

/** The headers of the message: go-micro's copy of the HTTP headers, without credentials. */
function messageHeaders(
  { traceparent }: Exchange,
  topic: string,
  given: readonly (readonly [string, string[]])[],
): Record<string, string> {
  const headers = new Fields() as Record<string, string>;
  for (const [name, values] of given) {
    if (NOT_IN_MESSAGES.test(name)) continue;
    headers[canonical(name)] = values.length === 1 ? (values[0] as string) : values.join(',');
  }
  headers.traceparent = traceparent;
  headers['Micro-Topic'] = topic;
  return headers;
}

function idempotencyKey({ request, identity }: Exchange): string | null {
  const key = headerOf(request, 'idempotency-key');
  if (key === '') return null;
  if (key.length > MAX_KEY || !/^[\x21-\x7e]+$/.test(key)) {
    throw new HttpError(400, `Idempotency-Key has 1 to ${MAX_KEY} characters without spaces`);
  }
  // Two clients may choose the same key, and no key has a space: none can name another client's.
  return identity.name === '' ? key : `${JSON.stringify(identity.name)} ${key}`;
}

/** Of what the requests of one key must have in common. No line of a batch holds a line end. */
function contentDigest(name: string, isBatch: boolean, bodies: readonly string[]): string {
  return digest(`${JSON.stringify(name)} ${isBatch}\n`, bodies.join('\n'));
}

/** Throws 422 where what was stored under the keys of duplicates is another event. */
async function mustBeTheSame(
  broker: Broker,
  topic: string,
  receipts: readonly Receipt[],
  messages: readonly Message[],
  lookupMs: number,
): Promise<void> {
  for (const [index, { id, duplicate }] of receipts.entries()) {
    if (!duplicate) continue;
    const stored = await readOne(broker, topic, id, lookupMs);
    if (stored === null) continue;
    const [before, now] = [contentOf(stored), contentOf((messages[index] as Message).body)];
    if (before?.name !== now?.name || before?.data !== now?.data) throw reused();
  }
}

/** Whether nothing of the request can be stored, so that another body may come with its key. */
function isUnstored(error: unknown): boolean {
  if (error instanceof RivuletError) return error.sent === 'no' || !error.retryable;
  return error instanceof HttpError;
}

/** What the client can do nothing about, and may try again. */
function unavailable(error: unknown): unknown {
  if (!(error instanceof RivuletError) || !error.retryable) return error;
  return new HttpError(503, `the event was not stored: ${error.message}`, { 'retry-after': '2' });
}
