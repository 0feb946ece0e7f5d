/**
 * The connection that subscribes to channels: callers' inboxes and responders' channels.
 *
 * It is opened when it is first needed. ioredis opens it again after a loss, and its channels are then
 * subscribed again. Invariant: `listens` resolves only while the server has confirmed the channel on this
 * connection. A message that is published afterwards arrives, or the loss is reported.
 * Cost: one connection per process.
 */
import type { Redis } from 'ioredis';
import { RivuletError, type Scheduler } from 'rivulet/adapter';
import type { Connection, Connector } from './connection.ts';
import { toRivulet } from './errors.ts';

export interface ListenerSetup {
  readonly connector: Connector;
  readonly receive: (channel: string, frame: Buffer) => void;
  /** Called when the connection is lost: messages for it may be lost too. */
  readonly lost: (error: RivuletError) => void;
}

export class Listener {
  readonly #setup: ListenerSetup;
  readonly #wanted = new Set<string>();
  /** The channels that the server has confirmed on the present connection. */
  readonly #listened = new Set<string>();
  readonly #waiting = new Set<() => void>();
  #connection: Promise<Connection> | null = null;
  #closed = false;

  constructor(setup: ListenerSetup) {
    this.#setup = setup;
  }

  /** Subscribes to a channel; resolves once the server has confirmed it. */
  async add(channel: string): Promise<void> {
    this.#wanted.add(channel);
    try {
      const connection = await this.#connect();
      await this.#subscribe(connection, [channel]);
    } catch (error) {
      this.#wanted.delete(channel);
      throw toRivulet(error);
    }
  }

  async remove(channel: string): Promise<void> {
    this.#wanted.delete(channel);
    this.#listened.delete(channel);
    const connection = await this.#connection?.catch(() => null);
    // Without a connection there is no subscription.
    if (!connection?.ready) return;
    const client = connection.client as Redis;
    const isSharded = this.#setup.connector.cluster;
    await (isSharded ? client.sunsubscribe(channel) : client.unsubscribe(channel)).catch(() => {});
  }

  /** Resolves once the channel is subscribed: at once, or after a reconnect. */
  async listens(
    channel: string,
    timeoutMs: number,
    signal: AbortSignal | null,
    scheduler: Scheduler,
  ): Promise<void> {
    if (this.#listened.has(channel)) return;
    if (!this.#wanted.has(channel)) {
      this.#wanted.add(channel);
      this.#connect()
        .then((connection) => this.#subscribe(connection, [channel]))
        .catch(() => {
          this.#wanted.delete(channel);
          this.#wake();
        });
    }
    await new Promise<void>((resolve, reject) => {
      const end = (error?: RivuletError) => {
        cancel();
        this.#waiting.delete(check);
        signal?.removeEventListener('abort', abort);
        if (error === undefined) resolve();
        else reject(error);
      };
      const check = () => {
        if (this.#listened.has(channel)) end();
        else if (this.#closed) end(new RivuletError('CLOSED', 'the redis broker is disconnected'));
        else if (!this.#wanted.has(channel)) {
          end(new RivuletError('NOT_CONNECTED', 'there is no connection for replies'));
        }
      };
      const abort = () =>
        end(new RivuletError('ABORTED', 'the request was aborted', { cause: signal?.reason }));
      const cancel = scheduler.after(timeoutMs, () => {
        const text = `the request was not sent: within ${timeoutMs} ms there was no connection for its replies`;
        end(new RivuletError('NOT_CONNECTED', text));
      });
      this.#waiting.add(check);
      signal?.addEventListener('abort', abort, { once: true });
      check();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    const connection = await this.#connection?.catch(() => null);
    connection?.close();
  }

  #connect(): Promise<Connection> {
    this.#connection ??= this.#open().catch((error) => {
      this.#connection = null;
      throw error;
    });
    return this.#connection;
  }

  async #open(): Promise<Connection> {
    const { connector, receive } = this.#setup;
    const connection = connector.make('requests');
    const { client } = connection;
    client.on(
      connector.cluster ? 'smessageBuffer' : 'messageBuffer',
      (channel: Buffer, frame: Buffer) => receive(channel.toString(), frame),
    );
    try {
      await connection.connect();
    } catch (error) {
      connection.close();
      throw error;
    }
    client.on('close', () => this.#onClose());
    client.on('ready', () => void this.#again(connection));
    return connection;
  }

  #onClose(): void {
    if (this.#closed) return;
    this.#listened.clear();
    const text = 'the connection that replies come on was lost';
    this.#setup.lost(new RivuletError('NOT_CONNECTED', text));
  }

  /** After a reconnect. A cluster's client subscribes to its channels by itself. */
  async #again(connection: Connection): Promise<void> {
    try {
      await this.#subscribe(connection, [...this.#wanted]);
    } catch {
      // If it is lost, this is called again. If the server refused, a new connection repeats it.
      if (connection.ready) connection.client.disconnect(true);
    }
  }

  async #subscribe(connection: Connection, channels: readonly string[]): Promise<void> {
    if (channels.length === 0) return;
    const client = connection.client as Redis;
    if (this.#setup.connector.cluster) {
      // Each has its own slot.
      await Promise.all(channels.map((channel) => client.ssubscribe(channel)));
    } else {
      await client.subscribe(...channels);
    }
    for (const channel of channels) if (this.#wanted.has(channel)) this.#listened.add(channel);
    this.#wake();
  }

  #wake(): void {
    for (const check of [...this.#waiting]) check();
  }
}
