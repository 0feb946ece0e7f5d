/**
 * Addresses of brokers: read in one place, and shown without what may be a secret.
 *
 * Invariant: no error text and no `address` holds any part of a user name or password, however the
 * address is written. A password may hold `/`, `@`, `,`, `?` and `#` as they are, and any letter.
 */
import { RivuletError } from '../errors.ts';

export interface ParsedAddress {
  readonly scheme: string;
  /** Without the brackets of IPv6; empty where the address names none. */
  readonly host: string;
  /** null where the address names none. */
  readonly port: number | null;
  readonly username: string | null;
  readonly password: string | null;
  /** What follows the host, from its slash on, decoded; empty where there is nothing. */
  readonly path: string;
}

/**
 * An address as it may be shown and logged: scheme, host, port and path. Of what does not read as
 * those nothing is shown, because it may be a secret that was written in the wrong place.
 */
export function withoutPassword(address: string): string {
  const [, scheme, rest] = /^([a-z][a-z0-9+.-]*:\/\/)(.*)$/is.exec(address) ?? [];
  if (scheme === undefined || rest === undefined) return address.includes('@') ? '...' : address;
  const place = rest.slice(rest.lastIndexOf('@') + 1);
  return PLACE.test(place) ? scheme + place : `${scheme}...`;
}

/** Host, port of digits and path; no query, which might hold a password. */
const PLACE = /^(\[[0-9a-f:.%]+\]|[^\s:/?#@[\]]*)(:\d{0,5})?(\/[^?#]*)?$/i;

/** Throws INVALID_ARGUMENT, without any secret, where the address is none. */
export function parseAddress(address: string): ParsedAddress {
  const shown = withoutPassword(address);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(address);
  if (scheme === null) {
    throw bad(`${JSON.stringify(shown)} is no address: it begins with no scheme://`);
  }
  const rest = address.slice(scheme[0].length);
  const at = rest.lastIndexOf('@', endOfAuthority(rest));
  const [username, password] = at < 0 ? [null, null] : credentials(rest.slice(0, at), shown);
  const place = rest.slice(at + 1);
  const found = /^(\[[0-9a-f:.%]+\]|[^:/?#[\]]*)(?::([^/?#]*))?(\/[^?#]*)?$/i.exec(place);
  if (found === null) throw bad(`${JSON.stringify(shown)} names no host and port`);
  const [, host = '', port, path = ''] = found;
  return {
    scheme: (scheme[1] as string).toLowerCase(),
    host: host.replace(/^\[|\]$/g, ''),
    port: port === undefined ? null : portOf(port, shown),
    username,
    password,
    path: decoded(path, shown),
  };
}

/** The number of a database in the path: none is 0. */
export function databaseOf({ path }: ParsedAddress, address: string): number {
  const text = path.replace(/^\//, '');
  if (text === '') return 0;
  const number = Number(text);
  if (!/^\d{1,9}$/.test(text) || !Number.isInteger(number)) {
    throw bad(`${JSON.stringify(withoutPassword(address))}: the path is the number of a database`);
  }
  return number;
}

/**
 * Several addresses in one text. A comma separates them where a scheme follows, or where what follows
 * takes the first one's scheme; a comma before the last `@` belongs to a password.
 */
export function splitAddresses(text: string): string[] {
  const prefix = /^\s*[a-z][a-z0-9+.-]*:\/\//i.exec(text)?.[0];
  if (prefix === undefined) return [text];
  const addresses: string[] = [];
  for (const whole of text.split(/,(?=\s*[a-z][a-z0-9+.-]*:\/\/)/i)) {
    const last = whole.lastIndexOf('@');
    const [first, ...others] = whole.slice(last + 1).split(',');
    addresses.push(whole.slice(0, last + 1) + first);
    for (const other of others) addresses.push(prefix.trim() + other.trim());
  }
  return addresses.map((each) => each.trim());
}

/**
 * Several addresses as they may be shown. One without an `@` before one that has it may be the beginning
 * of a password that holds `,scheme://`: of it only the scheme is shown.
 */
export function withoutPasswords(text: string): string {
  const addresses = splitAddresses(text);
  const last = addresses.findLastIndex((each) => each.includes('@'));
  return addresses
    .map((each, index) => withoutPassword(index < last && !each.includes('@') ? `${each}@?` : each))
    .join(',');
}

/** A path may hold an `@` too: it does where the host before it is a host. */
function endOfAuthority(rest: string): number {
  const slash = rest.indexOf('/');
  if (slash < 0) return rest.length;
  const authority = rest.slice(0, slash);
  if (!rest.slice(slash).includes('@')) return slash;
  // An `@` before and after the slash: the slash begins the path where the text before it ends in a host.
  return /@(\[[0-9a-f:.%]+\]|[^:@,[\]]+)(:\d*)?$/i.test(authority) ? slash : rest.length;
}

function credentials(text: string, shown: string): [string | null, string | null] {
  const colon = text.indexOf(':');
  const username = colon < 0 ? text : text.slice(0, colon);
  const password = colon < 0 ? null : text.slice(colon + 1);
  return [
    username === '' ? null : decoded(username, shown),
    password === null || password === '' ? null : decoded(password, shown),
  ];
}

function decoded(text: string, shown: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    const hint = 'a literal % is written %25';
    const error = bad(`${JSON.stringify(shown)}: user name, password or path: ${hint}`);
    // The cause's text is Node's and holds no part of the address.
    error.cause = cause;
    throw error;
  }
}

function portOf(text: string, shown: string): number | null {
  if (text === '') return null;
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port;
  throw bad(`${JSON.stringify(shown)}: the port is a number from 0 to 65535`);
}

function bad(text: string): RivuletError {
  return new RivuletError('INVALID_ARGUMENT', text);
}
