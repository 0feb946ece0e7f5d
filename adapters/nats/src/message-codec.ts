/**
 * Messages in NATS's form: the body as payload, each header as a NATS header.
 *
 * NATS headers are lines of text. A header that cannot be such a line (not printable ASCII, a blank at
 * an end, a colon in its name, a name of the server's) is sent as JSON in the header `Rivulet-Headers`.
 * With `goMicro` the payload has go-micro's form: JSON with `Header` and, in base64, `Body`.
 * Invariant: `decode` never throws. If another program wrote one of these headers in another form, it
 * is passed on as a header.
 */

import type { MsgHdrs } from '@nats-io/transport-node';
import { headers as makeHeaders } from '@nats-io/transport-node';
import type { RawMessage } from 'rivulet/adapter';

const JSON_HEADERS = 'Rivulet-Headers';
const KEY = 'Rivulet-Key';
const GO_KEY = 'rivulet-key';
/** A server of go-micro gives a message only to the subscribers of the topic that it names. */
const GO_TOPIC = 'Micro-Topic';
const PLAIN_NAME = /^(?!Nats-|Rivulet-)[!-9;-~]+$/i;
const PLAIN_VALUE = /^[!-~]([ -~]*[!-~])?$/;

export interface WireMessage {
  readonly payload: Uint8Array;
  readonly headers: MsgHdrs;
}

export interface MessageCodec {
  encode(message: RawMessage, topic: string): WireMessage;
  decode(payload: Uint8Array, headers: MsgHdrs | undefined): RawMessage;
}

export const plainCodec = {
  encode({ headers, key, body }: RawMessage): WireMessage {
    const written = makeHeaders();
    let others: Record<string, string> | undefined;
    for (const name in headers) {
      const value = headers[name];
      if (PLAIN_NAME.test(name) && PLAIN_VALUE.test(value)) written.append(name, value);
      else {
        others ??= {};
        others[name] = value;
      }
    }
    if (others !== undefined) written.append(JSON_HEADERS, ascii(others));
    if (key !== undefined) written.append(KEY, ascii(key));
    return { payload: body, headers: written };
  },
  decode(payload: Uint8Array, given: MsgHdrs | undefined): RawMessage {
    if (given === undefined) return { headers: {}, body: payload };
    const found: [string, string][] = [];
    let key: string | undefined;
    for (const [name, [value = '']] of given) {
      // The server's own headers.
      if (name.startsWith('Nats-')) continue;
      if (name === JSON_HEADERS) found.push(...(readHeaders(value) ?? [[name, value]]));
      else if (name === KEY) {
        key = readText(value);
        if (key === undefined) found.push([name, value]);
      } else if (!/^(Nats|Rivulet)-/i.test(name)) found.push([name, value]);
    }
    // Object.fromEntries also accepts the name __proto__.
    const headers = found.length === 0 ? {} : Object.fromEntries(found);
    return key === undefined ? { headers, body: payload } : { headers, body: payload, key };
  },
} satisfies MessageCodec;

export const goMicroCodec: MessageCodec = {
  encode({ headers, key, body }, topic) {
    const keyed = key === undefined ? {} : { [GO_KEY]: key };
    const Header = { ...headers, ...keyed, [GO_TOPIC]: topic };
    const text = JSON.stringify({ Header, Body: Buffer.from(body).toString('base64') });
    return { payload: Buffer.from(text), headers: makeHeaders() };
  },
  decode(payload, given) {
    const event = readGoMicro(payload);
    if (event === null) return plainCodec.decode(payload, given);
    const { [GO_KEY]: key, ...headers } = event.headers;
    return key === undefined ? { headers, body: event.body } : { headers, body: event.body, key };
  },
};

/** null if the payload is not in go-micro's form. */
function readGoMicro(payload: Uint8Array) {
  try {
    const { Header, Body } = JSON.parse(Buffer.from(payload).toString());
    const headers = texts(Header ?? {});
    if (headers === null || (Body !== null && typeof Body !== 'string')) return null;
    return { headers: Object.fromEntries(headers), body: Buffer.from(Body ?? '', 'base64') };
  } catch {
    return null;
  }
}

/** null if the text is not in the form that `encode` writes. */
function readHeaders(json: string): [string, string][] | null {
  try {
    return texts(JSON.parse(json));
  } catch {
    return null;
  }
}

function readText(json: string): string | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

function texts(value: unknown): [string, string][] | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const found = Object.entries(value);
  return found.every(([, text]) => typeof text === 'string') ? found : null;
}

/** JSON in ASCII. */
function ascii(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
