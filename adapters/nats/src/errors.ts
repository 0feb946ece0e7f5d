/** Translates the errors of @nats-io and JetStream's error numbers into Rivulet's error codes. */
import { type ErrorCode, RivuletError } from 'rivulet/adapter';

/** By JetStream's error number. Any other number is INTERNAL. */
const BY_NUMBER: Readonly<Record<number, ErrorCode>> = {
  10003: 'INVALID_ARGUMENT',
  10008: 'NOT_CONNECTED',
  10009: 'NOT_CONNECTED',
  10012: 'INTERNAL',
  10014: 'GROUP_LOST',
  10023: 'WRITES_REFUSED',
  10039: 'UNSUPPORTED',
  10047: 'WRITES_REFUSED',
  10052: 'INVALID_ARGUMENT',
  10054: 'BODY_TOO_LARGE',
  10059: 'GROUP_LOST',
  10074: 'INVALID_ARGUMENT',
  10076: 'UNSUPPORTED',
  10077: 'WRITES_REFUSED',
  10118: 'NOT_CONNECTED',
};

const BY_NAME: Readonly<Record<string, ErrorCode>> = {
  AuthorizationError: 'AUTHENTICATION_FAILED',
  UserAuthenticationExpiredError: 'AUTHENTICATION_FAILED',
  PermissionViolationError: 'PERMISSION_DENIED',
  InvalidSubjectError: 'TOPIC_ILLEGAL',
  InvalidArgumentError: 'INVALID_ARGUMENT',
  InvalidNameError: 'INVALID_ARGUMENT',
  ConsumerNotFoundError: 'GROUP_LOST',
  StreamNotFoundError: 'GROUP_LOST',
};

/** JetStream's number of an error, 0 when it has none. */
export function numberOf(error: unknown): number {
  const cause = error instanceof RivuletError ? error.cause : error;
  const { name, code } = (cause ?? {}) as { name?: string; code?: unknown };
  if (typeof code === 'number' && code >= 10_000) return code;
  if (name === 'ConsumerNotFoundError') return 10_014;
  return name === 'StreamNotFoundError' ? 10_059 : 0;
}

/** The error for a request that JetStream refused. */
export function refusal(number: number, text: string): RivuletError {
  const cause = Object.assign(new Error(text), { code: number });
  // The stream is being deleted: its files are gone.
  if (/no such file or directory/.test(text)) {
    return new RivuletError('NOT_CONNECTED', text, { cause });
  }
  return new RivuletError(BY_NUMBER[number] ?? 'INTERNAL', text, { cause });
}

/** Node's codes for a certificate that it does not trust. A retry does not help. */
const CERTIFICATE =
  /^(CERT_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT|UNABLE_TO_(GET|VERIFY)|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA)/;

/** Why the server's certificate was refused; null for any other error. */
export function certificateFault(error: unknown): string | null {
  for (let each = error, depth = 0; each instanceof Error && depth < 5; depth++) {
    const { code, message } = each as NodeJS.ErrnoException;
    if (typeof code === 'string' && CERTIFICATE.test(code)) return message;
    each = each.cause;
  }
  return null;
}

export function toRivulet(error: unknown): RivuletError {
  if (error instanceof RivuletError) return error;
  const { name, message } = error as Error;
  const number = numberOf(error);
  if (number !== 0)
    return new RivuletError(BY_NUMBER[number] ?? 'INTERNAL', message, { cause: error });
  if (/max_payload|maximum payload/i.test(message)) {
    return new RivuletError('BODY_TOO_LARGE', message, { cause: error });
  }
  const inner = (error as Error).cause;
  // A request that met no listener (which nats.js calls JetStreamNotEnabled), a time-out, a closed socket: all pass.
  const code = BY_NAME[name] ?? (inner instanceof Error ? BY_NAME[inner.name] : undefined);
  return new RivuletError(code ?? 'NOT_CONNECTED', message, { cause: error });
}
