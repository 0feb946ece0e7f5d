/**
 * The api handler: the whole HTTP request as go.api.Request, and go.api.Response as the HTTP answer.
 *
 * JSON in go-micro's field names. Invariants: a form is in `post`, any other body in `body`; a status or
 * header of the service that HTTP cannot carry is the service's error (502), not a broken connection.
 */
import { validateHeaderName, validateHeaderValue } from 'node:http';
import { formOf, valuesByName } from '../body/request-fields.ts';
import { bodyOf, type Exchange, headerOf, mustBeText } from '../exchange.ts';
import { forwardedFor, headersOfClient, pairsOf } from '../forwarding.ts';
import { HttpError } from '../http-error.ts';
import type { Target } from '../routing/names.ts';
import type { CallClient } from './call-client.ts';
import { callOptions } from './rpc-handler.ts';

interface Pair {
  readonly key: string;
  readonly values: readonly string[];
}

interface ApiResponse {
  readonly statusCode?: number;
  readonly status_code?: number;
  readonly header?: Readonly<Record<string, Partial<Pair>>> | null;
  readonly body?: unknown;
}

const FORM = /^application\/x-www-form-urlencoded\b/i;
const JSON_TYPE = 'application/json';
/** What the gateway says itself: a service cannot know it. */
const OF_THE_CONNECTION =
  /^(content-length|transfer-encoding|connection|keep-alive|proxy-connection|te|trailer|upgrade)$/i;

export async function handleApi(
  exchange: Exchange,
  { service, endpoint }: Target,
  client: CallClient,
  maxFields: number,
): Promise<void> {
  const request = Buffer.from(JSON.stringify(await apiRequest(exchange, maxFields)));
  const options = callOptions(exchange, { contentType: JSON_TYPE });
  const reply = await client.call(service, endpoint, request, options);
  answer(exchange, service, reply);
}

async function apiRequest(exchange: Exchange, maxFields: number) {
  const { request, method, path, query, host } = exchange;
  const body = await bodyOf(exchange);
  mustBeText(exchange, body);
  const header = pairsOf(headersOfClient(exchange), true);
  const set = (key: string, value: string) => {
    header[key] = { key, values: [value] };
  };
  set('Host', host);
  set('X-Forwarded-For', forwardedFor(exchange));
  const isForm = FORM.test(headerOf(request, 'content-type'));
  return {
    method,
    path,
    header,
    get: pairs(query, maxFields),
    post: isForm ? pairs(formOf(body, maxFields), maxFields) : {},
    body: isForm ? '' : body.toString(),
    url: request.url ?? path,
  };
}

function pairs(fields: URLSearchParams, maxFields: number): Record<string, Pair> {
  const made: Record<string, Pair> = Object.create(null);
  for (const [key, values] of valuesByName(fields, maxFields)) made[key] = { key, values };
  return made;
}

function answer({ reply }: Exchange, service: string, bytes: Uint8Array): void {
  const response = responseFrom(bytes);
  if (response === null) {
    throw new HttpError(502, `${service} answered with what is no go.api.Response`);
  }
  const status = Number(response.statusCode ?? response.status_code ?? 0) || 200;
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new HttpError(502, `${service} answered with the status ${status}`);
  }
  reply.code(status).header('content-type', JSON_TYPE);
  for (const [name, pair] of Object.entries(response.header ?? {})) {
    const key = String(pair?.key || name);
    const values = [pair?.values ?? []].flat().map(String);
    if (OF_THE_CONNECTION.test(key)) continue;
    try {
      validateHeaderName(key);
      for (const value of values) validateHeaderValue(key, value);
    } catch {
      throw new HttpError(502, `${service} answered with a header that HTTP cannot carry`);
    }
    reply.header(key, values.length === 1 ? values[0] : values);
  }
  const { body = '' } = response;
  reply.send(typeof body === 'string' ? body : JSON.stringify(body));
}

/** Null where it is none. */
function responseFrom(bytes: Uint8Array): ApiResponse | null {
  try {
    const value = bytes.length === 0 ? {} : JSON.parse(Buffer.from(bytes).toString());
    return typeof value === 'object' && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
