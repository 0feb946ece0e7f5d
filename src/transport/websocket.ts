/**
 * The ws transport: our framing in the messages of a WebSocket, for where only HTTP gets through.
 *
 * Invariants: as tcp's; what the two sides speak is agreed by the subprotocol `rivulet.1`; a browser's
 * page is refused, because its user's other pages could call a service on this machine; a large frame is
 * sent in several messages, because a message is read when it has come whole, and a peer of which nothing
 * is read is taken for lost. Bound: `MAX_PAYLOAD` of a message. Cost: tcp's and four to fourteen bytes for
 * each write.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type * as Ws from 'ws';
import { RivuletError } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { endConnection } from './end-connection.ts';
import { MAX_HEADER_BYTES } from './headers.ts';
import { type Door, FIRST_BYTES_MS, listenOnPort, type PortTransport } from './port.ts';
import { speaks } from './protocols.ts';
import {
  DIAL_MS,
  FramedConnections,
  peerOf,
  startsWith,
  TCP_TOKEN,
  type TransportSetup,
} from './tcp/tcp.ts';
import { TcpClient } from './tcp/tcp-client.ts';
import { connectTo, TLS_NODE, type TlsOptions } from './tls.ts';
import type { Channel, DialOptions, Listener, ListenOptions } from './transport.ts';

const SUBPROTOCOL = 'rivulet.1';
/** A peer that sends 22 KiB a second is heard of within the three seconds after which it would be lost. */
const LARGEST_WRITE = 64 * 1024;
/** Of a message that comes. Before the peer has greeted too, so no more than a few of ours. */
const MAX_PAYLOAD = 16 * LARGEST_WRITE;
const loading = () => import('ws');

export class WebSocketTransport implements PortTransport {
  readonly name = 'ws';
  readonly #scheduler: Scheduler;
  readonly #tls: TlsOptions | undefined;

  constructor({ scheduler = systemScheduler, tls }: TransportSetup = {}) {
    this.#scheduler = scheduler;
    this.#tls = tls;
  }

  canDial(node: ServiceNode): boolean {
    return speaks(node, 'ws');
  }

  listen(options: ListenOptions): Promise<Listener> {
    return listenOnPort([this], options, this.#scheduler);
  }

  door(options: ListenOptions): Door {
    return new WebSocketDoor(options, this.#scheduler);
  }

  async dial(node: ServiceNode, options: DialOptions = {}): Promise<Channel> {
    const timeoutMs = options.timeoutMs ?? DIAL_MS;
    const socket = await connectTo(node, node.address, {
      timeoutMs,
      scheduler: this.#scheduler,
      signal: options.signal,
      tls: this.#tls,
      alpn: ['http/1.1'],
    });
    const isSecure = this.#tls !== undefined || node.metadata[TLS_NODE] === 'true';
    const stream = await this.#upgrade(socket, node, isSecure, timeoutMs);
    const client = new TcpClient(stream, {
      scheduler: this.#scheduler,
      token: node.metadata[TCP_TOKEN] ?? '',
      nodeId: node.id,
      peer: node.address,
      preface: '',
      largestWrite: LARGEST_WRITE,
      onGone: options.onGone ?? (() => {}),
    });
    await client.greet(timeoutMs);
    return client;
  }

  async #upgrade(
    socket: Socket,
    node: ServiceNode,
    isSecure: boolean,
    timeoutMs: number,
  ): Promise<Duplex> {
    const { WebSocket, createWebSocketStream } = await loading();
    const url = `${isSecure ? 'wss' : 'ws'}://${node.address}/`;
    const webSocket = new WebSocket(url, [SUBPROTOCOL], {
      createConnection: () => socket,
      perMessageDeflate: false,
      maxPayload: MAX_PAYLOAD,
    });
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string, cause?: Error) => {
        stop();
        webSocket.terminate();
        const text = `${node.address} took no WebSocket: ${why}`;
        reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
      };
      const stop = this.#scheduler.after(timeoutMs, () => fail(`no answer in ${timeoutMs} ms`));
      webSocket.on('error', (cause) => fail(cause.message, cause));
      webSocket.once('close', () => fail('it closed the connection'));
      webSocket.once('open', () => {
        stop();
        resolve();
      });
    });
    return createWebSocketStream(webSocket);
  }
}

class WebSocketDoor implements Door {
  readonly #options: ListenOptions;
  readonly #scheduler: Scheduler;
  readonly #connections: FramedConnections;
  readonly #http: Server;
  readonly #sockets = new Set<Duplex>();
  #server: Ws.WebSocketServer | null = null;
  #isLeaving = false;

  constructor(options: ListenOptions, scheduler: Scheduler) {
    this.#options = options;
    this.#scheduler = scheduler;
    this.#connections = new FramedConnections(options, scheduler, LARGEST_WRITE);
    this.#http = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: FIRST_BYTES_MS,
        requestTimeout: FIRST_BYTES_MS,
        connectionsCheckingInterval: 1000,
      },
      (_request, response) => {
        response.writeHead(426, { Upgrade: 'websocket', Connection: 'close' });
        response.end('GET is for WebSockets here\n');
      },
    );
    this.#http.on('upgrade', (request, socket, head) => {
      void this.#onUpgrade(request, socket, head);
    });
    // The server is given its connections; what watches their deadlines starts with this event.
    this.#http.emit('listening');
  }

  recognises(first: Uint8Array): boolean | null {
    return startsWith(first, 'GET ');
  }

  accept(socket: Socket, first: Buffer): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.unshift(first);
    this.#http.emit('connection', socket);
  }

  metadata(): Record<string, string> {
    return { [TCP_TOKEN]: this.#options.token ?? '' };
  }

  async close(drainMs: number): Promise<void> {
    this.#isLeaving = true;
    await this.#connections.close(drainMs);
    for (const socket of this.#sockets) socket.destroy();
    // The answer to `close` is an error where the server never listened; its timer ends with it.
    this.#http.close(() => {});
  }

  async #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    if (request.headers.origin !== undefined) {
      this.#refuse(socket, 403, 'pages of a browser may not call this service');
      return;
    }
    const asked = request.headers['sec-websocket-protocol'] ?? '';
    if (!asked.split(',').some((each) => each.trim() === SUBPROTOCOL)) {
      this.#refuse(socket, 400, `the subprotocol must be ${SUBPROTOCOL}`);
      return;
    }
    const { WebSocketServer, createWebSocketStream } = await loading();
    if (this.#isLeaving || socket.destroyed) {
      socket.destroy();
      return;
    }
    this.#server ??= new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: MAX_PAYLOAD,
    });
    const peer = peerOf(request.socket);
    this.#server.handleUpgrade(request, socket, head, (webSocket) => {
      this.#connections.add(createWebSocketStream(webSocket), peer);
    });
  }

  #refuse(socket: Duplex, status: number, why: string): void {
    const head = `HTTP/1.1 ${status} ${status === 403 ? 'Forbidden' : 'Bad Request'}\r\nConnection: close\r\nContent-Type: text/plain\r\n`;
    const answer = `${head}Content-Length: ${why.length + 1}\r\n\r\n${why}\n`;
    endConnection(socket, this.#scheduler, answer);
  }
}
