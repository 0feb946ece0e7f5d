/**
 * What the fakes of the chat services share: HTTP on a free port of this machine, sockets beside it, an
 * event after each request, and an end.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { until } from '../helpers/until.ts';

export abstract class FakeChat implements AsyncDisposable {
  readonly #http = createServer();
  protected readonly sockets = new WebSocketServer({ server: this.#http });

  constructor() {
    this.#http.on('request', (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        response.setHeader('content-type', 'application/json');
        this.answer(request, Buffer.concat(chunks).toString(), response);
      });
    });
    this.sockets.on('connection', (socket) => {
      socket.on('error', () => {});
      socket.on('message', (data) => {
        this.take(socket, JSON.parse(String(data)));
      });
      this.opened(socket);
    });
  }

  /** Answers one request, at once or later. */
  protected abstract answer(request: IncomingMessage, body: string, response: ServerResponse): void;

  /** A socket was opened; its client has sent nothing yet. */
  protected opened(_: WebSocket): void {}

  /** A socket's client has sent this. */
  protected take(_socket: WebSocket, _message: Record<string, unknown>): void {}

  async listen(): Promise<this> {
    this.#http.listen(0, '127.0.0.1');
    await once(this.#http, 'listening');
    return this;
  }

  protected get origin(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  /** Cuts every connection, without a close frame. */
  cut(): void {
    for (const socket of this.sockets.clients) socket.terminate();
  }

  /** Resolves once it is so. */
  until(isSo: () => boolean): Promise<void> {
    return until(isSo);
  }

  protected closeConnections(): void {
    this.#http.closeAllConnections();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    this.sockets.close();
    this.closeConnections();
    this.#http.close();
    await once(this.#http, 'close');
  }
}
