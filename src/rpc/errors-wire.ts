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
import type { AnyMethod } from './contract.ts';
import { type ErrorClass, ServiceError, statusText } from './service-error.ts';

export const SERVER_ID = 'go.micro.server';
export const CLIENT_ID = 'go.micro.client';
const MAX_DETAIL = 8000;

/** What the server says of an error that a handler threw or that was found before it ran. */
export function failureOf(error: unknown, service: string, codec: Codec | null): CallFailure {
  if (error instanceof ServiceError) {
    const { id, status, detail, errorName, data } = error;
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
      detail: detail.slice(0, MAX_DETAIL),
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
      detail: error.message.slice(0, MAX_DETAIL),
    };
  }
  const detail = error instanceof Error ? error.message : String(error);
  return {
    code: 'RESPONDER_FAILED',
    id: service,
    status: 500,
    detail: detail.slice(0, MAX_DETAIL),
  };
}

/** What the caller throws for what the peer said. */
export function errorFromFailure(
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

/** go-micro's JSON form of a failure: the Micro-Error header. */
export function microError({ id, status, detail }: CallFailure): string {
  return JSON.stringify({ id, code: status, detail, status: statusText(status) });
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
  const detail = error instanceof Error ? error.message : String(error);
  return new ServiceError(
    { code: 'INTERNAL', id: CLIENT_ID, status: 500, detail },
    { sent: 'maybe', cause: error },
  );
}
