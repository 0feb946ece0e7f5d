/**
 * The way to a `micro server`: one connection for everybody's commands, and more for those who wait.
 *
 * Commands of one turn of the loop leave in one write. A lost connection is replaced, with backoff,
 * the addresses in turn; what was sent and not answered fails with NOT_CONNECTED, and who called
 * decides whether to do it again. A connection that says nothing is not believed: every command has
 * a time to be answered in, and an idle connection is asked once a second.
 */
import type { CommandArgument } from '../client/command-encoder.ts';
import { Connection, type ConnectionListener } from '../client/connection.ts';
import { type ClientOptions, type ResolvedOptions, resolveOptions } from '../client/options.ts';
import { type Reply, ReplyError } from '../client/reply.ts';
import { RivuletError } from '../errors.ts';
import { databaseOf, parseAddress, withoutPassword } from './addresses.ts';
import { type BrokerOptions, backoffMs } from './options.ts';
import { pause } from './scheduler.ts';

export type Command = readonly CommandArgument[];

const PORT = 7488;
/** A server that takes longer for an ordinary command is taken for dead. */
const REPLY_MS = 5000;
const CONNECT_MS = 3000;
const ASK_IDLE_EVERY_MS = 1000;

export interface LinkListener {
  lost(error: RivuletError): void;
  /** After so many attempts. */
  back(attempts: number): void;
}

export class RemoteLink {
  readonly #broker: BrokerOptions;
  readonly #listener: LinkListener;
  readonly #targets: readonly ResolvedOptions[];
  readonly #closing = new AbortController();
  #target = 0;
  #connection: Connection | null = null;
  #cancelPing: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(broker: BrokerOptions, listener: LinkListener) {
    this.#broker = broker;
    this.#listener = listener;
    this.#targets = broker.addresses.map((address) => targetOf(address, broker));
  }

  /** The database that the address names. */
  get database(): number {
    return this.#targets[0]?.db ?? 0;
  }

  get connected(): boolean {
    return this.#connection !== null;
  }

  /** The first connection: tries the addresses in turn until the signal aborts. */
  async open(signal: AbortSignal): Promise<void> {
    let last: unknown;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await this.#connect(signal);
        return;
      } catch (error) {
        last = error;
        if (isFinal(error)) throw error;
      }
      const wait = backoffMs(this.#broker.reconnect, attempt, this.#broker.scheduler.fraction());
      await pause(this.#broker.scheduler, wait, signal).catch(() => {});
    }
    const text = `no connection to ${this.#broker.addresses.map(withoutPassword).join(', ')}`;
    throw new RivuletError('CONNECTION_FAILED', text, { cause: last });
  }

  /** One command. Rejects with NOT_CONNECTED when it did not arrive, or nobody knows. */
  call(...args: CommandArgument[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const reply = (value: Reply) =>
        value instanceof ReplyError ? reject(value) : resolve(value);
      this.send(args, { reply, fail: reject });
    });
  }

  /** As `call`, without a promise. An error reply is handed to `reply`. */
  send(
    args: Command,
    pending: { reply(value: Reply): void; fail(error: RivuletError): void },
  ): void {
    const connection = this.#connection;
    if (connection === null) {
      pending.fail(new RivuletError('NOT_CONNECTED', 'there is no connection to the server'));
    } else {
      const fail = (error: RivuletError) => pending.fail(outage(error));
      connection.send(args, { reply: (value) => pending.reply(value), fail });
    }
  }

  /** What was sent is with the system when this returns: it arrives even if this process ends now. */
  flush(): void {
    this.#connection?.flush();
  }

  /** Several commands, one right after the other; error replies are among the replies. */
  pipeline(commands: readonly Command[]): Promise<Reply[]> {
    if (commands.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const replies: Reply[] = [];
      const reply = (value: Reply) => {
        if (replies.push(value) === commands.length) resolve(replies);
      };
      const connection = this.#connection;
      if (connection === null) {
        reject(new RivuletError('NOT_CONNECTED', 'there is no connection to the server'));
        return;
      }
      const pending = { reply, fail: (error: RivuletError) => reject(outage(error)) };
      // All of them or, where an argument is none, nothing: a MULTI without its EXEC would stay open.
      connection.sendAll(commands.map((args) => ({ args, pending })));
    });
  }

  /** MULTI, the commands, EXEC: all or nothing. An error among the replies rejects. */
  async transaction(commands: readonly Command[]): Promise<Reply[]> {
    const replies = await this.pipeline([['MULTI'], ...commands, ['EXEC']]);
    const result = replies.at(-1) as Reply;
    const failed = Array.isArray(result)
      ? result.find((each) => each instanceof ReplyError)
      : (replies.find((each) => each instanceof ReplyError) ??
        new ReplyError('ERR the transaction was not executed'));
    if (failed !== undefined) throw failed;
    return result as Reply[];
  }

  /** A connection of one's own: for reads that block, for requests. The caller closes it. */
  async another(listener: ConnectionListener): Promise<Connection> {
    const target = this.#targets[this.#target % this.#targets.length] as ResolvedOptions;
    try {
      return await Connection.open(target, listener);
    } catch (error) {
      throw outage(error as RivuletError);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancelPing?.();
    this.#connection?.destroy(new RivuletError('CLOSED', 'the broker is disconnected'));
    this.#connection = null;
    await this.#running;
  }

  async #connect(signal: AbortSignal): Promise<void> {
    this.#target++;
    let opened: Connection | null = null;
    let over = false;
    const opening = this.another({
      push: () => {},
      room: () => {},
      closed: (error) => {
        over = true;
        if (opened !== null) this.#lost(opened, error);
      },
    });
    let stop = () => {};
    const stopped = new Promise<never>((_, reject) => {
      stop = () => reject(new RivuletError('CONNECTION_FAILED', 'no time is left'));
    });
    signal.addEventListener('abort', stop, { once: true });
    try {
      opened = await Promise.race([opening, stopped]);
    } catch (error) {
      opening.then((late) => late.destroy()).catch(() => {});
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
    if (over || this.#closing.signal.aborted) {
      opened.destroy();
      throw new RivuletError('NOT_CONNECTED', 'the connection was lost again at once');
    }
    this.#connection = opened;
    this.#askIdle();
  }

  #lost(connection: Connection, error: RivuletError): void {
    if (connection !== this.#connection) return;
    this.#connection = null;
    this.#cancelPing?.();
    this.#listener.lost(error);
    this.#running = this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { reconnect, scheduler } = this.#broker;
    const { signal } = this.#closing;
    for (let attempt = 1; !signal.aborted; attempt++) {
      await pause(scheduler, backoffMs(reconnect, attempt, scheduler.fraction()), signal).catch(
        () => {},
      );
      if (signal.aborted) return;
      try {
        await this.#connect(signal);
        this.#listener.back(attempt);
        return;
      } catch {
        // Said by `lost` already; the next attempt follows.
      }
    }
  }

  /** A connection that nobody uses would not be missed otherwise. */
  #askIdle(): void {
    this.#cancelPing = this.#broker.scheduler.after(ASK_IDLE_EVERY_MS, () => {
      const connection = this.#connection;
      if (connection === null) return;
      if (connection.inFlight === 0) connection.call('PING').catch(() => {});
      this.#askIdle();
    });
  }
}

function targetOf(address: string, broker: BrokerOptions): ResolvedOptions {
  const parsed = parseAddress(address);
  const { scheme, host, port, username, password } = parsed;
  const tls = (broker.client as ClientOptions | undefined)?.tls;
  const given: ClientOptions = {
    host: host || '127.0.0.1',
    port: port ?? PORT,
    db: databaseOf(parsed, address),
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    // The options of `client` say which certificates are trusted.
    ...(scheme === 'rivulets' ? { tls: typeof tls === 'object' ? tls : true } : {}),
  };
  return resolveOptions({
    name: broker.clientName.replace(/[^!-~]/g, '_'),
    connectTimeoutMs: Math.min(CONNECT_MS, broker.connectTimeoutMs),
    timeoutMs: REPLY_MS,
    ...broker.client,
    ...given,
    protocol: 3,
  });
}

/** What another attempt would not change. */
function isFinal(error: unknown): boolean {
  return (
    error instanceof RivuletError &&
    (error.code === 'AUTHENTICATION_FAILED' ||
      error.code === 'PERMISSION_DENIED' ||
      error.code === 'INVALID_ARGUMENT')
  );
}

/** A failure of the connection, as what it means to a caller. */
export function outage(error: RivuletError): RivuletError {
  if (
    error instanceof ReplyError ||
    (error.code !== 'CONNECTION_FAILED' && error.code !== 'TIMEOUT')
  ) {
    return error;
  }
  return new RivuletError('NOT_CONNECTED', error.message, { cause: error });
}
