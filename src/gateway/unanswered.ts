/**
 * Requests of each connection that are not answered yet, and the end of a connection whose bytes are no HTTP.
 *
 * Node and fastify answer such bytes whatever the connection is doing. A client may send several requests before
 * the first answer, and an answer may be on its way: what is written then would pass for the answer to another
 * request, or for a part of it. Invariant: bytes are refused with an answer only where they belong to the one
 * request that is not answered, and nothing of an answer has left; else the connection is cut. Cost: one set for
 * each connection.
 */
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { endConnection } from '../transport/end-connection.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { HttpError, httpFailure } from './http-error.ts';

/** By the codes of Node's parser. */
const REFUSALS: Readonly<Record<string, readonly [status: number, detail: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'the request did not come whole in time'],
  HPE_HEADER_OVERFLOW: [431, 'target and headers are too long'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, 'the extensions of a chunk are too long'],
};

export class Unanswered {
  readonly #answers = new WeakMap<Duplex, Set<ServerResponse>>();
  readonly #refused = new WeakSet<Duplex>();

  follow(server: Server): void {
    server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
      const answers = this.#answers.get(socket) ?? new Set();
      this.#answers.set(socket, answers.add(response));
      response.once('close', () => answers.delete(response));
    });
  }

  /** Whether the connection has requests without a whole answer. */
  has(socket: Duplex): boolean {
    return (this.#answers.get(socket)?.size ?? 0) > 0;
  }

  /** Ends a connection on which something else than a request has come, or only a part of one. */
  refuse({ code = '' }: NodeJS.ErrnoException, socket: Duplex): void {
    // Node's parser refuses all that comes behind, too.
    if (this.#refused.has(socket)) return;
    this.#refused.add(socket);
    const isConnected = !('encrypted' in socket) || 'authorized' in socket;
    if (code === 'ECONNRESET' || !socket.writable || !isConnected || !this.#mayAnswer(socket)) {
      socket.destroy();
      return;
    }
    const [status, detail] = REFUSALS[code] ?? [400, 'this is no HTTP/1.1 request'];
    const { body } = httpFailure(new HttpError(status, detail));
    const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/json\r\n`;
    const end = `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`;
    endConnection(socket, systemScheduler, head + end);
  }

  #mayAnswer(socket: Duplex): boolean {
    const answers = [...(this.#answers.get(socket) ?? [])];
    return answers.every(
      ({ req, headersSent }) => answers.length === 1 && !headersSent && !req.complete,
    );
  }
}
