/**
 * Which HTTP headers reach a service, an event, or another HTTP server.
 *
 * Invariants: what belongs to one connection (RFC 9110 hop-by-hop headers and those that Connection
 * names) goes no further, but the length of a body always goes with it; a client cannot send what
 * services take from each other (`Micro-*`, `Rivulet-*`), to services, events and HTTP servers alike; what a
 * proxy says of its client (`Forwarded`, `X-Forwarded-*`, `X-Real-IP`) counts only where `trustProxy` says
 * that a proxy is in front; credentials are in no event, because events are stored. Cost: one walk.
 */
import type { IncomingMessage } from 'node:http';
import type { Exchange } from './exchange.ts';

const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
]);
const NOT_METADATA: ReadonlySet<string> = new Set([
  'content-length',
  'content-encoding',
  'accept-encoding',
  'timeout',
]);
const CREDENTIALS: ReadonlySet<string> = new Set(['authorization', 'cookie', 'x-api-key']);
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it finds
const CONTROL = /[\u0000-\u001f\u007f]/;
const ALL_CONTROL = new RegExp(CONTROL, 'g');
const TOKEN = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;

/** An object without inherited names, in a form that V8 fills faster than `Object.create(null)`. */
export const Fields = function Fields() {} as unknown as new () => Record<string, unknown>;
Fields.prototype = Object.create(null);

/** What a name of a header is here. Most names are the same in every request: they are looked at once. */
interface HeaderName {
  readonly lower: string;
  readonly canonical: string;
  readonly travels: boolean;
  readonly isOfServices: boolean;
  readonly isOfProxies: boolean;
}

const names = new Map<string, HeaderName>();
const MAX_NAMES = 1000;
const MAX_NAME = 64;

function lookAt(written: string): HeaderName {
  const known = names.get(written);
  if (known !== undefined) return known;
  const lower = written.toLowerCase();
  const name = {
    lower,
    canonical: lower.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase()),
    travels: !HOP_BY_HOP.has(lower) && TOKEN.test(lower),
    isOfServices: isOfServices(lower),
    isOfProxies: isOfProxies(lower),
  };
  if (names.size < MAX_NAMES && written.length <= MAX_NAME) names.set(written, name);
  return name;
}

/** What Connection names, beside what every connection says of itself. Null for nothing. */
function namedByConnection(value: string | undefined): ReadonlySet<string> | null {
  if (value === undefined || /^(keep-alive|close)$/i.test(value)) return null;
  const named = new Set(value.split(',').map((name) => name.trim().toLowerCase()));
  // A body without its length would be read as the next request.
  named.delete('content-length');
  return named;
}

/** Headers that may travel on, with their values as lists. */
export function endToEnd(message: IncomingMessage): Iterable<[string, string[]]> {
  return travelling(message, () => true);
}

/** The same of headers that were read into an object. */
export function* endToEndOf(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Iterable<[string, string[]]> {
  const named = namedByConnection([headers.connection ?? []].flat().join(',') || undefined);
  for (const written in headers) {
    const name = lookAt(written);
    const value = headers[written];
    if (!name.travels || named?.has(name.lower) || value === undefined) continue;
    yield [name.lower, typeof value === 'string' ? [value] : value];
  }
}

function travelling(
  { rawHeaders, headers }: IncomingMessage,
  mayTravel: (name: HeaderName) => boolean,
): Map<string, string[]> {
  const named = namedByConnection(headers.connection);
  const found = new Map<string, string[]>();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = lookAt(rawHeaders[i] as string);
    if (!name.travels || named?.has(name.lower) || !mayTravel(name)) continue;
    const known = found.get(name.lower);
    if (known === undefined) found.set(name.lower, [rawHeaders[i + 1] as string]);
    else known.push(rawHeaders[i + 1] as string);
  }
  return found;
}

/**
 * Whether a header is what services take from each other, and no client may send. To a server that makes
 * variables of headers (CGI, WSGI, PHP) `Micro_Account` is `Micro-Account`.
 */
export function isOfServices(name: string): boolean {
  return /^(x[-_])?(micro|rivulet)[-_]/i.test(name);
}

/** Whether a header says on behalf of another client what that one is. */
function isOfProxies(name: string): boolean {
  return /^(forwarded|x[-_](forwarded[-_].*|real[-_]ip|client[-_]ip)|(true[-_]client|cf[-_]connecting)[-_]ip)$/.test(
    name,
  );
}

/** The headers of a client that may travel on. */
export function headersOfClient({
  request,
  trustsProxy = false,
}: Forwarder): Iterable<[string, string[]]> {
  return travelling(request, (name) => !name.isOfServices && (trustsProxy || !name.isOfProxies));
}

/** The parts of an exchange that name the client of a forwarded request. */
export interface Forwarder {
  readonly request: IncomingMessage;
  readonly trustsProxy?: boolean;
}

/** The metadata of a call: go-micro's, which has every header, the host and the method. */
export function callMetadata(exchange: Exchange) {
  const { method, host, identity, traceparent } = exchange;
  const metadata = new Fields() as Record<string, string>;
  for (const [name, values] of headersOfClient(exchange)) {
    if (NOT_METADATA.has(name)) continue;
    metadata[name] = fit(values.length === 1 ? (values[0] as string) : values.join(','));
  }
  metadata.host = fit(host);
  metadata.method = method;
  metadata.traceparent = traceparent;
  metadata['x-forwarded-for'] = forwardedFor(exchange);
  if (identity.name !== '') metadata['micro-account'] = fit(identity.name);
  return metadata;
}

/** Headers as go.api.Pair: each name in HTTP's letters with its values; without credentials on demand. */
export function pairsOf(headers: Iterable<readonly [string, string[]]>, withCredentials: boolean) {
  const pairs = new Fields() as Record<string, { key: string; values: string[] }>;
  for (const [name, values] of headers) {
    if (!withCredentials && CREDENTIALS.has(name)) continue;
    const key = canonical(name);
    pairs[key] = { key, values };
  }
  return pairs;
}

/** `x-request-id` is `X-Request-Id`, as Go writes it. */
export function canonical(name: string): string {
  return lookAt(name).canonical;
}

/** X-Forwarded-For: what a trusted proxy says, and the address that this request came from. */
export function forwardedFor({ request, trustsProxy = false }: Forwarder): string {
  const before = trustsProxy ? request.headers['x-forwarded-for'] : undefined;
  const list = before === undefined ? [] : [before].flat();
  return fit([...list, request.socket.remoteAddress ?? ''].join(', '));
}

/** Metadata carries text without control characters. */
function fit(text: string): string {
  return CONTROL.test(text) ? text.replace(ALL_CONTROL, ' ') : text;
}
