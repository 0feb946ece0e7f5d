/**
 * What a member needs of the network: datagrams, and streams of bytes, on one port.
 *
 * Holds: the interface, and the real one on UDP and TCP. Invariants: both sockets have the same port; at
 * most `maxStreams` streams that others opened are served at once (stream-slots.ts); a stream that fails rejects its reads and ends nothing else; after `close` nothing is received. Cost: one
 * datagram or one connection for each call.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Endpoint, textOf } from './endpoint.ts';
import { StreamSlots } from './stream-slots.ts';

export interface GossipStream {
  /** The next bytes; null at the end. */
  read(): Promise<Uint8Array | null>;
  write(bytes: Uint8Array): Promise<void>;
  /** Ends it at once; reads that wait reject or give null. */
  close(): void;
}

export interface GossipHandlers {
  onPacket(bytes: Uint8Array, from: Endpoint): void;
  /** The stream is closed when the promise settles. */
  onStream(stream: GossipStream, from: Endpoint): Promise<void>;
}

export interface GossipNetwork {
  /** Listens; gives the address that both sockets have. */
  listen(at: Endpoint, maxStreams: number, handlers: GossipHandlers): Promise<Endpoint>;
  /** Resolves when the system has it or has dropped it. */
  send(bytes: Uint8Array, to: Endpoint): Promise<void>;
  connect(to: Endpoint): Promise<GossipStream>;
  /** The addresses of a host name. */
  resolve(host: string): Promise<string[]>;
  close(): Promise<void>;
}

/** Where the port is free for choice: a port that is free for TCP may be taken for UDP. */
const MAX_TRIES = 20;

export class SocketNetwork implements GossipNetwork {
  readonly #streams = new Set<Socket>();
  #udp: UdpSocket | null = null;
  #server: Server | null = null;
  #isClosed = false;

  async listen(at: Endpoint, maxStreams: number, handlers: GossipHandlers): Promise<Endpoint> {
    for (let tries = 1; ; tries++) {
      if (this.#isClosed) throw new Error('the registry is closed');
      const server = await this.#listenTcp(at, maxStreams, handlers);
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : at.port;
      try {
        this.#udp = await this.#bindUdp({ host: at.host, port }, handlers);
        this.#server = server;
        return { host: at.host, port };
      } catch (error) {
        await new Promise((resolve) => server.close(resolve));
        const isTaken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
        if (at.port !== 0 || !isTaken || tries >= MAX_TRIES) throw error;
      }
    }
  }

  send(bytes: Uint8Array, { host, port }: Endpoint): Promise<void> {
    return new Promise((resolve) => {
      // What cannot be sent is lost, as on the way; a datagram may name port 0 as its source.
      if (this.#udp === null || this.#isClosed || port === 0) resolve();
      else this.#udp.send(bytes, port, host, () => resolve());
    });
  }

  async connect({ host, port }: Endpoint): Promise<GossipStream> {
    if (this.#isClosed) throw new Error('the registry is closed');
    const socket = connect({ host, port });
    const stream = this.#streamOf(socket);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
        socket.once('close', () =>
          reject(new Error(`${textOf({ host, port })} closed the connection`)),
        );
      });
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return stream;
  }

  async resolve(host: string): Promise<string[]> {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const socket of this.#streams) socket.destroy();
    const [udp, server] = [this.#udp, this.#server];
    await Promise.all([
      udp === null || new Promise<void>((resolve) => udp.close(() => resolve())),
      server === null || new Promise((resolve) => server.close(resolve)),
    ]);
  }

  async #listenTcp(at: Endpoint, maxStreams: number, handlers: GossipHandlers): Promise<Server> {
    const slots = new StreamSlots(maxStreams);
    const server = createServer((socket) => {
      if (this.#isClosed) {
        socket.destroy();
        return;
      }
      const from = { host: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
      const slot = {
        host: from.host,
        isSilent: () => socket.bytesRead === 0,
        close: () => void socket.destroy(),
      };
      if (!slots.take(slot)) {
        socket.destroy();
        return;
      }
      socket.once('close', () => slots.free(slot));
      const stream = this.#streamOf(socket);
      const end = () => stream.close();
      handlers.onStream(stream, from).then(end, end);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(at.port, at.host, resolve);
    });
    // No descriptors for a connection: the next one may have some.
    server.on('error', () => {});
    return server;
  }

  async #bindUdp({ host, port }: Endpoint, handlers: GossipHandlers): Promise<UdpSocket> {
    const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4' });
    await new Promise<void>((resolve, reject) => {
      socket.once('error', (error) => {
        socket.close();
        reject(error);
      });
      socket.bind(port, host, () => {
        socket.removeAllListeners('error');
        resolve();
      });
    });
    // An ICMP answer to an earlier datagram.
    socket.on('error', () => {});
    socket.on('message', (bytes, from) => {
      if (!this.#isClosed) handlers.onPacket(bytes, { host: from.address, port: from.port });
    });
    return socket;
  }

  #streamOf(socket: Socket): GossipStream {
    this.#streams.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#streams.delete(socket));
    const chunks = socket[Symbol.asyncIterator]();
    return {
      async read() {
        const { value, done } = await chunks.next();
        return done ? null : (value as Buffer);
      },
      write: (bytes) =>
        new Promise((resolve, reject) => {
          socket.write(bytes, (error) => (error ? reject(error) : resolve()));
        }),
      // What a settled write has handed over, the system sends. What still waits here is for a peer that
      // does not read, and would keep the connection open.
      close: () => socket.destroy(),
    };
  }
}
