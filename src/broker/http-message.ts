/**
 * go-micro's message on the wire: `{"Header":{...},"Body":"base64"}`.
 *
 * Ours travel in headers of their own, which are taken off again: a Go service sees ordinary headers.
 */
import type { Message } from './message.ts';

export interface WireMessage {
  readonly topic: string;
  readonly id: string;
  /** Deliveries before this one. */
  readonly before: number;
  /** Unix ms. */
  readonly publishedAt: number;
  readonly message: Message;
}

const TOPIC = 'Micro-Topic';
const ID = 'Micro-Id';
const KEY = 'Rivulet-Key';
const BEFORE = 'Rivulet-Deliveries';
const TIME = 'Rivulet-Time';
const OURS: ReadonlySet<string> = new Set([TOPIC, ID, KEY, BEFORE, TIME].map(lower));

export function toWire({ topic, id, before, publishedAt, message }: WireMessage): Buffer {
  const { headers, key, body } = message;
  const Header: Record<string, string> = {
    ...headers,
    [TOPIC]: topic,
    [ID]: id,
    [TIME]: String(publishedAt),
    ...(before > 0 ? { [BEFORE]: String(before) } : {}),
    ...(key === undefined ? {} : { [KEY]: key }),
  };
  const Body = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64');
  return Buffer.from(JSON.stringify({ Header, Body }));
}

/** Throws where it is no such message. `now` stands for times that a Go service does not tell. */
export function fromWire(bytes: Buffer, now: number, newId: () => string): WireMessage {
  const { Header, Body } = JSON.parse(bytes.toString()) as {
    Header?: Record<string, string> | null;
    Body?: string | null;
  };
  const headers: Record<string, string> = {};
  const ours = new Map<string, string>();
  for (const [name, value] of Object.entries(Header ?? {})) {
    if (OURS.has(lower(name))) ours.set(lower(name), String(value));
    else headers[name] = String(value);
  }
  const topic = ours.get(lower(TOPIC));
  if (topic === undefined) throw new TypeError(`the header ${TOPIC} is missing`);
  const body = Buffer.from(Body ?? '', 'base64');
  const key = ours.get(lower(KEY));
  return {
    topic,
    id: ours.get(lower(ID)) ?? newId(),
    before: Number(ours.get(lower(BEFORE)) ?? 0),
    publishedAt: Number(ours.get(lower(TIME)) ?? now),
    message: key === undefined ? { headers, body } : { headers, body, key },
  };
}

/** Go title-cases header names and so do not all; `Micro-ID` is `Micro-Id`. */
function lower(name: string): string {
  return name.toLowerCase();
}
