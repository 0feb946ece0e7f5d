/**
 * One port for every protocol: the first bytes of a connection say which one takes it.
 *
 * Holds: connections that have not said enough yet. Invariants: the protocol that takes a connection
 * reads it from its first byte; with certificates nothing is served without TLS; a connection that
 * says nothing, or what no protocol knows, is closed after `FIRST_BYTES_MS` at the latest. Bound:
 * `MAX_CONNECTIONS`. Cost: one read before the protocol's own.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import { RivuletError } from '../errors.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { PROTOCOLS } from './protocols.ts';
import { secrets, TLS_NODE, type TlsOptions } from './tls.ts';
import type { Listener, ListenOptions, Transport } from './transport.ts';

/** A connection that has not said which protocol it speaks by then is closed. */
export const FIRST_BYTES_MS = 10_000;
/** How long one that was made before the port closed has to say it. */
const LAST_BYTES_MS = 1000;
const LOOK_MS = 10;
const MAX_CONNECTIONS = 10_000;
const KEEP_ALIVE_MS = 60_000;
/** No protocol needs more to be known by. */
const MAX_FIRST_BYTES = 32;
const TLS_HANDSHAKE = 0x16;
/** Alert, fatal, "protocol version": a TLS client reports it instead of waiting. */
const TLS_REFUSAL = Buffer.from([0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]);
const PLAIN_REFUSAL = refusal('this port takes TLS only: use https');

/** One protocol of a port. */
export interface Door {
  /** Whether these first bytes are its own; null when more are needed to know. */
  recognises(first: Uint8Array): boolean | null;
  /** Takes the connection over. `first` was read and is not in the socket. */
  accept(socket: Socket, first: Buffer): void;
  /** Node metadata that callers need. */
  metadata(address: string): Record<string, string>;
  /** As Listener.close; sockets that it accepted are its business. */
  close(drainMs: number): Promise<void>;
}

/** A transport that can share a port with others. */
export interface PortTransport extends Transport {
  door(options: ListenOptions): Door;
}

export function isPortTransport(transport: Transport): transport is PortTransport {
  return 'door' in transport && typeof transport.door === 'function';
}

/** Rejects with CONNECTION_FAILED when the address cannot be bound, INVALID_ARGUMENT when it is none. */
export async function listenOnPort(
  transports: readonly PortTransport[],
  options: ListenOptions,
  scheduler: Scheduler,
): Promise<Listener> {
  const at = splitListenAddress(options.address);
  const tls = options.tls === undefined ? null : tlsServer(options.tls);
  const doors = transports.map((transport) => transport.door(options));
  /** Connections that have not said what they speak. */
  const unknown = new Set<Socket>();
  // A peer whose machine is gone says nothing: the system asks an idle connection now and then.
  const alive = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
  const server = createServer({ noDelay: true, ...alive }, (socket) => {
    unknown.add(socket);
    socket.once('close', () => unknown.delete(socket));
    socket.on('error', () => socket.destroy());
    sniff(socket, scheduler, (first) => {
      if (tls !== null) {
        if (first[0] !== TLS_HANDSHAKE) return refuse(socket, PLAIN_REFUSAL);
        socket.unshift(first);
        tls.emit('connection', socket);
        return true;
      }
      if (first[0] === TLS_HANDSHAKE) return refuse(socket, TLS_REFUSAL);
      return enter(doors, socket, first, () => unknown.delete(socket));
    });
  });
  tls?.on('secureConnection', (secure: Socket) => {
    secure.on('error', () => secure.destroy());
    sniff(secure, scheduler, (first) =>
      // The socket beneath stays in `unknown` only until its protocol owns the TLS socket.
      enter(doors, secure, first, () => forgetBeneath(secure, unknown)),
    );
  });
  tls?.on('tlsClientError', (_error, secure) => secure.destroy());
  server.maxConnections = MAX_CONNECTIONS;
  await bind(server, at, options.address);
  const address = boundAddress(server);
  const metadata: Record<string, string> = {
    [PROTOCOLS]: transports.map(({ name }) => name).join(','),
    ...(tls === null ? {} : { [TLS_NODE]: 'true' }),
  };
  for (const door of doors) Object.assign(metadata, door.metadata(address));
  return {
    address,
    metadata,
    async close(drainMs = 0) {
      const closed = new Promise((resolve) => server.close(resolve));
      // A connection that was just made brings a call: it is answered, or refused as its protocol does.
      if (unknown.size > 0 && drainMs > 0) {
        await untilNone(unknown, Math.min(drainMs, LAST_BYTES_MS), scheduler);
      }
      for (const socket of unknown) socket.destroy();
      await Promise.all(doors.map((door) => door.close(drainMs)));
      await closed;
    },
  };
}

/** Waits until every connection has said what it speaks, or is gone. */
function untilNone(unknown: Set<Socket>, ms: number, scheduler: Scheduler): Promise<void> {
  return new Promise((resolve) => {
    let stopLook = () => {};
    const stop = scheduler.after(ms, () => {
      stopLook();
      resolve();
    });
    const look = () => {
      if (unknown.size > 0) {
        stopLook = scheduler.after(LOOK_MS, look);
        return;
      }
      stop();
      resolve();
    };
    look();
  });
}

/** Reads until `decide` has; it returns false to be asked again with more bytes. */
function sniff(socket: Socket, scheduler: Scheduler, decide: (first: Buffer) => boolean): void {
  const stop = scheduler.after(FIRST_BYTES_MS, () => socket.destroy(), false);
  let first: Buffer = Buffer.alloc(0);
  const read = () => {
    const bytes = socket.read() as Buffer | null;
    if (bytes === null) return;
    first = first.length === 0 ? bytes : Buffer.concat([first, bytes]);
    socket.off('readable', read);
    if (decide(first)) {
      stop();
      socket.off('close', stop);
      socket.off('end', leave);
    } else if (first.length >= MAX_FIRST_BYTES) socket.destroy();
    else socket.on('readable', read);
  };
  // A peer that ends its side before it said anything wants nothing.
  const leave = () => socket.destroy();
  socket.once('close', stop);
  socket.once('end', leave);
  socket.on('readable', read);
}

function enter(
  doors: readonly Door[],
  socket: Socket,
  first: Buffer,
  entered: () => void,
): boolean {
  let isOpen = false;
  for (const door of doors) {
    const known = door.recognises(first);
    if (known === true) {
      entered();
      door.accept(socket, first);
      return true;
    }
    if (known === null) isOpen = true;
  }
  return isOpen ? false : refuse(socket, null);
}

/** Says why where the peer can understand it, and closes. */
function refuse(socket: Socket, last: Buffer | null): true {
  if (last === null) socket.destroy();
  else {
    socket.end(last);
    socket.destroySoon();
  }
  return true;
}

function forgetBeneath(secure: Socket, unknown: Set<Socket>): void {
  const { remoteAddress, remotePort } = secure;
  for (const socket of unknown) {
    if (socket.remotePort === remotePort && socket.remoteAddress === remoteAddress) {
      unknown.delete(socket);
      return;
    }
  }
}

function tlsServer(tls: TlsOptions): TlsServer {
  if (tls.cert === undefined || tls.key === undefined) {
    const text = 'a listener with TLS needs a certificate and its key: set tls.cert and tls.key';
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  const demands = tls.requireClientCertificate === true;
  if (demands && tls.ca === undefined) {
    const text = 'tls.requireClientCertificate needs tls.ca, the authority that signs clients';
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  try {
    return createTlsServer({
      ...secrets(tls),
      requestCert: demands,
      rejectUnauthorized: demands,
      handshakeTimeout: FIRST_BYTES_MS,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['h2', 'http/1.1', 'rivulet.1'],
    });
  } catch (cause) {
    // The key itself must not be in the message.
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unreadable';
    throw new RivuletError('INVALID_ARGUMENT', `the certificate or key cannot be used: ${reason}`, {
      cause,
    });
  }
}

async function bind(
  server: Server,
  at: { host: string; port: number },
  shown: string,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const text = `cannot listen on ${shown}: ${cause.message}`;
      reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
    });
    server.listen(at.port, at.host, resolve);
  });
  server.on('error', () => {});
}

/** As splitAddress, allowing port 0 and an empty host. */
export function splitListenAddress(address: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^\s:/@[\]]*)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    const text = `${JSON.stringify(address)} is no address to listen on: write host:port, or :0`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  return { host: match[1] ?? (match[2] === '' ? '127.0.0.1' : (match[2] as string)), port };
}

export function boundAddress(server: { address(): AddressInfo | string | null }): string {
  const { address, port, family } = server.address() as AddressInfo;
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
}

function refusal(text: string): Buffer {
  const head = `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n`;
  return Buffer.from(`${head}Content-Length: ${text.length + 1}\r\n\r\n${text}\n`, 'latin1');
}
