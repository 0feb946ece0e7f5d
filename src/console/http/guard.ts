/**
 * Refuses requests by their Host and Origin, before they are handled.
 *
 * A page of another site can make a browser send requests here; with DNS rebinding even requests that
 * the browser counts as same-origin. So: the Host must be a name of this console (421); what changes something
 * must come as JSON, from this origin (403); and no reply ever allows another origin.
 * Invariant: these checks need no login and run before the login is looked at.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { RivuletError } from '../../errors.ts';
import { hinted } from './reply.ts';

const LOCAL_NAMES = ['localhost', '127.0.0.1', '[::1]'];
const NOT_AN_ADDRESS = new Set(['', '*', '0.0.0.0', '::', '[::]']);

export class HostCheck {
  readonly #names: ReadonlySet<string>;

  /** `bound`: the address that the port listens on; `others`: `--console-host`. */
  constructor(bound: string, others: readonly string[] = []) {
    const names = [...LOCAL_NAMES, ...others.map((name) => name.toLowerCase())];
    if (!NOT_AN_ADDRESS.has(bound)) names.push(isIP(bound) === 6 ? `[${bound}]` : bound);
    this.#names = new Set(names);
  }

  /** Whether `Host` names this console; the port may be any, as a forwarded one is another. */
  accepts(host: string | undefined): boolean {
    const name = /^(\[[0-9a-f:.]+\]|[^:[\]@/\\\s]+)(?::\d{1,5})?$/i.exec(host ?? '')?.[1];
    return name !== undefined && this.#names.has(name.toLowerCase());
  }
}

/** Throws PERMISSION_DENIED for a request that another site's page caused. */
export function checkOrigin(request: IncomingMessage, isSecure: boolean): void {
  const { headers, method } = request;
  const site = headers['sec-fetch-site'];
  const reads = method === 'GET' || method === 'HEAD';
  // `none` = the user typed the address, or curl would; a page cannot send it.
  if (site !== undefined && site !== 'same-origin' && !(reads && site === 'none')) {
    throw foreign('a page of another site sent this request');
  }
  const { origin } = headers;
  if (origin !== undefined && !isOwn(origin, headers.host, isSecure)) {
    throw foreign(`the request comes from another origin`);
  }
  if (reads) return;
  // A form cannot send it, and a script of another site has to ask first, which is never allowed.
  if (!/^application\/json\s*(;|$)/i.test(headers['content-type'] ?? '')) {
    throw hinted(
      'INVALID_ARGUMENT',
      'a request that changes something has the content type application/json',
      'Send the header "content-type: application/json".',
    );
  }
  // Browsers name the origin of a write: one with a cookie and without an origin is no page of ours.
  if (headers.cookie !== undefined && origin === undefined && site === undefined) {
    throw foreign('a request with a cookie that changes something needs an Origin header');
  }
}

function isOwn(origin: string, host: string | undefined, isSecure: boolean): boolean {
  return host !== undefined && origin === `${isSecure ? 'https' : 'http'}://${host}`;
}

function foreign(message: string): RivuletError {
  return hinted('PERMISSION_DENIED', message, 'Open the console at its own address.');
}

/** Loopback, IPv4 mapped or not. */
export function isLoopback(address: string | undefined): boolean {
  return address !== undefined && (address === '::1' || /^(::ffff:)?127\./.test(address));
}
