/**
 * A message as NATS carries it: the body as payload, its headers as headers.
 *
 * NATS headers are lines of text, so those that do not survive that (other than printable ASCII,
 * blanks at an end, names with a colon, names of the server's) travel as JSON in one of ours. With
 * `goMicro` the payload is go-micro's: JSON with `Header` and, in base64, `Body`.
 * Invariant: `read` never throws. A header of ours that another program has written in another form
 * is a header like any other.
 */

import type { MsgHdrs } from '@nats-io/transport-node';
import { headers as makeHeaders } from '@nats-io/transport-node';
import type { Message } from 'rivulet';

const OTHERS = 'Rivulet-Headers';
const KEY = 'Rivulet-Key';
const GO_KEY = 'rivulet-key';
const PLAIN_NAME = /^(?!Nats-|Rivulet-)[!-9;-~]+$/i;
const PLAIN_VALUE = /^[!-~]([ -~]*[!-~])?$/;

export interface Form {
  write(message: Message): { payload: Uint8Array; headers: MsgHdrs };
  read(payload: Uint8Array, headers: MsgHdrs | undefined): Message;
}

export const plainForm: Form = {
  write({ headers, key, body }) {
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
    if (others !== undefined) written.append(OTHERS, ascii(others));
    if (key !== undefined) written.append(KEY, ascii(key));
    return { payload: body, headers: written };
  },
  read(payload, given) {
    if (given === undefined) return { headers: {}, body: payload };
    const found: [string, string][] = [];
    let key: string | undefined;
    for (const [name, [value = '']] of given) {
      // The server's own, which every message has.
      if (name.startsWith('Nats-')) continue;
      if (name === OTHERS) found.push(...(readHeaders(value) ?? [[name, value]]));
      else if (name === KEY) {
        key = readText(value);
        if (key === undefined) found.push([name, value]);
      } else if (!/^(Nats|Rivulet)-/i.test(name)) found.push([name, value]);
    }
    // One called __proto__ is a header like any other.
    const headers = found.length === 0 ? {} : Object.fromEntries(found);
    return key === undefined ? { headers, body: payload } : { headers, body: payload, key };
  },
};

export const goMicroForm: Form = {
  write({ headers, key, body }) {
    const Header = key === undefined ? headers : { ...headers, [GO_KEY]: key };
    const text = JSON.stringify({ Header, Body: Buffer.from(body).toString('base64') });
    return { payload: Buffer.from(text), headers: makeHeaders() };
  },
  read(payload, given) {
    const event = readGoMicro(payload);
    if (event === null) return plainForm.read(payload, given);
    const { [GO_KEY]: key, ...headers } = event.headers;
    return key === undefined ? { headers, body: event.body } : { headers, body: event.body, key };
  },
};

/** null where the payload is not what go-micro writes. */
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

/** null where the text is not what `write` makes. */
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

/** JSON whose bytes are all ASCII. */
function ascii(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
