/**
 * The tcp transport: our framing over one connection per node.
 *
 * A listener can also be given sockets by another one that looked at their first bytes (sniffer.ts).
 * Node metadata: `rivulet.tcp` is where to dial, `rivulet.token` what to say there, so that a process
 * that took over the address of another is not called in its place.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { RivuletError } from '../errors.ts';
import { splitAddress } from '../registry/record.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Scheduler } from '../util/scheduler.ts';
import { systemScheduler } from '../util/system-scheduler.ts';
import { TcpClient } from './tcp-client.ts';
import { PREFACE } from './tcp-frame.ts';
import { TcpServerConnection } from './tcp-server.ts';
import type { Channel, DialOptions, Listener, ListenOptions, Transport } from './transport.ts';

export const TCP_ADDRESS = 'rivulet.tcp';
export const TCP_TOKEN = 'rivulet.token';
const DIAL_MS = 5000;
/** A connection that has not said its first bytes by then is closed. */
const PREFACE_MS = 10_000;
const MAX_CONNECTIONS = 10_000;

export class TcpTransport implements Transport {
  readonly name = 'tcp';
  readonly #scheduler: Scheduler;

  constructor(scheduler: Scheduler = systemScheduler) {
    this.#scheduler = scheduler;
  }

  canDial(node: ServiceNode): boolean {
    return node.metadata[TCP_ADDRESS] !== undefined;
  }

  async listen(options: ListenOptions): Promise<Listener> {
    const at = splitListenAddress(options.address);
    const connections = new TcpConnections(options, this.#scheduler);
    /** Connections that have not said who they are. */
    const unknown = new Set<Socket>();
    const server = createServer({ noDelay: true }, (socket) => {
      unknown.add(socket);
      socket.once('close', () => unknown.delete(socket));
      this.#expectPreface(socket, () => {
        unknown.delete(socket);
        connections.add(socket);
      });
    });
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => {
        const text = `cannot listen on ${options.address}: ${cause.message}`;
        reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
      });
      server.listen(at.port, at.host, resolve);
    });
    server.on('error', () => {});
    const address = boundAddress(server);
    return {
      address,
      metadata: { [TCP_ADDRESS]: address, [TCP_TOKEN]: options.token ?? '' },
      async close(drainMs = 0) {
        const closed = new Promise((resolve) => server.close(resolve));
        for (const socket of unknown) socket.destroy();
        await connections.close(drainMs);
        await closed;
      },
    };
  }

  async dial(node: ServiceNode, options: DialOptions = {}): Promise<Channel> {
    const address = node.metadata[TCP_ADDRESS] ?? node.address;
    const at = splitAddress(address);
    if (at === null) {
      const text = `node ${node.id}: ${JSON.stringify(address.slice(0, 100))} is no host:port`;
      throw new RivuletError('CONNECTION_FAILED', text);
    }
    const timeoutMs = options.timeoutMs ?? DIAL_MS;
    const socket = await this.#connect(at, timeoutMs);
    const client = new TcpClient(socket, {
      scheduler: this.#scheduler,
      token: node.metadata[TCP_TOKEN] ?? '',
      nodeId: node.id,
      onGone: options.onGone ?? (() => {}),
    });
    await client.greet(timeoutMs);
    return client;
  }

  #connect(at: { host: string; port: number }, timeoutMs: number): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: at.host, port: at.port, noDelay: true });
      const fail = (why: string, cause?: Error) => {
        stop();
        socket.destroy();
        const text = `cannot connect to ${at.host}:${at.port}: ${why}`;
        reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
      };
      const stop = this.#scheduler.after(timeoutMs, () => fail(`no answer in ${timeoutMs} ms`));
      const onError = (cause: Error) => fail(cause.message, cause);
      socket.once('error', onError);
      socket.once('connect', () => {
        stop();
        socket.off('error', onError);
        resolve(socket);
      });
    });
  }

  /** Reads the first four bytes and leaves the rest for the connection. */
  #expectPreface(socket: Socket, isOurs: () => void): void {
    const stop = this.#scheduler.after(PREFACE_MS, () => socket.destroy(), false);
    socket.on('error', () => socket.destroy());
    socket.once('close', stop);
    const read = () => {
      const bytes = socket.read(PREFACE.length) as Buffer | null;
      if (bytes === null) return;
      socket.off('readable', read);
      stop();
      if (bytes.toString('latin1') === PREFACE) isOurs();
      else socket.destroy();
    };
    socket.on('readable', read);
  }
}

/** The connections of one listener. */
export class TcpConnections {
  readonly #options: ListenOptions;
  readonly #scheduler: Scheduler;
  readonly #connections = new Set<TcpServerConnection>();

  constructor(options: ListenOptions, scheduler: Scheduler) {
    this.#options = options;
    this.#scheduler = scheduler;
  }

  /** Takes over a socket whose preface has been read. */
  add(socket: Socket): void {
    const connection = new TcpServerConnection(socket, {
      handler: this.#options.handler,
      scheduler: this.#scheduler,
      token: this.#options.token ?? '',
      nodeId: this.#options.nodeId ?? '',
      onClosed: (closed) => this.#connections.delete(closed),
    });
    this.#connections.add(connection);
  }

  async close(drainMs: number): Promise<void> {
    await Promise.all([...this.#connections].map((connection) => connection.close(drainMs)));
  }
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

function boundAddress(server: Server): string {
  const { address, port, family } = server.address() as AddressInfo;
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
}
