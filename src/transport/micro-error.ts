/**
 * go-micro's errors on the wire: `{"id","code","detail","status"}`, whose code is an HTTP status.
 *
 * Invariant: whatever a peer wrote is an error with a known code of ours; text that is not JSON is the
 * detail. Cost: one JSON.parse of at most `MAX_TEXT`.
 */
import { type ErrorCode, errorTable } from '../errors.ts';
import type { CallFailure } from './transport.ts';

const SERVER_ID = 'go.micro.server';
const MAX_TEXT = 128 * 1024;
const MAX_DETAIL = 8000;

/** go-micro's JSON form, in ASCII: readers of headers do not agree on any other characters. */
export function encodeMicroError({ id, status, detail }: CallFailure): string {
  const short = detail.slice(0, MAX_DETAIL);
  const json = JSON.stringify({ id, code: status, detail: short, status: statusText(status) });
  return json.replace(/[\u007f-\uffff]/g, (unit) => {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** What another program said of a failure: JSON, or plain text such as `rpc: can't find service X`. */
export function parseMicroError(text: string): CallFailure {
  const json = text.length <= MAX_TEXT ? objectIn(text) : null;
  if (json === null) {
    const detail = text.slice(0, MAX_DETAIL);
    if (
      /^rpc: (can't find (service|method)|service\/(method|endpoint) request ill-formed)/.test(text)
    ) {
      return { code: 'METHOD_NOT_FOUND', id: SERVER_ID, status: 404, detail, sent: 'no' };
    }
    return { code: 'RESPONDER_FAILED', id: SERVER_ID, status: 500, detail };
  }
  const status = Number(json.code);
  const known = Number.isInteger(status) && status >= 100 && status < 1000;
  return {
    code: known ? codeOfStatus(status) : 'RESPONDER_FAILED',
    id: textOf(json.id) || SERVER_ID,
    status: known ? status : 500,
    detail: textOf(json.detail).slice(0, MAX_DETAIL),
  };
}

function objectIn(text: string): Record<string, unknown> | null {
  if (!text.startsWith('{')) return null;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export function asErrorCode(text: string): ErrorCode | null {
  return Object.hasOwn(errorTable, text) ? (text as ErrorCode) : null;
}

/** Our code for an HTTP status, as go-micro's errors carry it. */
export function codeOfStatus(status: number): ErrorCode {
  return (
    STATUS_CODES.get(status) ??
    (status >= 400 && status < 500 ? 'INVALID_ARGUMENT' : 'RESPONDER_FAILED')
  );
}

const STATUS_CODES: ReadonlyMap<number, ErrorCode> = new Map([
  [400, 'INVALID_ARGUMENT'],
  [401, 'AUTHENTICATION_FAILED'],
  [403, 'PERMISSION_DENIED'],
  [404, 'NOT_FOUND'],
  [405, 'UNSUPPORTED'],
  [408, 'TIMEOUT'],
  [409, 'CONFLICT'],
  [412, 'FAILED_PRECONDITION'],
  [413, 'BODY_TOO_LARGE'],
  [422, 'VALIDATION_FAILED'],
  [429, 'LIMIT_EXCEEDED'],
  [499, 'ABORTED'],
  [500, 'RESPONDER_FAILED'],
  [501, 'UNSUPPORTED'],
  [502, 'RESPONDER_LOST'],
  [503, 'UNAVAILABLE'],
  [504, 'TIMEOUT'],
]);

/** The text that goes with an HTTP status, as go-micro writes it in `status`. */
export function statusText(status: number): string {
  return STATUS_TEXTS[status] ?? (status < 500 ? 'Bad Request' : 'Internal Server Error');
}

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  412: 'Precondition Failed',
  413: 'Request Entity Too Large',
  422: 'Unprocessable Entity',
  429: 'Too Many Requests',
  499: 'Client Closed Request',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};
