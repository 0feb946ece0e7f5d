/**
 * go-micro's message on the wire: `{"Header":{...},"Body":"base64"}`.
 *
 * Id, key, attempts and time are in headers, which the receiver removes: a Go service sees ordinary ones.
 */
import type { RawMessage } from '../message/message.ts';

export interface WireMessage {
  readonly topic: string;
  readonly id: string;
  /** Deliveries before this one. */
  readonly before: number;
  /** Unix ms. */
  readonly publishedAt: number;
  readonly message: RawMessage;
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

/** Throws where the bytes are no such message. A Go service sends no time: `now` is used. */
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

/** Header names are compared in lower case: Go title-cases them, other programs may not. */
function lower(name: string): string {
  return name.toLowerCase();
}
