/**
 * Errors as HTTP answers: go-micro's `{id, code, detail, status}` with the status of its code.
 *
 * Invariants: every failure has a status from 400 to 599; one that may succeed later says when in
 * Retry-After; an unexpected error shows no internals. Cost: none where nothing fails.
 */
import { RivuletError } from '../errors.ts';
import { ServiceError, statusText } from '../rpc/service-error.ts';

export const GATEWAY_ID = 'go.micro.api';

export interface HttpFailure {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** True for what the gateway itself did wrong. */
  readonly isUnexpected: boolean;
}

export class HttpError extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, detail: string, headers: Readonly<Record<string, string>> = {}) {
    super(detail);
    this.name = 'HttpError';
    this.status = status;
    this.headers = headers;
  }
}

export function httpFailure(error: unknown): HttpFailure {
  if (error instanceof HttpError) {
    return failure(error.status, GATEWAY_ID, error.message, error.headers);
  }
  if (error instanceof ServiceError) {
    const { id, detail, code } = error;
    const status = OF_NAMES[code] ?? within(error.status);
    return failure(status, id, detail, retryAfter(error, status));
  }
  if (error instanceof RivuletError) {
    const status = OWN[`${error.code} ${error.sent}`] ?? error.httpStatus;
    return failure(status, GATEWAY_ID, error.message, retryAfter(error, status));
  }
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return failure(statusCode, GATEWAY_ID, message ?? statusText(statusCode), {});
  }
  return { ...failure(500, GATEWAY_ID, 'the gateway failed', {}), isUnexpected: true };
}

/** go-micro gives 500 to a service that is not there, or that no registry can look up; over HTTP these say more. */
const OF_NAMES: Readonly<Record<string, number>> = {
  SERVICE_NOT_FOUND: 404,
  REGISTRY_UNAVAILABLE: 503,
};

/** What a code means where it is about the request, or about a name in its path. */
const OWN: Readonly<Record<string, number>> = { 'TIMEOUT no': 408, 'SERVICE_NOT_FOUND no': 404 };

function failure(
  status: number,
  id: string,
  detail: string,
  headers: Readonly<Record<string, string>>,
): HttpFailure {
  const body = JSON.stringify({ id, code: status, detail, status: statusText(status) });
  return { status, headers, body, isUnexpected: false };
}

/** The HTTP status that a service's error asks for. */
function within(status: number): number {
  return Number.isInteger(status) && status >= 400 && status <= 599 ? status : 500;
}

function retryAfter(error: RivuletError, status: number): Record<string, string> {
  return error.retryable && [429, 503, 507].includes(status) ? { 'retry-after': '1' } : {};
}
