/**
 * The connection that acknowledgements and records of hand-overs are written to.
 *
 * A process may end in the turn of a write. The server reads what a process has written before its end,
 * unless the server's own write to that connection fails first: then it closes the connection and drops
 * what it has not read. So these go out on a connection of their own, on which the server writes nothing but
 * answers to pings; replies to them come in on the other connection.
 * Invariants: everything here is written in the order of the calls, and read by the server in that order.
 * Where this connection is missing or was lost, the other one is used.
 * Cost: one connection for each broker that has subscribed with a group.
 */
import type { NatsConnection, PublishOptions } from '@nats-io/transport-node';
import { pause, type Scheduler } from 'rivulet/adapter';

export interface OutgoingSetup {
  /** The connection on which everything else goes. Throws while there is none. */
  readonly other: () => NatsConnection;
  /** Opens one more connection; null where the broker may not. */
  readonly connect: () => Promise<NatsConnection | null>;
  /** The server has refused something. */
  readonly onError: (error: Error) => void;
  /** How long `flush` and `close` wait at most. */
  readonly waitMs: number;
  readonly scheduler: Scheduler;
}

/** What nats.js gathers in a turn is sent by this; it is no part of its published types. */
interface Gathering {
  readonly protocol?: { flushPending?(): void };
}

export class Outgoing {
  readonly #setup: OutgoingSetup;
  #opening: Promise<void> | null = null;
  #own: NatsConnection | null = null;
  #isConnected = false;
  #closed = false;

  constructor(setup: OutgoingSetup) {
    this.#setup = setup;
  }

  /**
   * Opens the connection unless it was opened, or all is closed: a subscribe may still be under way then. Where
   * it fails the other connection is used.
   */
  async open(): Promise<void> {
    if (this.#closed) return;
    this.#opening ??= this.#open();
    await this.#opening;
  }

  /** Throws while there is no connection. */
  publish(subject: string, payload: Uint8Array | string, options?: PublishOptions): void {
    this.#nc.publish(subject, payload, options);
  }

  /** Writes what was published in this turn to the socket, before it returns. */
  sendNow(): void {
    const nc = this.#nc;
    const { protocol } = nc as Gathering;
    // A flush is a ping, and its answer a write of the server.
    if (protocol?.flushPending !== undefined) protocol.flushPending();
    else nc.flush().catch(() => {});
  }

  /** Resolves once the server has read what was published before; after `waitMs` at the latest. */
  async flush(): Promise<void> {
    try {
      await this.#flushed(this.#nc);
    } catch {
      // The connection was lost, and with it what the server had not read.
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#opening;
    const nc = this.#own;
    if (nc === null) return;
    if (this.#isConnected) await this.#flushed(nc).catch(() => {});
    this.#isConnected = false;
    await nc.close();
  }

  get #nc(): NatsConnection {
    const other = this.#setup.other();
    return this.#own !== null && this.#isConnected ? this.#own : other;
  }

  async #flushed(nc: NatsConnection): Promise<void> {
    const { scheduler, waitMs } = this.#setup;
    const waiting = new AbortController();
    try {
      await Promise.race([nc.flush(), pause(scheduler, waitMs, waiting.signal)]);
    } finally {
      waiting.abort();
    }
  }

  async #open(): Promise<void> {
    const nc = await this.#setup.connect().catch(() => null);
    if (nc === null) {
      // The next subscription tries again.
      this.#opening = null;
      return;
    }
    this.#own = nc;
    this.#isConnected = true;
    void this.#watch(nc);
  }

  async #watch(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      if (status.type === 'disconnect' || status.type === 'staleConnection') {
        this.#isConnected = false;
      } else if (status.type === 'reconnect') {
        this.#isConnected = !this.#closed;
      } else if (status.type === 'error') {
        this.#setup.onError(status.error);
      }
    }
    this.#isConnected = false;
  }
}
