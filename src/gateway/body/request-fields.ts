/**
 * The request of an rpc call, made of an HTTP request: body, path fields and query merged.
 *
 * go-micro's rule (api/handler/rpc): GET has its query only; other methods have query and path fields,
 * patched by the body. Invariant: where nothing is merged the body travels as its bytes.
 */
import { RivuletError } from '../../errors.ts';
import { mustBeJson } from './json-check.ts';
import { mergeJson, nest } from './merge-json.ts';

const JSON_TYPE = 'application/json';
const FORM = /^application\/(x-www-form-urlencoded|www-x-form-urlencoded)\b/i;
const PROTOBUF =
  /^application\/(protobuf|proto|x-protobuf|proto-rpc|octet-stream|grpc|grpc\+proto)\b/i;

export interface CallBody {
  /** Content type of the call, and of its reply. */
  readonly contentType: string;
  readonly body: Uint8Array;
}

export interface BodyParts {
  readonly method: string;
  readonly contentType: string;
  readonly query: URLSearchParams;
  /** Captures of the route's path. */
  readonly fields: Readonly<Record<string, string>>;
  /** The field of the request that the body fills; `*` or empty = the whole request. */
  readonly bodyField: string;
  readonly body: Buffer;
  /** Of the query, and of a form. */
  readonly maxFields: number;
}

/** The values of each name, in one pass. Throws INVALID_ARGUMENT beyond `maxFields`. */
export function valuesByName(fields: URLSearchParams, maxFields: number): Map<string, string[]> {
  mustNotExceed(fields.size, maxFields, 'query');
  const values = new Map<string, string[]>();
  for (const [name, value] of fields) {
    const known = values.get(name);
    if (known === undefined) values.set(name, [value]);
    else known.push(value);
  }
  return values;
}

/** The fields of a form. Throws INVALID_ARGUMENT beyond `maxFields`, before it reads them. */
export function formOf(body: Buffer, maxFields: number): URLSearchParams {
  let count = 1;
  for (let at = body.indexOf(AMPERSAND); at >= 0; at = body.indexOf(AMPERSAND, at + 1)) {
    mustNotExceed(++count, maxFields, 'form');
  }
  return new URLSearchParams(body.toString());
}

const AMPERSAND = 0x26;

function mustNotExceed(count: number, maxFields: number, what: string): void {
  if (count <= maxFields) return;
  throw new RivuletError('INVALID_ARGUMENT', `the ${what} has more than ${maxFields} fields`);
}

/** Throws DECODING_FAILED where the body is not what its content type says. */
export function callBody(parts: BodyParts): CallBody {
  const { method, contentType, body } = parts;
  const isPlain = contentType === JSON_TYPE && parts.bodyField === '' && parts.query.size === 0;
  if (isPlain && body.length > 0 && method === 'POST' && isEmpty(parts.fields)) {
    mustBeJson(body);
    return { contentType: JSON_TYPE, body };
  }
  if (PROTOBUF.test(contentType) && method !== 'GET') {
    return { contentType: 'application/protobuf', body };
  }
  if (FORM.test(contentType) && method !== 'GET') {
    return { contentType: JSON_TYPE, body: Buffer.from(formJson(body, parts)) };
  }
  const fields = [...Object.entries(parts.fields), ...queryFields(parts)];
  const hasBody = method !== 'GET' && method !== 'HEAD' && body.length > 0;
  if (hasBody) mustBeJson(body);
  const isWhole = parts.bodyField === '' || parts.bodyField === '*';
  if (hasBody && isWhole && fields.length === 0) return { contentType: JSON_TYPE, body };
  const base = fields.length === 0 ? '{}' : JSON.stringify(nest(fields));
  if (!hasBody) return { contentType: JSON_TYPE, body: Buffer.from(base) };
  const text = body.toString();
  const patch = isWhole ? text : wrapped(parts.bodyField, text);
  return { contentType: JSON_TYPE, body: Buffer.from(mergeJson(base, patch)) };
}

/** `a[b]=1` and `a.b=1` are nested; a value that is JSON is that value. */
function* queryFields({ query, maxFields }: BodyParts): Iterable<[string, unknown]> {
  mustNotExceed(query.size, maxFields, 'query');
  for (const [name, text] of query) {
    yield [name.replace(/\[([^\][]*)\]/g, '.$1'), scalarOf(text)];
  }
}

/** Numbers that a double cannot hold stay text. */
function scalarOf(text: string): unknown {
  if (text === 'true') return true;
  if (text === 'false') return false;
  if (text === 'null') return null;
  if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text)) {
    const number = Number(text);
    return String(number) === text ? number : text;
  }
  return text;
}

/** go-micro's form: each name's values joined by commas. */
function formJson(body: Buffer, { query, fields, maxFields }: BodyParts): string {
  const values = new Map<string, string>(Object.entries(fields));
  for (const source of [formOf(body, maxFields), query]) {
    for (const [name, all] of valuesByName(source, maxFields)) values.set(name, all.join(','));
  }
  return JSON.stringify(Object.fromEntries(values));
}

function isEmpty(fields: object): boolean {
  for (const _ in fields) return false;
  return true;
}

function wrapped(field: string, text: string): string {
  const words = field.split('.').map((word) => JSON.stringify(word));
  return words.reduceRight((inner, word) => `{${word}:${inner}}`, text);
}
