/**
 * Parses addresses: `nats://user:password@host:4222`, `nats://token@host`, `tls://...`.
 *
 * Invariant: an error about an address shows at most its scheme: in an address that cannot be parsed, any
 * part may be a secret.
 */
import { RivuletError } from 'rivulet/adapter';

const DEFAULT_PORT = '4222';

export interface Address {
  /** `host:port`, for nats.js. */
  readonly host: string;
  /** Without credentials, for logs and errors. */
  readonly shown: string;
  readonly credentials: {
    readonly user?: string;
    readonly pass?: string;
    readonly token?: string;
    readonly tls?: Record<string, never>;
  };
}

export function readAddress(text: string): Address {
  const url = parse(text);
  const { protocol, hostname, port, username, password, pathname, search, hash } = url;
  if (protocol !== 'nats:' && protocol !== 'tls:') {
    illegal(
      'the nats broker has addresses like nats://host:4222 or tls://host:4222, this one has another scheme',
    );
  }
  if (hostname === '') illegal('a nats:// address names a host: nats://host:4222');
  if (!/^\/?$/.test(pathname) || search !== '' || hash !== '') {
    illegal(
      'a nats:// address ends after host and port; write / ? # and @ in a password as %2F %3F %23 %40',
    );
  }
  const host = `${hostname}:${port || DEFAULT_PORT}`;
  const user = decode(username);
  const pass = decode(password);
  return {
    host,
    shown: `${protocol}//${host}`,
    credentials: {
      ...(protocol === 'tls:' ? { tls: {} } : {}),
      ...(user === '' ? {} : pass === '' ? { token: user } : { user, pass }),
    },
  };
}

function parse(text: string): URL {
  try {
    return new URL(text);
  } catch {
    return illegal(
      'an address of the nats broker is no URL like nats://user:password@host:4222; write / ? # and @ in a password as %2F %3F %23 %40',
    );
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return illegal(
      'user or password of a nats:// address has a % that begins no %XX; write % itself as %25',
    );
  }
}

function illegal(text: string): never {
  throw new RivuletError('INVALID_ARGUMENT', text);
}
