/**
 * The endpoints that a configuration asks to listen on, and how each is opened: plain TCP, TLS, and a unix
 * socket.
 *
 * They are opened twice at most: while the data is loaded (loading.ts), and by Listeners, which takes over the
 * listening sockets of the former.
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { isIP, type ListenOptions, type Server } from 'node:net';
import type { Config } from '../config/config.ts';

export interface Endpoint {
  readonly kind: 'tcp' | 'tls' | 'unix';
  /** Of `bind`; the path of a unix socket. */
  readonly host: string;
  /** 0 = a free one, the same for all hosts; unused for a unix socket. */
  readonly port: number;
  /** `-::1`: this machine may lack the address, as in Redis. */
  readonly optional: boolean;
}

/**
 * A `port` of 0 besides a TLS port or a unix socket means, as in Redis, no plain listener at all.
 */
export function endpointsOf(config: Config): Endpoint[] {
  const words = config.get('bind').split(/\s+/).filter(Boolean);
  const hosts = words.map((word) => ({
    host: hostOf(word.replace(/^-/, '')),
    optional: word.startsWith('-'),
  }));
  const port = config.number('port');
  const tlsPort = config.number('tls-port');
  const path = config.get('unixsocket') === '' ? null : config.path('unixsocket');
  const endpoints: Endpoint[] = [];
  if (port > 0 || (tlsPort === 0 && path === null)) {
    for (const host of hosts) endpoints.push({ kind: 'tcp', ...host, port });
  }
  if (tlsPort > 0)
    for (const host of hosts) endpoints.push({ kind: 'tls', ...host, port: tlsPort });
  if (path !== null) endpoints.push({ kind: 'unix', host: path, port: 0, optional: false });
  return endpoints;
}

/** `*` means every IPv4 address, as in Redis. */
function hostOf(word: string): string {
  return word === '*' ? '0.0.0.0' : word === '::*' ? '::' : word;
}

/**
 * Listens on an endpoint; `port` is the one to use where the endpoint asks for a free one. `open`: a server
 * that listens on it already, and gives its socket to this one, so that no connection is refused in between.
 * Returns the port, or null when an optional address does not exist. Rejects with a sentence.
 */
export async function listen(
  server: Server,
  endpoint: Endpoint,
  port: number,
  config: Config,
  open: Server | null = null,
): Promise<number | null> {
  const { kind, host, optional } = endpoint;
  const backlog = config.number('tcp-backlog');
  const options: ListenOptions =
    kind === 'unix' ? { path: host, backlog } : { host, port, backlog, ipv6Only: isIP(host) === 6 };
  if (kind === 'unix' && open === null) removeDeadSocket(host);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(open ?? options, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (optional && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) return null;
    const where = kind === 'unix' ? host : `${host}:${port}`;
    throw new Error(reason(error as NodeJS.ErrnoException, where));
  }
  if (kind === 'unix') {
    const permission = Number.parseInt(config.get('unixsocketperm'), 8);
    if (permission > 0) chmodSync(host, permission);
  }
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Removes the socket of a server that has died. Any other kind of file stays, and listening fails. */
function removeDeadSocket(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) unlinkSync(path);
}

function reason(error: NodeJS.ErrnoException, where: string): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return `can't listen on ${where}: the port is in use`;
    case 'EACCES':
      return `can't listen on ${where}: permission denied`;
    case 'EADDRNOTAVAIL':
      return `can't listen on ${where}: this machine has no such address`;
    case 'ENOTFOUND':
      return `can't listen on ${where}: the name is not known`;
    default:
      return `can't listen on ${where}: ${error.message}`;
  }
}
