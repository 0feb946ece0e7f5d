/**
 * Parses addresses: `redis://user:password@host:6379/3`, `rediss://` for TLS.
 *
 * Invariant: an error about an address shows at most its scheme: in an address that cannot be parsed, any
 * part may be a secret.
 */
import { RivuletError } from 'rivulet/adapter';

const DEFAULT_PORT = 6379;
const ESCAPES = 'write / ? # and @ in a password as %2F %3F %23 %40';

export interface Address {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  readonly tls: boolean;
  /** As people may see it. */
  readonly shown: string;
}

export function readAddress(text: string): Address {
  const { protocol, hostname, port, username, password, pathname, search, hash } = parse(text);
  if (protocol !== 'redis:' && protocol !== 'rediss:') {
    illegal(
      `the redis broker has addresses like redis://host:6379, this one begins with ${protocol}`,
    );
  }
  if (search !== '' || hash !== '') {
    illegal(
      `a ${protocol}// address ends after its database; options of ioredis go through client: {}; ${ESCAPES}`,
    );
  }
  if (!/^\/?$|^\/\d{1,9}$/.test(pathname)) {
    illegal(
      `what follows the host of a ${protocol}// address is the number of a database, as in redis://host:6379/3; ${ESCAPES}`,
    );
  }
  // IPv6 is in brackets in an address and nowhere else.
  const host = hostname.replace(/^\[(.*)\]$/, '$1') || '127.0.0.1';
  const database = Number(pathname.slice(1));
  return {
    host,
    port: port === '' ? DEFAULT_PORT : Number(port),
    username: decode(username),
    password: decode(password),
    database,
    tls: protocol === 'rediss:',
    shown: `${protocol}//${hostname || host}:${port || DEFAULT_PORT}${database === 0 ? '' : pathname}`,
  };
}

function parse(text: string): URL {
  try {
    return new URL(text);
  } catch {
    return illegal(
      `an address of the redis broker is no URL like redis://user:password@host:6379; ${ESCAPES}`,
    );
  }
}

function decode(part: string): string | undefined {
  if (part === '') return undefined;
  try {
    return decodeURIComponent(part);
  } catch {
    return illegal(
      'user or password of a redis:// address has a % that begins no %XX; write % itself as %25',
    );
  }
}

function illegal(text: string): never {
  throw new RivuletError('INVALID_ARGUMENT', text);
}
