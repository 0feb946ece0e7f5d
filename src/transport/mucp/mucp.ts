/**
 * The http transport: go-micro's mucp, unary, with clients and servers written in Go.
 *
 * Streams of mucp are several unasked replies on one connection, which no HTTP client can pair: they
 * are UNSUPPORTED. Cost: undici and node:http.
 */
import type { ServiceNode } from '../../registry/registry.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { type Door, listenOnPort, type PortTransport } from '../port.ts';
import { speaks } from '../protocols.ts';
import { DIAL_MS, type TransportSetup } from '../tcp/tcp.ts';
import { connectTo, TLS_NODE, type TlsOptions } from '../tls.ts';
import type { Channel, DialOptions, Listener, ListenOptions } from '../transport.ts';
import { MucpClient } from './mucp-client.ts';
import { MucpDoor } from './mucp-server.ts';

export interface MucpSetup extends TransportSetup {
  /** Largest message that is sent or accepted, in bytes. Default 16 MiB. */
  readonly maxMessageBytes?: number | undefined;
}

export class MucpTransport implements PortTransport {
  readonly name = 'http';
  readonly #scheduler: Scheduler;
  readonly #tls: TlsOptions | undefined;
  readonly #maxMessageBytes: number | undefined;

  constructor({ scheduler = systemScheduler, tls, maxMessageBytes }: MucpSetup = {}) {
    this.#maxMessageBytes = maxMessageBytes;
    this.#scheduler = scheduler;
    this.#tls = tls;
  }

  canDial(node: ServiceNode): boolean {
    return speaks(node, 'http');
  }

  listen(options: ListenOptions): Promise<Listener> {
    return listenOnPort([this], options, this.#scheduler);
  }

  door(options: ListenOptions): Door {
    return new MucpDoor(options, this.#scheduler, this.#maxMessageBytes);
  }

  async dial(node: ServiceNode, options: DialOptions = {}): Promise<Channel> {
    const connect = () =>
      connectTo(node, node.address, {
        timeoutMs: options.timeoutMs ?? DIAL_MS,
        scheduler: this.#scheduler,
        tls: this.#tls,
        alpn: ['http/1.1'],
        signal: options.signal,
      });
    let first: ReturnType<typeof connect> | null = connect();
    const socket = await first;
    // Until the first call takes it, the socket must not end the process or be used when it is gone.
    socket.once('error', () => {});
    return new MucpClient(node, {
      scheduler: this.#scheduler,
      maxMessageBytes: this.#maxMessageBytes,
      isSecure: this.#tls !== undefined || node.metadata[TLS_NODE] === 'true',
      connect: () => {
        const made = socket.destroyed ? null : first;
        first = null;
        return made ?? connect();
      },
      onGone: options.onGone ?? (() => {}),
    });
  }
}
