/**
 * Failures as gRPC's status: number, message and details, as go-micro writes and reads them.
 *
 * The message is go-micro's JSON; the details are a google.rpc.Status whose first Any is
 * `errors.Error`, because Go's client asserts that type without a check and its program ends with
 * anything else. What is ours (code, whether a handler ran, a typed error and its data) is the second.
 * Invariant: whatever a peer sent becomes a failure with a known code. Bound: the trailers fit into the
 * 8 KiB that gRPC's libraries accept, but for typed data, of which `MAX_DATA` are sent.
 */
import { type ErrorCode, errorTable } from '../../errors.ts';
import { fromHeaderValue } from '../headers.ts';
import {
  asErrorCode,
  codeOfStatus,
  encodeMicroError,
  parseMicroError,
  statusText,
} from '../micro-error.ts';
import type { CallFailure } from '../transport.ts';
import { decodeFields, encodeFields } from './proto-fields.ts';

const GRPC_OK = 0;
const UNIMPLEMENTED = 12;
const MICRO_TYPE = 'type.googleapis.com/errors.Error';
const OUR_TYPE = 'type.googleapis.com/rivulet.Failure';
const MAX_DETAIL = 1500;
const MAX_DATA = 32 * 1024;

/** go-micro's table of its codes. */
const BY_STATUS: ReadonlyMap<number, number> = new Map([
  [400, 3],
  [401, 16],
  [403, 7],
  [404, 5],
  [408, 4],
  [409, 6],
  [412, 9],
  [500, 13],
  [501, 12],
  [503, 14],
]);

/** Our code for a status that says nothing else. */
const BY_NUMBER: readonly ErrorCode[] = [
  'INTERNAL',
  'ABORTED',
  'RESPONDER_FAILED',
  'INVALID_ARGUMENT',
  'TIMEOUT',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'LIMIT_EXCEEDED',
  'FAILED_PRECONDITION',
  'CONFLICT',
  'INVALID_ARGUMENT',
  'METHOD_NOT_FOUND',
  'INTERNAL',
  'UNAVAILABLE',
  'INTERNAL',
  'AUTHENTICATION_FAILED',
];

function grpcNumberOf({ code, status }: CallFailure): number {
  if (code === 'METHOD_NOT_FOUND') return UNIMPLEMENTED;
  return BY_STATUS.get(status) ?? errorTable[code].rpc;
}

/** The trailers of a failure. */
export function failureTrailers(failure: CallFailure): Record<string, string> {
  const number = grpcNumberOf(failure);
  const short = { ...failure, detail: failure.detail.slice(0, MAX_DETAIL) };
  const message = encodeMicroError(short);
  return {
    'grpc-status': String(number),
    'grpc-message': percentEncode(message),
    'grpc-status-details-bin': detailsOf(short, number, message).toString('base64'),
  };
}

function detailsOf(failure: CallFailure, number: number, message: string): Buffer {
  const { id, status, detail, code, name, contentType, body } = failure;
  const micro = encodeFields([
    ...[[1, id] as const, [2, status] as const],
    ...[[3, detail] as const, [4, statusText(status)] as const],
  ]);
  const data = body !== undefined && body.length <= MAX_DATA ? body : undefined;
  const ours = encodeFields([
    [1, code],
    ...(failure.sent === 'no' ? [[2, 1] as const] : []),
    ...(name === undefined ? [] : [[3, name] as const]),
    ...(contentType === undefined ? [] : [[4, contentType] as const]),
    ...(data === undefined ? [] : [[5, data] as const]),
  ]);
  const any = (type: string, value: Buffer) =>
    encodeFields([
      [1, type],
      [2, value],
    ]);
  return encodeFields([
    [1, number],
    [2, message],
    [3, any(MICRO_TYPE, micro)],
    [3, any(OUR_TYPE, ours)],
  ]);
}

/** What the trailers of a call say; null for one that succeeded, and for none at all `undefined`. */
export function failureFromTrailers(
  trailers: Readonly<Record<string, unknown>>,
): CallFailure | null | undefined {
  const said = trailers['grpc-status'];
  if (said === undefined) return undefined;
  const number = Number(said);
  if (number === GRPC_OK) return null;
  const message = percentDecode(String(trailers['grpc-message'] ?? ''));
  const known = BY_NUMBER[number] ?? 'RESPONDER_FAILED';
  const plain: CallFailure = {
    code: known,
    id: 'go.micro.server',
    status: errorTable[known].http,
    detail: message === '' ? `the call failed with gRPC status ${number}` : message,
    ...(number === UNIMPLEMENTED ? { sent: 'no' as const } : {}),
  };
  const refused = number === UNIMPLEMENTED ? { sent: 'no' as const } : {};
  const base = message.startsWith('{') ? { ...parseMicroError(message), ...refused } : plain;
  const details = trailers['grpc-status-details-bin'];
  return typeof details === 'string' ? withDetails(base, Buffer.from(details, 'base64')) : base;
}

function withDetails(base: CallFailure, status: Uint8Array): CallFailure {
  let failure = base;
  for (const [number, any] of decodeFields(status) ?? []) {
    if (number !== 3 || typeof any === 'number') continue;
    const parts = new Map(decodeFields(any) ?? []);
    const value = parts.get(2) ?? new Uint8Array(0);
    if (typeof value === 'number') continue;
    const type = textOf(parts.get(1));
    const fields = new Map(decodeFields(value) ?? []);
    if (type.endsWith('/errors.Error')) failure = withMicro(failure, fields);
    else if (type === OUR_TYPE) failure = withOurs(failure, fields);
  }
  return failure;
}

type Fields = ReadonlyMap<number, number | Uint8Array>;

function withMicro(failure: CallFailure, fields: Fields): CallFailure {
  const status = fields.get(2);
  const isKnown = typeof status === 'number' && status >= 100 && status < 1000;
  return {
    ...failure,
    id: textOf(fields.get(1)) || failure.id,
    detail: textOf(fields.get(3)) || failure.detail,
    ...(isKnown ? { status, code: codeOfStatus(status) } : {}),
  };
}

function withOurs(failure: CallFailure, fields: Fields): CallFailure {
  const name = textOf(fields.get(3));
  const contentType = textOf(fields.get(4));
  const body = fields.get(5);
  return {
    ...failure,
    code: asErrorCode(textOf(fields.get(1))) ?? failure.code,
    sent: fields.get(2) === 1 ? 'no' : 'maybe',
    ...(name === '' ? {} : { name }),
    ...(contentType === '' ? {} : { contentType }),
    ...(body === undefined || typeof body === 'number' ? {} : { body }),
  };
}

function textOf(value: number | Uint8Array | undefined): string {
  return typeof value === 'object' ? Buffer.from(value).toString('utf8') : '';
}

/** gRPC's form of a message: UTF-8, everything but printable ASCII as %XX. */
export function percentEncode(text: string): string {
  let made = '';
  for (const byte of Buffer.from(text, 'utf8')) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    made += isPlain
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return made;
}

/** Leaves alone what is no escape, as the specification demands. */
export function percentDecode(text: string): string {
  if (!text.includes('%')) return fromHeaderValue(text);
  const latin1 = text.replace(/%([0-9a-fA-F]{2})/g, (_all, hex: string) => {
    return String.fromCharCode(Number.parseInt(hex, 16));
  });
  return Buffer.from(latin1, 'latin1').toString('utf8');
}
