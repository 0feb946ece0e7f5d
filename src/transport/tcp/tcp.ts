/**
 * The tcp transport: our framing over one connection per node.
 *
 * Node metadata: `rivulet.tcp` is where to dial, `rivulet.token` what to say there, so that a process
 * that took over the address of another is not called in its place. Cost: see tcp-frame.ts.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ServiceNode } from '../../registry/registry.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { type Door, listenOnPort, type PortTransport } from '../port.ts';
import { connectTo, type TlsOptions } from '../tls.ts';
import type { Channel, DialOptions, Listener, ListenOptions } from '../transport.ts';
import { TcpClient } from './tcp-client.ts';
import { PREFACE } from './tcp-frame.ts';
import { TcpServerConnection } from './tcp-server.ts';

const TCP_ADDRESS = 'rivulet.tcp';
export const TCP_TOKEN = 'rivulet.token';
export const DIAL_MS = 5000;

export interface TransportSetup {
  readonly scheduler?: Scheduler;
  /** What dialled connections prove themselves with and believe; with it they are always TLS. */
  readonly tls?: TlsOptions | undefined;
}

export class TcpTransport implements PortTransport {
  readonly name = 'tcp';
  readonly #scheduler: Scheduler;
  readonly #tls: TlsOptions | undefined;

  constructor({ scheduler = systemScheduler, tls }: TransportSetup = {}) {
    this.#scheduler = scheduler;
    this.#tls = tls;
  }

  canDial(node: ServiceNode): boolean {
    return node.metadata[TCP_ADDRESS] !== undefined;
  }

  listen(options: ListenOptions): Promise<Listener> {
    return listenOnPort([this], options, this.#scheduler);
  }

  door(options: ListenOptions): Door {
    const connections = new FramedConnections(options, this.#scheduler);
    return {
      recognises: (first) => startsWith(first, PREFACE),
      accept(socket, first) {
        const rest = first.subarray(PREFACE.length);
        if (rest.length > 0) socket.unshift(rest);
        connections.add(socket, peerOf(socket));
      },
      metadata: (address) => ({ [TCP_ADDRESS]: address, [TCP_TOKEN]: options.token ?? '' }),
      close: (drainMs) => connections.close(drainMs),
    };
  }

  async dial(node: ServiceNode, options: DialOptions = {}): Promise<Channel> {
    const timeoutMs = options.timeoutMs ?? DIAL_MS;
    const socket = await connectTo(node, node.metadata[TCP_ADDRESS] ?? node.address, {
      timeoutMs,
      scheduler: this.#scheduler,
      tls: this.#tls,
      alpn: ['rivulet.1'],
      signal: options.signal,
    });
    const client = new TcpClient(socket, {
      scheduler: this.#scheduler,
      token: node.metadata[TCP_TOKEN] ?? '',
      nodeId: node.id,
      peer: peerOf(socket),
      preface: PREFACE,
      onGone: options.onGone ?? (() => {}),
    });
    await client.greet(timeoutMs);
    return client;
  }
}

/** The connections of one listener that speak our framing, whatever carries it. */
export class FramedConnections {
  readonly #options: ListenOptions;
  readonly #scheduler: Scheduler;
  readonly #connections = new Set<TcpServerConnection>();
  readonly #largestWrite: number | undefined;

  /** `largestWrite`: as of FramedSocket. */
  constructor(options: ListenOptions, scheduler: Scheduler, largestWrite?: number) {
    this.#options = options;
    this.#scheduler = scheduler;
    this.#largestWrite = largestWrite;
  }

  /** Takes over a stream whose preface has been read. */
  add(socket: Duplex, peer: string): void {
    const connection = new TcpServerConnection(socket, {
      handler: this.#options.handler,
      scheduler: this.#scheduler,
      token: this.#options.token ?? '',
      nodeId: this.#options.nodeId ?? '',
      peer,
      largestWrite: this.#largestWrite,
      onClosed: (closed) => this.#connections.delete(closed),
    });
    this.#connections.add(connection);
  }

  async close(drainMs: number): Promise<void> {
    await Promise.all([...this.#connections].map((connection) => connection.close(drainMs)));
  }
}

/** host:port of the other end, for errors and the access log. */
export function peerOf(socket: Socket): string {
  return `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
}

/** Null while the bytes are a beginning of the text only. */
export function startsWith(first: Uint8Array, text: string): boolean | null {
  const length = Math.min(first.length, text.length);
  for (let i = 0; i < length; i++) if (first[i] !== text.charCodeAt(i)) return false;
  return length === text.length ? true : null;
}
