/**
 * The rpc handler: an HTTP request is a call, and its reply is the HTTP answer.
 *
 * go-micro's rules: the reply has the request's content type, 204 where it is empty, and an error has the
 * status of its code. A streaming endpoint answers with server-sent events where the client accepts them,
 * otherwise with one JSON value a line. Invariants: a client that leaves cancels its call; a stream that
 * fails in its middle ends with an event or line that says so. Cost: nothing is decoded.
 */
import { RivuletError } from '../../errors.ts';
import { mustBeJson, mustBeSmall } from '../body/json-check.ts';
import { type CallBody, callBody, formOf } from '../body/request-fields.ts';
import { bodyOf, type Exchange, headerOf } from '../exchange.ts';
import { callMetadata } from '../forwarding.ts';
import { HttpError, httpFailure } from '../http-error.ts';
import { GATEWAY_LIMITS, type GatewayLimits } from '../limits.ts';
import { type Directory, streamKind } from '../routing/directory.ts';
import type { Target } from '../routing/names.ts';
import { writeTo } from '../stalled.ts';
import type { CallClient } from './call-client.ts';
import { sseEvent, startEventStream } from './server-sent-events.ts';

export interface RpcRequest extends Target {
  readonly fields: Readonly<Record<string, string>>;
  readonly bodyField: string;
}

export async function handleRpc(
  exchange: Exchange,
  target: RpcRequest,
  client: CallClient,
  directory: Directory,
  { maxFields, stalledMs }: Pick<GatewayLimits, 'maxFields' | 'stalledMs'>,
): Promise<void> {
  const { service, endpoint } = target;
  const call = callBody({
    method: exchange.method,
    contentType: headerOf(exchange.request, 'content-type'),
    query: exchange.query,
    fields: target.fields,
    bodyField: target.bodyField,
    body: await bodyOf(exchange),
    maxFields,
  });
  const kind = streamKind(directory.endpoint(service, endpoint));
  if (kind !== null) return stream(exchange, target, call, kind, client, stalledMs);
  const reply = await client.call(service, endpoint, call.body, callOptions(exchange, call));
  const status = reply.length === 0 ? 204 : 200;
  exchange.reply.code(status);
  if (status === 200) exchange.reply.header('content-type', call.contentType);
  exchange.reply.send(status === 204 ? undefined : view(reply));
}

export function callOptions(exchange: Exchange, { contentType }: Pick<CallBody, 'contentType'>) {
  return {
    metadata: callMetadata(exchange),
    contentType,
    timeoutMs: exchange.rule.timeoutMs,
    signal: exchange.signal,
  };
}

async function stream(
  exchange: Exchange,
  { service, endpoint }: Target,
  call: CallBody,
  kind: 'serverStream' | 'clientStream' | 'bidi',
  client: CallClient,
  stalledMs: number,
): Promise<void> {
  const isEvents = headerOf(exchange.request, 'accept').includes('text/event-stream');
  const request = kind === 'serverStream' ? call.body : single(call.body);
  const { timeoutMs: _, ...options } = callOptions(exchange, call);
  const replies = client.stream(kind, service, endpoint, request, options);
  // The first reply decides the status: an error before it is an HTTP error.
  const first = await replies.next();
  if (isEvents) startEventStream(exchange.reply);
  else {
    exchange.reply.hijack();
    exchange.reply.raw.writeHead(200, {
      ...plainHeaders(exchange),
      'content-type': 'application/x-ndjson',
    });
  }
  const { raw } = exchange.reply;
  const write = (text: string) => writeTo(raw, text, stalledMs);
  try {
    let number = 0;
    for (let next = first; !next.done; next = await replies.next()) {
      const text = view(next.value).toString();
      await write(isEvents ? sseEvent({ id: String(++number), data: text }) : `${oneLine(text)}\n`);
      if (exchange.signal.aborted) break;
    }
    if (isEvents) await write(sseEvent({ event: 'end', data: '' }));
  } catch (error) {
    const { body } = httpFailure(error);
    await write(isEvents ? sseEvent({ event: 'error', data: body }) : `{"error":${body}}\n`);
  } finally {
    await replies.return(undefined);
    raw.end();
  }
}

/** A service that was there a moment ago is not unknown: the client may try again. */
export function restarting(error: unknown, service: string): unknown {
  if ((error as RivuletError).code !== 'SERVICE_NOT_FOUND') return error;
  return new HttpError(503, `${service} has no node now`, { 'retry-after': '1' });
}

/** Headers that hooks have set, for an answer that is written past fastify. */
function plainHeaders({ reply }: Exchange) {
  return reply.getHeaders() as Record<string, string>;
}

async function* single(body: Uint8Array): AsyncGenerator<Uint8Array> {
  yield body;
}

/** JSON without the line ends that would end it early. */
function oneLine(text: string): string {
  return text.replace(/[\r\n]+/g, ' ');
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The body of `/rpc`: JSON or a form. Throws INVALID_ARGUMENT. */
export function rpcEnvelope(
  contentType: string,
  body: Buffer,
  maxFields: number = GATEWAY_LIMITS.maxFields.default,
) {
  const fields: Record<string, unknown> = contentType.includes('json')
    ? jsonObject(body)
    : Object.fromEntries(formOf(body, maxFields));
  const { service, endpoint, method, address, request } = fields;
  const name = endpoint ?? method;
  if (typeof service !== 'string' || service === '' || typeof name !== 'string' || name === '') {
    throw new RivuletError('INVALID_ARGUMENT', 'service and endpoint must be given');
  }
  const isText = typeof request === 'string' && request !== '';
  const text = isText ? request : jsonTextOf(request ?? {});
  if (isText) mustBeJson(Buffer.from(text));
  return { service, endpoint: name, address: address === '' ? undefined : address, request: text };
}

function jsonTextOf(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (cause) {
    // JSON.parse reads what is nested more deeply than JSON.stringify can write.
    throw new RivuletError('INVALID_ARGUMENT', 'the request is nested too deeply', { cause });
  }
}

function jsonObject(body: Buffer): Record<string, unknown> {
  let value: unknown;
  mustBeSmall(body);
  try {
    value = JSON.parse(body.toString() || '{}');
  } catch (cause) {
    const text = `the body is not JSON: ${(cause as Error).message}`;
    throw new RivuletError('DECODING_FAILED', text, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new RivuletError('DECODING_FAILED', 'the body must be a JSON object');
}
