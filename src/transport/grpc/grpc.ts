/**
 * The grpc transport: every kind of call, with clients and servers in any language.
 *
 * On node:http2 and not on grpc-js: go-micro needs paths that are not known beforehand, the content
 * type of a request and a choice of it for a reply, and JSON as well as protobuf, and grpc-js hides or
 * fixes all of them. What Node does not do is five bytes before a message and a status behind it.
 * Users' own grpc-js clients and definitions are another matter: grpc-resolver.ts and
 * rpc/grpc-definition.ts. Cost: Node's http2.
 */
import { type ClientHttp2Session, connect } from 'node:http2';
import type { Socket } from 'node:net';
import { RivuletError } from '../../errors.ts';
import type { ServiceNode } from '../../registry/registry.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { MAX_HEADER_BYTES } from '../headers.ts';
import { type Door, listenOnPort, type PortTransport } from '../port.ts';
import { PROTOCOLS, speaks } from '../protocols.ts';
import { DIAL_MS, type TransportSetup } from '../tcp/tcp.ts';
import { connectTo, TLS_NODE, type TlsOptions } from '../tls.ts';
import type {
  Channel,
  DescribedServices,
  DialOptions,
  Listener,
  ListenOptions,
} from '../transport.ts';
import { GrpcClient } from './grpc-client.ts';
import { MAX_MESSAGE } from './grpc-framing.ts';
import { healthRoutes } from './grpc-health.ts';
import { reflectionRoutes } from './grpc-reflection.ts';
import { GrpcDoor } from './grpc-server.ts';

const WINDOW = 256 * 1024;
const SESSION_WINDOW = 8 * 1024 * 1024;

const NOTHING_DESCRIBED: DescribedServices = { services: [], files: [], isHealthy: () => true };

export interface GrpcSetup extends TransportSetup {
  /** Largest message either way. Default 4 MiB, gRPC's. */
  readonly maxMessageBytes?: number | undefined;
}

export class GrpcTransport implements PortTransport {
  readonly name = 'grpc';
  readonly #scheduler: Scheduler;
  readonly #tls: TlsOptions | undefined;
  readonly #maxMessageBytes: number;

  constructor({ scheduler = systemScheduler, tls, maxMessageBytes = MAX_MESSAGE }: GrpcSetup = {}) {
    if (
      !Number.isSafeInteger(maxMessageBytes) ||
      maxMessageBytes < 1 ||
      maxMessageBytes >= 2 ** 32
    ) {
      const text = `maxMessageBytes must be a whole number from 1 to ${2 ** 32 - 1}, not ${maxMessageBytes}`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    this.#scheduler = scheduler;
    this.#tls = tls;
    this.#maxMessageBytes = maxMessageBytes;
  }

  canDial(node: ServiceNode): boolean {
    return speaks(node, 'grpc');
  }

  listen(options: ListenOptions): Promise<Listener> {
    return listenOnPort([this], options, this.#scheduler);
  }

  door(options: ListenOptions): Door {
    const { described = NOTHING_DESCRIBED } = options;
    const routes = new Map([
      ...healthRoutes(described, this.#scheduler),
      ...reflectionRoutes(described),
    ]);
    return new GrpcDoor(options, {
      scheduler: this.#scheduler,
      maxMessageBytes: this.#maxMessageBytes,
      routes: (path) => routes.get(path) ?? null,
    });
  }

  async dial(node: ServiceNode, options: DialOptions = {}): Promise<Channel> {
    const timeoutMs = options.timeoutMs ?? DIAL_MS;
    const isSecure = this.#tls !== undefined || node.metadata[TLS_NODE] === 'true';
    const socket = await connectTo(node, node.address, {
      timeoutMs,
      scheduler: this.#scheduler,
      tls: this.#tls,
      alpn: ['h2'],
      signal: options.signal,
    });
    const session = await this.#openSession(socket, node, isSecure, timeoutMs);
    return new GrpcClient(session, {
      scheduler: this.#scheduler,
      peer: node.address,
      maxMessageBytes: this.#maxMessageBytes,
      isSecure,
      bytesRead: () => socket.bytesRead,
      isOurs: node.metadata[PROTOCOLS] !== undefined,
      onGone: options.onGone ?? (() => {}),
    });
  }

  /** Resolves when the peer has shown that it speaks HTTP/2. */
  #openSession(
    socket: Socket,
    node: ServiceNode,
    isSecure: boolean,
    timeoutMs: number,
  ): Promise<ClientHttp2Session> {
    const session = connect(`${isSecure ? 'https' : 'http'}://${node.address}`, {
      createConnection: () => socket,
      settings: {
        enablePush: false,
        initialWindowSize: WINDOW,
        maxHeaderListSize: 2 * MAX_HEADER_BYTES,
      },
      maxSessionMemory: 64,
    });
    return new Promise((resolve, reject) => {
      const fail = (why: string, cause?: Error) => {
        stop();
        session.destroy();
        const text = `${node.address} does not speak gRPC: ${why}`;
        reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
      };
      const stop = this.#scheduler.after(timeoutMs, () => fail(`no answer in ${timeoutMs} ms`));
      const onError = (cause: Error) => fail(cause.message, cause);
      const onClose = () => fail('it closed the connection');
      session.on('error', onError);
      session.once('close', onClose);
      session.once('remoteSettings', () => {
        stop();
        session.off('close', onClose);
        session.setLocalWindowSize(SESSION_WINDOW);
        resolve(session);
        // Its owner handles errors from now on.
        process.nextTick(() => session.off('error', onError));
      });
    });
  }
}
