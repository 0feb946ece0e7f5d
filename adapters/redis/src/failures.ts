/** From ioredis's errors and Redis's error replies to the one table of codes. */
import { type ErrorCode, RivuletError } from 'rivulet';

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

export function toRivulet(error: unknown): RivuletError {
  if (error instanceof RivuletError) return error;
  const { name, message } = error as Error;
  // ioredis says "ReplyError" for what the server answered; everything else happened on the way.
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
  // Redis before 6 and its default user: "ERR invalid password", "ERR AUTH <password> called ...".
  if (/invalid password|called without any password/.test(message)) return 'AUTHENTICATION_FAILED';
  const word = /-?(\w+)/.exec(message.replace(/^EXECABORT.*previous errors/, ''))?.[1] ?? '';
  const code = BY_WORD[word];
  if (code !== undefined) return code;
  // Errors inside scripts name the command's error in the middle of their text.
  const inner = /\b(OOM|MISCONF|NOGROUP|READONLY|NOREPLICAS)\b/.exec(message)?.[1];
  return inner === undefined ? 'INTERNAL' : BY_WORD[inner];
}
