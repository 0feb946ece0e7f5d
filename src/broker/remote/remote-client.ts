/**
 * The connections to a `micro server`: one that all commands share, and dedicated ones for blocking
 * reads, responders and requests.
 *
 * Commands of one turn of the event loop leave in one write. A lost connection is replaced with
 * backoff, trying the addresses in turn. A command that was sent and not answered fails with
 * NOT_CONNECTED, and its caller decides whether to send it again.
 * Invariant: silent connections are treated as dead. Every command has a timeout, and an idle
 * connection is pinged once a second.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import { Connection, type ConnectionListener, type Pending } from '../../client/connection.ts';
import { type ClientOptions, type ResolvedOptions, resolveOptions } from '../../client/options.ts';
import { type Reply, ReplyError } from '../../client/reply.ts';
import { runTransaction } from '../../client/transaction.ts';
import { RivuletError } from '../../errors.ts';
import { pause } from '../../util/time/scheduler.ts';
import { databaseOf, parseAddress, withoutPassword } from '../addresses.ts';
import { type BrokerOptions, backoffMs } from '../options/options.ts';

export type Command = readonly CommandArgument[];

const PORT = 7488;
/** Timeout of a command that does not block, ms. */
const REPLY_MS = 5000;
const CONNECT_MS = 3000;
const ASK_IDLE_EVERY_MS = 1000;

export interface RemoteClientListener {
  onDisconnect(error: RivuletError): void;
  /** `attempts`: how many connects it took. */
  onReconnect(attempts: number): void;
}

export class RemoteClient {
  readonly #broker: BrokerOptions;
  readonly #listener: RemoteClientListener;
  readonly #targets: readonly ResolvedOptions[];
  readonly #closing = new AbortController();
  #target = 0;
  #connection: Connection | null = null;
  #cancelPing: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(broker: BrokerOptions, listener: RemoteClientListener) {
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

  /** One command. Rejects with NOT_CONNECTED where the connection was lost before its reply. */
  call(...args: CommandArgument[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const reply = (value: Reply) =>
        value instanceof ReplyError ? reject(value) : resolve(value);
      this.send(args, { reply, fail: (error) => reject(notConnected(error)) });
    });
  }

  /**
   * As `call`, without a promise. `reply` receives error replies too; `fail` receives the connection's
   * own error, which `notConnected` makes the broker's.
   */
  send(args: Command, pending: Pending): void {
    const connection = this.#connection;
    if (connection !== null) connection.send(args, pending);
    else pending.fail(new RivuletError('NOT_CONNECTED', 'there is no connection to the server'));
  }

  /** Writes what was sent to the socket now: it leaves even if this process ends in this turn. */
  flush(): void {
    this.#connection?.flush();
  }

  /** Several commands in one write. The replies include error replies. */
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
      const pending = { reply, fail: (error: RivuletError) => reject(notConnected(error)) };
      // All commands are encoded before any is sent: a bad argument must not leave a MULTI open.
      connection.sendAll(commands.map((args) => ({ args, pending })));
    });
  }

  /** MULTI, the commands, EXEC: all or nothing. An error among the replies rejects. */
  async transaction(commands: readonly Command[]): Promise<Reply[]> {
    const replies = await runTransaction((each) => this.pipeline(each), commands);
    const failed = replies.find((each) => each instanceof ReplyError);
    if (failed !== undefined) throw failed;
    return replies;
  }

  /** A dedicated connection, for reads that block and for requests. The caller closes it. */
  async openDedicated(listener: ConnectionListener): Promise<Connection> {
    const target = this.#targets[this.#target % this.#targets.length] as ResolvedOptions;
    try {
      return await Connection.open(target, listener);
    } catch (error) {
      throw notConnected(error as RivuletError);
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
    const opening = this.openDedicated({
      push: () => {},
      room: () => {},
      closed: (error) => {
        over = true;
        if (opened !== null) this.#lost(opened, error);
      },
    });
    let stop = () => {};
    const stopped = new Promise<never>((_, reject) => {
      stop = () => reject(new RivuletError('CONNECTION_FAILED', 'the connect was aborted'));
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
      throw new RivuletError('NOT_CONNECTED', 'the connection was lost while it was opened');
    }
    this.#connection = opened;
    this.#pingIdle();
  }

  #lost(connection: Connection, error: RivuletError): void {
    if (connection !== this.#connection) return;
    this.#connection = null;
    this.#cancelPing?.();
    this.#listener.onDisconnect(error);
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
        this.#listener.onReconnect(attempt);
        return;
      } catch {
        // `onDisconnect` has reported the outage; the loop tries again.
      }
    }
  }

  /** Without commands, the loss of a connection would not be noticed. */
  #pingIdle(): void {
    this.#cancelPing = this.#broker.scheduler.after(ASK_IDLE_EVERY_MS, () => {
      const connection = this.#connection;
      if (connection === null) return;
      if (connection.inFlight === 0) connection.call('PING').catch(() => {});
      this.#pingIdle();
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
    // `client.tls` holds the trusted certificates.
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

/** Errors that another attempt would meet again. */
function isFinal(error: unknown): boolean {
  return (
    error instanceof RivuletError &&
    (error.code === 'AUTHENTICATION_FAILED' ||
      error.code === 'PERMISSION_DENIED' ||
      error.code === 'INVALID_ARGUMENT')
  );
}

/** Failures of the connection become NOT_CONNECTED; other errors are returned as they are. */
export function notConnected(error: RivuletError): RivuletError {
  if (
    error instanceof ReplyError ||
    (error.code !== 'CONNECTION_FAILED' && error.code !== 'TIMEOUT')
  ) {
    return error;
  }
  return new RivuletError('NOT_CONNECTED', error.message, { cause: error });
}
