/**
 * A connection of one's own to a `micro server`, kept up: for responders, for the word of new streams.
 *
 * Invariants: `current` has been greeted, or is being; one that is lost is replaced with backoff until
 * `stop`; none is left open after `close`. One that says nothing is asked whether it lives.
 * Cost: a PING a second while it is idle.
 */
import type { Connection } from '../client/connection.ts';
import type { Reply } from '../client/reply.ts';
import type { RivuletError } from '../errors.ts';
import { type BrokerOptions, backoffMs } from './options.ts';
import type { RemoteLink } from './remote-link.ts';
import { pause } from './scheduler.ts';

const ASK_IDLE_EVERY_MS = 1000;

export interface KeptConnectionSetup {
  readonly link: RemoteLink;
  readonly broker: BrokerOptions;
  readonly push: (items: Reply[]) => void;
  /** What each connection says first; where it rejects, the connection is not used. */
  readonly greet: (connection: Connection) => Promise<unknown>;
  /** It was lost; another follows unless it was stopped. */
  readonly lost?: (error: RivuletError) => void;
  /** A lost one was replaced. */
  readonly back?: () => void;
  /** An attempt to replace it has failed; the next one follows. */
  readonly failed?: (error: RivuletError) => void;
}

export class KeptConnection {
  readonly #setup: KeptConnectionSetup;
  readonly #closing = new AbortController();
  #current: Connection | null = null;
  #isGreeting = false;
  #cancelPing: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(setup: KeptConnectionSetup) {
    this.#setup = setup;
  }

  get current(): Connection | null {
    return this.#current;
  }

  /** The first connection. Rejects when it cannot be had; nothing follows then by itself. */
  async connect(): Promise<void> {
    const { link, push, greet } = this.#setup;
    const connection = await link.another({
      push,
      room: () => {},
      closed: (error, lost) => this.#onLost(error, lost),
    });
    // Before the greeting is answered: what it asks for may come with the answer.
    this.#current = connection;
    this.#isGreeting = true;
    try {
      await greet(connection);
      this.#closing.signal.throwIfAborted();
    } catch (error) {
      this.#current = null;
      connection.destroy();
      throw error;
    } finally {
      this.#isGreeting = false;
    }
    this.#askIdle();
  }

  /** Tries to connect until it succeeds. */
  persist(): void {
    if (!this.#closing.signal.aborted) this.#running = this.#reconnect();
  }

  /** From now on a lost connection is not replaced. */
  stop(): void {
    this.#closing.abort();
  }

  async close(reason: RivuletError): Promise<void> {
    this.stop();
    this.#cancelPing?.();
    this.#current?.destroy(reason);
    await this.#running;
  }

  #onLost(error: RivuletError, lost: Connection): void {
    if (lost !== this.#current) return;
    this.#current = null;
    this.#cancelPing?.();
    this.#setup.lost?.(error);
    // While it is greeted, whoever connects hears of it.
    if (!this.#isGreeting) this.persist();
  }

  async #reconnect(): Promise<void> {
    const { reconnect, scheduler } = this.#setup.broker;
    const { signal } = this.#closing;
    for (let attempt = 1; !signal.aborted; attempt++) {
      const wait = backoffMs(reconnect, attempt, scheduler.fraction());
      await pause(scheduler, wait, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.connect();
        this.#setup.back?.();
        return;
      } catch (error) {
        if (!signal.aborted) this.#setup.failed?.(error as RivuletError);
      }
    }
  }

  #askIdle(): void {
    this.#cancelPing = this.#setup.broker.scheduler.after(ASK_IDLE_EVERY_MS, () => {
      if (this.#current?.inFlight === 0) this.#current.call('PING').catch(() => {});
      this.#askIdle();
    });
  }
}
