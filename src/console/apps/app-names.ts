/**
 * Which web app a request is for: by its path, `/shop/...`, or by its host, `shop.localhost`.
 *
 * An app is a service `go.micro.web.NAME`, or `NAMESPACE.NAME`. Invariants: a name is letters and digits
 * with single inner hyphens, compared as it was written and never decoded, so `/%73hop` and `//shop` are no
 * app; a name of micro web's own pages is no app. Cost: one expression.
 */

export type AppsMode = 'subdomain' | 'path';

const NAME = /^[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*$/;
/** A label of DNS has at most this many characters. */
const LONGEST = 63;
const OWN = new Set(['console', 'services', 'service', 'client', 'rpc']);

export function isAppName(name: string): boolean {
  return name.length <= LONGEST && NAME.test(name) && !OWN.has(name);
}

/** The first part of a path; null where it names no app. */
export function appOfPath(path: string): string | null {
  const name = /^\/([^/?]+)(?=[/?]|$)/.exec(path)?.[1] ?? '';
  return isAppName(name) ? name : null;
}

/** The name before a host of the console's own, and that host; null where there is none. */
export function appOfHost(host: string): { readonly name: string; readonly parent: string } | null {
  const at = host.indexOf('.');
  const name = host.slice(0, Math.max(at, 0));
  // Four numbers are an address, and no name before three of them.
  if (/^[\d.]+(:\d+)?$/.test(host) || !isAppName(name)) return null;
  return { name: name.toLowerCase(), parent: host.slice(at + 1) };
}
