/**
 * Streaming calls over a WebSocket: each message of the client is a request, each reply a message.
 *
 * Invariants: a client that ends its socket cancels the call; the end of the stream closes the socket
 * with 1000, an error with 1011 after a message `{"error": ...}`; a message beyond the rule's `maxBodyBytes`
 * ends it with 1009; a client that reads nothing of a reply for `stalledMs` is disconnected; requests that the service does not take yet hold the socket back (`maxQueued`
 * messages wait at most). A text `{"end":true}` or an empty
 * message ends the requests and leaves the replies coming.
 */
import type { WebSocket } from 'ws';
import type { CallOptions } from '../../rpc/handlers.ts';
import { httpFailure } from '../http-error.ts';
import type { Target } from '../routing/names.ts';
import { sendTo } from '../stalled.ts';
import type { CallClient } from './call-client.ts';

export interface SocketCall {
  readonly kind: 'serverStream' | 'clientStream' | 'bidi';
  /** Of one message. */
  readonly maxBodyBytes: number;
  /** Messages that wait for the service. */
  readonly maxQueued: number;
  /** How long the client may read nothing of a reply. */
  readonly stalledMs: number;
}

export async function serveCall(
  socket: WebSocket,
  { service, endpoint }: Target,
  { kind, maxBodyBytes, maxQueued, stalledMs }: SocketCall,
  client: CallClient,
  options: CallOptions,
): Promise<void> {
  const gone = new AbortController();
  const messages = new SocketMessages(socket, maxBodyBytes, maxQueued);
  socket.once('close', () => {
    messages.end();
    gone.abort();
  });
  try {
    const request = kind === 'serverStream' ? await messages.first() : messages;
    const all = { ...options, signal: gone.signal };
    for await (const reply of client.stream(kind, service, endpoint, request, all)) {
      const text = Buffer.from(reply.buffer, reply.byteOffset, reply.byteLength);
      await sendTo(socket, text, stalledMs);
    }
    socket.close(1000);
  } catch (error) {
    if (gone.signal.aborted) return;
    const { body } = httpFailure(error);
    socket.send(`{"error":${body}}`);
    socket.close(1011);
  }
}

class SocketMessages implements AsyncIterable<Uint8Array> {
  readonly #socket: WebSocket;
  readonly #queue: Uint8Array[] = [];
  readonly #maxQueued: number;
  #wake: (() => void) | null = null;
  #isOver = false;

  constructor(socket: WebSocket, maxBodyBytes: number, maxQueued: number) {
    this.#socket = socket;
    this.#maxQueued = maxQueued;
    socket.on('message', (data: Buffer) => {
      if (this.#isOver) return;
      if (data.length > maxBodyBytes) {
        socket.close(1009, `a message has at most ${maxBodyBytes} bytes`);
        return;
      }
      if (data.length === 0 || /^\s*\{\s*"end"\s*:\s*true\s*\}\s*$/.test(data.toString('latin1'))) {
        this.end();
        return;
      }
      this.#queue.push(data);
      if (this.#queue.length >= this.#maxQueued) socket.pause();
      this.#wake?.();
    });
  }

  end(): void {
    this.#isOver = true;
    this.#wake?.();
  }

  /** The one request of a server stream: `{}` where the client ended without one. */
  async first(): Promise<Uint8Array> {
    for await (const message of this) {
      // Further ones would fill the queue, and a socket that waits for room does not see its client leave.
      this.#isOver = true;
      return message;
    }
    return Buffer.from('{}');
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const message = this.#queue.shift();
      if (message !== undefined) {
        if (this.#queue.length < this.#maxQueued) this.#socket.resume();
        yield message;
      } else if (this.#isOver) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
    }
  }
}
