/**
 * What a server answers, as JavaScript values.
 *
 * | RESP | value |
 * | --- | --- |
 * | simple string | string |
 * | bulk string, verbatim string (without its format) | Buffer |
 * | integer, big number | number; bigint where a number would round |
 * | double | number |
 * | boolean | boolean |
 * | null of any kind | null |
 * | array, set | array |
 * | map | ReplyMap |
 * | error | ReplyError: rejects the call; inside an array it is a value, as in EXEC |
 *
 * A Buffer is a view of the bytes as they arrived from the socket: code that keeps a small one for long
 * should copy it, because it keeps up to 64 KiB of its neighbours in memory.
 */
import { type ErrorCode, RivuletError } from '../errors.ts';

export type Reply =
  | null
  | boolean
  | number
  | bigint
  | string
  | Buffer
  | ReplyError
  | ReplyMap
  | Reply[];

/** A RESP3 map: pairs in the order in which they came; keys of any kind. */
export class ReplyMap {
  readonly entries: [key: Reply, value: Reply][] = [];

  /** The value of the first key with this text. */
  get(name: string): Reply | undefined {
    return this.entries.find(([key]) => String(key) === name)?.[1];
  }
}

/** An error that the server answered. `prefix` is its first word: ERR, WRONGTYPE, NOGROUP ... */
export class ReplyError extends RivuletError {
  readonly prefix: string;

  constructor(text: string) {
    const prefix = /^[A-Z][A-Z0-9_-]*(?= )/.exec(text)?.[0] ?? 'ERR';
    super(CODES[prefix] ?? 'INVALID_ARGUMENT', text);
    this.name = 'ReplyError';
    this.prefix = prefix;
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return RivuletError[Symbol.hasInstance](value) && (value as Error).name === 'ReplyError';
  }
}

const CODES: Record<string, ErrorCode> = {
  BUSYGROUP: 'ALREADY_EXISTS',
  LOADING: 'NOT_CONNECTED',
  MISCONF: 'WRITES_REFUSED',
  NOAUTH: 'AUTHENTICATION_FAILED',
  NOGROUP: 'GROUP_LOST',
  NOPERM: 'PERMISSION_DENIED',
  OOM: 'WRITES_REFUSED',
  READONLY: 'WRITES_REFUSED',
  UNBLOCKED: 'ABORTED',
  WRONGPASS: 'AUTHENTICATION_FAILED',
};

/**
 * Pairs from a reply that is a map in RESP3 and a flat array in RESP2: XREAD's is an array of pairs
 * there, XINFO's a flat one; both are understood.
 */
export function pairsOf(reply: Reply): [key: Reply, value: Reply][] {
  if (reply === null) return [];
  if (reply instanceof ReplyMap) return reply.entries;
  if (!Array.isArray(reply)) throw new TypeError('the reply is neither a map nor an array');
  if (reply.every((item) => Array.isArray(item) && item.length === 2)) {
    return reply as [Reply, Reply][];
  }
  const pairs: [Reply, Reply][] = [];
  for (let i = 0; i + 1 < reply.length; i += 2) pairs.push([reply[i], reply[i + 1]]);
  return pairs;
}
