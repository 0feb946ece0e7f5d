/**
 * The caller's end of the udp transport: calls in flight by their ids.
 *
 * Invariants: ids are random, so a peer that does not see the requests cannot answer them; a reply
 * counts once, whatever the network doubles; a call without a timeout ends after `DEFAULT_MS`, because
 * nothing else shows that its datagram was lost. Cost: one datagram and a map entry per call.
 */
import { randomFillSync } from 'node:crypto';
import type { Socket } from 'node:dgram';
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import { refusedCall } from '../refused-call.ts';
import { type Call, CallError, type Channel, type OutgoingCall, type Reply } from '../transport.ts';
import { decodeDatagram, encodeDatagram, MAX_DATAGRAM, TYPE } from './udp-datagram.ts';

const DEFAULT_MS = 5000;

interface Waiting {
  readonly call: OutgoingCall;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

export interface UdpClientSetup {
  readonly scheduler: Scheduler;
  readonly peer: string;
  readonly token: string;
  readonly maxCalls: number;
}

export class UdpClient implements Channel {
  readonly #socket: Socket;
  readonly #setup: UdpClientSetup;
  readonly #timeouts: Timeouts;
  readonly #waiting = new Map<string, Waiting>();
  #isClosed = false;
  /** The socket is closed. */
  #hasEnded = false;
  #whenIdle: (() => void) | null = null;

  constructor(socket: Socket, setup: UdpClientSetup) {
    this.#socket = socket;
    this.#setup = setup;
    this.#timeouts = new Timeouts(setup.scheduler);
    socket.on('message', (bytes) => this.#onDatagram(bytes));
    // "Port unreachable" is about an earlier datagram, and does not name it.
    socket.on('error', () => {});
  }

  get load(): number {
    return this.#waiting.size;
  }

  request(call: OutgoingCall): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const id = randomFillSync(Buffer.alloc(8)).toString('hex');
      const datagram = this.#datagramOf(call, id);
      if (datagram instanceof RivuletError) {
        reject(datagram);
        return;
      }
      const { service, endpoint, signal } = call;
      const timeoutMs = call.timeoutMs ?? DEFAULT_MS;
      const abort = () => {
        const text = `the call of ${service} ${endpoint} was aborted`;
        waiting.reject(new RivuletError('ABORTED', text, { cause: signal?.reason }));
      };
      let unwatch = () => {};
      const finish = () => {
        stop();
        unwatch();
        this.#waiting.delete(id);
        if (this.#waiting.size === 0) this.#whenIdle?.();
      };
      const stop = this.#timeouts.add(timeoutMs, () => {
        const text = `${service} ${endpoint} did not answer within ${Math.round(timeoutMs)} ms, or a datagram was lost`;
        waiting.reject(new RivuletError('TIMEOUT', text));
      });
      const waiting: Waiting = {
        call,
        resolve(reply) {
          finish();
          resolve(reply);
        },
        reject(error) {
          finish();
          reject(error);
        },
      };
      this.#waiting.set(id, waiting);
      if (signal !== null) unwatch = onAbort(signal, abort);
      this.#socket.send(datagram, (cause) => {
        if (cause === null || !this.#waiting.has(id)) return;
        const text = `the datagram to ${this.#setup.peer} was not sent: ${cause.message}`;
        waiting.reject(new RivuletError('CONNECTION_FAILED', text, { cause, sent: 'no' }));
      });
    });
  }

  call(call: OutgoingCall): Call {
    const text = `udp carries one request and one reply: call ${call.endpoint} by tcp, grpc, ws or the broker`;
    return refusedCall(new RivuletError('UNSUPPORTED', text, { sent: 'no' }));
  }

  async close(drainMs = 0): Promise<void> {
    this.#isClosed = true;
    if (this.#waiting.size > 0 && drainMs > 0) {
      await new Promise<void>((resolve) => {
        const stop = this.#setup.scheduler.after(drainMs, resolve);
        this.#whenIdle = () => {
          stop();
          resolve();
        };
      });
    }
    const closed = new RivuletError('CLOSED', 'the client closed the connection');
    for (const waiting of [...this.#waiting.values()]) waiting.reject(closed);
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#socket.close();
  }

  /** The datagram, or why none is sent. */
  #datagramOf(call: OutgoingCall, id: string): Buffer | RivuletError {
    const { maxCalls, token } = this.#setup;
    const { service, endpoint, contentType, metadata, timeoutMs } = call;
    if (this.#isClosed) return new RivuletError('CLOSED', 'the channel is closed', { sent: 'no' });
    if (call.signal?.aborted) {
      const text = `the call of ${service} ${endpoint} was aborted`;
      return new RivuletError('ABORTED', text, { cause: call.signal.reason, sent: 'no' });
    }
    if (this.#waiting.size >= maxCalls) {
      const text = `${maxCalls} calls are in flight to ${this.#setup.peer}`;
      return new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
    }
    const head = { service, endpoint, contentType, metadata, timeoutMs, token };
    const body = call.body ?? new Uint8Array(0);
    const datagram = encodeDatagram({ type: TYPE.request, id, head, body });
    if (datagram.length <= MAX_DATAGRAM) return datagram;
    const text = `the request has ${datagram.length} bytes with its head; a datagram carries ${MAX_DATAGRAM}: call by tcp`;
    return new RivuletError('BODY_TOO_LARGE', text, { sent: 'no' });
  }

  #onDatagram(bytes: Buffer): void {
    const datagram = decodeDatagram(bytes);
    const waiting = datagram === null ? undefined : this.#waiting.get(datagram.id);
    if (datagram === null || waiting === undefined) return;
    const { head, body, type } = datagram;
    if (type === TYPE.reply) {
      const { contentType = waiting.call.contentType, metadata = {} } = head;
      waiting.resolve({ contentType, metadata, body });
    } else if (type === TYPE.failure && head.failure !== undefined) {
      const data = body.length === 0 ? {} : { body };
      waiting.reject(new CallError({ ...head.failure, ...data }));
    }
  }
}
