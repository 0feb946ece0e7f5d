/**
 * Errors between handler and caller: what leaves the server, and what the caller throws.
 *
 * Invariants: a handler's unknown exception gives its message, never its stack; a typed error arrives
 * as the class of the same method and name; `sent` is `no` only when the server says that no handler
 * ran. An exception's text leaves at most 8 KB long.
 */
import type { Codec } from '../codec/codec.ts';
import { RivuletError } from '../errors.ts';
import { CallError, type CallFailure } from '../transport/transport.ts';
import { errorText } from '../util/error-text.ts';
import type { AnyMethod } from './contract.ts';
import { type ErrorClass, ServiceError } from './service-error.ts';

const CLIENT_ID = 'go.micro.client';
const MAX_DETAIL = 8000;

/** What the server says of an error that a handler threw or that was found before it ran. */
export function failureOf(error: unknown, service: string, codec: Codec | null): CallFailure {
  if (error instanceof ServiceError) {
    const { detail, errorName, data } = error;
    // Code without types makes errors without an id, or with a status that is no number.
    const id = typeof error.id === 'string' ? error.id : '';
    const status = isStatus(error.status) ? error.status : 500;
    let body: Uint8Array | undefined;
    let contentType: string | undefined;
    if (errorName !== null && data !== undefined && codec !== null) {
      try {
        body = codec.encode(data);
        contentType = codec.contentTypes[0];
      } catch {
        // Data that has no form in this codec must not hide the error itself.
      }
    }
    return {
      code: error.code,
      id: id === '' ? service : id,
      status,
      detail: (typeof detail === 'string' ? detail : errorText(error)).slice(0, MAX_DETAIL),
      name: errorName ?? undefined,
      body,
      contentType,
    };
  }
  if (error instanceof RivuletError) {
    return {
      code: error.code,
      id: service,
      status: error.microCode,
      detail: errorText(error).slice(0, MAX_DETAIL),
    };
  }
  return {
    code: 'RESPONDER_FAILED',
    id: service,
    status: 500,
    detail: errorText(error).slice(0, MAX_DETAIL),
  };
}

/** Whether every transport can carry it: go-micro's code is an int32. */
function isStatus(status: unknown): boolean {
  return Number.isInteger(status) && (status as number) >= 0 && (status as number) < 2 ** 31;
}

/** What the caller throws for what the peer said. */
function errorFromFailure(
  failure: CallFailure,
  method: AnyMethod | null,
  codec: Codec | null,
): ServiceError {
  const options = { sent: failure.sent ?? 'maybe' } as const;
  const { name } = failure;
  const known =
    name !== undefined && method !== null && Object.hasOwn(method.errors, name)
      ? (method.errors[name] as ErrorClass<string, unknown>)
      : null;
  let data: unknown;
  if (failure.body !== undefined && codec !== null) {
    try {
      data = codec.decode(failure.body);
    } catch {
      // The error is worth more than its data.
    }
  }
  const fields = {
    code: failure.code,
    id: failure.id,
    status: failure.status,
    detail: failure.detail,
    errorName: name,
    data,
  };
  if (known === null) return new ServiceError(fields, options);
  const error = new known(data, failure.detail);
  return Object.assign(error, { id: failure.id, status: failure.status, code: failure.code });
}

/** Every error of a call is a ServiceError: what failed on this side has go-micro's client id. */
export function asServiceError(error: unknown, method: AnyMethod | null, codec: Codec | null) {
  if (error instanceof ServiceError) return error;
  if (error instanceof CallError) return errorFromFailure(error.failure, method, codec);
  if (error instanceof RivuletError) {
    const { code, microCode, message, sent } = error;
    return new ServiceError(
      { code, id: CLIENT_ID, status: microCode, detail: message },
      { sent, cause: error.cause ?? error },
    );
  }
  return new ServiceError(
    { code: 'INTERNAL', id: CLIENT_ID, status: 500, detail: errorText(error) },
    { sent: 'maybe', cause: error },
  );
}
