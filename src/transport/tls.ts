/**
 * TLS of every transport: certificates, and sockets that speak it.
 *
 * One set of options serves both sides of a process: `cert` and `key` are its certificate,
 * `ca` the authorities that it trusts. Invariants: a client that was given options never connects without TLS,
 * whatever a registry record says; without options it uses TLS where the record says so, and trusts
 * the system's authorities. Cost: one handshake per connection.
 */
import { connect, isIP, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { faultOfAuthorities } from '../client/authorities.ts';
import { RivuletError } from '../errors.ts';
import { splitAddress } from '../registry/record.ts';
import type { ServiceNode } from '../registry/registry.ts';
import { onAbort } from '../util/time/on-abort.ts';
import type { Scheduler } from '../util/time/scheduler.ts';

/** PEM texts or their bytes. */
export interface TlsOptions {
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly passphrase?: string;
  /** Authorities whose certificates are believed. Default: the system's. */
  readonly ca?: string | Buffer | readonly (string | Buffer)[];
  /** A listener refuses clients without a certificate of `ca`. Default false. */
  readonly requireClientCertificate?: boolean;
  /** The name that a server's certificate must carry. Default: the host that is dialled. */
  readonly servername?: string;
  /** False believes every server, as go-micro's clients do. Default true. */
  readonly rejectUnauthorized?: boolean;
}

const KINDS: Readonly<Record<keyof TlsOptions, string>> = {
  cert: 'PEM',
  key: 'PEM',
  passphrase: 'string',
  ca: 'PEM list',
  requireClientCertificate: 'boolean',
  servername: 'string',
  rejectUnauthorized: 'boolean',
};

/** Throws INVALID_ARGUMENT; a value is never in the message. */
export function checkTls(value: unknown, name = 'tls'): void {
  const refuse = (text: string): never => {
    throw new RivuletError('INVALID_ARGUMENT', text);
  };
  if (typeof value !== 'object' || value === null) {
    refuse(`${name} must be an object with cert, key and ca, not a ${typeof value}`);
    return;
  }
  const isPem = (each: unknown) => typeof each === 'string' || Buffer.isBuffer(each);
  for (const [option, given] of Object.entries(value)) {
    if (!Object.hasOwn(KINDS, option)) {
      refuse(`${name}.${option} is not known; known are ${Object.keys(KINDS).join(', ')}`);
    }
    const kind = KINDS[option as keyof TlsOptions];
    const isGood =
      given === undefined ||
      (kind === 'PEM' && isPem(given)) ||
      (kind === 'PEM list' && (isPem(given) || (Array.isArray(given) && given.every(isPem)))) ||
      typeof given === kind;
    if (!isGood) refuse(`${name}.${option} must be a ${kind}, not a ${typeof given}`);
  }
  const { cert, key, ca } = value as TlsOptions;
  for (const pem of ca === undefined ? [] : [ca].flat()) {
    const fault = faultOfAuthorities(pem);
    if (fault !== null) refuse(`${name}.ca cannot be used: ${fault}`);
  }
  if ((cert === undefined) !== (key === undefined)) {
    refuse(`${name}.cert and ${name}.key go together: one of them is missing`);
  }
}

/** Metadata of a node whose port takes TLS only. */
export const TLS_NODE = 'rivulet.tls';

export interface SocketOptions {
  readonly timeoutMs: number;
  readonly scheduler: Scheduler;
  readonly tls: TlsOptions | undefined;
  /** Protocols to offer in the handshake. */
  readonly alpn?: readonly string[];
  /** Of the dial: the socket is destroyed when it aborts, connected or not. */
  readonly signal?: AbortSignal | undefined;
}

/** A connected socket to a node; rejects with CONNECTION_FAILED, `sent: 'no'`. */
export function connectTo(
  node: ServiceNode,
  address: string,
  options: SocketOptions,
): Promise<Socket> {
  const at = splitAddress(address);
  if (at === null) {
    const text = `node ${node.id}: ${JSON.stringify(address.slice(0, 100))} is no host:port`;
    return Promise.reject(new RivuletError('CONNECTION_FAILED', text));
  }
  const secure = options.tls !== undefined || node.metadata[TLS_NODE] === 'true';
  const { timeoutMs, scheduler } = options;
  return new Promise((resolve, reject) => {
    const socket = secure
      ? connectTls(clientTls(at, options))
      : connect({ host: at.host, port: at.port, noDelay: true });
    const fail = (why: string, cause?: Error) => {
      stop();
      socket.destroy();
      const how = secure ? ' with TLS' : '';
      const text = `cannot connect to ${at.host}:${at.port}${how}: ${why}`;
      reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
    };
    const stop = scheduler.after(timeoutMs, () => fail(`no answer in ${timeoutMs} ms`));
    const onError = (cause: Error) => fail(cause.message, cause);
    const onClose = () => fail('the peer closed the connection');
    const unwatch =
      options.signal === undefined ? null : onAbort(options.signal, () => socket.destroy());
    if (unwatch !== null) socket.once('close', unwatch);
    socket.once('error', onError);
    socket.once('close', onClose);
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      stop();
      socket.off('error', onError);
      socket.off('close', onClose);
      socket.setNoDelay(true);
      resolve(socket);
    });
  });
}

function clientTls(at: { host: string; port: number }, options: SocketOptions): ConnectionOptions {
  const { tls = {}, alpn } = options;
  const servername = tls.servername ?? at.host;
  return {
    host: at.host,
    port: at.port,
    // An address of numbers is no server name: the certificate must list it, but it is not sent.
    ...(isIP(servername) === 0 ? { servername } : {}),
    ...secrets(tls),
    rejectUnauthorized: tls.rejectUnauthorized ?? true,
    minVersion: 'TLSv1.2',
    ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
  };
}

/** What both sides take of the options. */
export function secrets(tls: TlsOptions) {
  const { cert, key, passphrase, ca } = tls;
  return {
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(ca === undefined ? {} : { ca: ca as string | Buffer | (string | Buffer)[] }),
  };
}

export type { TLSSocket };
