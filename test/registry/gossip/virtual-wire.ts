/**
 * A network of members in one process, on a virtual clock: a datagram takes a millisecond, a stream none.
 *
 * What is cut is dropped. Equal seeds give equal runs.
 */
import { type Endpoint, textOf } from '../../../src/registry/gossip/wire/endpoint.ts';
import type {
  GossipHandlers,
  GossipNetwork,
  GossipStream,
} from '../../../src/registry/gossip/wire/network.ts';
import type { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';

const DELAY_MS = 1;

/** One way of a stream. */
class Pipe {
  readonly #chunks: Uint8Array[] = [];
  #isEnded = false;
  #wake: () => void = () => {};

  async read(): Promise<Uint8Array | null> {
    while (this.#chunks.length === 0 && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#chunks.shift() ?? null;
  }

  push(bytes: Uint8Array): void {
    this.#chunks.push(Uint8Array.from(bytes));
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }
}

export class VirtualWire {
  readonly #scheduler: VirtualScheduler;
  readonly #members = new Map<string, VirtualNetwork>();
  #ports = 7000;
  /** Whether a datagram between two ports is dropped. */
  dropsPacket: (from: number, to: number) => boolean = () => false;
  dropsStream: (from: number, to: number) => boolean = () => false;
  packets = 0;
  streams = 0;
  /** The addresses that a host name stands for; others stand for themselves. */
  readonly names = new Map<string, string[]>();
  readonly #aliases = new Map<string, string>();
  /** Names and connections never answer. */
  hangs = false;
  /** Datagrams on their way. */
  inFlight = 0;

  constructor(scheduler: VirtualScheduler) {
    this.#scheduler = scheduler;
  }

  member(): VirtualNetwork {
    return new VirtualNetwork(this);
  }

  join(network: VirtualNetwork, at: Endpoint): Endpoint {
    const endpoint = { host: at.host, port: at.port === 0 ? ++this.#ports : at.port };
    this.#members.set(textOf(endpoint), network);
    return endpoint;
  }

  /** What goes to one address arrives at another, as behind a translation of addresses. */
  alias(from: string, to: string): void {
    this.#aliases.set(from, to);
  }

  #at(place: Endpoint): VirtualNetwork | undefined {
    const text = textOf(place);
    return this.#members.get(this.#aliases.get(text) ?? text);
  }

  leave(endpoint: Endpoint): void {
    this.#members.delete(textOf(endpoint));
  }

  send(bytes: Uint8Array, from: Endpoint, to: Endpoint): void {
    this.packets++;
    if (this.dropsPacket(from.port, to.port)) return;
    const copy = Uint8Array.from(bytes);
    this.inFlight++;
    this.#scheduler.after(DELAY_MS, () => {
      this.inFlight--;
      this.#at(to)?.handlers?.onPacket(copy, from);
    });
  }

  connect(from: Endpoint, to: Endpoint): GossipStream {
    this.streams++;
    const peer = this.#at(to);
    if (peer?.handlers === undefined || peer.handlers === null) throw new Error('refused');
    if (this.dropsStream(from.port, to.port)) throw new Error('unreachable');
    const [there, back] = [new Pipe(), new Pipe()];
    const close = () => {
      there.end();
      back.end();
    };
    const end = (read: Pipe, write: Pipe): GossipStream => ({
      read: () => read.read(),
      write: async (bytes) => write.push(bytes),
      close,
    });
    void peer.handlers.onStream(end(there, back), from).finally(close);
    return end(back, there);
  }
}

export class VirtualNetwork implements GossipNetwork {
  readonly #wire: VirtualWire;
  handlers: GossipHandlers | null = null;
  #at: Endpoint = { host: '', port: 0 };

  constructor(wire: VirtualWire) {
    this.#wire = wire;
  }

  get port(): number {
    return this.#at.port;
  }

  async listen(at: Endpoint, _maxStreams: number, handlers: GossipHandlers): Promise<Endpoint> {
    this.handlers = handlers;
    this.#at = this.#wire.join(this, at);
    return this.#at;
  }

  async send(bytes: Uint8Array, to: Endpoint): Promise<void> {
    if (this.handlers !== null) this.#wire.send(bytes, this.#at, to);
  }

  async connect(to: Endpoint): Promise<GossipStream> {
    if (this.handlers === null) throw new Error('closed');
    if (this.#wire.hangs) return new Promise(() => {});
    return this.#wire.connect(this.#at, to);
  }

  async resolve(host: string): Promise<string[]> {
    if (this.#wire.hangs) return new Promise(() => {});
    return this.#wire.names.get(host) ?? [host];
  }

  async close(): Promise<void> {
    this.handlers = null;
    this.#wire.leave(this.#at);
  }
}
