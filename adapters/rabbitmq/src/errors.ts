/** Translates amqplib's errors and RabbitMQ's reply codes into Rivulet's error codes. */
import { type ErrorCode, RivuletError } from 'rivulet/adapter';

const BY_REPLY: Readonly<Record<number, ErrorCode>> = {
  311: 'BODY_TOO_LARGE',
  403: 'PERMISSION_DENIED',
  404: 'GROUP_LOST',
  405: 'LIMIT_EXCEEDED',
  406: 'INVALID_ARGUMENT',
  506: 'WRITES_REFUSED',
  530: 'PERMISSION_DENIED',
};

/** AMQP's reply code of an error, 0 when it has none. */
export function replyCode(error: unknown): number {
  const given = (error as { code?: unknown } | null)?.code;
  if (typeof given === 'number') return given;
  return Number(/\b([345]\d\d) \([A-Z-]+\)/.exec((error as Error | null)?.message ?? '')?.[1] ?? 0);
}

/** Whether an exchange or queue is missing, so that what is cached about the server is wrong. */
export function isMissing(error: unknown): boolean {
  const { cause } = error as Error;
  return replyCode(error) === 404 || (cause !== undefined && replyCode(cause) === 404);
}

export function toRivulet(error: unknown): RivuletError {
  if (error instanceof RivuletError) return error;
  const { message } = error as Error;
  if (/ACCESS.REFUSED - Login|Handshake terminated.*403/.test(message)) {
    return new RivuletError('AUTHENTICATION_FAILED', message, { cause: error });
  }
  if (/message size .* larger than|PRECONDITION_FAILED - message size/.test(message)) {
    return new RivuletError('BODY_TOO_LARGE', message, { cause: error });
  }
  // Another client is declaring the same stream at this moment.
  if (/have a (running )?replica on the local node/.test(message)) {
    return new RivuletError('NOT_CONNECTED', message, { cause: error });
  }
  // Without a reply code: the connection or channel closed, or a node is stopping. A retry may succeed.
  const code = BY_REPLY[replyCode(error)] ?? 'NOT_CONNECTED';
  return new RivuletError(code, message, { cause: error });
}
