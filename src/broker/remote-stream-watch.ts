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
import { KeptConnection } from './kept-connection.ts';
import type { BrokerOptions } from './options.ts';
import type { RemoteLink } from './remote-link.ts';

/** `null`: streams may have been made that nobody told of. */
export type StreamListener = (topic: string | null) => void;

export class RemoteStreamWatch {
  readonly #listeners = new Set<StreamListener>();
  readonly #kept: KeptConnection;
  #opening: Promise<void> | null = null;

  constructor(link: RemoteLink, broker: BrokerOptions) {
    this.#kept = new KeptConnection({
      link,
      broker,
      push: (items) => this.#onPush(items),
      greet: (connection) => subscribed(connection, `__streams@${link.database}__`),
      // Of the outage the link tells.
      back: () => this.#tell(null),
    });
  }

  /** Whether new streams are being told. */
  get live(): boolean {
    return this.#kept.current !== null;
  }

  /**
   * Resolves when new streams are told, or cannot be: a user may not be allowed to listen. Returns
   * what ends it.
   */
  async listen(listener: StreamListener): Promise<() => void> {
    this.#listeners.add(listener);
    this.#opening ??= this.#kept.connect().catch((error) => {
      // Refused, it stays so until somebody asks again; unreachable, it may come back.
      if (error instanceof ReplyError) this.#opening = null;
      else this.#kept.persist();
    });
    await this.#opening;
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#kept.stop();
    this.#listeners.clear();
    await this.#opening;
    await this.#kept.close(new RivuletError('CLOSED', 'the broker is disconnected'));
  }

  #onPush(items: readonly Reply[]): void {
    if (String(items[0]) === 'smessage') this.#tell(String(items[2]));
  }

  #tell(topic: string | null): void {
    for (const listener of this.#listeners) listener(topic);
  }
}

function subscribed(connection: Connection, channel: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const reply = (value: Reply) => (value instanceof ReplyError ? reject(value) : resolve());
    connection.send(['SSUBSCRIBE', channel], { reply, fail: reject }, 0, 1);
  });
}
