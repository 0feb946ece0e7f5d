/**
 * A call as messages of a broker: which header says what.
 *
 * Invariants: what rpc says has names with capitals, metadata is in lower case, so neither hides the
 * other; what a peer wrote is checked before it is believed. Cost: one object of headers per message.
 *
 *   request   Content-Type, Micro-Service, Micro-Endpoint, Timeout (nanoseconds), Micro-Stream (kind)
 *   reply     Content-Type; or Micro-Error (go-micro's JSON), Rivulet-Code, Rivulet-Sent, and
 *             Rivulet-Error with the name of a typed error whose data is the body
 */
import { createHash } from 'node:crypto';
import type { Message, RawMessage } from '../../broker/message/message.ts';
import { isWellFormed } from '../../broker/message/text.ts';
import { type ErrorCode, errorTable, RivuletError } from '../../errors.ts';
import { encodeMicroError } from '../../transport/micro-error.ts';
import {
  CallError,
  type CallFailure,
  type Metadata,
  type MethodKind,
  NO_METADATA,
  type OutgoingCall,
  type Reply,
} from '../../transport/transport.ts';

export const WIRE = {
  contentType: 'Content-Type',
  service: 'Micro-Service',
  endpoint: 'Micro-Endpoint',
  timeout: 'Timeout',
  stream: 'Micro-Stream',
  error: 'Micro-Error',
  code: 'Rivulet-Code',
  sent: 'Rivulet-Sent',
  errorName: 'Rivulet-Error',
  /** Data of a typed error, base64, where the error comes without a body. */
  errorData: 'Rivulet-Error-Data',
} as const;

const NS_PER_MS = 1_000_000;
/** The longest that a Timeout can say and a timer can wait. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
const EMPTY = new Uint8Array(0);
const STREAMS: readonly MethodKind[] = ['serverStream', 'clientStream', 'bidi'];
/** What every broker takes as the name of a topic. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const ILLEGAL = /[\s\u0000-\u001f\u007f*>#{}]|^\.|\.\.|\.$/u;
const LONGEST_TOPIC = 255;

/** The topic of a service, or of one node: its name, or a hash where no broker takes the name. */
export function topicOf(service: string, nodeId: string | null): string {
  const name = nodeId === null ? service : `${service}.${nodeId}`;
  if (name !== '' && Buffer.byteLength(name) <= LONGEST_TOPIC && !ILLEGAL.test(name)) return name;
  return `rivulet.rpc.${createHash('sha256').update(name).digest('hex')}`;
}

export function writeRequest(call: OutgoingCall): RawMessage {
  const headers: Record<string, string> = {
    [WIRE.contentType]: call.contentType,
    [WIRE.service]: call.service,
    [WIRE.endpoint]: call.endpoint,
  };
  // Metadata is in lower case, and hides none of these.
  for (const name of Object.keys(call.metadata)) {
    const value = call.metadata[name] as string;
    // As every broker refuses them in a message.
    if (name === '__proto__' || !isWellFormed(value)) throw unfit(name);
    headers[name] = value;
  }
  if (call.timeoutMs !== null) {
    headers[WIRE.timeout] = String(Math.max(1, Math.ceil(call.timeoutMs)) * NS_PER_MS);
  }
  if (call.kind !== 'unary') headers[WIRE.stream] = call.kind;
  return { headers, body: call.body ?? EMPTY };
}

function unfit(name: string): RivuletError {
  const what = name === '__proto__' ? 'may not be named so' : 'holds half a character';
  const text = `metadata ${JSON.stringify(name)} ${what}: no broker carries it`;
  return new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
}

export interface RequestHead {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly timeoutMs: number | null;
}

export function readRequest({ headers = {} }: Message): RequestHead {
  const stream = headers[WIRE.stream] as MethodKind | undefined;
  return {
    service: headers[WIRE.service] ?? '',
    endpoint: headers[WIRE.endpoint] ?? '',
    kind: stream !== undefined && STREAMS.includes(stream) ? stream : 'unary',
    contentType: headers[WIRE.contentType] ?? '',
    metadata: metadataOf(headers),
    timeoutMs: timeoutOf(headers[WIRE.timeout]),
  };
}

export function writeReply({ contentType, metadata, body }: Reply): Message {
  return { headers: { ...metadata, [WIRE.contentType]: contentType }, body };
}

/** Throws CallError where the peer said that the call failed. */
export function readReply({ headers = {}, body }: Message): Reply {
  const failure = readFailure(headers, body as Uint8Array);
  if (failure !== null) throw new CallError(failure);
  return {
    contentType: headers[WIRE.contentType] ?? '',
    metadata: metadataOf(headers),
    body: body as Uint8Array,
  };
}

export function writeFailure(failure: CallFailure): Message {
  return { headers: failureHeaders(failure), body: failure.body ?? EMPTY };
}

/** As `writeFailure` for the end of a stream, which has headers and no body. */
export function writeFailureAtEnd(failure: CallFailure): Record<string, string> {
  const headers = failureHeaders(failure);
  if (failure.body !== undefined) {
    headers[WIRE.errorData] = Buffer.from(failure.body).toString('base64');
  }
  return headers;
}

function failureHeaders(failure: CallFailure): Record<string, string> {
  const headers: Record<string, string> = {
    ...failure.metadata,
    [WIRE.error]: encodeMicroError(failure),
    [WIRE.code]: failure.code,
  };
  if (failure.sent === 'no') headers[WIRE.sent] = 'no';
  if (failure.name !== undefined) headers[WIRE.errorName] = failure.name;
  if (failure.contentType !== undefined) headers[WIRE.contentType] = failure.contentType;
  return headers;
}

/** Null where the headers say no failure. */
export function readFailure(
  headers: Readonly<Record<string, string>>,
  body: Uint8Array,
): CallFailure | null {
  const text = headers[WIRE.error];
  if (text === undefined) return null;
  const code = headers[WIRE.code] ?? '';
  const data = headers[WIRE.errorData];
  const bytes = data === undefined ? body : Buffer.from(data, 'base64');
  return {
    ...readMicroError(text),
    code: Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'RESPONDER_FAILED',
    sent: headers[WIRE.sent] === 'no' ? 'no' : 'maybe',
    name: headers[WIRE.errorName],
    body: bytes.length === 0 ? undefined : bytes,
    contentType: headers[WIRE.contentType],
    metadata: metadataOf(headers),
  };
}

/** go-micro's JSON, or plain text as some of its versions write it. */
function readMicroError(text: string): { id: string; status: number; detail: string } {
  try {
    const { id, code, detail } = JSON.parse(text) as Record<string, unknown>;
    return {
      id: typeof id === 'string' ? id : '',
      status: typeof code === 'number' && code >= 100 && code <= 599 ? code : 500,
      detail: typeof detail === 'string' ? detail : text,
    };
  } catch {
    return { id: '', status: 500, detail: text };
  }
}

/** What is in lower case; the names with capitals are rpc's own. */
export function metadataOf(headers: Readonly<Record<string, string>>): Metadata {
  let metadata: Record<string, string> | null = null;
  for (const [name, value] of Object.entries(headers)) {
    if (name !== name.toLowerCase()) continue;
    metadata ??= Object.create(null) as Record<string, string>;
    metadata[name] = value;
  }
  return metadata ?? NO_METADATA;
}

/** Null for none, and for what is no duration: a call must not end because a header is wrong. */
function timeoutOf(text: string | undefined): number | null {
  if (text === undefined || !/^\d{1,20}$/.test(text)) return null;
  const ms = Number(text) / NS_PER_MS;
  return ms > 0 ? Math.min(ms, MAX_TIMEOUT_MS) : null;
}
