/**
 * Listening sockets of the RESP face: TCP, TLS and unix; accepts, refuses, and wires a connection.
 *
 * Reading: a plain socket reads into ONE buffer shared by all connections (Node otherwise allocates
 * 64 KiB for every read). That is safe because the bytes are parsed before the callback returns, and
 * what is left over is copied. It needs a socket built around the accepted handle; where Node does
 * not offer the handle, and for TLS, the ordinary 'data' event serves.
 */
import { chmodSync, lstatSync, readFileSync, unlinkSync } from 'node:fs';
import { createServer, isIP, type ListenOptions, type Server, Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { Connection } from './connection.ts';
import type { Greeting } from './greeting.ts';
import { connectionRefusal, isFull } from './protected-mode.ts';
import type { ServerState } from './server-state.ts';
import { showsUnknownCertificate } from './tls-peer.ts';

/** What one read may bring; libuv never reads more at a time than this. */
const READ_BUFFER = 64 * 1024;

/** How long a TLS handshake may take, ms. */
const HANDSHAKE_MS = 5000;

/** `127.0.0.1:7488`, `tls://127.0.0.1:7490`, `unix:/run/rivulet.sock`. */
export interface Address {
  readonly text: string;
  readonly port: number;
}

/** Listening sockets that others opened: see loading.ts. */
export interface PortsToTake {
  take(host: string | undefined, port: number | undefined): Server | null;
}

export class Listeners {
  readonly addresses: Address[] = [];
  readonly #server: ServerState;
  readonly #loading: PortsToTake | null;
  readonly #listening: Server[] = [];
  readonly #readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER);

  /** `loading`: the ports that answered while the data was loaded; they are taken over. */
  constructor(server: ServerState, loading: PortsToTake | null = null) {
    this.#server = server;
    this.#loading = loading;
  }

  /** Opens everything that the configuration names. Rejects with a sentence. */
  async open(): Promise<void> {
    const { config } = this.#server;
    const hosts = config.get('bind').split(/\s+/).filter(Boolean);
    const port = await this.#openPort(hosts, config.number('port'), null);
    if (port !== null) config.note('port', String(port));
    if (config.number('tls-port') > 0) {
      await this.#openPort(hosts, config.number('tls-port'), this.#tlsOptions());
    }
    if (config.get('unixsocket') !== '') await this.#openUnix(config.path('unixsocket'));
    if (this.#listening.length === 0) {
      throw new Error('nothing to listen on: give a port, a tls-port or a unixsocket');
    }
  }

  /** A connection that was made while the data was loaded. */
  adopt(socket: Socket, greeting: Greeting): void {
    this.#welcome(socket, false, greeting);
    socket.resume();
  }

  /** Accepts nobody any more. */
  close(): void {
    for (const server of this.#listening) server.close();
  }

  /**
   * Port 0 asks for any free one: the first address chooses, the others follow. A `port` of 0 next to
   * a TLS port or a unix socket means, as in Redis, no plain listener at all.
   */
  async #openPort(hosts: string[], port: number, tls: TlsOptions | null): Promise<number | null> {
    const { config } = this.#server;
    const elsewhere = config.number('tls-port') > 0 || config.get('unixsocket') !== '';
    if (port === 0 && elsewhere) return null;
    let chosen = port;
    for (const word of hosts) {
      // `-::1`: an address that may be missing on this machine, as in Redis.
      const optional = word.startsWith('-');
      const host = hostOf(optional ? word.slice(1) : word);
      try {
        chosen = await this.#listen(
          { host, port: chosen, backlog: config.number('tcp-backlog'), ipv6Only: isIP(host) === 6 },
          tls,
          word,
        );
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (optional && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) continue;
        throw new Error(reason(error as NodeJS.ErrnoException, `${host}:${chosen}`));
      }
    }
    return chosen;
  }

  async #listen(options: ListenOptions, tls: TlsOptions | null, shown: string): Promise<number> {
    const server =
      tls === null
        ? createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) =>
            this.#accept(socket),
          )
        : this.#tlsServer(tls);
    server.on('tlsClientError', (_error: Error, socket: Socket) => this.#noHandshake(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      const open = tls === null ? this.#loading?.take(options.host, options.port) : undefined;
      // The listening socket itself changes its owner: nothing is refused in between.
      server.listen(open ?? options, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', (error) => {
      this.#server.log.write('warning', `listener failed: ${error.message}`);
    });
    this.#listening.push(server);
    const address = server.address();
    if (address === null || typeof address === 'string') {
      this.addresses.push({ text: `unix:${shown}`, port: 0 });
      return 0;
    }
    const host = address.family === 'IPv6' ? `[${address.address}]` : address.address;
    const scheme = tls === null ? '' : 'tls://';
    this.addresses.push({ text: `${scheme}${host}:${address.port}`, port: address.port });
    return address.port;
  }

  /** Certificates can be renewed with CONFIG SET; connections that exist keep theirs. */
  #tlsServer(options: TlsOptions): Server {
    const settings = { ...options, allowHalfOpen: true, handshakeTimeout: HANDSHAKE_MS };
    const server = createTlsServer(settings, (socket) => {
      this.#server.handshaking.delete(beneath(socket));
      if (showsUnknownCertificate(socket)) socket.destroy();
      else this.#welcome(socket, false);
    });
    server.prependListener('connection', (raw: Socket) => this.#beforeHandshake(raw));
    let first = true;
    const renew = (): void => {
      if (!first) server.setSecureContext(this.#tlsOptions());
    };
    for (const name of TLS_CONTEXT) this.#server.config.watch(name, renew);
    first = false;
    return server;
  }

  /** A connection counts from here on: a handshake that never ends takes a client's place. */
  #beforeHandshake(raw: Socket): void {
    const { handshaking, statistics } = this.#server;
    if (isFull(this.#server)) {
      statistics.connections++;
      statistics.rejectedConnections++;
      raw.on('error', () => {});
      raw.destroy();
      return;
    }
    handshaking.add(raw);
    raw.once('close', () => handshaking.delete(raw));
  }

  #noHandshake(socket: Socket): void {
    this.#server.handshaking.delete(beneath(socket));
    socket.destroy();
  }

  async #openUnix(path: string): Promise<void> {
    // One that a dead server left behind; any other kind of file is not ours to remove.
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) unlinkSync(path);
    try {
      await this.#listen({ path }, null, path);
    } catch (error) {
      throw new Error(reason(error as NodeJS.ErrnoException, path));
    }
    const permission = Number.parseInt(this.#server.config.get('unixsocketperm'), 8);
    if (permission > 0) chmodSync(path, permission);
  }

  #tlsOptions(): TlsOptions {
    const { config } = this.#server;
    const file = (name: string): Buffer => {
      try {
        return readFileSync(config.path(name));
      } catch (error) {
        throw new Error(`can't read ${name} '${config.path(name)}': ${(error as Error).message}`);
      }
    };
    if (config.get('tls-cert-file') === '' || config.get('tls-key-file') === '') {
      throw new Error('tls-port needs tls-cert-file and tls-key-file');
    }
    const auth = config.get('tls-auth-clients');
    const authorities = config.get('tls-ca-cert-file');
    if (auth !== 'no' && authorities === '') {
      throw new Error(
        'tls-port needs tls-ca-cert-file to check client certificates, or tls-auth-clients no',
      );
    }
    const options: TlsOptions = {
      cert: file('tls-cert-file'),
      key: file('tls-key-file'),
      requestCert: auth !== 'no',
      rejectUnauthorized: auth === 'yes',
      honorCipherOrder: config.yes('tls-prefer-server-ciphers'),
    };
    if (authorities !== '') options.ca = file('tls-ca-cert-file');
    if (config.get('tls-key-file-pass') !== '') {
      options.passphrase = config.get('tls-key-file-pass');
    }
    const ciphers = [config.get('tls-ciphersuites'), config.get('tls-ciphers')].filter(Boolean);
    if (ciphers.length > 0) options.ciphers = ciphers.join(':');
    const protocols = config.get('tls-protocols').split(/\s+/).filter(Boolean).sort();
    if (protocols.length > 0) {
      options.minVersion = protocols[0] as TlsOptions['minVersion'] & string;
      options.maxVersion = protocols.at(-1) as TlsOptions['maxVersion'] & string;
    }
    return options;
  }

  #accept(accepted: Socket): void {
    const taken = this.#server.failures.attempt('accepting a client', () => this.#take(accepted));
    if (!taken) accepted.destroy();
  }

  /** A plain socket, paused and not yet read from: rebuilt around the shared read buffer. */
  #take(accepted: Socket): void {
    const shared = this.#withSharedBuffer(accepted);
    if (shared === null) {
      this.#welcome(accepted, false);
      accepted.resume();
    } else {
      this.#welcome(shared, true);
    }
  }

  #withSharedBuffer(accepted: Socket): Socket | null {
    const inner = accepted as unknown as {
      _handle: object | null;
      _server: unknown;
      server: unknown;
    };
    const handle = inner._handle as { useUserBuffer?: unknown } | null;
    if (typeof handle?.useUserBuffer !== 'function') return null;
    let connection: Connection | null = null;
    const onread = {
      buffer: this.#readBuffer,
      callback: (length: number, buffer: Uint8Array): boolean => {
        connection?.receive(buffer as Buffer, length);
        return true;
      },
    };
    inner._handle = null;
    const socket = new Socket({ handle, onread, allowHalfOpen: true } as never);
    // The listener counts its connections through these.
    const counted = socket as unknown as { _server: unknown; server: unknown };
    counted._server = inner._server;
    counted.server = inner.server;
    bind.set(socket, (found) => {
      connection = found;
    });
    return socket;
  }

  #welcome(socket: Socket, shared: boolean, greeting: Greeting | null = null): void {
    const server = this.#server;
    server.statistics.connections++;
    socket.on('error', () => socket.destroy());
    const refusal = connectionRefusal(server, socket);
    if (refusal !== null) {
      server.statistics.rejectedConnections++;
      socket.end(`-${refusal}\r\n`);
      socket.destroySoon();
      return;
    }
    socket.setNoDelay(true);
    const keepAlive = server.config.number('tcp-keepalive');
    if (keepAlive > 0) socket.setKeepAlive(true, keepAlive * 1000);
    const connection = new Connection(server, socket, greeting);
    server.connections.set(connection.id, connection);
    socket.on('close', () => connection.closed());
    socket.on('end', () => connection.ended());
    socket.on('drain', () => connection.drained());
    if (shared) {
      bind.get(socket)!(connection);
      bind.delete(socket);
      // Starts the flow: bytes arrive through onread, the stream itself only ever brings the end.
      socket.resume();
    } else {
      socket.on('data', (chunk: Buffer) => connection.receive(chunk, chunk.length));
    }
  }
}

const TLS_CONTEXT = [
  'tls-cert-file',
  'tls-key-file',
  'tls-key-file-pass',
  'tls-ca-cert-file',
  'tls-ciphers',
  'tls-ciphersuites',
  'tls-protocols',
  'tls-prefer-server-ciphers',
];

/** The socket that a TLS socket was made of. */
function beneath(socket: Socket): object {
  return (socket as unknown as { _parent?: Socket })._parent ?? socket;
}

/** Sockets with the shared buffer, until they are told their connection. */
const bind = new WeakMap<Socket, (connection: Connection) => void>();

/** `*` means every IPv4 address, as in Redis. */
export function hostOf(word: string): string {
  return word === '*' ? '0.0.0.0' : word === '::*' ? '::' : word;
}

export function reason(error: NodeJS.ErrnoException, where: string): string {
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
