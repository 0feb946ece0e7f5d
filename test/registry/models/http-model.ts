/**
 * What the models of registries that speak HTTP share: a server that can be stopped and started again
 * on its port, and JSON in and out.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ModelRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export interface ModelReply {
  readonly status: number;
  readonly body?: unknown;
  /** Instead of `body`. */
  readonly xml?: string;
  readonly headers?: Record<string, string>;
}

export abstract class HttpModel implements AsyncDisposable {
  #server: Server | null = null;
  #port = 0;

  get port(): number {
    return this.#port;
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#handle(request, response));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  protected abstract answer(request: ModelRequest): Promise<ModelReply>;

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url ?? '/', 'http://model');
    const { method = 'GET', headers } = request;
    const body = Buffer.concat(chunks).toString();
    const reply = await this.answer({ method, url, headers, body });
    if (response.destroyed) return;
    const { status, xml, body: json } = reply;
    const type = xml === undefined ? 'application/json' : 'application/xml';
    response.writeHead(status, { 'content-type': type, ...reply.headers });
    response.end(xml ?? (json === undefined ? '' : JSON.stringify(json)));
  }
}
