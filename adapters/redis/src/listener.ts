/**
 * The connection on which channels are listened to: a caller's inbox, a responder's channel.
 *
 * It is made when it is first needed, and made again by ioredis when it is lost; what was listened to
 * is then asked for again. Invariant: `listens` resolves only while the server has the channel in its
 * list of this connection, so a message that is sent to it afterwards comes or the loss is reported.
 */
import type { Redis } from 'ioredis';
import { RivuletError, type Scheduler } from 'rivulet';
import type { Connection, Connector } from './connection.ts';
import { toRivulet } from './failures.ts';

export interface ListenerSetup {
  readonly connector: Connector;
  readonly receive: (channel: string, frame: Buffer) => void;
  /** What was on its way to this connection may be lost. */
  readonly lost: (error: RivuletError) => void;
}

export class Listener {
  readonly #setup: ListenerSetup;
  readonly #wanted = new Set<string>();
  /** Those that the server has confirmed on the connection that there is. */
  readonly #listened = new Set<string>();
  readonly #waiting = new Set<() => void>();
  #connection: Promise<Connection> | null = null;
  #closed = false;

  constructor(setup: ListenerSetup) {
    this.#setup = setup;
  }

  /** Listens to the channel from now on; resolves once it does. */
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
    // Without a connection nobody is subscribed.
    if (!connection?.ready) return;
    const client = connection.client as Redis;
    const isSharded = this.#setup.connector.cluster;
    await (isSharded ? client.sunsubscribe(channel) : client.unsubscribe(channel)).catch(() => {});
  }

  /** Resolves while the channel is listened to: at once, or when the connection is there again. */
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

  /** The connection is there again. A cluster's client asks for its channels by itself. */
  async #again(connection: Connection): Promise<void> {
    try {
      await this.#subscribe(connection, [...this.#wanted]);
    } catch {
      // It is lost again, and comes here again. Refused, it is dropped so that this is repeated.
      if (connection.ready) connection.client.disconnect(true);
    }
  }

  async #subscribe(connection: Connection, channels: readonly string[]): Promise<void> {
    if (channels.length === 0) return;
    const client = connection.client as Redis;
    if (this.#setup.connector.cluster) {
      // Each has a slot of its own.
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
