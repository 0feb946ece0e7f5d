/**
 * A forwarder of datagrams and streams on one port, which drops what the test names: a network that is cut.
 *
 * Datagrams are dropped by the port that they come from; streams, whose port says nothing, all or none.
 * A datagram arrives from the forwarder of its sender, as if that were the sender itself.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** By the port of the member behind them. */
const forwarders = new Map<number, DroppingForwarder>();

export class DroppingForwarder implements AsyncDisposable {
  readonly port: number;
  /** The port of the member behind it. */
  readonly target: number;
  /** Ports whose datagrams are dropped. */
  readonly dropped = new Set<number>();
  takesStreams = true;
  readonly #udp: UdpSocket;
  readonly #server: Server;
  readonly #streams = new Set<Socket>();

  private constructor(udp: UdpSocket, server: Server, port: number, target: number) {
    this.port = port;
    this.target = target;
    forwarders.set(target, this);
    this.#udp = udp;
    this.#server = server;
    udp.on('message', (bytes, from) => {
      if (this.dropped.has(from.port)) return;
      const sender = forwarders.get(from.port) ?? this;
      sender.#udp.send(bytes, this.target, '127.0.0.1', () => {});
    });
    server.on('connection', (socket) => {
      const onward = this.takesStreams ? connect(this.target, '127.0.0.1') : null;
      for (const each of [socket, onward]) {
        if (each === null) continue;
        this.#streams.add(each);
        each.on('error', () => {});
        each.on('close', () => {
          this.#streams.delete(each);
          socket.destroy();
          onward?.destroy();
        });
      }
      if (onward === null) socket.destroy();
      else socket.pipe(onward).pipe(socket);
    });
  }

  static async start(target: number): Promise<DroppingForwarder> {
    for (;;) {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as { port: number };
      const udp = createSocket('udp4');
      const isBound = await new Promise<boolean>((resolve) => {
        udp.once('error', () => resolve(false));
        udp.bind(port, '127.0.0.1', () => resolve(true));
      });
      if (isBound) return new DroppingForwarder(udp, server, port, target);
      server.close();
      udp.close();
    }
  }

  async [Symbol.asyncDispose]() {
    forwarders.delete(this.target);
    for (const socket of this.#streams) socket.destroy();
    this.#udp.close();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
