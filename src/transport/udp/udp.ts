/**
 * The udp transport: unary calls of one datagram each way, at most once.
 *
 *   "RVU1" | u8 type (1 request, 2 reply, 3 failure) | 8 bytes id | u16be head length | head (JSON) | body
 *
 * Nothing is sent again, so a call whose request or reply is lost ends with TIMEOUT, and whether the
 * handler ran is not known. What it cannot: streams, TLS, and datagrams above `MAX_DATAGRAM`; each is
 * refused with the reason. Invariants: a datagram that the network doubles runs its handler once; a
 * request without the node's token is dropped without an answer, so that a forged sender is sent
 * nothing. Bounds: `MAX_CALLS` in flight, `MAX_SEEN` ids that are remembered. Cost: two datagrams.
 */
import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { RivuletError } from '../../errors.ts';
import { splitAddress } from '../../registry/record.ts';
import type { ServiceNode } from '../../registry/registry.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { OneMessage } from '../one-message.ts';
import { boundAddress, splitListenAddress } from '../port.ts';
import type { TransportSetup } from '../tcp/tcp.ts';
import type {
  CallFailure,
  Channel,
  IncomingCall,
  Listener,
  ListenOptions,
  Metadata,
  Reply,
  Transport,
} from '../transport.ts';
import { UdpClient } from './udp-client.ts';
import {
  type Datagram,
  decodeDatagram,
  encodeDatagram,
  MAX_DATAGRAM,
  TYPE,
} from './udp-datagram.ts';

const UDP_ADDRESS = 'rivulet.udp';
const UDP_TOKEN = 'rivulet.token';
const MAX_CALLS = 10_000;
const MAX_SEEN = 100_000;

export class UdpTransport implements Transport {
  readonly name = 'udp';
  readonly #scheduler: Scheduler;
  readonly #isSecure: boolean;

  constructor({ scheduler = systemScheduler, tls }: TransportSetup = {}) {
    this.#scheduler = scheduler;
    this.#isSecure = tls !== undefined;
  }

  canDial(node: ServiceNode): boolean {
    return node.metadata[UDP_ADDRESS] !== undefined;
  }

  async listen(options: ListenOptions): Promise<Listener> {
    if (options.tls !== undefined) throw noTls();
    const at = splitListenAddress(options.address);
    const socket = createSocket(isIPv6(at.host) ? 'udp6' : 'udp4');
    await new Promise<void>((resolve, reject) => {
      socket.once('error', (cause) => {
        const text = `cannot listen on ${options.address}: ${cause.message}`;
        reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
      });
      socket.bind(at.port, at.host, resolve);
    });
    const node = new UdpNode(socket, options, this.#scheduler);
    const address = boundAddress(socket);
    return {
      address,
      metadata: { [UDP_ADDRESS]: address, [UDP_TOKEN]: options.token ?? '' },
      close: (drainMs = 0) => node.close(drainMs),
    };
  }

  /** Nothing is sent: whether a node is there shows with the first call. */
  async dial(node: ServiceNode): Promise<Channel> {
    if (this.#isSecure) throw noTls();
    const address = node.metadata[UDP_ADDRESS] ?? node.address;
    const at = splitAddress(address);
    if (at === null) {
      const text = `node ${node.id}: ${JSON.stringify(address.slice(0, 100))} is no host:port`;
      throw new RivuletError('CONNECTION_FAILED', text);
    }
    const socket = createSocket(isIPv6(at.host) ? 'udp6' : 'udp4');
    await new Promise<void>((resolve, reject) => {
      const fail = (cause: Error) => {
        socket.close();
        const text = `cannot send to ${address}: ${cause.message}`;
        reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
      };
      socket.once('error', fail);
      socket.connect(at.port, at.host, () => {
        socket.off('error', fail);
        resolve();
      });
    });
    return new UdpClient(socket, {
      scheduler: this.#scheduler,
      peer: address,
      token: node.metadata[UDP_TOKEN] ?? '',
      maxCalls: MAX_CALLS,
    });
  }
}

/** The calls of one listening socket. */
class UdpNode {
  readonly #socket: Socket;
  readonly #options: ListenOptions;
  readonly #scheduler: Scheduler;
  /** Ids with their senders, the oldest first: a datagram that comes twice runs once. */
  readonly #seen = new Set<string>();
  #running = 0;
  #isLeaving = false;
  #isClosed = false;
  #whenIdle: (() => void) | null = null;

  constructor(socket: Socket, options: ListenOptions, scheduler: Scheduler) {
    this.#socket = socket;
    this.#options = options;
    this.#scheduler = scheduler;
    socket.on('error', () => {});
    socket.on('message', (bytes, from) => this.#onDatagram(bytes, from));
  }

  async close(drainMs: number): Promise<void> {
    this.#isLeaving = true;
    if (this.#running > 0 && drainMs > 0) {
      await new Promise<void>((resolve) => {
        const stop = this.#scheduler.after(drainMs, resolve);
        this.#whenIdle = () => {
          stop();
          resolve();
        };
      });
    }
    if (this.#isClosed) return;
    this.#isClosed = true;
    await new Promise<void>((resolve) => this.#socket.close(resolve));
  }

  #onDatagram(bytes: Buffer, from: { address: string; port: number }): void {
    // A datagram may name port 0 as its source, to which nothing can be sent.
    if (from.port === 0) return;
    const datagram = decodeDatagram(bytes);
    if (datagram === null || datagram.type !== TYPE.request) return;
    const { head, id } = datagram;
    const { token = '' } = this.#options;
    if (token !== '' && head.token !== token) return;
    const key = `${from.address} ${from.port} ${id}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    if (this.#seen.size > MAX_SEEN) {
      for (const oldest of this.#seen) {
        this.#seen.delete(oldest);
        break;
      }
    }
    this.#running++;
    let isOver = false;
    const answer = (type: number, fields: Datagram['head'], body: Uint8Array) => {
      if (isOver) return;
      isOver = true;
      const reply = encodeDatagram({ type, id, head: fields, body });
      const sent = reply.length <= MAX_DATAGRAM ? reply : tooLarge(id, reply.length);
      // The socket closes when the last answer has left.
      const left = () => {
        if (--this.#running === 0) this.#whenIdle?.();
      };
      if (this.#isClosed) left();
      else this.#socket.send(sent, from.port, from.address, left);
    };
    const call = incoming(datagram, `${from.address}:${from.port}`, answer);
    if (this.#isLeaving || this.#running > MAX_CALLS) {
      const [code, status] = this.#isLeaving
        ? (['UNAVAILABLE', 503] as const)
        : (['LIMIT_EXCEEDED', 429] as const);
      const detail = this.#isLeaving ? 'the node is stopping' : `${MAX_CALLS} calls run here`;
      call.fail({ code, id: 'go.micro.server', status, detail, sent: 'no' });
    } else this.#options.handler(call);
  }
}

function incoming(
  { head, body }: Datagram,
  address: string,
  answer: (type: number, head: Datagram['head'], body: Uint8Array) => void,
): IncomingCall {
  const refuse = () => {
    const text = 'udp carries one reply per call';
    return Promise.reject(new RivuletError('UNSUPPORTED', text));
  };
  const fail = (failure: CallFailure) => {
    const { body: data = NOTHING, metadata: _metadata, ...rest } = failure;
    answer(TYPE.failure, { failure: rest }, data);
  };
  return {
    service: head.service ?? '',
    endpoint: head.endpoint ?? '',
    kind: 'unary',
    contentType: head.contentType ?? '',
    metadata: head.metadata ?? {},
    timeoutMs: head.timeoutMs ?? null,
    peer: { address },
    body,
    messages: new OneMessage(body),
    // A caller that gives up says nothing: its deadline is known here too.
    onCancel() {},
    reply: ({ contentType, metadata, body: reply }: Reply) =>
      answer(TYPE.reply, { contentType, metadata }, reply),
    head() {},
    send: refuse,
    end(_trailers: Metadata) {
      fail({ code: 'INTERNAL', id: 'go.micro.server', status: 500, detail: 'there was no reply' });
    },
    fail,
  };
}

function tooLarge(id: string, length: number): Buffer {
  const detail = `the reply has ${length} bytes with its head; a datagram carries ${MAX_DATAGRAM}: call by tcp`;
  const failure = { code: 'BODY_TOO_LARGE', id: 'go.micro.server', status: 413, detail } as const;
  return encodeDatagram({ type: TYPE.failure, id, head: { failure }, body: NOTHING });
}

const NOTHING = new Uint8Array(0);

function noTls(): RivuletError {
  const text = 'udp has no TLS: leave the certificates out, or call by tcp, grpc, http or ws';
  return new RivuletError('UNSUPPORTED', text, { sent: 'no' });
}
