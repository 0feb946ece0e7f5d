/**
 * A TCP proxy with faults on demand: for outages that killing a server does not show.
 *
 * Modes: `pass`; `black hole` (the bytes of both directions are discarded, connections stay open);
 * `half open` (only the bytes of clients are discarded); `refuse` (new connections are reset). `cut`
 * resets open connections. Latency delays every chunk and keeps their order.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type ProxyMode = 'pass' | 'black hole' | 'half open' | 'refuse';

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

export class FaultyProxy implements AsyncDisposable {
  mode: ProxyMode = 'pass';
  latencyMs = 0;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();

  private constructor(targetHost: string, targetPort: number) {
    this.#server = createServer((client) => this.#accept(client, targetHost, targetPort));
  }

  static async start(targetPort: number, targetHost = '127.0.0.1'): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targetHost, targetPort);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject);
      proxy.#server.listen(0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Resets every connection. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
    this.#pairs.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.cut();
    await closed;
  }

  #accept(client: Socket, host: string, port: number): void {
    if (this.mode === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    const server = connect(port, host);
    const pair = { client, server };
    this.#pairs.add(pair);
    client.setNoDelay(true);
    server.setNoDelay(true);
    this.#pipe(pair, client, server, ['black hole', 'half open']);
    this.#pipe(pair, server, client, ['black hole']);
  }

  #pipe(pair: Pair, from: Socket, to: Socket, deaf: readonly ProxyMode[]): void {
    from.on('data', (chunk) => {
      if (deaf.includes(this.mode)) return;
      if (this.latencyMs === 0) to.write(chunk);
      else setTimeout(() => to.write(chunk), this.latencyMs);
    });
    from.on('error', () => {});
    from.on('close', () => {
      this.#pairs.delete(pair);
      to.destroy();
    });
  }
}
