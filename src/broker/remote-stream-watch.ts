/**
 * The server's word on new streams (`SSUBSCRIBE __streams@<db>__`), for all subscriptions of one broker
 * that have wildcards.
 *
 * Holds: a connection of its own, kept up, because one that listens has other limits for its output.
 * Invariant: while `live` every stream made since is told by name; after each time it was not, listeners
 * are told once that they have to look for themselves.
 * Cost: one message for each new stream.
 */
import type { Connection } from '../client/connection.ts';
import { type Reply, ReplyError } from '../client/reply.ts';
import { RivuletError } from '../errors.ts';
import { type BrokerOptions, backoffMs } from './options.ts';
import type { RemoteLink } from './remote-link.ts';
import { pause } from './scheduler.ts';

/** A connection that says nothing is asked so often whether it lives. */
const ASK_IDLE_EVERY_MS = 1000;

/** `null`: streams may have been made that nobody told of. */
export type StreamListener = (topic: string | null) => void;

export class RemoteStreamWatch {
  readonly #link: RemoteLink;
  readonly #broker: BrokerOptions;
  readonly #listeners = new Set<StreamListener>();
  readonly #closing = new AbortController();
  #connection: Connection | null = null;
  #opening: Promise<void> | null = null;
  #cancelPing: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(link: RemoteLink, broker: BrokerOptions) {
    this.#link = link;
    this.#broker = broker;
  }

  /** Whether new streams are being told. */
  get live(): boolean {
    return this.#connection !== null;
  }

  /**
   * Resolves when new streams are told, or cannot be: a user may not be allowed to listen. Returns
   * what ends it.
   */
  async listen(listener: StreamListener): Promise<() => void> {
    this.#listeners.add(listener);
    this.#opening ??= this.#connect().catch((error) => {
      // Refused, it stays so until somebody asks again; unreachable, it may come back.
      if (error instanceof ReplyError) this.#opening = null;
      else if (!this.#closing.signal.aborted) this.#running = this.#reconnect();
    });
    await this.#opening;
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#listeners.clear();
    await this.#opening;
    this.#cancelPing?.();
    this.#connection?.destroy(new RivuletError('CLOSED', 'the broker is disconnected'));
    await this.#running;
  }

  async #connect(): Promise<void> {
    const connection = await this.#link.another({
      push: (items) => this.#onPush(items),
      room: () => {},
      closed: (_, lost) => this.#onLost(lost),
    });
    try {
      await subscribed(connection, `__streams@${this.#link.database}__`);
    } catch (error) {
      connection.destroy();
      throw error;
    }
    this.#connection = connection;
    this.#askIdle();
  }

  #onPush(items: readonly Reply[]): void {
    if (String(items[0]) === 'smessage') this.#tell(String(items[2]));
  }

  #tell(topic: string | null): void {
    for (const listener of this.#listeners) listener(topic);
  }

  #onLost(lost: Connection): void {
    if (lost !== this.#connection) return;
    this.#connection = null;
    this.#cancelPing?.();
    if (!this.#closing.signal.aborted) this.#running = this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { reconnect, scheduler } = this.#broker;
    const { signal } = this.#closing;
    for (let attempt = 1; !signal.aborted; attempt++) {
      const wait = backoffMs(reconnect, attempt, scheduler.fraction());
      await pause(scheduler, wait, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.#connect();
        this.#tell(null);
        return;
      } catch {
        // The link tells of the outage; the next attempt follows.
      }
    }
  }

  #askIdle(): void {
    this.#cancelPing = this.#broker.scheduler.after(ASK_IDLE_EVERY_MS, () => {
      if (this.#connection?.inFlight === 0) this.#connection.call('PING').catch(() => {});
      this.#askIdle();
    });
  }
}

function subscribed(connection: Connection, channel: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const reply = (value: Reply) => (value instanceof ReplyError ? reject(value) : resolve());
    connection.send(['SSUBSCRIBE', channel], { reply, fail: reject }, 0, 1);
  });
}
