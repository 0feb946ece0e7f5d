/**
 * The RESP listeners: TCP, TLS and unix sockets. Accepts or refuses connections, and makes clients of them.
 *
 * Reading: a plain socket reads into ONE buffer shared by all connections (Node otherwise allocates
 * 64 KiB for every read). That is safe because the bytes are parsed before the callback returns, and
 * what is left over is copied. It needs a socket built around the accepted handle; where Node does
 * not offer the handle, and for TLS, the ordinary 'data' event serves.
 */
import { createServer, type Server, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { connectionRefusal, isFull } from '../acl/protected-mode.ts';
import type { CommandRunners } from '../command/command.ts';
import type { ConnectedClient, ServerState } from '../server-state.ts';
import type { ClientSession } from './client-session.ts';
import { Connection } from './connection.ts';
import { type Endpoint, endpointsOf, listen } from './endpoints.ts';
import type { Greeting } from './greeting.ts';
import { beneath, showsUnknownCertificate, TLS_CONTEXT, tlsOptionsOf } from './tls.ts';

/** What one read may bring; libuv never reads more at a time than this. */
const READ_BUFFER = 64 * 1024;

/** `127.0.0.1:7488`, `tls://127.0.0.1:7490`, `unix:/run/rivulet.sock`. */
export interface Address {
  readonly text: string;
  readonly port: number;
}

/** Listening sockets that were opened while the data was loaded: see loading.ts. */
export interface PortsToTake {
  take(endpoint: Endpoint): Server | null;
}

export class Listeners {
  readonly addresses: Address[] = [];
  readonly #server: ServerState;
  readonly #loading: PortsToTake | null;
  readonly #listening: Server[] = [];
  readonly #readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER);

  /** `loading`: the ports that answered while the data was loaded; they are taken over. */
  constructor(
    server: ServerState,
    runners: CommandRunners<ClientSession>,
    loading: PortsToTake | null = null,
  ) {
    this.#server = server;
    server.connect = (socket, greeting) => new Connection(server, runners, socket, greeting);
    this.#loading = loading;
  }

  /** Opens every endpoint that the configuration names, or none. Rejects with a sentence. */
  async open(): Promise<void> {
    try {
      await this.#openAll();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  async #openAll(): Promise<void> {
    const { config } = this.#server;
    let port = 0;
    for (const endpoint of endpointsOf(config)) {
      const { kind } = endpoint;
      const opened = await this.#listen(endpoint, kind === 'tcp' ? port : 0);
      if (kind === 'tcp' && opened !== null) port = opened;
    }
    if (this.#listening.length === 0) {
      throw new Error('there is nothing to listen on: set port, tls-port or unixsocket');
    }
    if (port > 0) config.note('port', String(port));
  }

  /** A connection that was made while the data was loaded. */
  adopt(socket: Socket, greeting: Greeting | null): void {
    this.#welcome(socket, false, greeting);
    socket.resume();
  }

  /** Accepts no further connections. */
  close(): void {
    for (const server of this.#listening) server.close();
  }

  async #listen(endpoint: Endpoint, chosenPort: number): Promise<number | null> {
    const { config, log } = this.#server;
    const { kind, host } = endpoint;
    const open = this.#loading?.take(endpoint) ?? null;
    if (kind === 'unix' && open !== null) {
      this.#takeOver(open);
      this.addresses.push({ text: `unix:${host}`, port: 0 });
      return 0;
    }
    const server = kind === 'tls' ? this.#tlsServer() : this.#plainServer();
    const port = await listen(server, endpoint, endpoint.port || chosenPort, config, open);
    if (port === null) return null;
    server.on('error', (error) => log.write('warning', `listener failed: ${error.message}`));
    this.#listening.push(server);
    const address = server.address();
    if (address === null || typeof address === 'string') {
      this.addresses.push({ text: `unix:${host}`, port: 0 });
      return 0;
    }
    const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
    const scheme = kind === 'tls' ? 'tls://' : '';
    this.addresses.push({ text: `${scheme}${shown}:${port}`, port });
    return port;
  }

  /** Node cannot move the socket of a pipe server to another server, so this one gets new listeners. */
  #takeOver(server: Server): void {
    Object.assign(server, { pauseOnConnect: true });
    server.removeAllListeners('connection').removeAllListeners('error');
    server.on('connection', (socket) => this.#accept(socket));
    server.on('error', (error) =>
      this.#server.log.write('warning', `listener failed: ${error.message}`),
    );
    this.#listening.push(server);
  }

  #plainServer(): Server {
    return createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) =>
      this.#accept(socket),
    );
  }

  /** CONFIG SET can renew certificates; existing connections keep theirs. */
  #tlsServer(): Server {
    const { config } = this.#server;
    const server = createTlsServer(tlsOptionsOf(config), (socket) => {
      this.#server.handshaking.delete(beneath(socket));
      if (showsUnknownCertificate(socket)) socket.destroy();
      else this.#welcome(socket, false);
    });
    server.on('tlsClientError', (_error: Error, socket: Socket) => this.#noHandshake(socket));
    server.prependListener('connection', (raw: Socket) => this.#beforeHandshake(raw));
    let first = true;
    const renew = (): void => {
      if (!first) server.setSecureContext(tlsOptionsOf(config));
    };
    for (const name of TLS_CONTEXT) config.watch(name, renew);
    first = false;
    return server;
  }

  /** Counts the connection against maxclients from here on, so that handshakes without end are bounded. */
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
    let connection: ConnectedClient | null = null;
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
    const connection = server.connect(socket, greeting);
    server.connections.set(connection.id, connection);
    socket.on('close', () => connection.closed());
    socket.on('end', () => connection.ended());
    socket.on('drain', () => connection.drained());
    if (shared) {
      bind.get(socket)!(connection);
      bind.delete(socket);
      // Starts reading: bytes arrive through onread; the stream emits only its end.
      socket.resume();
    } else {
      socket.on('data', (chunk: Buffer) => connection.receive(chunk, chunk.length));
    }
  }
}

/** Sockets with the shared buffer whose connection does not exist yet. */
const bind = new WeakMap<Socket, (connection: ConnectedClient) => void>();
