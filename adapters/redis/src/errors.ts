/** Translates ioredis's errors and Redis's error replies into Rivulet's error codes. */
import { type ErrorCode, RivuletError } from 'rivulet/adapter';

/** By the first word of an error reply. */
const BY_WORD: Readonly<Record<string, ErrorCode>> = {
  NOAUTH: 'AUTHENTICATION_FAILED',
  WRONGPASS: 'AUTHENTICATION_FAILED',
  NOPERM: 'PERMISSION_DENIED',
  OOM: 'WRITES_REFUSED',
  MISCONF: 'WRITES_REFUSED',
  NOREPLICAS: 'WRITES_REFUSED',
  NOGROUP: 'GROUP_LOST',
  UNBLOCKED: 'NOT_CONNECTED',
  LOADING: 'NOT_CONNECTED',
  READONLY: 'NOT_CONNECTED',
  MASTERDOWN: 'NOT_CONNECTED',
  CLUSTERDOWN: 'NOT_CONNECTED',
  TRYAGAIN: 'NOT_CONNECTED',
  MOVED: 'NOT_CONNECTED',
  ASK: 'NOT_CONNECTED',
};

/** Node's codes for a certificate that it does not trust. A retry does not help. */
const CERTIFICATE =
  /^(CERT_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT|UNABLE_TO_(GET|VERIFY)|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA)/;

/** Why the server's certificate was refused; null for any other error. */
export function certificateFault(error: unknown): string | null {
  for (let each = error, depth = 0; each instanceof Error && depth < 5; depth++) {
    const { code, message, lastNodeError } = each as Error & {
      code?: unknown;
      lastNodeError?: Error;
    };
    if (typeof code === 'string' && CERTIFICATE.test(code)) return message;
    each = each.cause ?? lastNodeError;
  }
  return null;
}

/** Commands with secrets: ioredis attaches a command and its arguments to its error. */
const SECRET = /^(auth|hello|config|acl|migrate)$/i;

function withoutSecrets(error: unknown): void {
  const { command } = error as { command?: { name?: string; args?: unknown } };
  if (command?.args !== undefined && SECRET.test(command.name ?? '')) command.args = [];
}

export function toRivulet(error: unknown): RivuletError {
  if (error instanceof RivuletError) return error;
  withoutSecrets(error);
  const { name, message } = error as Error;
  // A ReplyError is the server's reply. Any other error happened before there was one.
  if (name !== 'ReplyError') {
    const inner = (error as { lastNodeError?: Error }).lastNodeError;
    const text = inner === undefined ? message : `${message} (${inner.message})`;
    if (inner?.name === 'ReplyError' && codeOf(inner.message) !== 'INTERNAL') {
      return toRivulet(inner);
    }
    return new RivuletError('NOT_CONNECTED', text, { cause: error });
  }
  return new RivuletError(codeOf(message), message, { cause: error });
}

function codeOf(message: string): ErrorCode {
  if (/invalid bulk length|Protocol error: too big/i.test(message)) return 'BODY_TOO_LARGE';
  // Redis before 6 and its default user: "ERR invalid password", "ERR AUTH <password> called ...".
  if (/invalid password|called without any password/.test(message)) return 'AUTHENTICATION_FAILED';
  const word = /-?(\w+)/.exec(message.replace(/^EXECABORT.*previous errors/, ''))?.[1] ?? '';
  const code = BY_WORD[word];
  if (code !== undefined) return code;
  // The error of a command inside a script is in the middle of the text.
  const inner = /\b(OOM|MISCONF|NOGROUP|READONLY|NOREPLICAS)\b/.exec(message)?.[1];
  return inner === undefined ? 'INTERNAL' : BY_WORD[inner];
}

/** An error that the server returned inside another reply. */
export class ServerError extends Error {
  override readonly name = 'ReplyError';
}
