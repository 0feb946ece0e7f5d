/**
 * A dedicated connection to a `micro server` that is replaced when it is lost: for responders and for
 * channels.
 *
 * Invariants: `onOpen` has been called on `current`, and has ended or is running; a lost connection is
 * replaced with backoff until `stop`; none is left open after `close`. A silent connection is treated
 * as dead: it is pinged once a second while it is idle.
 * Cost: one PING a second.
 */
import type { Connection } from '../../client/connection.ts';
import type { Reply } from '../../client/reply.ts';
import type { RivuletError } from '../../errors.ts';
import { pause } from '../../util/time/scheduler.ts';
import { type BrokerOptions, backoffMs } from '../options/options.ts';
import type { RemoteClient } from './remote-client.ts';

const ASK_IDLE_EVERY_MS = 1000;

export interface ReconnectingConnectionSetup {
  readonly client: RemoteClient;
  readonly broker: BrokerOptions;
  readonly push: (items: Reply[]) => void;
  /** Sends the first commands of each connection. Where it rejects, the connection is closed. */
  readonly onOpen: (connection: Connection) => Promise<unknown>;
  /** The connection was lost; another one follows unless it was stopped. */
  readonly onDisconnect?: (error: RivuletError) => void;
  /** A lost connection was replaced. */
  readonly onReconnect?: () => void;
  /** An attempt to replace it has failed; another attempt follows. */
  readonly onAttemptFailed?: (error: RivuletError) => void;
}

export class ReconnectingConnection {
  readonly #setup: ReconnectingConnectionSetup;
  readonly #closing = new AbortController();
  #current: Connection | null = null;
  #isOpening = false;
  #cancelPing: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(setup: ReconnectingConnectionSetup) {
    this.#setup = setup;
  }

  get current(): Connection | null {
    return this.#current;
  }

  /** Opens the first connection. Where it rejects, it is not tried again. */
  async connect(): Promise<void> {
    const { client, push, onOpen: greet } = this.#setup;
    const connection = await client.openDedicated({
      push,
      room: () => {},
      closed: (error, lost) => this.#onLost(error, lost),
    });
    // Set before `onOpen` ends: the first pushes may arrive with the reply to its command.
    this.#current = connection;
    this.#isOpening = true;
    try {
      await greet(connection);
      this.#closing.signal.throwIfAborted();
    } catch (error) {
      this.#current = null;
      connection.destroy();
      throw error;
    } finally {
      this.#isOpening = false;
    }
    this.#pingIdle();
  }

  /** Tries to connect until it succeeds. */
  keepTrying(): void {
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
    this.#setup.onDisconnect?.(error);
    // While it opens, `connect` rejects and its caller decides.
    if (!this.#isOpening) this.keepTrying();
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
        this.#setup.onReconnect?.();
        return;
      } catch (error) {
        if (!signal.aborted) this.#setup.onAttemptFailed?.(error as RivuletError);
      }
    }
  }

  #pingIdle(): void {
    this.#cancelPing = this.#setup.broker.scheduler.after(ASK_IDLE_EVERY_MS, () => {
      if (this.#current?.inFlight === 0) this.#current.call('PING').catch(() => {});
      this.#pingIdle();
    });
  }
}
