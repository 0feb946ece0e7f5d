/**
 * The server's word on new streams (`SSUBSCRIBE __streams@<db>__`), for all subscriptions of one broker
 * that have wildcards.
 *
 * Holds: a dedicated connection, opened again when it is lost, because one that listens has other limits for its output.
 * Invariant: while `live` every stream made since is announced by name; after each time it was not, listeners
 * are notified once that they have to list the streams.
 * Cost: one message for each new stream.
 */
import type { Connection } from '../../client/connection.ts';
import { type Reply, ReplyError } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import type { BrokerOptions } from '../options/options.ts';
import { ReconnectingConnection } from './reconnecting-connection.ts';
import type { RemoteClient } from './remote-client.ts';

/** `null`: streams may have been created without a notification. */
export type StreamListener = (topic: string | null) => void;

export class RemoteStreamWatch {
  readonly #listeners = new Set<StreamListener>();
  readonly #reconnecting: ReconnectingConnection;
  #opening: Promise<void> | null = null;

  constructor(client: RemoteClient, broker: BrokerOptions) {
    this.#reconnecting = new ReconnectingConnection({
      client,
      broker,
      push: (items) => this.#onPush(items),
      onOpen: (connection) => subscribed(connection, `__streams@${client.database}__`),
      // RemoteClient reports the outage itself.
      onReconnect: () => this.#notify(null),
    });
  }

  /** Whether notifications arrive now. */
  get live(): boolean {
    return this.#reconnecting.current !== null;
  }

  /**
   * Resolves when notifications arrive, or cannot: the user may not be allowed to subscribe. The
   * returned function removes the listener.
   */
  async listen(listener: StreamListener): Promise<() => void> {
    this.#listeners.add(listener);
    this.#opening ??= this.#reconnecting.connect().catch((error) => {
      // After a refusal the next `listen` asks again; an unreachable server is retried here.
      if (error instanceof ReplyError) this.#opening = null;
      else this.#reconnecting.keepTrying();
    });
    await this.#opening;
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#reconnecting.stop();
    this.#listeners.clear();
    await this.#opening;
    await this.#reconnecting.close(new RivuletError('CLOSED', 'the broker is disconnected'));
  }

  #onPush(items: readonly Reply[]): void {
    if (String(items[0]) === 'smessage') this.#notify(String(items[2]));
  }

  #notify(topic: string | null): void {
    for (const listener of this.#listeners) listener(topic);
  }
}

function subscribed(connection: Connection, channel: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const reply = (value: Reply) => (value instanceof ReplyError ? reject(value) : resolve());
    connection.send(['SSUBSCRIBE', channel], { reply, fail: reject }, 0, 1);
  });
}
